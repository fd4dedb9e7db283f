"""The exporter: PyTorch checkpoints in, self-sufficient ONNX files out."""
