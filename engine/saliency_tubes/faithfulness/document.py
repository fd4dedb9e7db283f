"""An evaluation as JSON: everything, case by case."""

from dataclasses import asdict
from typing import Any

from ..sampling import Sampling
from .evaluation import Evaluation
from .options import Options
from .results import CaseResult, MeasuredCurves
from .summary import CONFIDENCE, RESAMPLES

SCHEMA = "saliency-tubes/evaluation/1"


def document(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON types."""
    return {
        "schema": SCHEMA,
        "complete": evaluation.complete,
        "model": asdict(evaluation.model) | {"path": str(evaluation.model.path.resolve())},
        "approximate": evaluation.approximate,
        "randomised_sha256": evaluation.randomised,
        "options": _options(evaluation.options),
        "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": evaluation.options.seed},
        "versions": evaluation.model.versions,
        "summary": [asdict(one) | {"better": one.metric.better.name.lower()} for one in evaluation.summary()],
        "cases": [_case(result) for result in evaluation.results],
        "errors": [{"source": one.source, "error": one.error} for one in evaluation.errors],
    }


def _options(options: Options) -> dict[str, Any]:
    return asdict(options) | {"sampling": options.sampling and _sampling(options.sampling)}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    return {"method": sampling.name, **sampling.options()}


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "place": result.place or None,
        "label": asdict(result.label),
        "predicted": asdict(result.predicted),
        "values": [asdict(one) for one in result.values],
        "curves": [_curves(one) for one in result.curves],
        "notes": result.notes,
        "seconds": round(result.seconds, 3),
    }


def _curves(curves: MeasuredCurves) -> dict[str, Any]:
    return {
        "method": curves.method,
        "fill": curves.fill,
        "fractions": curves.deletion.fractions.tolist(),
        "deletion": curves.deletion.scores.tolist(),
        "insertion": curves.insertion.scores.tolist(),
    }
