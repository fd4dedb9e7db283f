import numpy as np
import pytest
from saliency_tubes.cells import Cells
from saliency_tubes.upsample import spline_matrix, upsample, upsample_space, upsample_time


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(
    ("n", "m"), [(8, 16), (7, 224), (4, 17), (5, 3), (2, 9), (1, 5), (6, 1), (7, 7), (3, 10), (13, 100), (16, 280)]
)
def test_a_spline_matrix_does_what_scipy_zoom_does(n: int, m: int, order: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    samples = np.random.default_rng(n * m).standard_normal(n)

    expected = ndimage.zoom(samples, m / n, order=order)

    np.testing.assert_allclose(spline_matrix(n, m, order) @ samples, expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(16, 224, 224), (40, 33, 61), (8, 7, 7), (5, 100, 4)])
def test_a_volume_upsampled_by_any_factor_equals_scipy_zoom(shape: tuple[int, int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    volume = np.random.default_rng(0).standard_normal((8, 7, 7)).astype(np.float32)

    expected = ndimage.zoom(volume, [m / n for m, n in zip(shape, volume.shape, strict=True)], order=3)

    assert expected.shape == shape
    result = upsample(volume, shape)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=5e-6)


def test_cubic_splines_reproduce_a_straight_line_away_from_the_mirrored_ends() -> None:
    line = np.arange(40, dtype=np.float32)

    result = spline_matrix(40, 79, 3) @ line

    np.testing.assert_allclose(result[20:-20], np.arange(79)[20:-20] / 2, atol=1e-4)


@pytest.mark.parametrize("order", range(6))
def test_samples_keep_their_values_and_a_constant_stays_constant(order: int) -> None:
    samples = np.random.default_rng(1).standard_normal(5).astype(np.float32)

    np.testing.assert_allclose((spline_matrix(5, 9, order) @ samples)[::2], samples, atol=1e-5)
    np.testing.assert_allclose(spline_matrix(5, 9, order).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("n", "m", "order"), [(0, 4, 3), (4, 0, 3), (4, 4, 6), (4, 4, -1)])
def test_impossible_sizes_and_orders_are_refused(n: int, m: int, order: int) -> None:
    with pytest.raises(ValueError, match="expected sizes of at least 1 and an order from 0 to 5"):
        spline_matrix(n, m, order)


def test_several_volumes_at_once_are_each_by_itself() -> None:
    volumes = np.random.default_rng(5).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)

    together = upsample(volumes, (7, 9, 8))

    assert together.shape == (2, 3, 7, 9, 8)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i, j], upsample(volumes[i, j], (7, 9, 8)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", range(1, 6))
@pytest.mark.parametrize(
    ("n", "m", "line"),
    [
        (7, 224, (0, 32)),  # MFNet-3D: beyond the last cell its value holds
        (7, 224, (15.5, 32)),  # equal shares
        (8, 16, (0, 2)),
        (4, 9, (-0.5, 2.25)),
        (5, 5, (1, 1)),
        (6, 3, (-0.25, 0.5)),
        (3, 40, (30, 100)),
    ],
)
def test_values_at_given_places_are_what_scipy_interpolates_there(
    n: int, m: int, line: tuple[float, float], order: int
) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    samples = np.random.default_rng(n * m).standard_normal(n)
    at = np.clip((np.arange(m) - line[0]) / line[1], 0, n - 1)

    expected = ndimage.map_coordinates(samples, [at], order=order, mode="mirror")

    np.testing.assert_allclose(spline_matrix(n, m, order, line) @ samples, expected, atol=2e-6)


def test_a_volume_of_cells_equals_scipy_on_every_axis() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    volume = np.random.default_rng(0).standard_normal((4, 7, 5)).astype(np.float32)
    cells = Cells((1, 0, 3.5), (3, 9.25, 8))
    shape = (16, 60, 44)

    lines = zip(shape, cells.offset, cells.stride, volume.shape, strict=True)
    at = [np.clip((np.arange(m) - offset) / stride, 0, n - 1) for m, offset, stride, n in lines]
    expected = ndimage.map_coordinates(volume, np.meshgrid(*at, indexing="ij"), order=3, mode="mirror")

    np.testing.assert_allclose(upsample(volume, shape, cells=cells), expected, atol=5e-6)
    by_steps = upsample_space(upsample_time(volume, 16, cells=cells), (60, 44), cells=cells)
    np.testing.assert_allclose(by_steps, expected, atol=5e-6)


def test_cells_have_their_values_at_their_places_and_the_edges_hold() -> None:
    samples = np.random.default_rng(3).standard_normal(5).astype(np.float32)

    result = spline_matrix(5, 40, 3, (4, 6)) @ samples

    np.testing.assert_allclose(result[4:29:6], samples, atol=1e-6)
    np.testing.assert_allclose(result[:4], samples[0], atol=1e-6)
    np.testing.assert_allclose(result[28:], samples[-1], atol=1e-6)


def test_steps_are_left_alone_only_where_they_are_on_their_frames() -> None:
    volume = np.random.default_rng(3).standard_normal((4, 2, 2)).astype(np.float32)

    assert upsample_time(volume, 4, cells=Cells((0, 3, 3), (1, 6, 6))) is volume
    np.testing.assert_allclose(
        upsample_time(volume, 4, cells=Cells((1, 3, 3), (1, 6, 6))), volume[[0, 0, 1, 2]], atol=1e-6
    )
