"""PyTorch modules, checkpoints, data, recipes and the training loop."""
