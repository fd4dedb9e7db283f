"""What the network says of clips from which a part was taken: the part that a volume finds important.

All of these come from images, where pixels are taken. Here it is voxels, one pixel of one frame each, so that the order
in which they go is over space and time at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._opencv import cv2
from ..choices import Fill
from ..errors import OptionError
from .volumes import checked

# Clips (N, T, H, W, 3) uint8 RGB -> (N,) float32, the probability of one class.
ScoreFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_BLUR = 0.1  # standard deviation of the blur, as a share of a frame's height
_TIES = 0  # seed of the order in which equal voxels go


@dataclass(frozen=True, eq=False)
class Curve:
    """What a class's probability does as a clip is changed.

    Attributes:
        fractions: (n,) float64, how much of the clip is changed, ascending from 0 to 1.
        scores: (n,) float64, the probability then.
    """

    fractions: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """The area under the curve by the trapezoidal rule, from 0 to 1: the mean probability."""
        return float((np.diff(self.fractions) * (self.scores[1:] + self.scores[:-1])).sum() / 2)


def filled(frames: NDArray[np.uint8], fill: Fill) -> NDArray[np.uint8]:
    """A clip without evidence, made from a clip: what takes the place of what is removed.

    `Fill.BLUR`: the mean of all frames, blurred by a Gaussian whose standard deviation is a tenth of the frame's
    height. Petsiuk et al. (RISE) blur an image with a kernel of 11x11 pixels at 224x224. A video blurred so, frame by
    frame, still moves; averaged over time, it does not. The blur is stronger than theirs, so that what moved leaves
    hardly a trail.

    `Fill.MEAN`: the clip's mean colour, everywhere. (RISE removes pixels by setting them to a constant.)

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        fill: which of the two.

    Returns:
        (T, H, W, 3) uint8 RGB, all its frames the same.
    """
    mean = frames.mean(axis=0, dtype=np.float32)
    if fill is Fill.MEAN:
        mean = np.broadcast_to(mean.mean(axis=(0, 1), dtype=np.float64), mean.shape)
    else:
        mean = np.asarray(cv2.GaussianBlur(mean, (0, 0), _BLUR * len(mean), borderType=cv2.BORDER_REFLECT))
    return np.repeat(np.rint(mean).astype(np.uint8)[None], len(frames), axis=0)


def deletion_insertion(
    frames: NDArray[np.uint8],
    values: NDArray[np.float32],
    score: ScoreFunction,
    fill: NDArray[np.uint8],
    steps: int,
    batch: int,
) -> tuple[Curve, Curve]:
    """How the class's probability falls as what is important goes, and rises as it comes.

    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018. Voxels go in the
    order of their values, the highest first, in `steps` parts of equal size. Deletion puts the fill in their place: the
    sooner the probability falls, the smaller the area under its curve, and the better the volume. Insertion begins with
    the fill and puts the voxels in: the larger the area, the better. RISE deletes to a constant and inserts into a
    blur; here both use one fill, so that the one curve ends where the other begins. Run it with each.

    It costs ``2 * steps`` forward passes, and memory for `batch` clips.

    Args:
        frames: (T, H, W, 3) uint8 RGB, as the network takes them.
        values: (T, H, W) float32, any range. Equal voxels go in a random order that is always the same: a volume that
            is the same everywhere is as good as chance, and not as good as a sweep over the frames.
        score: the probability of the class that the volume explains.
        fill: (T, H, W, 3) uint8 RGB, from `filled`.
        steps: in how many parts voxels go, from 1 to as many as there are.
        batch: how many clips are scored at once.

    Returns:
        Deletion and insertion, each of steps + 1 points.

    Raises:
        ValueError: the volume is not finite or of another shape than the clip or the fill, or `score` gives something
            other than a finite number for each clip.
        OptionError: steps or batch is out of range.
    """
    _check(frames, checked(values))
    _check(fill, values)
    if not 1 <= steps <= values.size:
        raise OptionError(f"steps is {steps}: expected a whole number from 1 to {values.size}, the voxels of the clip")
    if batch < 1:
        raise OptionError(f"batch is {batch}: expected a whole number of at least 1")
    ends = np.rint(np.linspace(0, values.size, steps + 1)).astype(np.int64)
    part = _parts(values, ends)
    # What is deleted at the end is what is inserted at the beginning, and the other way round.
    states = [(frames, fill, step) for step in range(steps + 1)]
    states += [(fill, frames, step) for step in range(1, steps)]

    def clips() -> Iterator[NDArray[np.uint8]]:
        for first in range(0, len(states), batch):
            yield np.stack([np.where(part > step, old, new) for old, new, step in states[first : first + batch]])

    scores = np.concatenate([_scored(score, some) for some in clips()])
    deletion, between = scores[: steps + 1], scores[steps + 1 :]
    insertion = np.concatenate([deletion[-1:], between, deletion[:1]])
    fractions = ends / values.size
    return Curve(fractions, deletion), Curve(fractions, insertion)


def masked_by(frames: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A clip dimmed where the volume is low, for `average_drop` and `increase`.

    Chattopadhay et al., "Grad-CAM++", WACV 2018: the explanation map ``E = L * I``, the product of a map and the image
    at each place; here at each voxel.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        values: (T, H, W) float32 in [0, 1].

    Returns:
        (T, H, W, 3) uint8 RGB, black where the volume is 0.

    Raises:
        ValueError: the volume is not finite, outside [0, 1], or of another shape than the clip.
    """
    _check(frames, checked(values))
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"expected a volume in [0, 1], got one from {values.min():.4g} to {values.max():.4g}: stretch it first"
        )
    return np.asarray(np.rint(frames * values[..., None]), np.uint8)


