import math
from fractions import Fraction

import pytest
from saliency_tubes.clock import Clock


def run(times: list[float | None], rate: int | None = 10, restarts: bool = False) -> tuple[list[float], Clock]:
    clock = Clock(None if rate is None else Fraction(rate), restarts=restarts)
    return [clock.seconds(time) for time in times], clock


@pytest.mark.parametrize(
    ("times", "expected", "wrong", "missing"),
    [
        ([5, 5.1, 5.15, 9.15], [0, 0.1, 0.15, 4.15], 0, 0),
        ([0, 0.1, 0.1, 0.2], [0, 0.1, 0.15, 0.2], 1, 0),
        ([0, 0.1, 0.05, 0.04, 0.3], [0, 0.1, 0.15, 0.2, 0.3], 2, 0),
        ([0, None, 0.2, None], [0, 0.1, 0.2, 0.3], 0, 2),
        ([None, None, 7, 7.1], [0, 0.1, 0.2, 0.3], 0, 2),
        ([None, None, None], [0, 0.1, 0.2], 0, 0),
        ([50, 50.1, 0, 0.1], [0, 0.1, 0.2, 0.3], 1, 0),
        ([0, 0.1, 1e9, 1e9 + 1], [0, 0.1, 0.2, 1.2], 1, 0),
    ],
)
def test_times_go_on_whatever_the_container_says(
    times: list[float | None], expected: list[float], wrong: int, missing: int
) -> None:
    seconds, clock = run(times)

    assert seconds == pytest.approx(expected)
    assert (clock.wrong, clock.missing) == (wrong, missing)


def test_a_pause_is_an_error_only_where_the_clock_may_restart() -> None:
    assert run([0, 0.1, 60])[0] == pytest.approx([0, 0.1, 60])
    assert run([0, 0.1, 60], restarts=True)[0] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("rate", [None, 0, 90_000])
def test_without_a_time_and_a_rate_there_is_no_clock(rate: int | None) -> None:
    seconds, _ = run([None, None, 3.0], rate)

    assert all(math.isnan(time) for time in seconds)


def test_a_rate_that_is_none_does_not_matter_where_there_are_times() -> None:
    assert run([0, 0.1, 0.1, 0.3], rate=None)[0] == pytest.approx([0, 0.1, 0.12, 0.3])
