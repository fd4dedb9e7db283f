"""Cold processes: the wall time and the peak memory of one run of a command."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import BenchmarkError
from ..graph_cache import VARIABLE


@dataclass(frozen=True)
class ProcessRun:
    """One cold process, from before it was started until it had ended.

    Attributes:
        seconds: wall time.
        peak_mib: largest resident set, in MiB; None where the system does not count it for a process that ended.
    """

    seconds: float
    peak_mib: float | None


def run_cold(command: list[str], cache: Path | None = None) -> ProcessRun:
    """Run one command to its end in a new process.

    Args:
        command: the command and its arguments.
        cache: where `tubes` keeps optimised graphs; None for a command that keeps none.

    Raises:
        BenchmarkError: it failed.
    """
    launched = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).with_name("launch.py")), *command],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
        env=os.environ | {VARIABLE: str(cache or "")},
    )
    report = json.loads(launched.stdout)
    if report["exit_code"] != 0:
        last_line = (launched.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise BenchmarkError(f"{' '.join(command)} ended with exit code {report['exit_code']}: {last_line}")
    return ProcessRun(report["seconds"], report["peak_mib"])
