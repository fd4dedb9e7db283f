"""Do both pipelines do the same job? Asked of every measured run's output, before its time counts."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TUBE_TOLERANCE = 1e-4
EQUAL_SHARE = 0.999
_KINDS = ("heatmap", "focusmap")


def compare_tubes(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The largest difference of two (T, H, W) tubes in [0, 1].

    Raises:
        RuntimeError: it is above the tolerance, so the two do not do the same job.
    """
    difference = float(np.abs(ours - reference).max())
    if not difference <= TUBE_TOLERANCE:
        raise RuntimeError(f"the tubes differ by {difference:.3g}, expected at most {TUBE_TOLERANCE}: no fair race")
    return difference


def compare_pictures(ours: Path, reference: Path) -> float:
    """The share of equal values in the worst pair of pictures under two output folders.

    Raises:
        RuntimeError: pictures are missing, or a pair differs in more values than the tolerance allows.
    """
    names = [picture.relative_to(reference) for kind in _KINDS for picture in sorted((reference / kind).glob("*.png"))]
    if not names:
        raise RuntimeError(f"the reference wrote no pictures to {reference}")
    worst = min(_equal_share(ours / name, reference / name) for name in names)
    if worst < EQUAL_SHARE:
        raise RuntimeError(
            f"only {worst:.3%} of a picture's values are equal, expected {EQUAL_SHARE:.1%}: no fair race ({ours})"
        )
    return worst


def _equal_share(ours: Path, reference: Path) -> float:
    a, b = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (ours, reference))
    if a is None or b is None or a.shape != b.shape:
        raise RuntimeError(f"{ours} and {reference} are not two pictures of one size")
    return float(np.mean(a == b))
