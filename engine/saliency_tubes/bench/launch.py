"""Run one command as a cold process, and print how long it took and how much memory it needed, as JSON.

A process of its own, with nothing but the standard library: the kernel counts what a process held before `exec` into
its child's peak, so a launcher with NumPy or PyTorch in it would spoil the measurement.

    python launch.py COMMAND [ARGUMENT ...]
"""

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> None:
    """Print ``{"seconds", "peak_mib", "exit_code"}``; what the command prints goes to stderr."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    exit_code, peak_mib = _wait(process)
    report = {"seconds": time.perf_counter() - started, "peak_mib": peak_mib, "exit_code": exit_code}
    sys.stdout.write(json.dumps(report) + "\n")


def _wait(process: "subprocess.Popen[bytes]") -> tuple[int, float | None]:
    """The exit code, and the largest resident set in MiB where the system tells: Windows does not."""
    if sys.platform == "win32":
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main(sys.argv[1:])
