"""Claim: `tubes export` of an ONNX graph of MFNet-3D's size takes less than 5 s, and no PyTorch.

Wall time of whole processes: interpreter, imports, reading and checking the graph, its tail, rewriting it, and the
parity measurement, which runs the original graph and the exported one on two clips. `ours` is the command as it is,
beside it the one with ``--layout plain``. That PyTorch is not needed is tried: an interpreter refuses to import it.
"""

import subprocess
import sys

from saliency_tubes.bench.cold import run_cold
from saliency_tubes.bench.race import Clock

from .foreign_run import write_mfnet
from .harness import Below, Result, Row
from .inputs import Inputs, tubes_command

NAME = "foreign-export"
_WITHOUT = """
import sys

sys.modules["torch"] = None  # any import of it now raises ModuleNotFoundError

from saliency_tubes.cli import main

main()
"""


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Export the same graph in both layouts, again and again."""
    clock.say(f"{NAME}: writing the graph")
    arguments = [
        "export",
        str(write_mfnet(inputs)),
        "--preset",
        "mfnet",
        "--output",
        str(inputs.folder / "theirs.onnx"),
    ]
    _check_without_torch(arguments)

    def run(*options: str) -> float:
        return run_cold(tubes_command(*arguments, *options)).seconds

    plain, ours = clock.interleave(NAME, lambda _: run("--layout", "plain"), lambda _: run())
    return [Result(NAME, "tubes export mfnet.onnx", "s", ours, plain, Below(5), (("PyTorch needed", "no"),))]


def _check_without_torch(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`tubes export` failed where PyTorch cannot be imported:\n{done.stderr}")
