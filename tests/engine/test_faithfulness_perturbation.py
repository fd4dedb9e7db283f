import numpy as np
import pytest
from clips import moving_square
from numpy.typing import NDArray
from saliency_tubes.errors import OptionError
from saliency_tubes.faithfulness import Curve, Fill, average_drop, deletion_insertion, filled, increase, masked_by

FOUR = np.array([10, 20, 30, 40], np.uint8)  # a clip of one row: its red, green and blue are the same


def row(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(1, 1, W, 3)."""
    return np.repeat(values.astype(np.uint8)[None, None, :, None], 3, axis=3)


class Sum:
    """A score that adds up the clip's reds, out of 100; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[NDArray[np.uint8]] = []

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert clips.dtype == np.uint8
        self.asked.append(clips.copy())
        return (clips[..., 0].sum(axis=(1, 2, 3)) / 100).astype(np.float32)


def test_curves_by_hand() -> None:
    """The values say 40, 10, 30, 20. Over a black fill, deletion has 1, 0.6, 0.5, 0.2, 0 and insertion
    0, 0.4, 0.5, 0.8, 1. By trapezoids: (1/2 + 0.6 + 0.5 + 0.2 + 0) / 4 = 0.45 and (0 + 0.4 + 0.5 + 0.8 + 1/2) / 4 = 0.55.
    """
    values = np.array([[[0.6, 0.1, 0.4, 0.9]]], np.float32)

    deletion, insertion = deletion_insertion(row(FOUR), values, Sum(), row(FOUR * 0), steps=4, batch=3)

    assert deletion.fractions.tolist() == insertion.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(deletion.scores, [1, 0.6, 0.5, 0.2, 0], atol=1e-7)
    np.testing.assert_allclose(insertion.scores, [0, 0.4, 0.5, 0.8, 1], atol=1e-7)
    assert deletion.auc == pytest.approx(0.45)
    assert insertion.auc == pytest.approx(0.55)


def test_parts_are_equal_where_they_can_be() -> None:
    """Three parts of four voxels end after 1.33, 2.67 and 4 of them, so after 1, 3 and 4: 40; 30 and 20; 10.
    The area: (1 + 0.6)/2 * 1/4 + (0.6 + 0.1)/2 * 2/4 + (0.1 + 0)/2 * 1/4 = 0.2 + 0.175 + 0.0125."""
    values = np.array([[[1, 2, 3, 4]]], np.float32)

    deletion, _ = deletion_insertion(row(FOUR), values, Sum(), row(FOUR * 0), steps=3, batch=8)

    assert deletion.fractions.tolist() == [0, 0.25, 0.75, 1]
    np.testing.assert_allclose(deletion.scores, [1, 0.6, 0.1, 0], atol=1e-7)
    assert deletion.auc == pytest.approx(0.3875)


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 8), (3, [3, 3, 2]), (8, [8]), (99, [8])])
def test_batches_are_bounded_and_ends_are_shared(batch: int, sizes: list[int]) -> None:
    score, values = Sum(), np.array([[[4, 3, 2, 1]]], np.float32)

    curves = deletion_insertion(row(FOUR), values, score, row(FOUR * 0), steps=4, batch=batch)

    assert [len(clips) for clips in score.asked] == sizes  # 2 * steps in all
    states = {clip[0, 0, :, 0].tobytes() for clips in score.asked for clip in clips}
    assert len(states) == 8
    deletion, insertion = curves
    assert deletion.scores[0] == insertion.scores[-1] == 1
    assert deletion.scores[-1] == insertion.scores[0] == 0