def average_drop(full: ArrayLike, masked: ArrayLike) -> float:
    """By what share a class's probability drops, on average, when only what the volume marks is shown.

    Chattopadhay et al., "Grad-CAM++", WACV 2018: ``mean_i max(0, Y_i - O_i) / Y_i``, with Y_i the probability on clip i
    and O_i that on its explanation map. The paper gives it in percent. Lower is better.

    Args:
        full: (n,) Y, probabilities of the whole clips; or that of one clip.
        masked: (n,) O, probabilities of the same classes on the clips from `masked_by`.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: there are none, not as many of both, some are no probabilities, or some Y_i is 0, of which nothing
            can drop.
    """
    before, after = _probabilities(full, masked)
    if not before.all():
        raise ValueError("a whole clip has a probability of 0: by what share it drops is not defined")
    return float((np.maximum(0, before - after) / before).mean())


def increase(full: ArrayLike, masked: ArrayLike) -> float:
    """How often a class's probability rises when only what the volume marks is shown.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, increase in confidence: ``mean_i [Y_i < O_i]``, with Y and O as for
    `average_drop`. The paper gives it in percent. Higher is better.

    Args:
        full: (n,) Y, probabilities of the whole clips; or that of one clip.
        masked: (n,) O, probabilities of the same classes on the clips from `masked_by`.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: there are none, not as many of both, or some are no probabilities.
    """
    before, after = _probabilities(full, masked)
    return float((before < after).mean())


def _parts(values: NDArray[np.float32], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """(T, H, W, 1) the number of the part that a voxel goes with, from 1; `ends` are the ranks at which parts end."""
    shuffled = np.random.default_rng(_TIES).permutation(values.size)
    order = shuffled[np.argsort(-values.ravel()[shuffled], kind="stable")]
    part = np.empty(values.size, np.int64)
    part[order] = np.repeat(np.arange(1, len(ends)), np.diff(ends))
    return part.reshape(*values.shape, 1)


def _scored(score: ScoreFunction, clips: NDArray[np.uint8]) -> NDArray[np.float64]:
    scores = np.asarray(score(clips), np.float64)
    if scores.shape != (len(clips),) or not np.isfinite(scores).all():
        raise ValueError(f"expected a finite score for each of {len(clips)} clips, got {scores.shape} {scores!r:.80}")
    return scores


def _check(frames: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
    if frames.shape != (*values.shape, 3) or frames.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 frames of the volume's shape, {(*values.shape, 3)}, got {frames.dtype} {frames.shape}"
        )


def _probabilities(full: ArrayLike, masked: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = (np.atleast_1d(np.asarray(one, np.float64)) for one in (full, masked))
    if before.ndim != 1 or before.shape != after.shape or not before.size:
        raise ValueError(f"expected as many masked probabilities as full ones, got {after.shape} and {before.shape}")
    if not all(((one >= 0) & (one <= 1)).all() for one in (before, after)):  # false of NaN, too
        raise ValueError("expected probabilities from 0 to 1, got others among them")
    return before, after
