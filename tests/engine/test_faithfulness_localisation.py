from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.errors import OptionError
from saliency_tubes.faithfulness import energy_ratio, pointing_game, temporal_pointing_game, top_iou

Metric = Callable[[NDArray[np.float32], NDArray[np.bool_]], float]

SHAPE = (3, 6, 8)
OVER_MASKS: dict[str, Metric] = {
    "pointing game": lambda values, mask: pointing_game(values, mask, 0),
    "energy ratio": energy_ratio,
    "top IoU": top_iou,
}


def peaked(*places: tuple[int, int, int]) -> NDArray[np.float32]:
    """A volume with equal maxima at these places, over a slope that is below them everywhere."""
    values = np.linspace(0, 0.5, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    for place in places:
        values[place] = 1
    return values


def spot(*places: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    for place in places:
        mask[place] = True
    return mask


def test_the_maximum_hits_within_a_disc() -> None:
    """From (2, 2) to (5, 6) it is 3 rows and 4 columns, so 5 pixels: the disc of 5 reaches it, that of 4.9 does not,
    though a square would."""
    values, mask = peaked((1, 2, 2)), spot((1, 5, 6))

    assert pointing_game(values, mask, 5)
    assert not pointing_game(values, mask, 4.9)
    assert not pointing_game(values, mask, 0)
    assert pointing_game(values, spot((1, 2, 2)), 0)


def test_the_mask_of_the_maximums_own_frame_counts() -> None:
    assert not pointing_game(peaked((1, 2, 2)), spot((0, 2, 2), (2, 2, 2)), 100)


def test_of_equal_maxima_the_first_counts() -> None:
    values = peaked((0, 5, 7), (1, 0, 0))

    assert pointing_game(values, spot((0, 5, 7)), 0)
    assert not pointing_game(values, spot((1, 0, 0)), 0)


def test_energy_by_hand() -> None:
    """Energy 1 + 2 + 3 + 4 = 10, of which 4 + 2 = 6 in the mask: 0.6. The mask is 2 of 8 voxels: 0.25. 0.6/0.25 = 2.4."""
    values = np.array([[[1, 2], [0, 0]], [[3, 0], [4, 0]]], np.float32)
    mask = np.array([[[False, True], [False, False]], [[False, False], [True, False]]])

    assert energy_ratio(values, mask) == pytest.approx(2.4)
    assert energy_ratio(values * 7, mask) == pytest.approx(2.4)


def test_energy_all_inside_is_the_inverse_of_the_masks_share() -> None:
    values = np.zeros(SHAPE, np.float32)
    values[1, 2:4, 3] = 0.7

    assert energy_ratio(values, values > 0) == pytest.approx(np.prod(SHAPE) / 2)
    assert energy_ratio(values, values == 0) == 0


def test_the_top_of_the_masks_own_size_by_hand() -> None:
    """The mask has 3 voxels. The 3 highest are 9, 8, 7, of which 9 and 7 are in it: 2 shared of 3 + 3 - 2 = 4."""
    values = np.array([[[9, 8, 1]], [[7, 2, 3]]], np.float32)
    mask = np.array([[[True, False, True]], [[True, False, False]]])

    assert top_iou(values, mask) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.01, 1 / 3),  # at least one voxel: 9, in the mask of 3
        (0.5, 2 / 4),  # 9, 8, 7
        (0.67, 2 / 5),  # 9, 8, 7, 3
        (1, 3 / 6),
    ],
)
def test_the_top_of_a_share_by_hand(share: float, expected: float) -> None:
    values = np.array([[[9, 8, 1]], [[7, 2, 3]]], np.float32)
    mask = np.array([[[True, False, True]], [[True, False, False]]])

    assert top_iou(values, mask, share) == pytest.approx(expected)


def test_what_ties_with_the_last_of_the_top_is_in_it() -> None:
    """One voxel is asked for, three are equally high: 1 shared of 3, wherever the mask is among them."""
    values = np.array([[[5, 5, 5, 0]]], np.float32)

    for place in range(3):
        assert top_iou(values, np.arange(4).reshape(1, 1, 4) == place) == pytest.approx(1 / 3)


