"""From a PyTorch checkpoint to one verified package: graphs, targets, and the `alm-export` command."""
