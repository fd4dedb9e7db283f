"""How many cores there are for this process."""

import os


def usable_cores() -> int:
    """The cores that this process may use; containers and `taskset` leave it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
