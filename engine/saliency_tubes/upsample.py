"""Spline upsampling as three small matrix products.

B-spline interpolation is linear in its samples and separable over the axes, so upsampling a (t, h, w) map is one
(T, t), one (H, h) and one (W, w) matrix. The matrices compute what ``scipy.ndimage.zoom(..., order=order)`` does:
corner-aligned (the first and last samples stay where they are), with the mirror boundary of its prefilter. Where it is
said at which places the samples lie, as in `Cells`, they are put there instead, and the first and the last hold beyond.

Unser, Aldroubi, Eden, "B-Spline Signal Processing: Part I - Theory", IEEE Transactions on Signal Processing 41(2),
1993, gives the formulas.
"""

from functools import lru_cache
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray

from .cells import Cells

MAX_ORDER = 5


def upsample(
    volume: NDArray[np.float32], shape: tuple[int, int, int], order: int = 3, cells: Cells | None = None
) -> NDArray[np.float32]:
    """Interpolate a (t, h, w) volume, or several, to (T, H, W) with splines.

    Args:
        volume: (..., t, h, w) float32.
        shape: (T, H, W) of the result; each may be larger or smaller than the volume's.
        order: degree of the spline, 0 (nearest) to 5; the reference uses 3.
        cells: where the volume's samples lie among those of the result; None for corner-aligned.

    Returns:
        (..., T, H, W) float32. A cubic spline overshoots: values may lie a little outside the volume's range.
    """
    return upsample_space(upsample_time(volume, shape[0], order, cells), shape[1:], order, cells)


def upsample_time(
    volume: NDArray[np.float32], frames: int, order: int = 3, cells: Cells | None = None
) -> NDArray[np.float32]:
    """`upsample` along time alone: (..., t, h, w) float32 to (..., T, h, w); unchanged where every frame has a step."""
    *leading, t, h, w = volume.shape
    line = None if cells is None else (cells.offset[0], cells.stride[0])
    if t == frames and line in (None, (0, 1)):
        return volume
    along_t = spline_matrix(t, frames, order, line) @ volume.reshape(-1, t, h * w)
    return np.asarray(along_t, dtype=np.float32).reshape(*leading, frames, h, w)


def upsample_space(
    volume: NDArray[np.float32], size_hw: tuple[int, int], order: int = 3, cells: Cells | None = None
) -> NDArray[np.float32]:
    """`upsample` of every step by itself: (..., h, w) float32 to (..., H, W)."""
    H, W = size_hw
    *leading, h, w = volume.shape
    down = None if cells is None else (cells.offset[1], cells.stride[1])
    across = None if cells is None else (cells.offset[2], cells.stride[2])
    along_h = spline_matrix(h, H, order, down) @ volume.reshape(-1, h, w)
    along_w = along_h.reshape(-1, w) @ spline_matrix(w, W, order, across).T
    return np.asarray(along_w, dtype=np.float32).reshape(*leading, H, W)


@lru_cache(maxsize=64)
def spline_matrix(n: int, m: int, order: int = 3, line: tuple[float, float] | None = None) -> NDArray[np.float32]:
    """The (m, n) float32 matrix that resamples n values at m places.

    Row i interpolates at x_i: ``sum_k c_k B(x_i - k)`` with the centred B-spline B, where the coefficients c solve
    ``sum_k c_k B(j - k) = f_j`` for all samples f. The result is read-only: it is cached.

    Args:
        n: how many values there are.
        m: how many are wanted.
        order: degree of the spline.
        line: offset and stride, above 0, of the n values among the m: ``x_i = (i - offset) / stride``, held within
            0..n-1. None for corner-aligned: ``x_i = i (n - 1) / (m - 1)``.

    Raises:
        ValueError: a size below 1, or an order outside 0..5.
    """
    if n < 1 or m < 1 or not 0 <= order <= MAX_ORDER:
        raise ValueError(f"expected sizes of at least 1 and an order from 0 to {MAX_ORDER}, got {n=}, {m=}, {order=}")
    places = np.linspace(0, n - 1, m) if line is None else np.clip((np.arange(m) - line[0]) / line[1], 0, n - 1)
    sampled: NDArray[np.float64] = _basis(places, n, order)
    if order > 1:
        # Samples to coefficients: the inverse of the basis at the samples themselves.
        at_samples = _basis(np.arange(n, dtype=np.float64), n, order)
        sampled = sampled @ np.linalg.inv(at_samples)
    matrix = sampled.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def _basis(places: NDArray[np.float64], n: int, order: int) -> NDArray[np.float64]:
    """(len(places), n) weights of n mirrored B-spline coefficients at `places` in [0, n - 1]."""
    weights = np.zeros((len(places), n))
    nearest = np.floor(places + 0.5) if order % 2 == 0 else np.floor(places)
    reach = order // 2 + 1
    for offset in range(-reach, reach + 1):
        index = nearest + offset
        np.add.at(weights, (np.arange(len(places)), _mirror(index.astype(int), n)), _b_spline(places - index, order))
    return weights


def _mirror(index: NDArray[np.int_], n: int) -> NDArray[np.int_]:
    """Fold indices back into 0..n-1 by reflection about the first and last sample (d c b | a b c d | c b a)."""
    if n == 1:
        return np.zeros_like(index)
    period = 2 * (n - 1)
    folded = np.abs(index) % period
    return np.where(folded >= n, period - folded, folded)


def _b_spline(x: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """The centred B-spline of degree `order` (Unser et al. 1993, eq. 2.2, as a sum of truncated powers)."""
    half = (order + 1) / 2
    if order == 0:  # half-open, so that a place between two samples takes exactly one of them
        return ((x >= -half) & (x < half)).astype(np.float64)
    values = np.zeros_like(x)
    for k in range(order + 2):
        values += (-1) ** k * comb(order + 1, k) / factorial(order) * np.maximum(x + half - k, 0.0) ** order
    # Beyond its support the sum cancels only up to rounding.
    return np.where(np.abs(x) < half, values, 0.0)
