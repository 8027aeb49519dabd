"""Components as ONNX graphs, targets, and the `alm-export` command."""
