import numpy as np
import pytest
from saliency_tubes.tube import build_tubes


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
