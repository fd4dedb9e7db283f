import numpy as np
from saliency_tubes.activation import class_activation_map, completeness_error


def test_the_map_is_the_weighted_sum_of_the_channels() -> None:
    features = np.zeros((2, 1, 2, 2), dtype=np.float32)
    features[0, 0] = [[1, 2], [3, 4]]
    features[1, 0] = [[10, 0], [0, -10]]

    one = class_activation_map(features, np.array([2, -1], dtype=np.float32))

    np.testing.assert_array_equal(one, [[[-8, 4], [6, 18]]])


def test_several_classes_give_one_map_each() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((6, 3, 4, 5)).astype(np.float32)
    weight = rng.standard_normal((4, 6)).astype(np.float32)

    maps = class_activation_map(features, weight)

    assert maps.shape == (4, 3, 4, 5)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, np.einsum("kc,cthw->kthw", weight, features), rtol=1e-5, atol=1e-5)


def test_completeness_is_zero_for_pool_plus_linear_and_measures_any_other_logit() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((6, 3, 4, 5)).astype(np.float32)
    weight = rng.standard_normal((4, 6)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    logits = weight @ features.mean(axis=(1, 2, 3)) + bias

    maps = class_activation_map(features, weight)

    np.testing.assert_allclose(completeness_error(maps, bias, logits), 0, atol=1e-6)
    np.testing.assert_allclose(completeness_error(maps, bias, logits + np.float32(0.5)), 0.5, atol=1e-6)
