"""A captioner that learns from captions alone, and in a second stage, where the recipe has one, from clips."""
