"""What a map can say of when: how many steps of time it has, and which frames each of them stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any, Self

from .choices import Align

_LISTED = 8  # steps whose frames are named one by one; of more, the first ones and the last
_EARLIER = "an earlier layer (`tubes export ... --layer NAME`)"
_ONE_FRAME = (
    "the network takes one frame at a time, so the tube is of one frame and has no time in it: `--sampling dense` "
    "explains frame after frame"
)


@dataclass(frozen=True)
class TimeSteps:
    """The steps of time of one window's map.

    Attributes:
        spans: the first and the last frame of each step, inclusive. A frame that lies across the border of two steps
            is in both.
        frames: the T frames that the network took, ascending; a short clip repeats some.
        slides: whether windows slide over the clip. Frames are counted from a window's first one then.
    """

    spans: tuple[tuple[int, int], ...]
    frames: tuple[int, ...]
    slides: bool = False

    @classmethod
    def of(cls, steps: int, frames: Sequence[int], align: Align = Align.CENTERS, *, slides: bool = False) -> Self:
        """The steps of a map among a window's frames: a frame belongs to the step whose place is nearest.

        Equal shares give step i of t the frames from ``i T / t`` to ``(i + 1) T / t``. With the first and the last step
        on the first and the last frame, steps lie ``(T - 1) / (t - 1)`` frames apart, and those two have half as many.

        Args:
            steps: t.
            frames: (T,) the numbers of the window's frames; ``range(T)`` for the network's own.
            align: where the steps lie among them.
            slides: see `TimeSteps.slides`.
        """
        spans = tuple(
            (frames[floor(begin)], frames[ceil(end) - 1])
            for begin, end in pairwise(_borders(steps, len(frames), align))
        )
        return cls(spans, tuple(frames), slides)

    @property
    def words(self) -> str:
        """As in ``8 steps, of frames 0-1, 2-3, ..., 14-15``."""
        count, T = len(self.spans), len(self.frames)
        if T == 1:
            return "none: the network takes one frame at a time"
        if count == 1:
            return f"1 step for all {T} frames"
        if self._one_each:
            return f"{count} steps, one for each frame"
        named = [str(first) if first == last else f"{first}-{last}" for first, last in self.spans]
        if count > _LISTED:
            named[3:-1] = ["..."]
        return f"{count} steps, of frames {', '.join(named)}{' of a window' * self.slides}"

    @property
    def note(self) -> str | None:
        """What there is to warn of: that the tube cannot tell when, and what could. None where it can."""
        T = len(self.frames)
        if T == 1:
            return None if self.slides else _ONE_FRAME
        if len(self.spans) > 1 or self._is_still:
            return None
        longer = f"a longer input at export (`tubes export ... --frames {2 * T}`)"
        if self.slides:
            return (
                f"one step of time stands for all {T} frames of a window: the tube cannot localise in time within a "
                f"window, only tell one from the next. What may help: {longer}, or {_EARLIER}"
            )
        return (
            f"one step of time stands for all {T} frames: the tube cannot localise in time. What may help: {longer}, "
            f"{_EARLIER}, or windows that slide over the clip (`--sampling dense`)"
        )

    @property
    def sentence(self) -> str:
        """How finely a tube can tell when, for people who look at one."""
        if self.note is not None:
            return f"{self.note[0].upper()}{self.note[1:]}."
        if len(self.frames) == 1:
            return "The network takes one frame at a time; what is between those it saw is interpolated."
        if self._is_still:
            return "The network saw one frame of the clip: there is no time in it, and nothing to tell about when."
        count, reach = len(self.spans), self.frames[-1] - self.frames[0] + 1
        if self._one_each:
            between = "" if reach == count else "; what is between them is interpolated"
            return f"Each of the {count} steps of time is one frame that the network saw{between}."
        if reach < count:
            return f"The {reach} frames that the network saw have {count} steps of time: several fall on one frame."
        return (
            f"A window of {reach} frames has {count} steps of time, so each step stands for about {reach / count:.1f} "
            "frames; what is between them is interpolated."
        )

    @property
    def is_flat(self) -> bool:
        """Whether one step stands for all of several frames, so that the tube is the same at every moment."""
        return len(self.spans) == 1 and not self.slides and not self._is_still

    def describe(self) -> dict[str, Any]:
        """As JSON types."""
        return {"steps": len(self.spans), "frames": [{"first": first, "last": last} for first, last in self.spans]}

    @property
    def _one_each(self) -> bool:
        """Whether each step is exactly one frame."""
        return self.spans == tuple((frame, frame) for frame in self.frames) and len(set(self.frames)) == len(
            self.frames
        )

    @property
    def _is_still(self) -> bool:
        """Whether all frames are the same one."""
        return self.frames[0] == self.frames[-1]


def _borders(steps: int, frames: int, align: Align) -> list[Fraction]:
    """Where steps begin and end; frame f reaches from f to f + 1. Exact: rounding would move whole frames."""
    if align is Align.CENTERS or steps == 1:
        return [Fraction(i * frames, steps) for i in range(steps + 1)]
    apart = Fraction(frames - 1, steps - 1)
    halfway = [(i + Fraction(1, 2)) * apart + Fraction(1, 2) for i in range(steps - 1)]
    return [Fraction(0), *halfway, Fraction(frames)]
