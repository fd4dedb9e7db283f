"""Saliency tubes: where in the frame, and when in the clip, a 3-D CNN saw its evidence.

    import saliency_tubes as st

    model = st.load_model("tubes.onnx")
    explanation = model.explain("clip.mp4", label=5)
    explanation.tube.values  # (T, H, W) float32 in [0, 1]
    explanation.save("out")

Stergiou et al., "Saliency Tubes: Visual Explanations for Spatio-Temporal Convolutions", ICIP 2019.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import SaliencyTubesError

if TYPE_CHECKING:
    from .choices import Device
    from .explanation import Explanation
    from .model import TubeModel, load_model
    from .sampling import Sampling
    from .spec import ModelSpec
    from .style import Style
    from .tube import Tube

__all__ = [
    "Device",
    "Explanation",
    "ModelSpec",
    "SaliencyTubesError",
    "Sampling",
    "Style",
    "Tube",
    "TubeModel",
    "__version__",
    "load_model",
]

_HOMES = {
    "Device": "choices",
    "Explanation": "explanation",
    "ModelSpec": "spec",
    "Sampling": "sampling",
    "Style": "style",
    "Tube": "tube",
    "TubeModel": "model",
    "load_model": "model",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the command starts loading the network before the rest."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
