"""`evaluate`: cases in, one after another; what was measured of each, and of all of them, out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from ..errors import OptionError
from ..explanation import ModelIdentity
from ..model import TubeModel
from ..pipeline import attempted
from .cases import Case, CaseError
from .measuring import Measurer
from .options import Method, Metric, Options
from .results import CaseResult
from .summary import Summary, summarise


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How faithful a model's explanations are.

    Attributes:
        model: which model file, and where it ran.
        options: what was measured.
        randomised: SHA-256 of the file with shuffled weights; None where there was none.
        results: a result for each case that was measured.
        errors: why the others were not.
        complete: whether all cases were tried.
        approximate: why the model's maps do not add up to the logits exactly; None where they do.
    """

    model: ModelIdentity
    options: Options
    randomised: str | None
    results: tuple[CaseResult, ...]
    errors: tuple[CaseError, ...]
    complete: bool = True
    approximate: str | None = None

    @classmethod
    def of(
        cls,
        outcomes: Iterable[CaseResult | CaseError],
        model: TubeModel,
        options: Options,
        randomised: TubeModel | None = None,
        complete: bool = True,
    ) -> "Evaluation":
        """Bring together what `measured` gave."""
        kept = list(outcomes)
        return cls(
            model.identity,
            options,
            None if randomised is None else randomised.sha256,
            tuple(one for one in kept if isinstance(one, CaseResult)),
            tuple(one for one in kept if isinstance(one, CaseError)),
            complete,
            model.spec.approximate,
        )

    def summary(self) -> tuple[Summary, ...]:
        """For each metric and method that was measured, the mean over cases and its 95 % interval."""
        return self._summaries

    @cached_property
    def _summaries(self) -> tuple[Summary, ...]:
        return summarise(self.results, self.options.seed)

    def mean(self, method: Method | str, metric: Metric | str) -> Summary | None:
        """One of `summary`; None where it was not measured."""
        return next((one for one in self.summary() if (one.method, one.metric) == (method, metric)), None)


def evaluate(
    model: TubeModel,
    cases: Iterable[Case | CaseError],
    options: Options | None = None,
    randomised: TubeModel | None = None,
    on_case: Callable[[CaseResult | CaseError], object] | None = None,
) -> Evaluation:
    """Measure how faithful a model's explanations of these cases are.

    Args:
        model: what explains them.
        cases: read one at a time, so that a generator of clips in memory need not hold them all.
        options: what is measured; None for everything.
        randomised: the same model with shuffled weights, as `saliency_tubes_export.randomised.randomise` writes it, to
            measure whether maps depend on them.
        on_case: called with the outcome of each case.

    Raises:
        OptionError: the randomised model is of another network.
    """
    chosen = options or Options()
    outcomes = []
    for outcome in measured(model, cases, chosen, randomised):
        outcomes.append(outcome)
        if on_case is not None:
            on_case(outcome)
    return Evaluation.of(outcomes, model, chosen, randomised)


def measured(
    model: TubeModel, cases: Iterable[Case | CaseError], options: Options, randomised: TubeModel | None = None
) -> Iterator[CaseResult | CaseError]:
    """The outcome of each case, in their order, as `evaluate` measures it; a case that fails does not stop the others.

    Raises:
        OptionError: the randomised model is of another network.
    """
    if randomised is not None:
        _check_same(model, randomised)
    measurer = Measurer(model, options, randomised)
    for number, case in enumerate(cases):
        if isinstance(case, CaseError):
            yield case
            continue
        outcome = attempted(partial(measurer.measure, case, number))
        if isinstance(outcome, CaseResult):
            yield outcome
        else:  # only in words: the error itself holds on to where it was raised, and so to the clip
            yield CaseError(case.place or case.name, str(outcome))


def _check_same(model: TubeModel, randomised: TubeModel) -> None:
    shapes = [(one.spec.input_shape, one.spec.features_shape, one.spec.num_classes) for one in (model, randomised)]
    if shapes[0] != shapes[1]:
        raise OptionError(
            f"{randomised.path} is no randomised {model.path}: its input, features and classes are {shapes[1]}, "
            f"expected {shapes[0]}"
        )
