"""Claim: as a new process, `tubes run` is at least 4 times faster than the reference script.

Wall time of whole processes, from start to exit: interpreter, imports, loading the network, the clip, the files.
"""

from saliency_tubes.bench.race import Clock

from .harness import Result, Row, TimesFaster
from .inputs import Inputs
from .process import cold_runs

NAME = "cold-process"


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race the two commands."""
    runs = cold_runs(inputs, clock)
    ours, reference = tuple(run.seconds for run in runs.ours), tuple(run.seconds for run in runs.reference)
    facts = (
        ("equal values in the worst picture", runs.equal_share),
        ("ours, first run with a model file, s", runs.first),
    )
    return [Result(NAME, "tubes run against the script, cold", "s", ours, reference, TimesFaster(4), facts)]
