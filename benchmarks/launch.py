"""Run one command as a cold process, and print how long it took and how much memory it needed, as JSON.

A process of its own, with nothing but the standard library: the kernel counts what a process held before `exec` into
its child's peak, so a launcher with PyTorch in it would spoil the measurement.

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
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    report = {
        "seconds": seconds,
        "peak_mib": usage.ru_maxrss * unit / 2**20,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
