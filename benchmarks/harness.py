"""One row of a claim, measured, and the bar it has to clear."""

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
    """The bar of an amount: our median is below `limit`, or below theirs where that is None."""

    limit: float | None = None

    def met(self, race: Race) -> bool:
        """Whether these samples clear the bar."""
        limit = statistics.median(race.theirs) if self.limit is None else self.limit
        return statistics.median(race.ours) < limit

    def __str__(self) -> str:
        return "below theirs" if self.limit is None else f"below {self.limit:g} s"


@dataclass(frozen=True)
class Within:
    """The bar of an amount: our median is at most `more` above theirs."""

    more: float

    def met(self, race: Race) -> bool:
        """Whether these samples clear the bar."""
        return statistics.median(race.ours) - statistics.median(race.theirs) <= self.more

    def __str__(self) -> str:
        return f"at most {self.more:g} above theirs"


@dataclass(frozen=True)
class Longer:
    """The bar of a ratio: our median is above theirs by at most this share of it."""

    share: float

    def met(self, race: Race) -> bool:
        """Whether these samples clear the bar."""
        return statistics.median(race.ours) <= (1 + self.share) * statistics.median(race.theirs)

    def __str__(self) -> str:
        return f"at most {self.share:.0%} longer"


Bar = TimesFaster | Below | Within | Longer


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
    def race(self) -> Race:
        """The samples of both sides."""
        return Race(self.ours, self.reference)

    @property
    def verdict(self) -> Literal["met", "MISSED", "UNSTEADY"]:
        """Whether the bar is cleared; nothing is said of it where the samples are unsteady."""
        if not self.race.steady:
            return "UNSTEADY"
        return "met" if self.bar.met(self.race) else "MISSED"


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
