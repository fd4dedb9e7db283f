"""Do both pipelines do the same job? Asked of every measured run's output, before its time counts."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TUBE_TOLERANCE = 1e-4
FEATURES_TOLERANCE = 1e-3
MAP_CORRELATION = 0.999
# Rounding of every value to 8 or 11 bits moves a map by more than two ways of computing it in float32 do.
REDUCED_CORRELATION = 0.9
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


def compare_features(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The largest difference of two features of one shape, relative to the reference's largest value.

    Raises:
        RuntimeError: it is above the tolerance, so the two are not one network.
    """
    difference = float(np.abs(ours - reference).max() / np.abs(reference).max())
    if not difference <= FEATURES_TOLERANCE:
        raise RuntimeError(f"the features differ by {difference:.3g} of their largest: the two are not one network")
    return difference


def compare_maps(ours: NDArray[np.float32], theirs: NDArray[np.float32], at_least: float = MAP_CORRELATION) -> float:
    """The correlation of two coarse (t, h, w) maps of one class, after ReLU.

    Behind global average pooling and a linear classifier the gradient that Grad-CAM averages is the classifier's weight
    over the number of places, so its map is the ReLU of the class-activation map, but for the scale (Selvaraju et al.,
    "Grad-CAM", ICCV 2017, section 3). Correlation leaves the scale out.

    Raises:
        RuntimeError: they do not agree, or one of them is the same everywhere.
    """
    if ours.shape != theirs.shape:
        raise RuntimeError(f"the maps have shapes {ours.shape} and {theirs.shape}: no fair race")
    a, b = (np.maximum(map_, 0).astype(np.float64).ravel() for map_ in (ours, theirs))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    correlation = float(a @ b) / scale if scale else 0.0
    if not correlation >= at_least:
        raise RuntimeError(f"the maps correlate by {correlation:.6f}, expected at least {at_least}: no fair race")
    return correlation


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
