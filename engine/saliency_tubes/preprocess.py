"""From a frame of any size to the crop that the network sees."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2
from .spec import Preprocessing


@dataclass(frozen=True)
class CropBox:
    """Where in a frame the network looks: fractions of the frame's width and height, 0 at the left and at the top."""

    left: float
    top: float
    right: float
    bottom: float


def crop(rgb: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Squash a frame to `resize_hw` (bilinear) and cut `crop_hw` out of its centre.

    The steps and the rounding of the published reference. Scaling to [0, 1], mean and standard deviation are part
    of the exported graph.

    Args:
        rgb: (h, w, 3) uint8 RGB, any size.
        preprocessing: the model's own.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    resize_h, resize_w = preprocessing.resize_hw
    crop_h, crop_w = preprocessing.crop_hw
    squashed = cv2.resize(rgb, (resize_w, resize_h), interpolation=cv2.INTER_LINEAR)
    top = round((resize_h - crop_h) / 2)
    left = round((resize_w - crop_w) / 2)
    return np.asarray(squashed[top : top + crop_h, left : left + crop_w], dtype=np.uint8)
