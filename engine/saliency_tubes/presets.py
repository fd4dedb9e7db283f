"""Named preprocessing: what the published scripts did to the frames."""

from .choices import Norm
from .spec import Preprocessing

_MEAN = (124 / 255, 117 / 255, 104 / 255)
# The reference squashes frames to 256x256 and crops 224; other crops keep that proportion.
_RESIZE_OVER_CROP = 256 / 224


_STD = {
    Norm.SALIENCY_TUBES: (0.229, 0.224, 0.225),  # what the reference visualisation does
    Norm.MFNET: (1 / (0.0167 * 255),) * 3,  # what the published MFNet weights were trained with
}


def preset(norm: Norm, size: int) -> Preprocessing:
    """The preprocessing of a preset, for a crop of `size` x `size` pixels."""
    resize = round(size * _RESIZE_OVER_CROP)
    r, g, b = _STD[norm]
    return Preprocessing(norm.value, (resize, resize), (size, size), _MEAN, (r, g, b))
