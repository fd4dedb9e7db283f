from collections.abc import Sequence

import numpy as np
import pytest
from saliency_tubes.cells import Cells
from saliency_tubes.sampling import Sampling, Window, uniform
from saliency_tubes.tube import Tube, build_tubes, merge, merged_tube
from saliency_tubes.upsample import upsample, upsample_space


def test_a_tube_is_the_upsampled_map_normalised_once_over_the_volume() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    raw = np.random.default_rng(0).standard_normal((8, 7, 7)).astype(np.float32)

    (tube,) = build_tubes([3], raw[None], (16, 28, 28))

    zoomed = ndimage.zoom(raw, (2, 4, 4))
    np.testing.assert_allclose(tube.values, (zoomed - zoomed.min()) / np.ptp(zoomed), atol=1e-5)
    assert (tube.values.min(), tube.values.max()) == (0, 1)
    assert tube.values.dtype == np.float32
    assert tube.low == pytest.approx(zoomed.min(), abs=1e-5)
    assert tube.high == pytest.approx(zoomed.max(), abs=1e-5)
    assert tube.label == 3
    np.testing.assert_array_equal(tube.map, raw)


def test_building_a_tube_leaves_the_map_as_it_was() -> None:
    raw = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    before = raw.copy()

    build_tubes([0], raw[None], (2, 3, 3))

    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("value", [0.0, -3.7, 1e30])
def test_a_constant_map_gives_zeros_and_says_so(value: float) -> None:
    (tube,) = build_tubes([0], np.full((1, 4, 3, 3), value, dtype=np.float32), (8, 9, 9))

    assert tube.is_constant
    assert not tube.values.any()
    assert tube.low == tube.high == pytest.approx(value)


def test_a_map_that_varies_is_not_called_constant() -> None:
    raw = np.zeros((2, 2, 2), dtype=np.float32)
    raw[1, 1, 1] = 1e-20

    (tube,) = build_tubes([0], raw[None], (4, 4, 4))

    assert not tube.is_constant
    assert tube.values.max() == 1


def test_windows_that_do_not_overlap_are_put_side_by_side() -> None:
    maps = [np.full((2, 3, 3), value, dtype=np.float32) for value in (1, 5)]

    merged = merge([Window((0, 1)), Window((2, 3))], maps, 4)

    assert merged[:, 1, 1].tolist() == [1, 1, 5, 5]


def test_where_windows_overlap_each_counts_by_how_far_inside_the_frame_is() -> None:
    """Two windows of five frames over seven. On frame 2 the first weighs 3 (its middle) and the second 1 (its end)."""
    windows = [Window((0, 2, 4)), Window((2, 4, 6))]
    maps = [np.zeros((1, 1, 1), dtype=np.float32), np.ones((1, 1, 1), dtype=np.float32)]

    merged = merge(windows, maps, 7)

    assert merged.ravel().tolist() == pytest.approx([0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1])


def test_a_windows_map_is_brought_to_its_frames_by_splines() -> None:
    raw = np.random.default_rng(0).standard_normal((8, 2, 2)).astype(np.float32)

    merged = merge([Window(tuple(range(0, 31, 2)))], [raw], 31)

    np.testing.assert_allclose(merged, upsample(raw, (31, 2, 2)), atol=1e-6)


def test_frames_between_windows_of_one_frame_are_interpolated() -> None:
    maps = [np.full((1, 1, 1), value, dtype=np.float32) for value in (2, 4)]

    assert merge([Window((0,)), Window((4,))], maps, 5).ravel().tolist() == pytest.approx([2, 2.5, 3, 3.5, 4])


def test_a_merged_tube_is_normalised_once_and_the_same_in_chunks() -> None:
    rng = np.random.default_rng(0)
    windows = Sampling.dense(2, 0.5).windows(100, 8)
    maps = [rng.standard_normal((4, 3, 3)).astype(np.float32) for _ in windows]

    tube = merged_tube(2, windows, maps, 100, (12, 15))

    expected = upsample(merge(windows, maps, 100), (100, 12, 15))
    assert (tube.low, tube.high) == (pytest.approx(expected.min()), pytest.approx(expected.max()))
    np.testing.assert_allclose(tube.values, (expected - expected.min()) / np.ptp(expected), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(tube.chunks())), tube.values, atol=1e-6)
    assert (tube.shape, tube.values.shape) == ((100, 12, 15), (100, 12, 15))
    assert max(len(chunk) for chunk in tube.chunks()) < 100


def test_a_merged_map_that_is_constant_says_so() -> None:
    """Splines and means of it round: what is left of that must not be stretched to a picture."""
    windows = Sampling.dense(2, 0.5).windows(200, 16)

    tube = merged_tube(0, windows, [np.full((8, 7, 7), 0.37, dtype=np.float32)] * len(windows), 200, (28, 28))

    assert tube.is_constant
    assert not tube.values.any()
    assert tube.low == np.float32(0.37)


def test_windows_of_different_constants_are_no_constant_map() -> None:
    maps = [np.full((1, 2, 2), value, dtype=np.float32) for value in (1, 2)]

    assert not merged_tube(0, [Window((0, 1)), Window((2, 3))], maps, 4, (4, 4)).is_constant


