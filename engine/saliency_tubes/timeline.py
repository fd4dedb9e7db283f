"""A plot of when: the tube's energy over time, and under it the label's probability in every window."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import lettering
from ._opencv import cv2

WIDTH, HEIGHT = 1200, 600

# Okabe and Ito's colours, which people with any colour vision tell apart; their yellow is too pale for lines on white.
PALETTE = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (60, 60, 60))

_LEFT, _RIGHT = 84, 1168
_TITLE, _TEXT, _TICK = 28, 21, 19
_HEAD, _BOTTOM, _BETWEEN = 106, 530, 54  # the panels lie between the first two, less what the legend takes
_LEGEND_COLUMNS, _LEGEND_ROW = 4, 29
_GRID, _AXIS = (226, 226, 228), (130, 130, 134)
_LINE, _DOT = 2, 5
_PROBABILITY_TOPS = (0.05, 0.1, 0.2, 0.5, 1.0)  # of the axis: the first that holds all, so that small ones show
_LOWEST_TOP = 1e-3  # energy that never gets here is drawn as what it is: a line at zero
_SHIFT = 4  # fractional bits of coordinates: lines do not jump from pixel to pixel


@dataclass(frozen=True, eq=False)
class Timeline:
    """What is known of some labels over time.

    Attributes:
        labels: L names, the most important first; seven lines at most are drawn.
        times: (T,) float64, seconds of the tube's steps. Where one of them is NaN, or they run backwards, the plot
            goes by frames.
        frame_indices: (T,) int64, the same steps as frames of the clip, not falling.
        energy: (L, T) float, the mean of the map at each step, in [0, 1] on one scale for all labels; NaN leaves a gap.
        windows: (n, 2) int64, the first and the last frame that the network saw at once.
        probabilities: (L, n) float in [0, 1]; NaN leaves a gap.
        remarks: what must be said of the energy, such as that the maps are approximate; what does not fit is left out.
    """

    labels: tuple[str, ...]
    times: NDArray[np.float64]
    frame_indices: NDArray[np.int64]
    energy: NDArray[np.floating]
    windows: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    remarks: tuple[str, ...] = ()

    @property
    def has_times(self) -> bool:
        """Whether the plot goes by seconds, not by frames."""
        return bool(np.isfinite(self.times).all() and (np.diff(self.times) >= 0).all())

    @property
    def steps(self) -> NDArray[np.float64]:
        """(T,) float64: where each step lies on the time axis, in seconds or frames."""
        return self.times if self.has_times else self.frame_indices.astype(np.float64)

    @property
    def spans(self) -> NDArray[np.float64]:
        """(n, 2) float64: where each window begins and ends on the time axis."""
        return np.interp(self.windows, self.frame_indices, self.steps)


@dataclass(frozen=True)
class _Panel:
    """A rectangle of the picture and the values that its sides stand for."""

    top: int
    bottom: int
    x_range: tuple[float, float]
    y_max: float

    def xs(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asarray(np.interp(values, self.x_range, (_LEFT, _RIGHT)))

    def ys(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asarray(np.interp(values, (0, self.y_max), (self.bottom, self.top)))


def draw_timeline(timeline: Timeline, title: str) -> NDArray[np.uint8]:
    """Two plots over one time axis: energy above, probability below.

    A window's probability is drawn as a step around the window's centre; a single window as a dot in the middle of a
    line as long as the window.

    Args:
        timeline: what to draw; at least one label, one step and one window.
        title: such as the clip's name; what does not fit is left out.

    Returns:
        (600, 1200, 3) uint8 RGB on white.
    """
    image = np.full((HEIGHT, WIDTH, 3), lettering.PAPER, dtype=np.uint8)
    title = lettering.shorten(title, _RIGHT - 32, _TITLE, lettering.BOLD)
    lettering.draw(image, title, (32, 48), _TITLE, weight=lettering.BOLD)
    top = _HEAD + _draw_legend(image, timeline.labels)
    height = (_BOTTOM - top - _BETWEEN) // 2

    x_range = _range(timeline.steps)
    count = min(len(timeline.labels), len(PALETTE))
    highest = float(np.nanmax(timeline.energy[:count], initial=0))
    highest = highest if highest > _LOWEST_TOP else 1.0
    step = tick_step(highest, 4)
    energy = _Panel(top, top + height, x_range, math.ceil(highest / step - 1e-6) * step)
    likeliest = float(np.nanmax(timeline.probabilities[:count], initial=0))
    share = next(top for top in _PROBABILITY_TOPS if top >= likeliest or top == 1)
    probability = _Panel(_BOTTOM - height, _BOTTOM, x_range, share)
    scale = "mean of the tube" if count == 1 else "mean of the map, one scale for all labels"
    _draw_axes(image, energy, f"energy ({scale})", step, "; ".join(timeline.remarks))
    _draw_axes(image, probability, "probability", share / 5)
    _draw_time(image, (energy, probability), timeline.has_times)
    for line in reversed(range(count)):  # the most important on top
        _draw_line(image, energy, timeline.steps, timeline.energy[line], PALETTE[line])
        _draw_windows(image, probability, timeline.spans, timeline.probabilities[line], PALETTE[line])
    return image


def tick_step(length: float, about: int) -> float:
    """1, 2 or 5 times a power of ten, so that about so many steps make `length`, or a few more."""
    rough = length / about
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (5, 2, 1) if step * power <= rough * (1 + 1e-9))


def ticks(low: float, high: float, step: float) -> list[float]:
    """The multiples of `step` from `low` to `high`."""
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def _range(steps: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(steps.min()), float(steps.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _draw_legend(image: NDArray[np.uint8], labels: tuple[str, ...]) -> int:
    """One entry for each of several lines, and how many are not drawn; returns the height in pixels."""
    if len(labels) == 1:
        return 0
    room = (_RIGHT - 32) // _LEGEND_COLUMNS
    entries = list(zip(labels, PALETTE, strict=False))
    for place, (label, colour) in enumerate(entries):
        x, baseline = _legend_place(place, room)
        cv2.line(image, (x + 2, baseline - 7), (x + 26, baseline - 7), colour, 2 * _LINE, cv2.LINE_AA)
        lettering.draw(image, lettering.shorten(label, room - 56, _TEXT), (x + 38, baseline), _TEXT)
    left_out = len(labels) - len(entries)
    if left_out:
        end = _legend_place(len(entries), room)
        lettering.draw(image, f"{left_out} more, not drawn", end, _TEXT, colour=lettering.QUIET)
    return _LEGEND_ROW * math.ceil((len(entries) + bool(left_out)) / _LEGEND_COLUMNS)


def _legend_place(place: int, room: int) -> tuple[int, int]:
    row, column = divmod(place, _LEGEND_COLUMNS)
    return 32 + column * room, 84 + row * _LEGEND_ROW


def _draw_axes(image: NDArray[np.uint8], panel: _Panel, title: str, step: float, remark: str = "") -> None:
    lettering.draw(image, title, (_LEFT, panel.top - 12), _TICK, colour=lettering.QUIET)
    beside = _LEFT + lettering.width_of(title, _TICK) + 18
    lettering.draw(image, lettering.shorten(remark, _RIGHT - beside, _TICK), (beside, panel.top - 12), _TICK)
    values = ticks(0, panel.y_max, step)
    for value, y in zip(values, panel.ys(np.array(values)).round().astype(int).tolist(), strict=True):
        image[y, _LEFT : _RIGHT + 1] = _GRID
        lettering.draw(image, tick_text(value, step), (_LEFT - 10, y + 6), _TICK, align=1)
    image[panel.top : panel.bottom + 1, _LEFT] = _AXIS
    image[panel.bottom, _LEFT : _RIGHT + 1] = _AXIS


def _draw_time(image: NDArray[np.uint8], panels: tuple[_Panel, ...], in_seconds: bool) -> None:
    """Ticks through all panels, their numbers and the axis's name under the last one."""
    low, high = panels[0].x_range
    for about in (7, 4, 2):  # as many as do not touch
        step = tick_step(high - low, about)
        step = step if in_seconds else max(1.0, step)
        texts = {value: tick_text(value, step) for value in ticks(low, high, step)}
        if sum(lettering.width_of(text, _TICK) + 24 for text in texts.values()) < _RIGHT - _LEFT:
            break
    places = panels[0].xs(np.array(list(texts))).round().astype(int).tolist()
    for text, x in zip(texts.values(), places, strict=True):
        for panel in panels:
            image[panel.top : panel.bottom, x] = np.minimum(image[panel.top : panel.bottom, x], _GRID)
        image[_BOTTOM : _BOTTOM + 6, x] = _AXIS
        lettering.draw(image, text, (x, _BOTTOM + 26), _TICK, align=0.5)
    name = "time (s)" if in_seconds else "frame"
    lettering.draw(image, name, ((_LEFT + _RIGHT) // 2, _BOTTOM + 56), _TEXT, align=0.5)


def tick_text(value: float, step: float) -> str:
    """A tick's number, with as many decimals as its axis needs."""
    if abs(value) >= 1e7:
        return lettering.number(value)
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-6))}f}".replace("-", "−")  # noqa: RUF001


