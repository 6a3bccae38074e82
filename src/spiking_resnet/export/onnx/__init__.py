"""Export to ONNX: what a network's nodes compute is recorded, call by call."""
