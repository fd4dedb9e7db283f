"""Claim: `tubes run` needs less memory than the reference script.

The largest resident set of the whole process, as the kernel counted it at its exit (`wait4`), of the same runs that
`cold_process` times.
"""

from saliency_tubes.bench.cold import ProcessRun
from saliency_tubes.bench.race import Clock, Samples

from .harness import Below, Result, Row
from .inputs import Inputs
from .process import cold_runs

NAME = "peak-memory"


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Weigh the two commands."""
    runs = cold_runs(inputs, clock)
    ours, reference = _peaks(runs.ours), _peaks(runs.reference)
    return [Result(NAME, "tubes run against the script, peak", "MiB", ours, reference, Below())]


def _peaks(runs: tuple[ProcessRun, ...]) -> Samples:
    peaks = tuple(run.peak_mib for run in runs if run.peak_mib is not None)
    if len(peaks) < len(runs):
        raise RuntimeError("this system does not count the memory of a process that ended")
    return peaks
