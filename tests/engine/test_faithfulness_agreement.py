import numpy as np
import pytest
from saliency_tubes.faithfulness import rank_correlation


def test_correlation_by_hand() -> None:
    """Ranks 1 2 3 4 5 and 2 1 4 3 5: differences 1 1 1 1 0, so rho = 1 - 6 * 4 / (5 * 24) = 0.8."""
    one = np.array([0.1, 0.2, 0.3, 0.4, 9], np.float32)
    other = np.array([-2, -3, 5, 4, 6], np.float32)

    assert rank_correlation(one, other) == pytest.approx(0.8)
    assert rank_correlation(one, -other) == pytest.approx(-0.8)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    """Ranks 1 2.5 2.5 4 and 1 2 3 4, about 2.5: (-1.5, 0, 0, 1.5) and (-1.5, -0.5, 0.5, 1.5). The products sum to 4.5,
    the squares to 4.5 and 5: 4.5 / sqrt(22.5) = 0.9487."""
    one = np.array([[1, 2], [2, 3]], np.float32)
    other = np.array([[1, 2], [3, 4]], np.float32)

    assert rank_correlation(one, other) == pytest.approx(4.5 / np.sqrt(22.5))
    assert rank_correlation(other, one) == pytest.approx(4.5 / np.sqrt(22.5))


def test_it_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    one = rng.integers(0, 20, (4, 5, 6)).astype(np.float32)  # full of ties
    other = (one + rng.normal(0, 8, one.shape)).astype(np.float32)

    assert rank_correlation(one, other) == pytest.approx(stats.spearmanr(one.ravel(), other.ravel()).statistic)


def test_only_the_order_counts() -> None:
    one = np.random.default_rng(2).random((3, 4, 5), np.float32)

    assert rank_correlation(one, np.exp(9 * one)) == pytest.approx(1)
    assert rank_correlation(one, -(one**3)) == pytest.approx(-1)


def test_a_constant_agrees_with_nothing() -> None:
    one, constant = np.random.default_rng(3).random((2, 3, 4), np.float32), np.full((2, 3, 4), 0.4, np.float32)

    assert rank_correlation(one, constant) == rank_correlation(constant, one) == 0
    assert rank_correlation(constant, constant) == 0


def test_large_volumes_do_not_overflow() -> None:
    one = np.arange(16 * 224 * 224, dtype=np.float32).reshape(16, 224, 224)

    assert rank_correlation(one, one) == pytest.approx(1, abs=1e-12)


def test_what_cannot_be_compared_is_refused() -> None:
    one = np.ones((2, 3, 4), np.float32)

    with pytest.raises(ValueError, match=r"one shape, got \(2, 3, 4\) and \(2, 3\)"):
        rank_correlation(one, one[..., 0])
    with pytest.raises(ValueError, match=r"one shape, got \(0,\) and \(0,\)"):
        rank_correlation(one[:0, 0, 0], one[:0, 0, 0])
    for pair in ((one * np.nan, one), (one, one * np.inf)):
        with pytest.raises(ValueError, match="infinite or NaN"):
            rank_correlation(*pair)
