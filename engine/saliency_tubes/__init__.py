"""Saliency tubes: where in the frame, and when in the clip, a 3-D CNN saw its evidence.

    import saliency_tubes as st

    model = st.load_model("tubes.onnx")
    explanation = model.explain("clip.mp4", label=5)
    explanation.tube.values  # (T, H, W) float32 in [0, 1]
    explanation.save("out")

Stergiou et al., "Saliency Tubes: Visual Explanations for Spatio-Temporal Convolutions", ICIP 2019.
"""

try:
    import cv2 as _cv2  # noqa: F401
except ImportError as _error:  # bare servers lack what OpenCV's windows need, such as libGL.so.1
    raise ImportError(
        f"OpenCV does not load here ({_error}): pip uninstall opencv-python, then pip install opencv-python-headless"
    ) from _error

from ._version import __version__
from .errors import SaliencyTubesError
from .explanation import Explanation
from .model import TubeModel, load_model
from .session import Device
from .spec import ModelSpec
from .tube import Tube

__all__ = ["Device", "Explanation", "ModelSpec", "SaliencyTubesError", "Tube", "TubeModel", "__version__", "load_model"]
