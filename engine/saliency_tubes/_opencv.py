"""OpenCV, or the sentence that helps where it does not load."""

from .errors import DependencyError

try:
    import cv2 as cv2
except ImportError as error:  # bare servers lack what OpenCV's windows need, such as libGL.so.1
    raise DependencyError(
        f"OpenCV does not load here ({error}): pip uninstall opencv-python, then pip install opencv-python-headless"
    ) from error
