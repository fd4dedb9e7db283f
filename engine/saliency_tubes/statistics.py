"""A tube in numbers: when and where it peaks, how far it spreads, how much of it lies at the crop's edge."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .tube import Tube

BORDER = 0.1  # how wide the border is, as a share of the crop's width and height
_GRID = 50  # places along the crop's sides that a tube is looked at; the border is five of them
_CHUNK = 512  # frames at a time: 5 MB


@dataclass(frozen=True)
class TubeStatistics:
    """What a tube v (T, H, W) in [0, 1] says, in numbers.

    The tube's energy is the sum of its values, ``E = sum v[k, i, j]``. A place in the crop is ``y = (i + 0.5) / H``,
    ``x = (j + 0.5) / W``: fractions of the crop's height and width, from its top left corner. All but the last two are
    None for a tube without energy; what is in seconds is None, too, for a clip without times. What is of time is None
    for a tube of one step that stands for several frames.

    Attributes:
        peak_frame: the source frame with the largest value, the first of equal ones.
        peak_s: that frame's time in seconds.
        peak_x: where in the crop the largest value is.
        peak_y: the same, from the top.
        centre_frame: centre of mass in time, ``sum v f[k] / E`` with the source frames' numbers f.
        centre_s: the same in seconds.
        centre_x: centre of mass across, ``sum v x / E``.
        centre_y: centre of mass from the top, ``sum v y / E``.
        spread_frames: standard deviation in time, ``sqrt(sum v (f[k] - centre_frame)^2 / E)``.
        spread_s: the same in seconds.
        spread_x: standard deviation across, ``sqrt(sum v (x - centre_x)^2 / E)``.
        spread_y: standard deviation from top to bottom.
        border_energy: the share of E in the crop's border, where x or y is within 0.1 of an edge. An even tube has
            0.36 there; much more hints that the network looks at the edge.
        mean_energy: ``E / (T H W)``.
        volume_above_half: the share of values above 0.5.
    """

    peak_frame: int | None
    peak_s: float | None
    peak_x: float | None
    peak_y: float | None
    centre_frame: float | None
    centre_s: float | None
    centre_x: float | None
    centre_y: float | None
    spread_frames: float | None
    spread_s: float | None
    spread_x: float | None
    spread_y: float | None
    border_energy: float | None
    mean_energy: float
    volume_above_half: float


def tube_statistics(tube: Tube, frame_indices: NDArray[np.int64], timestamps: NDArray[np.float64]) -> TubeStatistics:
    """The statistics of a tube, from its small map: cheap, and in memory that does not grow with the clip.

    The map is brought to 50x50 places and to the tube's frames with the tube's own splines, shown between `low` and
    `high` as the tube is and clipped to [0, 1]. That differs from the full-size tube by a percent or so.

    Args:
        tube: of T steps of time.
        frame_indices: (T,) the tube's frames, by their numbers in the source.
        timestamps: (T,) their seconds; NaN where there are none.
    """
    found = statistics_of(_small_values(tube), frame_indices, timestamps)
    if len(tube.map) > 1 or frame_indices[0] == frame_indices[-1]:
        return found
    # One step stands for all frames: none of them is the peak more than any other.
    return replace(
        found,
        peak_frame=None,
        peak_s=None,
        centre_frame=None,
        centre_s=None,
        spread_frames=None,
        spread_s=None,
    )


def statistics_of(
    chunks: Iterable[NDArray[np.float32]], frame_indices: NDArray[np.int64], timestamps: NDArray[np.float64]
) -> TubeStatistics:
    """The statistics of a tube that comes a few frames at a time.

    Args:
        chunks: (n, H, W) float32 in [0, 1], T frames in all, at least one.
        frame_indices: (T,) the numbers of these frames in the source.
        timestamps: (T,) their seconds; NaN where there are none.
    """
    plane: NDArray[np.float64] = np.zeros(1)
    steps: list[NDArray[np.float64]] = []
    above, best, peak = 0, 0.0, (0, 0, 0)
    done = 0
    for chunk in chunks:
        plane = plane + chunk.sum(axis=0, dtype=np.float64)
        steps.append(chunk.sum(axis=(1, 2), dtype=np.float64))
        above += int(np.count_nonzero(chunk > 0.5))
        k, i, j = map(int, np.unravel_index(chunk.argmax(), chunk.shape))
        if chunk[k, i, j] > best:
            best, peak = float(chunk[k, i, j]), (done + k, i, j)
        done += len(chunk)
    per_step = np.concatenate(steps)
    if len(per_step) != len(frame_indices) or len(per_step) != len(timestamps):
        raise ValueError(f"{len(per_step)} frames of {len(frame_indices)} indices and {len(timestamps)} timestamps")
    y, x = ((np.arange(n) + 0.5) / n for n in plane.shape)
    energy = float(plane.sum())
    centre_frame, spread_frames = _moments(per_step, frame_indices.astype(np.float64))
    centre_s, spread_s = _moments(per_step, timestamps)
    centre_x, spread_x = _moments(plane.sum(axis=0), x)
    centre_y, spread_y = _moments(plane.sum(axis=1), y)
    k, i, j = peak
    inner = plane[np.ix_(*((u >= BORDER) & (u <= 1 - BORDER) for u in (y, x)))]
    return TubeStatistics(
        peak_frame=int(frame_indices[k]) if energy else None,
        peak_s=float(timestamps[k]) if energy and np.isfinite(timestamps[k]) else None,
        peak_x=float(x[j]) if energy else None,
        peak_y=float(y[i]) if energy else None,
        centre_frame=centre_frame,
        centre_s=centre_s,
        centre_x=centre_x,
        centre_y=centre_y,
        spread_frames=spread_frames,
        spread_s=spread_s,
        spread_x=spread_x,
        spread_y=spread_y,
        border_energy=min(1.0, max(0.0, 1 - float(inner.sum()) / energy)) if energy else None,
        mean_energy=energy / (len(per_step) * plane.size),
        volume_above_half=above / (len(per_step) * plane.size),
    )


def _moments(weights: NDArray[np.float64], places: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Weighted mean and standard deviation of `places`; None where they are unknown or nothing has weight."""
    total = float(weights.sum())
    if total == 0 or not np.isfinite(places).all():
        return None, None
    centre = float(weights @ places) / total
    return centre, float(np.sqrt(weights @ (places - centre) ** 2 / total))


def _small_values(tube: Tube) -> Iterator[NDArray[np.float32]]:
    """The tube in (n, 50, 50) chunks, T frames in all."""
    scale = np.float32(0 if tube.is_constant else 1 / (tube.high - tube.low))
    steps = tube.steps
    for start in range(0, len(steps), _CHUNK):
        raw = tube.at_size(steps[start : start + _CHUNK], (_GRID, _GRID))
        values = (raw - np.float32(tube.low)) * scale
        yield np.clip(values, 0, 1)
