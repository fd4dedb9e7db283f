"""Stages that overlap: while one clip is in the network, the next is read and the one before is finished."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from .errors import SaliencyTubesError, first_line

S = TypeVar("S")
R = TypeVar("R")
E = TypeVar("E")
F = TypeVar("F")


@dataclass(frozen=True)
class Stages(Generic[S, R, E, F]):
    """What is done to every source, each on threads of its own.

    Attributes:
        read: source to input. An error that it raises, as any of these, becomes that source's result.
        explain: a batch of inputs to results or errors, one for each.
        finish: a result to what is handed out, such as the same, saved.
    """

    read: Callable[[S], R]
    explain: Callable[[Sequence[R]], Sequence[E | SaliencyTubesError]]
    finish: Callable[[E], F]


def overlapped(
    sources: Iterable[S], stages: Stages[S, R, E, F], *, batch: int, streams: int, workers: int
) -> Generator[tuple[S, F | SaliencyTubesError]]:
    """Every source with its result, in order; `streams` + 2 batches at most are on their way at once.

    Args:
        sources: read only as far as there is room.
        stages: what to do.
        batch: how many inputs `explain` gets at once; the last batch may be smaller.
        streams: how many calls of `explain` run side by side.
        workers: how many calls of `read`, and as many of `finish`.
    """
    waiting = iter(sources)
    groups = deque[tuple[list[S], Future[list[Future[F | SaliencyTubesError]]]]]()
    pools = [ThreadPoolExecutor(workers), ThreadPoolExecutor(streams), ThreadPoolExecutor(workers)]
    readers, networks, finishers = pools

    def finish(result: E | SaliencyTubesError) -> F | SaliencyTubesError:
        return result if isinstance(result, SaliencyTubesError) else attempted(lambda: stages.finish(result))

    def explain(reads: list[Future[R | SaliencyTubesError]]) -> list[Future[F | SaliencyTubesError]]:
        inputs = [read.result() for read in reads]
        good = [one for one in inputs if not isinstance(one, SaliencyTubesError)]
        explained = iter(_explained(stages.explain, good))
        results = [one if isinstance(one, SaliencyTubesError) else next(explained) for one in inputs]
        return [finishers.submit(finish, result) for result in results]

    broken: Exception | None = None
    try:
        while True:
            while broken is None and len(groups) < streams + 2:
                taken, broken = _take(waiting, batch)
                if not taken:
                    break
                reads = [readers.submit(attempted, lambda source=source: stages.read(source)) for source in taken]
                groups.append((taken, networks.submit(explain, reads)))
            if not groups:
                if broken is not None:  # only after what came before it
                    raise broken
                return
            taken, results = groups.popleft()
            for source, result in zip(taken, results.result(), strict=True):
                yield source, result.result()
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def ahead(items: Iterable[S], depth: int = 2) -> Generator[S]:
    """The same items, up to `depth` of them taken on another thread while the present one is in use."""
    iterator = iter(items)
    end = object()

    def take() -> S | object:
        return next(iterator, end)

    pool = ThreadPoolExecutor(1)
    try:
        coming = deque(pool.submit(take) for _ in range(depth))
        while (item := coming.popleft().result()) is not end:
            coming.append(pool.submit(take))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)


def _take(waiting: Iterator[S], count: int) -> tuple[list[S], Exception | None]:
    """The next sources, and what kept more from coming."""
    taken: list[S] = []
    try:
        taken.extend(islice(waiting, count))
    except Exception as error:
        return taken, error
    return taken, None


def _explained(
    explain: Callable[[Sequence[R]], Sequence[E | SaliencyTubesError]], inputs: Sequence[R]
) -> Sequence[E | SaliencyTubesError]:
    """The results of a batch; where it fails as a whole, such as for want of memory, of each input by itself."""
    if not inputs:
        return []
    results = attempted(lambda: explain(inputs))
    if not isinstance(results, SaliencyTubesError):
        return results
    return [results] if len(inputs) == 1 else [_explained(explain, [one])[0] for one in inputs]


def attempted(job: Callable[[], R]) -> R | SaliencyTubesError:
    """What a job gives, or why it gives nothing; one that trips over something unforeseen stops no other."""
    try:
        return job()
    except SaliencyTubesError as error:
        return error
    except Exception as error:
        unforeseen = SaliencyTubesError(
            f"something went wrong that this program did not foresee ({type(error).__name__}: {first_line(error)}): "
            "please report it with what it was working on"
        )
        unforeseen.__cause__ = error
        return unforeseen
