"""Which frames of a clip the network sees."""

import numpy as np
from numpy.typing import NDArray


def uniform(length: int, frames: int) -> NDArray[np.int64]:
    """Evenly spaced frame indices over the whole clip, as the reference takes them.

    ``linspace(0, length - 1, frames)`` truncated to integers: a clip shorter than `frames` repeats some of them.

    Args:
        length: number of frames in the clip.
        frames: T, number of frames to take.

    Returns:
        (T,) int64, ascending.
    """
    return np.linspace(0, length - 1, num=frames).astype(np.int64)
