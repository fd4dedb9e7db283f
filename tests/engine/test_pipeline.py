import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from saliency_tubes.errors import OutputError, SaliencyTubesError, SourceError
from saliency_tubes.pipeline import Stages, overlapped

PATIENCE = 20.0  # seconds; nothing here takes them unless it hangs


def stages(
    read: Callable[[int], int] = lambda n: n,
    explain: Callable[[Sequence[int]], Sequence[int]] = list,
    finish: Callable[[int], int] = lambda n: n,
) -> Stages[int, int, int, int]:
    return Stages(read, explain, finish)


def failing_at(bad: int, error: SaliencyTubesError) -> Callable[[int], int]:
    def job(n: int) -> int:
        if n == bad:
            raise error
        return n

    return job


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("streams", [1, 3])
def test_results_come_in_order_whichever_is_done_first(batch: int, streams: int) -> None:
    late = threading.Event()

    def finish(n: int) -> int:
        if n == 0:
            assert late.wait(PATIENCE)
        if n == 1 or batch == 8:
            late.set()
        return 10 * n

    late.set() if batch == 8 else None
    results = overlapped(range(10), stages(finish=finish), batch=batch, streams=streams, workers=2)

    assert list(results) == [(n, 10 * n) for n in range(10)]


def test_batches_are_full_but_for_the_last() -> None:
    seen = []
    list(
        overlapped(
            range(7), stages(explain=lambda batch: seen.append(len(batch)) or batch), batch=3, streams=1, workers=2
        )
    )

    assert seen == [3, 3, 1]


def test_reading_goes_on_while_the_network_runs() -> None:
    read_next = threading.Event()

    def read(n: int) -> int:
        if n == 1:
            read_next.set()
        return n

    def explain(batch: Sequence[int]) -> Sequence[int]:
        assert batch[0] != 0 or read_next.wait(PATIENCE)
        return batch

    assert [result for _, result in overlapped(range(3), stages(read, explain), batch=1, streams=1, workers=2)] == [
        0,
        1,
        2,
    ]


def test_the_network_goes_on_while_a_result_is_finished() -> None:
    explained_next = threading.Event()

    def explain(batch: Sequence[int]) -> Sequence[int]:
        if batch[0] == 1:
            explained_next.set()
        return batch

    def finish(n: int) -> int:
        assert n != 0 or explained_next.wait(PATIENCE)
        return n

    results = overlapped(range(3), stages(explain=explain, finish=finish), batch=1, streams=1, workers=2)
    assert [result for _, result in results] == [0, 1, 2]


def test_streams_run_side_by_side() -> None:
    together = threading.Barrier(2)

    def explain(batch: Sequence[int]) -> Sequence[int]:
        together.wait(PATIENCE)
        return batch

    assert len(list(overlapped(range(4), stages(explain=explain), batch=1, streams=2, workers=2))) == 4


@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (2, 1), (1, 3)])
def test_sources_are_taken_only_as_far_as_there_is_room(batch: int, streams: int) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = overlapped(endless(), stages(), batch=batch, streams=streams, workers=2)
    for handed_out in range(1, 20):
        next(results)
        assert taken <= handed_out + batch * (streams + 3)
    results.close()


def test_one_bad_source_does_not_touch_the_others() -> None:
    error = SourceError("cannot be read")
    seen = []

    results = overlapped(
        range(5),
        stages(failing_at(2, error), lambda batch: seen.append(list(batch)) or batch),
        batch=2,
        streams=1,
        workers=2,
    )

    assert list(results) == [(0, 0), (1, 1), (2, error), (3, 3), (4, 4)]
    assert sorted(seen) == [[0, 1], [3], [4]]


def test_a_batch_of_bad_sources_alone_is_not_run() -> None:
    error = SourceError("cannot be read")

    results = overlapped(
        [1], stages(failing_at(1, error), lambda _: pytest.fail("was run")), batch=1, streams=1, workers=2
    )

    assert list(results) == [(1, error)]


def test_what_cannot_be_finished_is_a_result_of_its_own() -> None:
    error = OutputError("disk full")

    assert list(overlapped([1, 2], stages(finish=failing_at(1, error)), batch=2, streams=1, workers=2)) == [
        (1, error),
        (2, 2),
    ]


def test_errors_among_the_results_are_not_finished() -> None:
    error = SourceError("infinite")

    results = overlapped(
        [1],
        Stages(lambda n: n, lambda _: [error], lambda _: pytest.fail("was finished")),
        batch=1,
        streams=1,
        workers=2,
    )

    assert list(results) == [(1, error)]


def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one() -> None:
    error = SourceError("not enough memory")
    tried = []

    def explain(batch: Sequence[int]) -> Sequence[int]:
        tried.append(list(batch))
        if len(batch) > 1 or batch[0] == 2:
            raise error
        return batch

    results = overlapped(range(3), stages(explain=explain), batch=3, streams=1, workers=2)

    assert list(results) == [(0, 0), (1, 1), (2, error)]
    assert tried == [[0, 1, 2], [0], [1], [2]]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_sources_that_break_off_do_so_after_what_came_before(batch: int) -> None:
    def sources() -> Iterator[int]:
        yield from range(3)
        raise LookupError("the list ends here")

    results = overlapped(sources(), stages(), batch=batch, streams=2, workers=2)

    assert [next(results) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(LookupError, match="the list ends here"):
        next(results)


@pytest.mark.parametrize("stage", ["read", "explain", "finish"])
def test_what_nobody_foresaw_is_that_sources_error_and_stops_no_other(stage: str) -> None:
    def trip(n: int) -> int:
        return n // (n - 4)

    def explain(batch: Sequence[int]) -> Sequence[int]:
        return [trip(n) for n in batch]

    chosen = stages(**{stage: explain if stage == "explain" else trip})
    results = dict(overlapped(range(9), chosen, batch=3, streams=2, workers=2))

    error = results.pop(4)
    assert isinstance(error, SaliencyTubesError)
    assert "did not foresee (ZeroDivisionError: integer" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert results == {n: n // (n - 4) for n in range(9) if n != 4}


def test_leaving_early_ends_all_threads() -> None:
    before = threading.active_count()
    results = overlapped(range(100), stages(), batch=1, streams=2, workers=2)
    next(results)
    assert threading.active_count() > before

    results.close()

    assert threading.active_count() == before