def _draw_line(
    image: NDArray[np.uint8],
    panel: _Panel,
    xs: NDArray[np.float64],
    ys: NDArray[np.floating],
    colour: tuple[int, int, int],
) -> None:
    """A line with gaps at NaN; a point without neighbours is a dot."""
    known = np.flatnonzero(np.isfinite(ys))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run) == 0:
            continue
        points = np.stack([panel.xs(xs[run]), panel.ys(ys[run])], axis=-1)
        fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
        if len(run) == 1:
            cv2.circle(image, fixed[0].tolist(), _DOT << _SHIFT, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        else:
            cv2.polylines(image, [fixed], False, colour, _LINE, cv2.LINE_AA, _SHIFT)


def _draw_windows(
    image: NDArray[np.uint8],
    panel: _Panel,
    spans: NDArray[np.float64],
    probabilities: NDArray[np.floating],
    colour: tuple[int, int, int],
) -> None:
    """Each window from half-way to the one before it to half-way to the one after."""
    order = np.argsort(spans.mean(axis=1), kind="stable")
    spans, ys = spans[order], probabilities[order]
    centres = spans.mean(axis=1)
    edges = np.concatenate([spans[:1, 0], (centres[1:] + centres[:-1]) / 2, spans[-1:, 1]])
    _draw_line(image, panel, np.repeat(edges, 2)[1:-1], np.repeat(ys, 2), colour)
    if len(ys) == 1:
        _draw_line(image, panel, centres, ys, colour)
