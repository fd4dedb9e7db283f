"""The exporter: checkpoints, PyTorch modules, Keras models and ONNX graphs in; self-sufficient ONNX files out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporter import export_checkpoint
    from .foreign import GraphHints, export_onnx
    from .keras_model import export_keras
    from .modules import export_model
    from .parity import ParityReport
    from .randomised import randomise

__all__ = [
    "GraphHints",
    "ParityReport",
    "export_checkpoint",
    "export_keras",
    "export_model",
    "export_onnx",
    "randomise",
]

_HOMES = {
    "GraphHints": "foreign",
    "ParityReport": "parity",
    "export_checkpoint": "exporter",
    "export_keras": "keras_model",
    "export_model": "modules",
    "export_onnx": "foreign",
    "randomise": "randomised",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: who wants the network alone need not have ONNX."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
