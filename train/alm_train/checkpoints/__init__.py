"""Weights from files: found, downloaded, read safely and loaded strictly."""
