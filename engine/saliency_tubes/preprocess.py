"""From a frame of any size to the crop that the network sees."""

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from .spec import Preprocessing

_MEAN = (124 / 255, 117 / 255, 104 / 255)
# The reference squashes frames to 256x256 and crops 224; other crops keep that proportion.
_RESIZE_OVER_CROP = 256 / 224


class Norm(StrEnum):
    """Named preprocessing: what the published scripts did to the frames."""

    SALIENCY_TUBES = "saliency-tubes"
    MFNET = "mfnet"


_STD = {
    Norm.SALIENCY_TUBES: (0.229, 0.224, 0.225),  # what the reference visualisation does
    Norm.MFNET: (1 / (0.0167 * 255),) * 3,  # what the published MFNet weights were trained with
}


def preset(norm: Norm, size: int) -> Preprocessing:
    """The preprocessing of a preset, for a crop of `size` x `size` pixels."""
    resize = round(size * _RESIZE_OVER_CROP)
    r, g, b = _STD[norm]
    return Preprocessing(norm.value, (resize, resize), (size, size), _MEAN, (r, g, b))


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
