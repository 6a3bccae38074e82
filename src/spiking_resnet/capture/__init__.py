"""Trained networks as graphs: modules by `torch.export`, ONNX files by `capture.onnx`."""
