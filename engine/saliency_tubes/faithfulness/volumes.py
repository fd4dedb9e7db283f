"""What every metric takes: a volume over a clip, (T, H, W), larger where there is more evidence."""

import numpy as np
from numpy.typing import NDArray


def checked(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The volume, if something can be said of it.

    Raises:
        ValueError: it is not (T, H, W), it is empty, or some of it is infinite or NaN.
    """
    if values.ndim != 3 or not values.size:
        raise ValueError(f"expected a volume (T, H, W), got one of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the volume holds values that are infinite or NaN: a metric of it would mean nothing")
    return values


def is_constant(values: NDArray[np.float32]) -> bool:
    """Whether the volume is the same everywhere, so that it points nowhere."""
    return bool(values.min() == values.max())


def normalised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The volume stretched to [0, 1] over all of it, as a tube is; zeros where it is constant.

    Returns:
        (T, H, W) float32.
    """
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.float32)
    return np.asarray((values - low) / (high - low), np.float32)