def test_all_colours_of_a_voxel_go_at_once_over_space_and_time() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    fill = rng.integers(0, 256, frames.shape, dtype=np.uint8)
    values = rng.random(frames.shape[:3], np.float32)
    score = Sum()

    deletion_insertion(frames, values, score, fill, steps=2, batch=4)

    whole, half_gone, gone, half_there = score.asked[0]
    highest = values > np.median(values)
    assert highest.any(axis=(1, 2)).all()  # in both frames
    np.testing.assert_array_equal(whole, frames)
    np.testing.assert_array_equal(gone, fill)
    np.testing.assert_array_equal(half_gone, np.where(highest[..., None], fill, frames))
    np.testing.assert_array_equal(half_there, np.where(highest[..., None], frames, fill))


def test_equal_voxels_go_in_one_order_that_favours_no_place() -> None:
    frames, fill = np.full((8, 8, 8, 3), 255, np.uint8), np.zeros((8, 8, 8, 3), np.uint8)
    first, again = Sum(), Sum()

    for score in (first, again):
        deletion_insertion(frames, np.zeros((8, 8, 8), np.float32), score, fill, steps=2, batch=9)

    np.testing.assert_array_equal(first.asked[0], again.asked[0])
    half = first.asked[0][1, ..., 0] > 0
    assert half.sum() == 256
    for axes in ((1, 2), (0, 2), (0, 1)):  # 64 voxels a slice, 32 +- 3 of them expected
        assert 20 < half.sum(axis=axes).min() <= half.sum(axis=axes).max() < 44


def test_equal_voxels_go_after_higher_ones() -> None:
    """The 40 first; then 10, 20 and 30, which are equal, in some order: 0.6 less one of them."""
    values = np.array([[[0, 0, 0, 1]]], np.float32)

    deletion, _ = deletion_insertion(row(FOUR), values, Sum(), row(FOUR * 0), steps=4, batch=1)

    assert deletion.scores[1] == pytest.approx(0.6)


def test_the_area_under_a_constant_is_the_constant() -> None:
    assert Curve(np.array([0, 0.1, 1.0]), np.array([0.3, 0.3, 0.3])).auc == pytest.approx(0.3)


def test_the_mean_fill_by_hand() -> None:
    """Reds 0 and 101 in the two frames: 50.5, rounded to the even 50; greens all 7."""
    frames = np.zeros((2, 3, 4, 3), np.uint8)
    frames[1, ..., 0] = 101
    frames[..., 1] = 7

    fill = filled(frames, Fill.MEAN)

    assert fill.shape == frames.shape
    assert fill.dtype == np.uint8
    assert (fill == [50, 7, 0]).all()


def test_nothing_moves_in_the_blurred_fill() -> None:
    frames = moving_square(6)

    fill = filled(frames, Fill.BLUR)

    assert fill.shape == frames.shape
    assert fill.dtype == np.uint8
    assert (fill == fill[0]).all()
    np.testing.assert_allclose(fill.mean(axis=(0, 1, 2)), frames.mean(axis=(0, 1, 2)), atol=2)


def test_the_blur_is_a_gaussian_of_a_tenth_of_the_height() -> None:
    """A white line in a black frame of height 100: at the line 255 / (10 sqrt(2 pi)) = 10.17, at 10 rows from it
    exp(-1/2) of that, 6.17, at 20 exp(-2), 1.38; the same in every frame and column."""
    frames = np.zeros((2, 100, 12, 3), np.uint8)
    frames[:, 50] = 255

    fill = filled(frames, Fill.BLUR)

    assert (fill[:, 50] == 10).all()
    assert (fill[:, 40] == 6).all()
    assert (fill[:, 70] == 1).all()


def test_an_even_clip_stays_as_it_is() -> None:
    frames = np.broadcast_to(np.array([3, 130, 255], np.uint8), (2, 5, 7, 3))

    for fill in Fill:
        np.testing.assert_array_equal(filled(frames, fill), frames)


