"""How far two volumes agree on what is important."""

import numpy as np
from numpy.typing import NDArray


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two volumes, voxel by voxel.

    ``rho = cov(R, S) / (std(R) std(S))`` with R and S the ranks of the values, equal ones having the mean of theirs.
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, compare so the explanations of a network with those
    of the same network with random weights: what stays alike cannot have come from the weights. Signs are kept, which
    the paper does as well as dropping them.

    Args:
        one: any shape, float32: tubes, or raw maps.
        other: the same shape.

    Returns:
        From -1 to 1; 0 where one of them is constant, for it has no order to agree with.

    Raises:
        ValueError: they have different shapes, or none or not finite values.
    """
    if one.shape != other.shape or not one.size:
        raise ValueError(f"expected two volumes of one shape, got {one.shape} and {other.shape}")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("a volume holds values that are infinite or NaN: they have no rank")
    R, S = _ranks(one), _ranks(other)
    norms = float(np.sqrt((R @ R) * (S @ S)))
    return 0.0 if norms == 0 else float(np.clip(R @ S / norms, -1, 1))


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks about their mean: a value's is the mean rank of all that equal it. Multiples of a half, so exact."""
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    ranks = below + (counts - 1) / 2
    centred: NDArray[np.float64] = ranks[place.ravel()] - (values.size - 1) / 2
    return centred
