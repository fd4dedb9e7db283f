"""What became of a case, in numbers: small, so that many thousands can be kept."""

from dataclasses import dataclass

from ..choices import Fill
from ..explanation import Score
from .options import Method, Metric
from .perturbation import Curve


@dataclass(frozen=True)
class Measured:
    """The value of a metric for a volume."""

    method: Method
    metric: Metric
    value: float


@dataclass(frozen=True, eq=False)
class MeasuredCurves:
    """What the class's probability does as a clip is deleted and inserted in the order of a volume."""

    method: Method
    fill: Fill
    deletion: Curve
    insertion: Curve


@dataclass(frozen=True, eq=False)
class CaseResult:
    """A case that was measured.

    Attributes:
        name: what it is called.
        place: where it is listed; empty where it is not.
        label: the class that was explained, with its logit and probability.
        predicted: the class with the highest logit.
        values: what was measured, in no order that matters; what the evidence does not allow is missing.
        curves: of deletion and insertion.
        notes: what the user should know about this case.
        seconds: how long it took.
    """

    name: str
    place: str
    label: Score
    predicted: Score
    values: tuple[Measured, ...]
    curves: tuple[MeasuredCurves, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def source(self) -> str:
        """The place where it is listed; its name where there is none."""
        return self.place or self.name

    @property
    def error(self) -> None:
        """Nothing: it did not fail."""

    @property
    def names_clip(self) -> bool:
        """Yes: it is a case."""
        return True

    def value(self, method: Method, metric: Metric) -> float | None:
        """One of the values; None where it was not measured."""
        return next((one.value for one in self.values if (one.method, one.metric) == (method, metric)), None)
