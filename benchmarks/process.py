"""Cold processes: what is run, and the wall time and peak memory of one run."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from saliency_tubes.graph_cache import VARIABLE

from .agreement import compare_pictures
from .harness import Clock
from .inputs import Inputs, tubes_command

_HERE = Path(__file__).parent
_FIRST_RUNS = 3


@dataclass(frozen=True)
class ProcessRun:
    """One cold process, from before it was started until it had ended.

    Attributes:
        seconds: wall time.
        peak_mib: largest resident set, in MiB.
    """

    seconds: float
    peak_mib: float


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


def run_cold(command: list[str], cache: Path | None = None) -> ProcessRun:
    """Run one command to its end in a new process.

    Args:
        command: the command and its arguments.
        cache: where `tubes` keeps optimised graphs; None for a command that keeps none.

    Raises:
        RuntimeError: it failed.
    """
    launched = subprocess.run(
        [sys.executable, "-I", str(_HERE / "launch.py"), *command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {VARIABLE: str(cache or "")},
    )
    report = json.loads(launched.stdout)
    if report["exit_code"] != 0:
        raise RuntimeError(f"{command} ended with exit code {report['exit_code']}:\n{launched.stderr}")
    return ProcessRun(report["seconds"], report["peak_mib"])


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
        script = [sys.executable, str(_HERE / "reference.py"), str(inputs.weights), str(inputs.frames)]
        return run_cold([*script, str(inputs.label), str(reference_out(turn))])

    def run_ours(turn: int, cache: Path = inputs.folder / "graphs") -> ProcessRun:
        where = ["--model", str(inputs.model), "--out", str(our_out(turn)), "--device", "cpu"]
        return run_cold(tubes_command("run", inputs.frames, "--label", str(inputs.label), *where), cache)

    first = statistics.median(run_ours(-1 - i, inputs.folder / f"graphs-{i}").seconds for i in range(_FIRST_RUNS))
    reference, ours = clock.interleave("cold", run_reference, run_ours)
    folder = our_out(clock.rounds) / inputs.frames.name / str(inputs.label)
    return ColdRuns(ours, reference, compare_pictures(folder, reference_out(clock.rounds)), first)
