"""The saliency tube: a class-activation map brought to the clip's size and normalised."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .upsample import upsample


@dataclass(frozen=True, eq=False)
class Tube:
    """Where and when a network saw evidence for one class.

    Attributes:
        label: the class index.
        values: (T, H, W) float32 in [0, 1]: the upsampled map, min-max normalised over the whole volume. All zeros
            for a constant map, which points nowhere.
        map: (t, h, w) float32, the raw class-activation map, in units of the logit: its mean plus the classifier's
            bias is the logit.
        low: the upsampled map's smallest value, shown as 0.
        high: its largest value, shown as 1.
    """

    label: int
    values: NDArray[np.float32]
    map: NDArray[np.float32]
    low: float
    high: float

    @property
    def is_constant(self) -> bool:
        """Whether the map is the same everywhere, so that the tube says nothing."""
        return self.high == self.low


def build_tubes(labels: Sequence[int], maps: NDArray[np.float32], shape: tuple[int, int, int]) -> tuple[Tube, ...]:
    """Upsample raw maps to `shape` (T, H, W) and normalise each once, over its whole volume.

    Cubic splines and min-max over the volume, as in the published reference (Stergiou et al., ICIP 2019). Unlike
    there, a constant map gives zeros, not a division by zero.

    Args:
        labels: the class index of each map.
        maps: (L, t, h, w) float32, raw class-activation maps.
        shape: (T, H, W) of the tubes.
    """
    volumes: Iterable[NDArray[np.float32]] = upsample(maps, shape)
    if len(labels) > 1:  # so that who keeps one tube does not keep them all
        volumes = [volume.copy() for volume in volumes]
    return tuple(_normalised(*parts) for parts in zip(labels, maps, volumes, strict=True))


def _normalised(label: int, raw: NDArray[np.float32], values: NDArray[np.float32]) -> Tube:
    """The tube of an upsampled map; `values` are normalised in place."""
    low, high = float(values.min()), float(values.max())
    if raw.min() == raw.max():  # asked of the raw map: the upsampled one differs by rounding
        low = high = float(raw.flat[0])
        values.fill(0)
    else:
        values -= np.float32(low)
        values /= np.float32(high) - np.float32(low)
    return Tube(label=label, values=values, map=raw, low=low, high=high)
