"""The exporter: PyTorch checkpoints in, self-sufficient ONNX files out."""

from .exporter import export_checkpoint
from .parity import ParityReport

__all__ = ["ParityReport", "export_checkpoint"]
