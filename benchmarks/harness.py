"""One claim, measured, and the bar it has to clear."""

import statistics
from dataclasses import dataclass
from typing import Literal

from saliency_tubes.bench.race import Race, Samples

Unit = Literal["s", "MiB"]


@dataclass(frozen=True)
class TimesFaster:
    """The bar of a ratio: the reference's median over ours is at least this."""

    at_least: float

    def met(self, race: Race) -> bool:
        """Whether these samples clear the bar."""
        return race.ratio >= self.at_least

    def __str__(self) -> str:
        return f"at least {self.at_least:g} times faster"


@dataclass(frozen=True)
class Below:
    """The bar of an amount: our median is below `limit`, or below the reference's median where that is None."""

    limit: float | None = None

    def met(self, race: Race) -> bool:
        """Whether these samples clear the bar."""
        limit = statistics.median(race.theirs) if self.limit is None else self.limit
        return statistics.median(race.ours) < limit

    def __str__(self) -> str:
        return "below the reference" if self.limit is None else f"below {self.limit:g} s"


@dataclass(frozen=True)
class Result:
    """One claim, measured.

    Attributes:
        name: the claim's short name, as ``--only`` takes it.
        claim: what is compared, in a few words.
        unit: of the samples.
        ours: one sample a round.
        reference: one sample a round; sample i was taken right before sample i of `ours`.
        bar: what was promised.
        facts: what was checked or counted beside the clock, by name.
    """

    name: str
    claim: str
    unit: Unit
    ours: Samples
    reference: Samples
    bar: TimesFaster | Below
    facts: tuple[tuple[str, float | str], ...] = ()

    @property
    def race(self) -> Race:
        """The samples of both sides."""
        return Race(self.ours, self.reference)

    @property
    def verdict(self) -> Literal["met", "MISSED", "UNSTEADY"]:
        """Whether the bar is cleared; nothing is said of it where the samples are unsteady."""
        if not self.race.steady:
            return "UNSTEADY"
        return "met" if self.bar.met(self.race) else "MISSED"
