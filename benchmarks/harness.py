"""Measuring ways of doing the same job: interleaved rounds, medians, ratios, and the bar they have to clear."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Samples = tuple[float, ...]
Unit = Literal["s", "MiB"]
T = TypeVar("T")

# Thread pools go on spinning for a moment after their work; without this pause one side would run beside the other's.
_SETTLE_SECONDS = 0.2
# A median this much above the minimum has seen something else at work. That is no matter of taste: beside one busy
# process PyTorch's threads wait for each other up to twenty times as long, and every bar seems to be met.
_UNSTEADY = 1.25


@dataclass(frozen=True)
class TimesFaster:
    """The bar of a ratio: the reference's median over ours is at least this."""

    at_least: float

    def met(self, ours: Samples, reference: Samples) -> bool:
        """Whether these samples clear the bar."""
        return statistics.median(reference) / statistics.median(ours) >= self.at_least

    def __str__(self) -> str:
        return f"at least {self.at_least:g} times faster"


@dataclass(frozen=True)
class Below:
    """The bar of an amount: our median is below `limit`, or below theirs where that is None."""

    limit: float | None = None

    def met(self, ours: Samples, reference: Samples) -> bool:
        """Whether these samples clear the bar."""
        limit = statistics.median(reference) if self.limit is None else self.limit
        return statistics.median(ours) < limit

    def __str__(self) -> str:
        return "below theirs" if self.limit is None else f"below {self.limit:g} s"


Bar = TimesFaster | Below


@dataclass(frozen=True)
class Result:
    """One row of a claim, measured.

    Attributes:
        name: the claim's short name, as ``--only`` takes it.
        claim: what is compared, in a few words.
        unit: of the samples.
        ours: one sample a round.
        reference: theirs, one sample a round; sample i was taken in the same round as sample i of `ours`.
        bar: what was promised.
        facts: what was checked or counted beside the clock, by name.
    """

    name: str
    claim: str
    unit: Unit
    ours: Samples
    reference: Samples
    bar: Bar
    facts: tuple[tuple[str, float | str], ...] = ()

    @property
    def ratio(self) -> float:
        """The reference's median over ours."""
        return statistics.median(self.reference) / statistics.median(self.ours)

    @property
    def paired_ratio(self) -> float:
        """The median of the rounds' own ratios, which a slow drift of the machine does not touch."""
        return statistics.median(r / o for r, o in zip(self.reference, self.ours, strict=True))

    @property
    def steady(self) -> bool:
        """Whether the machine was quiet enough for the medians to mean something."""
        return all(statistics.median(samples) <= _UNSTEADY * min(samples) for samples in (self.ours, self.reference))

    @property
    def verdict(self) -> Literal["met", "MISSED", "UNSTEADY"]:
        """Whether the bar is cleared; nothing is said of it where the samples are unsteady."""
        if not self.steady:
            return "UNSTEADY"
        return "met" if self.bar.met(self.ours, self.reference) else "MISSED"


@dataclass(frozen=True)
class Skipped:
    """One row of a claim that cannot be measured here; it is neither met nor missed.

    Attributes:
        name: the claim's short name, as ``--only`` takes it.
        claim: what would be compared, in a few words.
        why: a sentence that says what is missing, and the command that installs it where one does.
    """

    name: str
    claim: str
    why: str

    @property
    def verdict(self) -> Literal["not measured"]:
        """Nothing is said of the bar."""
        return "not measured"


Row = Result | Skipped


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
        self, name: str, reference: Callable[[int], T], ours: Callable[[int], T]
    ) -> tuple[tuple[T, ...], tuple[T, ...]]:
        """Call both in turn, A B A B, once unmeasured and then `rounds` times.

        Args:
            name: of the claim, for `say`.
            reference: takes one sample of the reference, given the round's number.
            ours: takes one sample of ours.

        Returns:
            The samples of the reference, and ours.
        """
        reference_samples, our_samples = self.in_turn(name, (reference, ours))
        return reference_samples, our_samples

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
