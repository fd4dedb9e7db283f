"""The saliency tube: raw class-activation maps brought to the clip's size, merged over windows, normalised once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .cells import Cells
from .sampling import Window
from .upsample import upsample, upsample_space, upsample_time

if TYPE_CHECKING:
    from .plot import TubeFigure

_CHUNK = 32  # steps of time that are upsampled at once where a tube may be long


@dataclass(frozen=True, eq=False)
class Tube:
    """Where and when a network saw evidence for one class.

    Attributes:
        label: the class index.
        map: (t, h, w) float32, the raw class-activation map, in units of the logit. Of one window: its mean plus the
            classifier's bias is the logit. Merged from many: one step for every frame of the video.
        shape: (T, H, W) of the tube.
        low: the upsampled map's smallest value, shown as 0.
        high: its largest value, shown as 1.
        cells: where the map's cells lie in `shape`; None for corner-aligned, as the published reference has them.
        approximate: whether the map's mean and the bias miss the logit; see `ModelSpec.approximate`.
    """

    label: int
    map: NDArray[np.float32]
    shape: tuple[int, int, int]
    low: float
    high: float
    cells: Cells | None = None
    approximate: bool = False

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """(T, H, W) float32 in [0, 1]: the upsampled map, min-max normalised over the whole volume.

        All zeros for a constant map, which points nowhere. A whole video's tube has T frames of H x W: a minute at 30
        frames a second takes 360 MB; `chunks` gives it piece by piece.
        """
        return _normalised(upsample(self.map, self.shape, cells=self.cells), self.low, self.high)

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """`values` in order, a few steps of time at once: (n, H, W) float32 in [0, 1]."""
        for volume in _upsampled(self.map, self.shape, self.cells):
            yield _normalised(volume, self.low, self.high)

    @property
    def steps(self) -> NDArray[np.float32]:
        """(T, h, w) float32: the raw map at every step of time."""
        return upsample_time(self.map, self.shape[0], cells=self.cells)

    def at_size(self, raw: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Raw maps brought to a picture of the crop of any size.

        Args:
            raw: (n, h, w) float32, such as some of `steps`.
            size_hw: height and width in pixels.

        Returns:
            (n, H, W) float32, in units of the logit.
        """
        cells = None if self.cells is None else self.cells.resized(self.shape[1:], size_hw)
        return upsample_space(raw, size_hw, cells=cells)

    @property
    def is_constant(self) -> bool:
        """Whether the map is the same everywhere, so that the tube says nothing."""
        return self.high == self.low

    @property
    def energy(self) -> NDArray[np.float32]:
        """(T,) float32: the mean of the map at each step of time, on the scale of `low` to `high`; zeros if constant.

        Of the map, not of its upsampled picture, in which the border's cells count half.
        """
        return self.energy_on(self.low, self.high)

    def energy_on(self, low: float, high: float) -> NDArray[np.float32]:
        """`energy` on another scale, such as one for several labels."""
        return _normalised(self.steps.mean(axis=(1, 2)), low, high)

    def plot(self, title: str | None = None, times: "NDArray[np.float64] | None" = None) -> "TubeFigure":
        """Slices of the tube and its energy over time, as a figure that a notebook shows.

        Args:
            title: what stands above; None for the class index. An approximate tube says so before it.
            times: (T,) float64, seconds of the steps, such as `Explanation.timestamps`; None to count steps.

        Returns:
            A matplotlib `Figure`.

        Raises:
            DependencyError: matplotlib is not installed.
        """
        from .plot import MOST_SLICES, plot_tube

        T, H, W = self.shape
        steps = sorted(set(np.linspace(0, T - 1, MOST_SLICES).round().astype(int).tolist()))
        volume = self.at_size(self.steps[steps], (H, W))
        slices = np.clip(_normalised(volume, self.low, self.high), 0, 1)
        heading = f"class {self.label}" if title is None else title
        if self.approximate:  # before the title, of which the end is left out where it is long
            heading = f"approximate: {heading}" if heading else "approximate"
        return plot_tube(slices, steps, self.energy, self.low, self.high, title=heading, times=times)

    def track(self, frame_indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The raw map at every frame of the clip, from the first that the tube has a step for to the last.

        Args:
            frame_indices: (T,) int64, the places in the clip of the tube's steps of time, ascending.

        Returns:
            (n, h, w) float32. At a step's own frame it is the map that `values` shows there; between such frames it is
            interpolated linearly, and where a short clip's frame has several steps, it is their mean.
        """
        steps = self.steps
        frames, inverse, counts = np.unique(frame_indices, return_inverse=True, return_counts=True)
        places = np.bincount(inverse, weights=np.arange(len(inverse))) / counts
        if len(frames) == frames[-1] - frames[0] + 1 == len(steps):  # every frame has its own
            return steps
        at = np.interp(np.arange(frames[0], frames[-1] + 1), frames, places)
        before = np.floor(at).astype(np.intp)
        share = (at - before).astype(np.float32)[:, None, None]
        between = steps[before] * (1 - share) + steps[np.minimum(before + 1, len(steps) - 1)] * share
        return np.asarray(between, dtype=np.float32)


def build_tubes(
    labels: Sequence[int],
    maps: NDArray[np.float32],
    shape: tuple[int, int, int],
    cells: Cells | None = None,
    approximate: bool = False,
) -> tuple[Tube, ...]:
    """Upsample raw maps to `shape` (T, H, W) and normalise each once, over its whole volume.

    Cubic splines and min-max over the volume, as in the published reference (Stergiou et al., ICIP 2019). Unlike
    there, a constant map gives zeros, not a division by zero.

    Args:
        labels: the class index of each map.
        maps: (L, t, h, w) float32, raw class-activation maps.
        shape: (T, H, W) of the tubes.
        cells: where the maps' cells lie in it; None for corner-aligned, as in the reference.
        approximate: see `Tube.approximate`.
    """
    volumes = list(upsample(maps, shape, cells=cells))
    if len(labels) > 1:  # so that who keeps one tube does not keep them all
        volumes = [volume.copy() for volume in volumes]
    tubes = []
    for label, raw, volume in zip(labels, maps, volumes, strict=True):
        low, high = float(volume.min()), float(volume.max())
        if raw.min() == raw.max():  # asked of the raw map: upsampling rounds
            low = high = float(raw.flat[0])
        tube = Tube(label, raw, shape, low, high, cells, approximate)
        vars(tube)["values"] = _normalised(volume, low, high)  # they are here already
        tubes.append(tube)
    return tuple(tubes)


def merged_tube(
    label: int,
    windows: Sequence[Window],
    maps: Sequence[NDArray[np.float32]],
    length: int,
    size_hw: tuple[int, int],
    cells: Cells | None = None,
    approximate: bool = False,
) -> Tube:
    """One tube for a whole video from the raw maps of windows that slide over it.

    Each window's map is brought to the frames that the window spans, by splines along time. Where windows overlap, a
    frame's map is their mean, weighted by how far the frame is inside each: a window knows least at its ends. The
    result is normalised once, over all of it. Memory: `length` maps of (h, w), never of (H, W).

    Args:
        label: the class index.
        windows: ascending.
        maps: a (t, h, w) float32 raw class-activation map for each window.
        length: number of frames in the video.
        size_hw: (H, W) of the tube.
        cells: where a window's cells lie among its frames and their pixels; None for corner-aligned.
        approximate: see `Tube.approximate`.
    """
    merged = merge(windows, maps, length, cells)
    placed = None if cells is None else cells.on_every_frame
    shape = (length, *size_hw)
    value = float(maps[0].flat[0])
    if all((raw == value).all() for raw in maps):  # asked of the raw maps: merging rounds
        merged.fill(value)
        return Tube(label, merged, shape, value, value, placed, approximate)
    low, high = np.inf, -np.inf
    for volume in _upsampled(merged, shape, placed):
        low, high = min(low, float(volume.min())), max(high, float(volume.max()))
    return Tube(label, merged, shape, low, high, placed, approximate)


def merge(
    windows: Sequence[Window], maps: Sequence[NDArray[np.float32]], length: int, cells: Cells | None = None
) -> NDArray[np.float32]:
    """(length, h, w) float32: the windows' raw maps at every frame, averaged where they overlap; see `merged_tube`."""
    total = np.zeros((length, *maps[0].shape[1:]), dtype=np.float32)
    weights = np.zeros(length, dtype=np.float32)
    for window, raw in zip(windows, maps, strict=True):
        span = window.last - window.first + 1
        inside = np.arange(1, span + 1, dtype=np.float32)
        weight = np.minimum(inside, inside[::-1])
        placed = None if cells is None else cells.at_spacing(window.spacing)
        total[window.first : window.last + 1] += weight[:, None, None] * upsample_time(raw, span, cells=placed)
        weights[window.first : window.last + 1] += weight
    seen = np.flatnonzero(weights)
    total[seen] /= weights[seen][:, None, None]
    return total if len(seen) == length else _filled(total, seen)


def _filled(track: NDArray[np.float32], seen: NDArray[np.int_]) -> NDArray[np.float32]:
    """A track whose steps between `seen` ones are interpolated: windows of one frame leave such gaps."""
    frames = np.arange(len(track))
    columns = [np.interp(frames, seen, column) for column in track[seen].reshape(len(seen), -1).T]
    return np.stack(columns, axis=1).reshape(track.shape).astype(np.float32)


def _upsampled(
    raw: NDArray[np.float32], shape: tuple[int, int, int], cells: Cells | None
) -> Iterator[NDArray[np.float32]]:
    """The upsampled map in chunks of time."""
    T, H, W = shape
    track = upsample_time(raw, T, cells=cells)
    for start in range(0, T, _CHUNK):
        yield upsample_space(track[start : start + _CHUNK], (H, W), cells=cells)


def _normalised(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Upsampled values brought to [0, 1], in place."""
    if high == low:
        values.fill(0)
        return values
    values -= np.float32(low)
    values /= np.float32(high) - np.float32(low)
    return values
