import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.faithfulness import centre_volume, feature_mean, frame_difference, random_volume
from saliency_tubes.upsample import upsample

SHAPE = (6, 20, 30)


def stretched(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    return (volume - volume.min()) / (volume.max() - volume.min())


def test_all_are_stretched_as_tubes_are() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    features = rng.random((5, 3, 4, 5), np.float32)

    for volume in (
        random_volume(SHAPE, (3, 4, 5), rng),
        centre_volume(SHAPE),
        frame_difference(frames),
        feature_mean(features, SHAPE),
    ):
        assert volume.shape == SHAPE
        assert volume.dtype == np.float32
        assert (volume.min(), volume.max()) == (0, 1)


def test_noise_has_the_grain_of_the_cells() -> None:
    """Noise of one number a voxel has neighbours that differ by a third on average."""
    volume = random_volume((16, 224, 224), (8, 7, 7), np.random.default_rng(0))

    for axis in (1, 2):
        assert np.abs(np.diff(volume, axis=axis)).mean() < 0.02


def test_noise_is_seeded() -> None:
    one, same, other = (random_volume(SHAPE, (3, 4, 5), np.random.default_rng(seed)) for seed in (1, 1, 2))

    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 0.1


def test_noise_and_features_are_upsampled_as_the_tubes_are() -> None:
    def nearest(volume: NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
        return upsample(volume, shape, order=0)

    features = np.arange(12, dtype=np.float32).reshape(2, 1, 2, 3)

    for volume in (
        feature_mean(features, (4, 8, 9), nearest),
        random_volume((4, 8, 9), (1, 2, 3), np.random.default_rng(0), nearest),
    ):
        assert len(np.unique(volume)) == 6


def test_features_by_hand() -> None:
    """Means of two channels 1 4 / 3 6 and 3 0 / 5 2: 2 2 / 4 4, stretched to 0 0 / 1 1."""
    features = np.array([[[[1, 4], [3, 6]]], [[[3, 0], [5, 2]]]], np.float32)

    np.testing.assert_allclose(feature_mean(features, (1, 2, 2)), [[[0, 0], [1, 1]]], atol=1e-6)
    np.testing.assert_allclose(
        feature_mean(features, (3, 9, 9)), stretched(upsample(features.mean(axis=0), (3, 9, 9))), atol=1e-6
    )


def test_the_centre_is_in_the_middle_of_space_and_time() -> None:
    """The value at 1/3 of a side off the centre is exp(-(1/3)^2 / (2 * 0.25^2)) = 0.411 of that at the centre, and the
    corner has that cubed, 0.0695, which the stretch takes off."""
    volume = centre_volume((3, 3, 3))
    off, corner = np.exp(-8 / 9), np.exp(-8 / 3)

    assert volume[1, 1, 1] == 1
    for place in ((0, 1, 1), (1, 2, 1), (1, 1, 0)):
        assert volume[place] == pytest.approx((off - corner) / (1 - corner))
    assert volume[0, 0, 0] == volume[2, 2, 2] == 0
    for axis in range(3):
        np.testing.assert_array_equal(centre_volume(SHAPE), np.flip(centre_volume(SHAPE), axis))


def test_differences_by_hand() -> None:
    """Frames of one grey each, 0, 10, 10, 40: steps of 10, 0, 30. The first frame has 10, the second (10 + 0) / 2, the
    third (0 + 30) / 2, the last 30; stretched from 5 to 30."""
    frames = np.empty((4, 5, 6, 3), np.uint8)
    frames[...] = np.array([0, 10, 10, 40]).reshape(4, 1, 1, 1)

    found = frame_difference(frames)

    for k, expected in enumerate([10, 5, 15, 30]):
        np.testing.assert_allclose(found[k], (expected - 5) / 25, atol=1e-5)


def test_differences_are_where_something_moves() -> None:
    frames = np.full((4, 80, 120, 3), 90, np.uint8)
    frames[1, 20:24, 90:94] = 255
    frames[:, 60:70, 10:30] = 255  # does not move

    k, i, j = np.unravel_index(frame_difference(frames).argmax(), frames.shape[:3])

    assert k in (0, 1)  # a frame at the end has one neighbour
    assert abs(i - 21.5) < 2
    assert abs(j - 91.5) < 2


def test_differences_are_no_finer_than_half_a_cell() -> None:
    """A pixel that changes, in cells of 20 rows and 40 columns: standard deviations of 10 and 20 pixels, so that at
    these distances it is exp(-1/2) of what it is there. The stretch from 0 changes nothing."""
    frames = np.zeros((2, 200, 400, 3), np.uint8)
    frames[1, 100, 200] = 255

    found = frame_difference(frames, (10, 10))[0]

    assert found[100, 200] == pytest.approx(1)
    assert found[110, 200] == pytest.approx(np.exp(-0.5), rel=1e-2)
    assert found[100, 180] == pytest.approx(np.exp(-0.5), rel=1e-2)


def test_what_has_nothing_to_show_is_zero() -> None:
    still = np.full((*SHAPE, 3), 7, np.uint8)

    assert not frame_difference(still).any()
    assert not frame_difference(still[:1]).any()
    assert not feature_mean(np.ones((3, 2, 2, 2), np.float32), (2, 2, 2)).any()
    assert not centre_volume((1, 1, 1)).any()
