"""Quantization schemes and the quality gate."""
