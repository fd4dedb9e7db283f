"""Volumes that know nothing of the classifier's weights: what a tube has to beat.

They are stretched to [0, 1] as tubes are, and as smooth: what is smoother than another volume is not better for it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .._opencv import cv2
from ..upsample import upsample as splines
from .volumes import normalised

# (t, h, w) float32 and (T, H, W) -> (T, H, W) float32.
Upsample = Callable[[NDArray[np.float32], tuple[int, int, int]], NDArray[np.float32]]

_BUMP = 0.25  # standard deviation of the bump at the centre, as a share of each side
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B: ITU-R BT.601


def random_volume(
    shape: tuple[int, int, int],
    cells_shape: tuple[int, int, int],
    rng: np.random.Generator,
    upsample: Upsample = splines,
) -> NDArray[np.float32]:
    """Noise with the grain of a tube: even noise in the features' cells, upsampled as a tube is.

    Args:
        shape: (T, H, W) of the result.
        cells_shape: (t, h, w) of the network's features.
        rng: where the noise comes from.
        upsample: how the tubes that it is compared with were upsampled.

    Returns:
        (T, H, W) float32 in [0, 1].
    """
    return normalised(upsample(rng.random(cells_shape, np.float32), shape))


def centre_volume(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A Gaussian bump in the middle of the frame and of the clip: where a cameraman has the subject.

    ``exp(-(x^2 + y^2 + z^2) / (2 * 0.25^2))`` with x, y, z the distances from the centre as shares of the sides.

    Args:
        shape: (T, H, W) of the result.

    Returns:
        (T, H, W) float32 in [0, 1].
    """
    along_t, along_h, along_w = (np.exp(-((((np.arange(n) + 0.5) / n - 0.5) / _BUMP) ** 2) / 2) for n in shape)
    return normalised((along_t[:, None, None] * along_h[:, None] * along_w).astype(np.float32))


def frame_difference(frames: NDArray[np.uint8], cells_hw: tuple[int, int] = (7, 7)) -> NDArray[np.float32]:
    """Where the picture changes: motion, of the subject as well as of everything else and of the camera.

    The mean absolute difference of a frame's grey values to those of the frames before and after it, blurred by a
    Gaussian with a standard deviation of half a feature cell, so that it is no finer than a tube.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        cells_hw: (h, w) of the network's features.

    Returns:
        (T, H, W) float32 in [0, 1]; zeros where nothing changes, or for a single frame.
    """
    grey = frames @ _LUMA
    steps = np.abs(np.diff(grey, axis=0))
    changes = np.zeros_like(grey)
    changes[:-1] += steps
    changes[1:] += steps
    changes[1:-1] /= 2  # the first and the last frame have one neighbour
    sigma_h, sigma_w = (side / (2 * cells) for side, cells in zip(grey.shape[1:], cells_hw, strict=True))
    for frame in changes:
        cv2.GaussianBlur(frame, (0, 0), sigma_w, dst=frame, sigmaY=sigma_h, borderType=cv2.BORDER_REFLECT)
    return normalised(changes)


def feature_mean(
    features: NDArray[np.float32], shape: tuple[int, int, int], upsample: Upsample = splines
) -> NDArray[np.float32]:
    """Where the network's last features are active, all of them alike: a tube with every weight 1.

    Args:
        features: A, (C, t, h, w) float32.
        shape: (T, H, W) of the result.
        upsample: how the tubes that it is compared with were upsampled.

    Returns:
        (T, H, W) float32 in [0, 1].
    """
    return normalised(upsample(features.mean(axis=0), shape))
