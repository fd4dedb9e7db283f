"""Cold processes of both pipelines: what is run, and in which order."""

import statistics
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from saliency_tubes.bench.cold import ProcessRun, run_cold
from saliency_tubes.bench.race import Clock
from saliency_tubes.choices import PUBLISHED

from .agreement import compare_pictures
from .inputs import Inputs, tubes_command

_FIRST_RUNS = 3


@dataclass(frozen=True)
class ColdRuns:
    """The interleaved cold runs of both pipelines.

    Attributes:
        ours: one run a round.
        reference: one run a round.
        equal_share: how far their pictures agree.
        first: median seconds of ours in the first run with a model file, which makes and keeps the optimised graph.
    """

    ours: tuple[ProcessRun, ...]
    reference: tuple[ProcessRun, ...]
    equal_share: float
    first: float


@lru_cache(maxsize=1)
def cold_runs(inputs: Inputs, clock: Clock) -> ColdRuns:
    """Run the reference script and `tubes run` in turn; time and memory are two claims about the same runs.

    Cold means a new process each time. The files it reads are in the system's cache, and our optimised graph is kept:
    the first, unmeasured round has put them there.
    """

    def reference_out(turn: int) -> Path:
        return inputs.folder / f"cold-reference-{turn}"

    def our_out(turn: int) -> Path:
        return inputs.folder / f"cold-ours-{turn}"

    def run_reference(turn: int) -> ProcessRun:
        script = [sys.executable, "-m", "saliency_tubes_export.reference", str(inputs.weights), str(inputs.frames)]
        return run_cold([*script, str(inputs.label), str(reference_out(turn))])

    def run_ours(turn: int, cache: Path = inputs.folder / "graphs") -> ProcessRun:
        where = [
            "--model",
            str(inputs.model),
            "--out",
            str(our_out(turn)),
            "--device",
            "cpu",
            "--save",
            ",".join(PUBLISHED),
            "--style",
            "reference",
        ]
        return run_cold(tubes_command("run", inputs.frames, "--label", str(inputs.label), *where), cache)

    first = statistics.median(run_ours(-1 - i, inputs.folder / f"graphs-{i}").seconds for i in range(_FIRST_RUNS))
    reference, ours = clock.interleave("cold", run_reference, run_ours)
    folder = our_out(clock.rounds) / inputs.frames.name / str(inputs.label)
    return ColdRuns(ours, reference, compare_pictures(folder, reference_out(clock.rounds)), first)