@pytest.mark.parametrize(
    "indices",
    [uniform(46, 16), uniform(24, 16), uniform(20, 16), Sampling.stepped(3, 20).windows(99, 16)[0].indices],
    ids=["46", "24", "20", "stepped"],
)
def test_the_track_of_a_window_is_at_each_sampled_frame_what_the_tube_is(indices: Sequence[int]) -> None:
    raw = np.random.default_rng(0).standard_normal((8, 7, 7)).astype(np.float32)
    (tube,) = build_tubes([0], raw[None], (16, 28, 28))

    track = tube.track(np.array(indices))

    first, last = indices[0], indices[-1]
    assert track.shape == (last - first + 1, 7, 7)
    np.testing.assert_allclose(track[np.array(indices) - first], upsample(raw, (16, 7, 7)), atol=1e-5)
    between = next(i for i in range(15) if indices[i + 1] - indices[i] > 1)
    frame = indices[between] + 1
    share = 1 / (indices[between + 1] - indices[between])
    steps = upsample(raw, (16, 7, 7))
    np.testing.assert_allclose(
        track[frame - first], (1 - share) * steps[between] + share * steps[between + 1], atol=1e-5
    )


def test_a_frame_that_is_sampled_several_times_has_the_mean_of_its_steps() -> None:
    raw = np.random.default_rng(0).standard_normal((4, 2, 2)).astype(np.float32)
    (tube,) = build_tubes([0], raw[None], (4, 4, 4))

    track = tube.track(np.array([0, 0, 0, 1]))

    np.testing.assert_allclose(track, [raw[1], raw[3]], atol=1e-6)  # the middle of steps 0 to 2, and step 3


def test_the_track_of_a_whole_video_is_its_map() -> None:
    maps = [np.random.default_rng(0).standard_normal((4, 2, 2)).astype(np.float32)]
    tube = merged_tube(0, [Window((0, 2, 4, 6))], maps, 7, (4, 4))

    np.testing.assert_array_equal(tube.track(np.arange(7)), tube.map)


CELLS = Cells((0, 1, 0), (2, 4, 4))


def test_a_tube_of_cells_has_its_peak_where_the_cell_looks() -> None:
    raw = np.zeros((4, 7, 7), dtype=np.float32)
    raw[2, 3, 5] = 1

    corners, centres = (build_tubes([0], raw[None], (8, 28, 28), cells)[0] for cells in (None, CELLS))

    assert np.unravel_index(centres.values.argmax(), centres.shape) == (4, 13, 20)
    assert centres.values[4, 13, 20] == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(corners.values.argmax(), corners.shape) != (4, 13, 20)
    np.testing.assert_array_equal(centres.map, corners.map)
    np.testing.assert_array_equal(centres.at_size(centres.steps, (28, 28)), upsample(raw, (8, 28, 28), cells=CELLS))


def test_what_is_made_of_a_tube_of_cells_later_is_what_it_was_built_with() -> None:
    maps = np.random.default_rng(1).standard_normal((2, 4, 7, 7)).astype(np.float32)
    for tube in build_tubes([3, 1], maps, (8, 28, 28), CELLS):
        again = Tube(tube.label, tube.map, tube.shape, tube.low, tube.high, tube.cells)

        np.testing.assert_allclose(again.values, tube.values, atol=1e-6)
        np.testing.assert_allclose(np.concatenate(list(tube.chunks())), tube.values, atol=1e-6)
        in_time = upsample(tube.map, (8, 7, 7), cells=Cells((0, 0, 0), (2, 1, 1)))
        np.testing.assert_allclose(tube.steps, in_time, atol=1e-6)
        energy = (in_time.mean(axis=(1, 2)) - tube.low) / (tube.high - tube.low)
        np.testing.assert_allclose(tube.energy, energy, atol=1e-6)
        np.testing.assert_allclose(tube.track(np.arange(8)), tube.steps, atol=1e-6)


def test_a_windows_cells_are_spread_over_the_frames_that_it_spans() -> None:
    """Frames 10, 13, ... 31: cell i, at every second of them, is at frame 10 + 6 i; behind the last it holds."""
    raw = np.random.default_rng(2).standard_normal((4, 2, 2)).astype(np.float32)
    windows = [Window(tuple(range(10, 34, 3)))]

    merged = merge(windows, [raw], 32, CELLS)

    np.testing.assert_allclose(merged[10:29:6], raw, atol=1e-6)
    np.testing.assert_allclose(merged[29:32], raw[[3] * 3], atol=1e-6)


def test_a_merged_tube_of_cells_is_upsampled_once_in_time_and_the_same_in_chunks() -> None:
    rng = np.random.default_rng(0)
    windows = Sampling.dense(2, 0.5).windows(100, 8)
    maps = [rng.standard_normal((4, 3, 3)).astype(np.float32) for _ in windows]
    cells = Cells((0.5, 1, 0), (2, 4, 5))

    tube = merged_tube(2, windows, maps, 100, (12, 15), cells)

    expected = upsample_space(merge(windows, maps, 100, cells), (12, 15), cells=cells)
    assert (tube.low, tube.high) == (pytest.approx(expected.min()), pytest.approx(expected.max()))
    np.testing.assert_allclose(tube.values, (expected - expected.min()) / np.ptp(expected), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(tube.chunks())), tube.values, atol=1e-6)
    np.testing.assert_array_equal(tube.track(np.arange(100)), tube.map)
    assert not np.allclose(tube.map, merge(windows, maps, 100), atol=0.1)


def test_a_clip_of_one_frame_has_cells_too() -> None:
    tube = merged_tube(0, [Window((0, 0, 0, 0))], [np.ones((2, 2, 2), dtype=np.float32)], 1, (4, 4), CELLS)

    assert tube.map.tolist() == [[[1, 1], [1, 1]]]
