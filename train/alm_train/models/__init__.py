"""The model families as plain PyTorch modules: one file, one family."""
