"""NumPy's BLAS on one thread, for products that are too small for more."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

VARIABLE = "OPENBLAS_NUM_THREADS"  # where this says 1, there is nothing to limit: looking for that would take 8 ms


class _Limit:
    """One limit for all threads of the process: the first that enters sets it, the last that leaves lifts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0 and os.environ.get(VARIABLE) != "1":
                self._limit = _blas().limit(limits=1, user_api="blas")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._limit is not None:
                self._limit.restore_original_limits()
                self._limit = None


_LIMIT = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's BLAS to one thread; any number of threads may be inside at once.

    On products of a millisecond its other threads gain nothing, and then go on spinning on the cores that the network
    and the encoders need.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
