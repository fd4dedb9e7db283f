"""Which frames of a clip the network sees: one window of them, or windows that slide over the whole video."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from .choices import SamplingName, choice
from .errors import OptionError, SourceError

_OPTIONS = {SamplingName.STEPPED: ("step", "max_frames"), SamplingName.DENSE: ("stride", "overlap")}


@dataclass(frozen=True)
class Window:
    """The frames of one forward pass.

    Attributes:
        indices: T places in the clip, ascending; a short clip repeats some.
    """

    indices: tuple[int, ...]

    @property
    def first(self) -> int:
        """The first of the clip's frames that it spans."""
        return self.indices[0]

    @property
    def last(self) -> int:
        """The last one, inclusive."""
        return self.indices[-1]

    @property
    def spacing(self) -> float:
        """How many of the clip's frames lie from one of its frames to the next, on average; 1 for a single frame."""
        apart = self.last - self.first
        return apart / (len(self.indices) - 1) if apart else 1.0


@dataclass(frozen=True)
class Sampling:
    """How frames are taken from a clip. Made by `uniform`, `stepped` or `dense`; all values are checked.

    Attributes:
        name: which of the three.
        step: stepped: take every `step`-th frame of the clip,
        max_frames: this many at most, and of those T at even distances, as the published frame extractor and
            script do one after the other.
        stride: dense: the distance of a window's frames, in frames of the clip.
        overlap: dense: the share of a window's span that the next one covers, too; from 0 to below 1.

    Raises:
        OptionError: a value is out of its range.
    """

    name: SamplingName = SamplingName.UNIFORM
    step: int = 6
    max_frames: int = 24
    stride: int = 2
    overlap: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", choice(SamplingName, "sampling", self.name))  # plain strings are taken, too
        for name in ("step", "max_frames", "stride"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise OptionError(f"{name} is {value}: expected a whole number of at least 1")
        if not isinstance(self.overlap, Real) or not 0 <= self.overlap < 1:
            raise OptionError(
                f"overlap is {self.overlap}: expected a number from 0 to below 1, the share of a window that the next "
                "one covers, too; at 1 the windows would stand still"
            )

    @classmethod
    def uniform(cls) -> "Sampling":
        """One window, at even distances over the whole clip, as the published script takes it."""
        return cls()

    @classmethod
    def stepped(cls, step: int = 6, max_frames: int = 24) -> "Sampling":
        """One window over the clip's beginning: every `step`-th frame, `max_frames` at most, as `every` takes them."""
        return cls(SamplingName.STEPPED, step=step, max_frames=max_frames)

    @classmethod
    def dense(cls, stride: int = 2, overlap: float = 0.5) -> "Sampling":
        """Windows of every `stride`-th frame that slide over the whole video."""
        return cls(SamplingName.DENSE, stride=stride, overlap=overlap)

    @classmethod
    def of(cls, name: SamplingName, **options: float | None) -> "Sampling":
        """A way of sampling by its name; options that are None keep their defaults.

        Raises:
            OptionError: an option belongs to another way of sampling, or is out of its range.
        """
        given = {option: value for option, value in options.items() if value is not None}
        for option in given:
            owner = next(owner for owner, owned in _OPTIONS.items() if option in owned)
            if owner is not name:
                raise OptionError(
                    f"{option} is an option of {owner} sampling, and this is {name}: ask for {owner} sampling, or "
                    f"leave {option} out"
                )
        return cls(name, **given)  # type: ignore[arg-type]

    def options(self) -> dict[str, int | float]:
        """The values that this way of sampling looks at."""
        return {name: getattr(self, name) for name in _OPTIONS.get(self.name, ())}

    def windows(self, length: int, frames: int) -> tuple[Window, ...]:
        """The windows of a clip, ascending; together they reach from its first frame to its last, except stepped.

        Args:
            length: number of frames in the clip.
            frames: T, the number of frames the network takes.

        Raises:
            SourceError: the clip is shorter than one step.
        """
        if self.name is SamplingName.DENSE:
            return tuple(self._sliding(length, frames))
        stepped = self.name is SamplingName.STEPPED
        taken = every(length, self.step, self.max_frames) if stepped else range(length)
        return (Window(tuple(taken[place] for place in uniform(len(taken), frames).tolist())),)

    def _sliding(self, length: int, frames: int) -> Iterator[Window]:
        span = (frames - 1) * self.stride
        hop = self.stride * max(1, round((frames - 1) * (1 - self.overlap)))
        if span >= length:
            yield Window(tuple(uniform(length, frames).tolist()))
            return
        end = length - 1 - span
        for first in [*range(0, end, hop), end]:  # the last one ends with the video, whatever the hop
            yield Window(tuple(range(first, first + span + 1, self.stride)))


def every(length: int, step: int, max_frames: int) -> range:
    """The frames that the published extractor takes: it counts from one and takes each `step`-th, so many at most.

    Raises:
        SourceError: the clip is shorter than one step.
    """
    taken = range(step - 1, length, step)[:max_frames]
    if not taken:
        raise SourceError(f"the clip has {length} frames, fewer than the step of {step}: choose a smaller step")
    return taken


def uniform(length: int, frames: int) -> NDArray[np.int64]:
    """Evenly spaced frame indices over the whole clip, as the reference takes them.

    ``linspace(0, length - 1, frames)`` truncated to integers: a clip shorter than `frames` repeats some of them.

    Args:
        length: number of frames in the clip.
        frames: T, number of frames to take.

    Returns:
        (T,) int64, ascending.
    """
    return np.linspace(0, length - 1, num=frames).astype(np.int64)
