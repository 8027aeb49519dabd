"""A captioner that learns from captions alone: no recording is heard while it trains."""