@pytest.mark.parametrize("tolerance", [0, 1, 1.9, 2])
def test_the_maximum_in_time(tolerance: float) -> None:
    """The maximum is in frame 3, the nearest moving one is 5, two frames later."""
    values = np.zeros((8, 2, 2), np.float32)
    values[3, 1, 0] = 1
    moving = np.array([True, False, False, False, False, True, True, False])

    assert temporal_pointing_game(values, moving, tolerance) == (tolerance == 2)
    assert temporal_pointing_game(values, ~moving, tolerance)


def test_of_equal_maxima_in_time_the_first_counts() -> None:
    values = peaked((0, 5, 7), (2, 0, 0))

    assert temporal_pointing_game(values, np.array([True, False, False]), 0)
    assert not temporal_pointing_game(values, np.array([False, False, True]), 0)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_volume_that_is_the_same_everywhere_points_nowhere(value: float) -> None:
    """It loses the pointing games even where all would hit; else it is what an even volume is. 3 of 144 voxels."""
    values = np.full(SHAPE, value, np.float32)
    everywhere, some = np.ones(SHAPE, bool), spot((0, 0, 0), (1, 1, 1), (2, 2, 2))

    assert not pointing_game(values, everywhere, 10)
    assert not temporal_pointing_game(values, np.ones(3, bool), 10)
    assert energy_ratio(values, some) == 1
    assert top_iou(values, some) == pytest.approx(3 / 144)
    assert top_iou(values, some, 0.1) == pytest.approx(3 / 144)


def test_a_mask_that_is_all_true() -> None:
    values, everywhere = peaked((1, 2, 3)), np.ones(SHAPE, bool)

    assert pointing_game(values, everywhere, 0)
    assert energy_ratio(values, everywhere) == pytest.approx(1)
    assert top_iou(values, everywhere) == 1
    assert top_iou(values, everywhere, 0.25) == 0.25
    assert temporal_pointing_game(values, np.ones(3, bool), 0)


@pytest.mark.parametrize("metric", OVER_MASKS)
def test_what_is_not_defined_is_refused(metric: str) -> None:
    measure, values, mask = OVER_MASKS[metric], peaked((0, 0, 0)), spot((0, 0, 0))

    with pytest.raises(ValueError, match="the mask is empty"):
        measure(values, np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match=r"mask of bool in the volume's shape \(3, 6, 8\), got bool \(3, 6\)"):
        measure(values, mask[:, :, 0])
    with pytest.raises(ValueError, match="got uint8"):
        measure(values, mask.astype(np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a volume \(T, H, W\), got one of shape \(6, 8\)"):
        measure(values[0], mask[0])
    with pytest.raises(ValueError, match=r"a volume \(T, H, W\), got one of shape \(0, 6, 8\)"):
        measure(values[:0], mask[:0])
    for wrong in (np.nan, np.inf):
        values[2, 2, 2] = wrong
        with pytest.raises(ValueError, match="infinite or NaN"):
            measure(values, mask)


def test_what_is_not_defined_in_time_is_refused() -> None:
    values, moving = peaked((0, 0, 0)), np.array([True, False, False])

    with pytest.raises(ValueError, match="no frame has evidence"):
        temporal_pointing_game(values, np.zeros(3, bool), 0)
    with pytest.raises(ValueError, match=r"a bool for each of 3 frames, got bool \(2,\)"):
        temporal_pointing_game(values, moving[:2], 0)
    with pytest.raises(ValueError, match="got int64"):
        temporal_pointing_game(values, np.array([0, 2, 1], np.int64), 0)  # type: ignore[arg-type]
    values[0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="infinite or NaN"):
        temporal_pointing_game(values, moving, 0)


def test_negative_energy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"energy is never negative, and the volume has -0.5"):
        energy_ratio(-peaked((0, 0, 0)) / 2, spot((0, 0, 0)))


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_a_tolerance_that_means_nothing_is_refused(tolerance: float) -> None:
    with pytest.raises(OptionError, match="the tolerance is"):
        pointing_game(peaked((0, 0, 0)), spot((0, 0, 0)), tolerance)
    with pytest.raises(OptionError, match="the tolerance is"):
        temporal_pointing_game(peaked((0, 0, 0)), np.ones(3, bool), tolerance)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_that_means_nothing_is_refused(share: float) -> None:
    with pytest.raises(OptionError, match="the share of the volume is"):
        top_iou(peaked((0, 0, 0)), spot((0, 0, 0)), share)
