"""The times of frames, mended where a container has them wrong."""

import math
from fractions import Fraction

_MAX_RATE = 1000  # frames a second; more is a tick of the container's clock taken for a rate
_UNKNOWN_STEP = 1 / 25
# A longer pause between two frames, in seconds, is an error: the thresholds are in the spirit of FFmpeg's own tool.
_PAUSE, _PAUSE_WHERE_IT_RESTARTS = 3600.0, 10.0
_BACK_SECONDS = 1.0  # a clock that jumps back further has started anew


class Clock:
    """Seconds after the first frame, strictly increasing whatever the container says.

    A time that is missing is one step after the frame before. One that is repeated or goes back a little is put half
    a step after the frame before, so that the true times are caught up with. After a jump the clock counts on from
    where it was. Without the first frame's time and without a rate there is no clock: all is NaN.

    Args:
        rate: frames a second; None or 0 where it is unknown.
        restarts: whether the container is of a kind whose clock may start anew in the middle, such as MPEG-TS.

    Attributes:
        wrong: how many times were not after the one before, or were so by far.
    """

    def __init__(self, rate: Fraction | None, *, restarts: bool) -> None:
        self._known = rate is not None and 0 < rate <= _MAX_RATE
        self._step = 1 / float(rate) if rate is not None and self._known else _UNKNOWN_STEP
        self._pause = _PAUSE_WHERE_IT_RESTARTS if restarts else _PAUSE
        self._origin: float | None = None  # what the container calls zero
        self._last: float | None = None
        self._missing = 0
        self.wrong = 0

    @property
    def missing(self) -> int:
        """How many frames had no time, where others have."""
        return 0 if self._origin is None else self._missing

    def seconds(self, time: float | None) -> float:
        """The next frame's seconds after the first, given the container's own time of it, or None."""
        if time is None:
            self._missing += 1
        if self._last is None:
            self._origin = time
            self._last = 0.0 if time is not None or self._known else math.nan
        elif not math.isnan(self._last):
            self._last = self._after(self._last, time)
        return self._last

    def _after(self, last: float, time: float | None) -> float:
        follows = last + self._step
        if time is None:
            return follows
        if self._origin is None:
            self._origin = time - follows
        now = time - self._origin
        if last < now <= last + self._pause:
            return now
        self.wrong += 1
        if last - _BACK_SECONDS <= now <= last:
            return last + self._step / 2
        self._origin = time - follows
        return follows
