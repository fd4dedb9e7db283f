import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.cells import Cells
from saliency_tubes.statistics import statistics_of, tube_statistics
from saliency_tubes.tube import build_tubes


def times(length: int, seconds: float = 0.5) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.arange(length, dtype=np.int64) * 3, np.arange(length) * seconds


def test_a_tube_of_two_values_by_hand() -> None:
    values = np.zeros((4, 10, 20), dtype=np.float32)
    values[1, 2, 4] = 1.0  # x 4.5/20, y 2.5/10
    values[3, 2, 8] = 0.5  # x 8.5/20

    found = statistics_of([values], *times(4))

    assert (found.peak_frame, found.peak_s, found.peak_x, found.peak_y) == (3, 0.5, 0.225, 0.25)
    assert found.centre_frame == pytest.approx((1 * 3 + 0.5 * 9) / 1.5)  # 5
    assert found.centre_s == pytest.approx((1 * 0.5 + 0.5 * 1.5) / 1.5)  # 5/6
    assert found.centre_x == pytest.approx((0.225 + 0.5 * 0.425) / 1.5)
    assert found.centre_y == pytest.approx(0.25)
    assert found.spread_frames == pytest.approx(math.sqrt((1 * 4 + 0.5 * 16) / 1.5))
    assert found.spread_s == pytest.approx(math.sqrt((1 / 9 + 0.5 * 4 / 9) / 1.5))
    assert found.spread_x == pytest.approx(0.2 * math.sqrt(2) / 3)
    assert found.spread_y == pytest.approx(0, abs=1e-9)
    assert found.border_energy == pytest.approx(0, abs=1e-12)
    assert found.mean_energy == pytest.approx(1.5 / 800)
    assert found.volume_above_half == 1 / 800  # 0.5 is not above half


def test_the_border_is_a_tenth_on_every_side() -> None:
    values = np.ones((2, 10, 20), dtype=np.float32)

    assert statistics_of([values], *times(2)).border_energy == pytest.approx(1 - 0.8 * 0.8)

    for place in [(0, 10), (9, 10), (5, 1), (5, 18)]:
        values = np.zeros((2, 10, 20), dtype=np.float32)
        values[0, *place] = 1
        assert statistics_of([values], *times(2)).border_energy == 1, place
    for place in [(1, 10), (8, 10), (5, 2), (5, 17)]:
        values = np.zeros((2, 10, 20), dtype=np.float32)
        values[0, *place] = 1
        assert statistics_of([values], *times(2)).border_energy == 0, place


def test_chunks_say_the_same_as_the_whole() -> None:
    values = np.random.default_rng(1).random((11, 6, 7), dtype=np.float32)

    whole = asdict(statistics_of([values], *times(11)))
    parts = asdict(statistics_of(iter([values[:4], values[4:5], values[5:]]), *times(11)))

    assert parts == pytest.approx(whole)
    assert whole["peak_frame"] == 3 * np.unravel_index(values.argmax(), values.shape)[0]


def test_a_constant_tube_is_without_numbers_and_without_nan() -> None:
    (tube,) = build_tubes([0], np.full((1, 2, 4, 4), 3.0, dtype=np.float32), (8, 32, 32))

    found = asdict(tube_statistics(tube, *times(8)))

    json.dumps(found, allow_nan=False)
    assert {name for name, value in found.items() if value is not None} == {"mean_energy", "volume_above_half"}
    assert found["mean_energy"] == found["volume_above_half"] == 0


def test_a_clip_without_times_has_frames() -> None:
    values = np.random.default_rng(2).random((5, 4, 4), dtype=np.float32)
    indices, _ = times(5)

    found = statistics_of([values], indices, np.full(5, np.nan))

    assert found.peak_s is found.centre_s is found.spread_s is None
    assert found.peak_frame is not None
    assert found.centre_frame == pytest.approx(6, abs=1.5)
    json.dumps(asdict(found), allow_nan=False)


def test_the_small_map_says_what_the_full_tube_says() -> None:
    maps = np.random.default_rng(3).standard_normal((1, 8, 7, 7)).astype(np.float32)
    (tube,) = build_tubes([0], maps, (16, 112, 112))

    small = asdict(tube_statistics(tube, *times(16)))
    full = asdict(statistics_of([tube.values], *times(16)))

    assert small == pytest.approx(full, abs=0.02, rel=0.02)


def test_what_lies_beyond_the_shown_values_is_cut_off() -> None:
    maps = np.zeros((1, 2, 4, 4), dtype=np.float32)
    maps[0, 0] = 4
    (tube,) = build_tubes([0], maps, (2, 4, 4))

    found = tube_statistics(replace(tube, low=1.0, high=3.0), *times(2))

    assert (found.mean_energy, found.volume_above_half) == (0.5, 0.5)


def test_a_long_tube_is_looked_at_in_chunks() -> None:
    maps = np.zeros((1, 400, 4, 4), dtype=np.float32)
    maps[0, 300, 1, 2] = 1
    (tube,) = build_tubes([0], maps, (400, 4, 4))

    found = tube_statistics(replace(tube, shape=(2000, 4, 4)), *times(2000, 0.04))

    assert found.peak_s == pytest.approx(0.04 * 300 * 1999 / 399, abs=0.05)
    assert found.peak_x == pytest.approx(2 / 3, abs=0.02)
    assert found.peak_y == pytest.approx(1 / 3, abs=0.02)
    assert found.spread_s is not None
    assert found.spread_s < 1


def test_frames_and_times_have_to_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 frames of 3 indices and 3 timestamps"):
        statistics_of([np.zeros((2, 3, 3), dtype=np.float32)], *times(3))


def test_the_numbers_of_a_tube_of_cells_are_those_of_its_pictures() -> None:
    maps = np.zeros((1, 8, 7, 7), dtype=np.float32)
    maps[0, 3, 1, 4] = 1
    (tube,) = build_tubes([0], maps, (16, 112, 112), Cells((0, 0, 0), (2, 16, 16)))

    small = asdict(tube_statistics(tube, *times(16)))
    full = asdict(statistics_of([tube.values], *times(16)))

    assert small == pytest.approx(full, abs=0.02, rel=0.02)
    assert small["peak_frame"] == times(16)[0][6]
    assert small["peak_x"] == pytest.approx(64.5 / 112, abs=0.01)
    assert small["peak_y"] == pytest.approx(16.5 / 112, abs=0.01)
