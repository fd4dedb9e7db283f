"""Claim: `tubes run` needs less memory than the reference script.

The largest resident set of the whole process, as the kernel counted it at its exit (`wait4`), of the same runs that
`cold_process` times.
"""

from .harness import Below, Clock, Result, Row
from .inputs import Inputs
from .process import cold_runs

NAME = "peak-memory"


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Weigh the two commands."""
    runs = cold_runs(inputs, clock)
    ours, reference = tuple(run.peak_mib for run in runs.ours), tuple(run.peak_mib for run in runs.reference)
    return [Result(NAME, "tubes run against the script, peak", "MiB", ours, reference, Below())]
