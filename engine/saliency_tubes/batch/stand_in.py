"""What the batch asks of `model.py` and `explanation.py`, by means of what is there; to be replaced."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import render
from ..choices import Artifact
from ..errors import SaliencyTubesError
from ..explanation import Explanation
from ..model import Label, TubeModel
from ..tube import Tube

R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """A clip and its labels."""

    source: Path
    label: Label | tuple[Label, ...] | None = None


def explain_jobs(
    model: TubeModel, jobs: Iterable[Job], *, top_k: int = 0, finish: Callable[[Job, Explanation], R]
) -> Iterator[tuple[Job, R | SaliencyTubesError]]:
    """One job after the other."""
    for job in jobs:
        try:
            result: R | SaliencyTubesError = finish(job, model.explain(job.source, job.label, top_k=top_k))
        except SaliencyTubesError as error:
            result = error
        yield job, result


def save_as(
    explanation: Explanation, out: Path, name: str, artifacts: Iterable[Artifact] = tuple(Artifact)
) -> tuple[Path, ...]:
    """Save into ``out/name/``."""
    named = replace(explanation, clip=replace(explanation.clip, name=name))
    return named.save(out, artifacts=artifacts)


def peak_picture(explanation: Explanation, tube: Tube, peak_frame: int | None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: the frame where the tube peaks under its colours; the middle one of a constant tube."""
    indices = explanation.frame_indices.tolist()
    k = len(indices) // 2 if peak_frame is None else indices.index(peak_frame)
    picture: NDArray[np.uint8] = render.heatmap(tube.values[k : k + 1], explanation.frames[k : k + 1])[0]
    return picture


def seconds_taken(explanation: Explanation) -> float:
    """Seconds spent on this clip before it was saved."""
    return float(sum(astuple(explanation.timings)))
