"""Tubes drawn on frames, as the published reference draws them. Pure functions: arrays in, new arrays out."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2

_ALPHA_LOW, _ALPHA_HIGH = 20, 255


@cache
def _half_jet() -> NDArray[np.uint8]:
    """(256, 1, 3) uint8 RGB: OpenCV's JET, halved, for every level."""
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    rgb = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return np.asarray(rgb, dtype=np.uint8) // 2


def heatmap(values: NDArray[np.float32], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames under the tube's colours: ``JET(uint8(255 * tube)) // 2 + frame // 2``.

    Args:
        values: (T, H, W) float32 in [0, 1], a tube.
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        (T, H, W, 3) uint8 RGB; blue where the tube is 0, red where it is 1.
    """
    T, H, W = values.shape
    levels = (values * np.float32(255)).astype(np.uint8).reshape(T * H, W)
    image = np.asarray(cv2.applyColorMap(levels, _half_jet()), dtype=np.uint8).reshape(frames.shape)
    image += frames >> 1
    return image


def focusmap(values: NDArray[np.float32], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames that are opaque where the tube is high: each frame of the tube stretched to an alpha of 20..255.

    The stretch is every frame's own, so alphas of two frames cannot be compared; the tube's values can.

    Args:
        values: (T, H, W) float32 in [0, 1], a tube.
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        (T, H, W, 4) uint8 RGBA, alpha not premultiplied.
    """
    T, H, W = values.shape
    opaque = cv2.cvtColor(np.ascontiguousarray(frames).reshape(T * H, W, 3), cv2.COLOR_RGB2RGBA)
    image = np.asarray(opaque, dtype=np.uint8).reshape(T, H, W, 4)
    for tube_frame, out in zip(values, image, strict=True):
        alpha = np.empty(tube_frame.shape, dtype=np.uint8)
        cv2.normalize(tube_frame, alpha, _ALPHA_LOW, _ALPHA_HIGH, cv2.NORM_MINMAX, cv2.CV_8U)
        cv2.insertChannel(alpha, out, 3)
    return image
