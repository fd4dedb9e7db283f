"""Whether a volume lies where, and when, the evidence is known to be.

All of these come from images, where they are defined over pixels. Here they are taken over the voxels of a clip,
(T, H, W): the mask has a picture for every frame, and a volume has one maximum in all, not one in each frame.

A volume that is the same everywhere points nowhere: it loses both pointing games, and has what an even volume has in
the others, an energy ratio of 1 and the mask's own share as its IoU. An empty mask leaves nothing to find, so that
none of them is defined.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .volumes import checked, is_constant


def pointing_game(values: NDArray[np.float32], mask: NDArray[np.bool_], tolerance: float) -> bool:
    """Whether the volume's maximum hits the evidence.

    Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018 (ECCV 2016): the maximum of a map is a
    hit if it is on the object, or within some pixels of it; the accuracy is ``hits / (hits + misses)`` over many maps.
    Here the volume's maximum ``(k, i, j) = argmax values`` is a hit if ``mask[k]`` has a pixel within `tolerance` of
    ``(i, j)``: the mask of the maximum's own frame, dilated by a disc. In a frame whose mask is empty it is a miss.

    Args:
        values: (T, H, W) float32, any range. Of equal maxima the first counts, in the order of time, rows, columns.
        mask: (T, H, W) bool, the evidence.
        tolerance: radius of the disc in pixels, from centre to centre; 0 for the mask as it is.

    Raises:
        ValueError: the volume is not finite, the mask is empty, of another shape, or not bool.
        OptionError: the tolerance is negative.
    """
    _check(values, mask)
    _check_tolerance(tolerance)
    if is_constant(values):
        return False
    k, i, j = np.unravel_index(values.argmax(), values.shape)
    rows, columns = np.nonzero(mask[k])
    return bool(((rows - i) ** 2 + (columns - j) ** 2 <= tolerance**2).any())


def energy_ratio(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """How much more of the volume's energy is in the mask than an even volume would have there.

    Wang et al., "Score-CAM", CVPR Workshops 2020, play the pointing game with energy: the proportion of a map L that
    lies in the object's box, ``sum_{in} L / (sum_{in} L + sum_{out} L)``. A large object gets a large share of any map,
    so it is divided here by the share that the mask has of the volume:

        ratio = (sum values[mask] / sum values) / (sum mask / (T H W))

    Args:
        values: (T, H, W) float32, none negative. What it adds to all voxels counts, so compare volumes that are
            stretched to [0, 1].
        mask: (T, H, W) bool, the evidence: a mask, or boxes.

    Returns:
        From 0 to ``T H W / sum mask``; 1 for an even volume, one of zeros among them.

    Raises:
        ValueError: the volume is negative somewhere or not finite, the mask is empty, of another shape, or not bool.
    """
    _check(values, mask)
    if values.min() < 0:
        raise ValueError(f"energy is never negative, and the volume has {values.min():.4g}: stretch it to [0, 1] first")
    if is_constant(values):
        return 1.0
    inside = float(values[mask].sum(dtype=np.float64))
    return inside / float(values.sum(dtype=np.float64)) / float(mask.mean())


def top_iou(values: NDArray[np.float32], mask: NDArray[np.bool_], share: float | None = None) -> float:
    """Intersection over union of the mask and the voxels with the highest values.

    ``IoU = |top & mask| / |top | mask|`` (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010).
    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, take what is above a share of the
    maximum for an object; here it is a share of the voxels, so that no volume wins by its range.

    Args:
        values: (T, H, W) float32, any range.
        mask: (T, H, W) bool, the evidence.
        share: how many of the voxels are the top, above 0 and up to 1, at least one; None for as many as are in the
            mask. Voxels that tie with the last of them are in it, too.

    Raises:
        ValueError: the volume is not finite, the mask is empty, of another shape, or not bool.
        OptionError: the share is not above 0 and up to 1.
    """
    _check(values, mask)
    if share is not None and not 0 < share <= 1:
        raise OptionError(f"the share of the volume is {share}: expected a number above 0 and up to 1")
    count = np.count_nonzero(mask) if share is None else max(1, round(share * values.size))
    last = values.size - count
    top = values >= np.partition(values, last, axis=None)[last]
    return float(np.count_nonzero(top & mask) / np.count_nonzero(top | mask))


def temporal_pointing_game(values: NDArray[np.float32], moving: NDArray[np.bool_], tolerance: float) -> bool:
    """Whether the volume's maximum is at a time when there is evidence.

    The pointing game of Zhang et al., IJCV 2018, along time: the maximum ``(k, i, j) = argmax values`` is a hit if one
    of the frames from ``k - tolerance`` to ``k + tolerance`` is `moving`. Where all are, every volume that is not
    constant hits: play it on clips in which only a part is.

    Args:
        values: (T, H, W) float32, any range. Of equal maxima the first counts, in the order of time, rows, columns.
        moving: (T,) bool, the frames with evidence.
        tolerance: in frames.

    Raises:
        ValueError: the volume is not finite, no frame has evidence, or `moving` has another length or is not bool.
        OptionError: the tolerance is negative.
    """
    checked(values)
    _check_tolerance(tolerance)
    if moving.shape != values.shape[:1] or moving.dtype != np.bool_:
        raise ValueError(f"expected a bool for each of {len(values)} frames, got {moving.dtype} {moving.shape}")
    if not moving.any():
        raise ValueError("no frame has evidence: whether a volume finds it in time is not defined")
    if is_constant(values):
        return False
    k = int(values.argmax()) // values[0].size
    return bool((np.abs(np.flatnonzero(moving) - k) <= tolerance).any())


def _check(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    checked(values)
    if mask.shape != values.shape or mask.dtype != np.bool_:
        raise ValueError(f"expected a mask of bool in the volume's shape {values.shape}, got {mask.dtype} {mask.shape}")
    if not mask.any():
        raise ValueError("the mask is empty: whether a volume finds it is not defined")


def _check_tolerance(tolerance: float) -> None:
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise OptionError(f"the tolerance is {tolerance}: expected a finite number of at least 0")
