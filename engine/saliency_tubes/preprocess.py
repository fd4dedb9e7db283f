"""From a frame of any size to the crop that the network sees, and where in the frame that crop lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2
from .choices import Fit
from .errors import SourceError
from .spec import Preprocessing

_LONGEST = 16_384  # pixels; a frame that is one line of a thousand would otherwise fill the memory


@dataclass(frozen=True)
class CropBox:
    """Where in a frame the network looks: fractions of the frame's width and height, 0 at the left and at the top."""

    left: float
    top: float
    right: float
    bottom: float


def crop(rgb: NDArray[np.uint8], preprocessing: Preprocessing, fit: Fit = Fit.SQUASH_CROP) -> NDArray[np.uint8]:
    """Resize a frame (bilinear) and cut the network's input out of its centre.

    `Fit.SQUASH_CROP` has the steps and the rounding of the published reference. Scaling to [0, 1], mean and standard
    deviation are part of the exported graph.

    Args:
        rgb: (h, w, 3) uint8 RGB, any size.
        preprocessing: the model's own.
        fit: how the frame is brought to the network's input.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        SourceError: a frame so long and thin that it cannot be resized by its short side.
    """
    resized_hw, top, left = _placed(rgb.shape[0], rgb.shape[1], preprocessing, fit)
    resized = cv2.resize(rgb, resized_hw[::-1], interpolation=cv2.INTER_LINEAR)
    crop_h, crop_w = preprocessing.crop_hw
    return np.asarray(resized[top : top + crop_h, left : left + crop_w], dtype=np.uint8)


def crop_mask(mask: NDArray[np.bool_], preprocessing: Preprocessing, fit: Fit = Fit.SQUASH_CROP) -> NDArray[np.bool_]:
    """Bring a mask to the network's input as `crop` brings the frame under it.

    Where it shrinks, a pixel is set if any of what it is made of is: so small evidence is lost in no frame, and an edge
    moves outwards by less than a pixel. Where it grows, each pixel is the nearest one's.

    Args:
        mask: (h, w) bool, any size.
        preprocessing: the model's own.
        fit: how the frame was brought to the network's input.

    Returns:
        (H, W) bool.

    Raises:
        SourceError: as `crop` does.
    """
    resized_hw, top, left = _placed(mask.shape[0], mask.shape[1], preprocessing, fit)
    height, width = (min(sides) for sides in zip(mask.shape, resized_hw, strict=True))
    if mask.shape != (height, width):  # the mean as a float: one pixel of thousands would be rounded away
        mask = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    # Exact: the plain one takes the pixel to the upper left of the nearest, up to half an output pixel away.
    resized = cv2.resize(mask.view(np.uint8), resized_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    crop_h, crop_w = preprocessing.crop_hw
    return np.asarray(resized[top : top + crop_h, left : left + crop_w] > 0)


def crop_box(size_wh: tuple[int, int], preprocessing: Preprocessing, fit: Fit = Fit.SQUASH_CROP) -> CropBox:
    """Where in frames of `size_wh` the crop lies that `crop` cuts out."""
    width, height = size_wh
    (resized_h, resized_w), top, left = _placed(height, width, preprocessing, fit)
    crop_h, crop_w = preprocessing.crop_hw
    return CropBox(left / resized_w, top / resized_h, (left + crop_w) / resized_w, (top + crop_h) / resized_h)


def _placed(height: int, width: int, preprocessing: Preprocessing, fit: Fit) -> tuple[tuple[int, int], int, int]:
    """The size that a frame is resized to, and the crop's top and left in it."""
    crop_h, crop_w = preprocessing.crop_hw
    match fit:
        case Fit.WHOLE:
            return preprocessing.crop_hw, 0, 0
        case Fit.SHORT_SIDE:
            target_h, target_w = preprocessing.resize_hw
            scale = max(target_h / height, target_w / width)
            resized_hw = max(round(height * scale), crop_h), max(round(width * scale), crop_w)
            if max(resized_hw) > _LONGEST:
                raise SourceError(
                    f"frames of {width}x{height} are too long and thin for the fit {fit}: with the short side at "
                    f"{min(preprocessing.resize_hw)} pixels the long one has {max(resized_hw)}. Use the fit {Fit.WHOLE}"
                )
        case Fit.SQUASH_CROP:
            resized_hw = preprocessing.resize_hw
    return resized_hw, round((resized_hw[0] - crop_h) / 2), round((resized_hw[1] - crop_w) / 2)