def test_a_clip_is_dimmed_by_the_volume() -> None:
    """0.5 of 10, 20, 31: 5, 10 and 15.5, to the even 16."""
    frames = np.array([[[[10, 20, 31], [10, 20, 31], [10, 20, 31]]]], np.uint8)

    dimmed = masked_by(frames, np.array([[[0, 0.5, 1]]], np.float32))

    assert dimmed.dtype == np.uint8
    assert dimmed[0, 0].tolist() == [[0, 0, 0], [5, 10, 16], [10, 20, 31]]


def test_average_drop_by_hand() -> None:
    """0.8 to 0.4 drops by half, 0.5 to 0.6 by nothing, 0.2 to 0 by all: (0.5 + 0 + 1) / 3."""
    assert average_drop([0.8, 0.5, 0.2], [0.4, 0.6, 0.0]) == pytest.approx(0.5)
    assert average_drop(0.8, 0.2) == pytest.approx(0.75)


def test_increase_by_hand() -> None:
    """Only the second rises; the third stays."""
    assert increase([0.8, 0.5, 0.2, 0.0], [0.4, 0.6, 0.2, 0.0]) == 0.25
    assert increase(0.2, 0.3) == 1


def test_a_drop_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a whole clip has a probability of 0"):
        average_drop([0.5, 0], [0.5, 0])


@pytest.mark.parametrize("measure", [average_drop, increase])
def test_what_are_no_probabilities_is_refused(measure: object) -> None:
    assert callable(measure)
    for wrong in (np.nan, 1.5, -0.1):
        for pair in ([[0.5, wrong], [0.5, 0.5]], [[0.5, 0.5], [wrong, 0.5]]):
            with pytest.raises(ValueError, match="probabilities from 0 to 1"):
                measure(*pair)
    for full, masked in (([], []), ([0.5, 0.5], [0.5]), ([[0.5]], [[0.5]])):
        with pytest.raises(ValueError, match="as many masked probabilities as full ones"):
            measure(full, masked)


def test_clips_volumes_and_fills_that_do_not_fit_are_refused() -> None:
    frames, values = row(FOUR), np.array([[[1, 2, 3, 4]]], np.float32)

    for wrong in (frames[:, :, :3], frames.astype(np.float32), frames[..., :1]):
        for pair in ((wrong, frames), (frames, wrong)):
            with pytest.raises(ValueError, match=r"uint8 frames of the volume's shape, \(1, 1, 4, 3\)"):
                deletion_insertion(pair[0], values, Sum(), pair[1], steps=2, batch=1)
        with pytest.raises(ValueError, match=r"uint8 frames of the volume's shape, \(1, 1, 4, 3\)"):
            masked_by(wrong, values / 4)
    values[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="infinite or NaN"):
        deletion_insertion(frames, values, Sum(), frames, steps=2, batch=1)
    with pytest.raises(ValueError, match="infinite or NaN"):
        masked_by(frames, values)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_dimming_by_more_than_all_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"a volume in \[0, 1\], got one from .*{value}"):
        masked_by(row(FOUR), np.array([[[0, value, 1, 0.5]]], np.float32))


@pytest.mark.parametrize("steps", [0, -1, 5])
def test_steps_that_mean_nothing_are_refused(steps: int) -> None:
    values = np.array([[[1, 2, 3, 4]]], np.float32)

    with pytest.raises(OptionError, match=f"steps is {steps}: expected a whole number from 1 to 4"):
        deletion_insertion(row(FOUR), values, Sum(), row(FOUR), steps=steps, batch=1)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(OptionError, match="batch is 0"):
        deletion_insertion(row(FOUR), np.ones((1, 1, 4), np.float32), Sum(), row(FOUR), steps=1, batch=0)


@pytest.mark.parametrize("scores", [[0.5], [[0.5], [0.5]], [0.5, np.nan]])
def test_scores_that_are_none_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="a finite score for each of 2 clips"):
        deletion_insertion(
            row(FOUR), np.ones((1, 1, 4), np.float32), lambda _: np.array(scores, np.float32), row(FOUR), 1, 2
        )
