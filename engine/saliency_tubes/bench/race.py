"""Measuring two ways of doing the same job: interleaved rounds, medians, ratios."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

Samples = tuple[float, ...]
Job = Literal["network", "pipeline"]
T = TypeVar("T")

# Thread pools go on spinning for a moment after their work; without this pause one side would run beside the other's.
_SETTLE_SECONDS = 0.2
# A median this much above the minimum has seen something else at work. That is no matter of taste: beside one busy
# process PyTorch's threads wait for each other up to twenty times as long, and every bar seems to be met.
_UNSTEADY = 1.25


@dataclass(frozen=True)
class Opponent:
    """Somebody else's way of doing a job of ours.

    Attributes:
        job: which one. ``"network"``: pixels in memory to logits and features; ``"pipeline"``: a folder of frames to
            the pictures of a tube.
        what: a few words for the report.
        run: does it once, given a folder to write to that does not exist yet.
    """

    job: Job
    what: str
    run: Callable[[Path], object]


@dataclass(frozen=True)
class Race:
    """The samples of two ways of doing the same job; sample i of `theirs` was taken right before sample i of `ours`."""

    ours: Samples
    theirs: Samples

    @property
    def ratio(self) -> float:
        """Their median over ours: how many times faster ours is."""
        return statistics.median(self.theirs) / statistics.median(self.ours)

    @property
    def paired_ratio(self) -> float:
        """The median of the rounds' own ratios, which a slow drift of the machine does not touch."""
        return statistics.median(t / o for t, o in zip(self.theirs, self.ours, strict=True))

    @property
    def steady(self) -> bool:
        """Whether the machine was quiet enough for the medians to mean something."""
        return is_steady(self.ours) and is_steady(self.theirs)


@dataclass(frozen=True)
class Clock:
    """How often to measure, and whom to tell.

    Attributes:
        rounds: number of measured rounds; one more, unmeasured, goes before them.
        say: called with a few words before each round.
    """

    rounds: int
    say: Callable[[str], None]

    def interleave(
        self, name: str, theirs: Callable[[int], T], ours: Callable[[int], T]
    ) -> tuple[tuple[T, ...], tuple[T, ...]]:
        """Call both in turn, A B A B, once unmeasured and then `rounds` times.

        Args:
            name: of what is measured, for `say`.
            theirs: takes one sample of the other side, given the round's number.
            ours: takes one sample of ours.

        Returns:
            Their samples, and ours.
        """
        their_samples, our_samples = self.in_turn(name, (theirs, ours))
        return their_samples, our_samples

    def in_turn(self, name: str, jobs: Sequence[Callable[[int], T]]) -> tuple[tuple[T, ...], ...]:
        """Call any number of jobs in turn, A B C A B C, as `interleave` does with two: the samples of each."""
        rounds = []
        for turn in range(self.rounds + 1):
            self.say(f"{name}: round {turn} of {self.rounds}" if turn else f"{name}: warming up")
            rounds.append([self._sample(job, turn) for job in jobs])
        return tuple(zip(*rounds[1:], strict=True))

    def race(self, name: str, jobs: Mapping[str, Callable[[], object]], calls: int = 1) -> dict[str, Samples]:
        """Time jobs in turn; the samples of each by its name, in seconds a call.

        Args:
            name: of the claim, for `say`.
            jobs: by name.
            calls: how many in a row make up a sample, for jobs of a few milliseconds.
        """

        def sampler(job: Callable[[], object]) -> Callable[[int], float]:
            return lambda _: mean_seconds(job, calls)

        samples = self.in_turn(name, [sampler(job) for job in jobs.values()])
        return dict(zip(jobs, samples, strict=True))

    @staticmethod
    def _sample(take: Callable[[int], T], turn: int) -> T:
        gc.collect()
        time.sleep(_SETTLE_SECONDS)
        return take(turn)


def is_steady(samples: Samples) -> bool:
    """Whether the samples lie close enough together to have been taken on a quiet machine."""
    return statistics.median(samples) <= _UNSTEADY * min(samples)


def seconds(job: Callable[[], object]) -> float:
    """How long one call takes, by the wall clock."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def mean_seconds(job: Callable[[], object], calls: int) -> float:
    """How long one call takes, by the wall clock, if `calls` follow each other."""

    def many() -> None:
        for _ in range(calls):
            job()

    return seconds(many) / calls
