"""What several comparisons share: ours as they run it, uint8 frames to tubes, and the eager network's other format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes.activation import class_activation_map
from saliency_tubes.blas import one_blas_thread
from saliency_tubes.head import Head
from saliency_tubes.session import Session, open_session
from saliency_tubes.spec import ModelSpec
from saliency_tubes.tube import Tube, build_tubes
from saliency_tubes_export import reference
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def rgb_frames(clip: reference.Clip) -> NDArray[np.uint8]:
    """The clip's frames as the model file takes them, (1, T, H, W, 3) uint8 RGB."""
    return np.ascontiguousarray(np.stack(clip.pictures)[None, ..., ::-1])  # from BGR


def channels_last(network: Network) -> Network:
    """The same network with its kernels' channels last, the best memory format of eager PyTorch on the CPU."""
    changed: Network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return changed


def coarse_map(features: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(t, h, w) float32, the raw map of the first clip; `features` (N, C, t, h, w), `weight` (C,)."""
    return class_activation_map(features[0], weight)


def tubes_of(maps: NDArray[np.float32], label: int, shape: tuple[int, int, int]) -> tuple[Tube, ...]:
    """The normalised tubes, of `shape` (T, H, W), of the raw maps (N, t, h, w) float32 of one class."""
    with one_blas_thread():
        return build_tubes([label] * len(maps), maps, shape)


@dataclass(frozen=True, eq=False)
class Ours:
    """An open model file and the class that it explains. Made by `opened`.

    Attributes:
        session: the open file.
        head: the model file's.
        label: the class.
    """

    session: Session
    head: Head
    label: int

    def maps(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, t, h, w) float32, the raw maps of `frames`, (N, T, H, W, 3) uint8 RGB."""
        features = self.session.run(frames).features
        with one_blas_thread():
            return self.head.maps(features, np.full((len(features), 1), self.label)).maps[:, 0]

    def tubes(self, frames: NDArray[np.uint8]) -> tuple[Tube, ...]:
        """The tubes of `frames`, (N, T, H, W, 3) uint8 RGB."""
        T, H, W = frames.shape[1:4]
        return tubes_of(self.maps(frames), self.label, (T, H, W))


def opened(model: Path, label: int, device: str, **options: Any) -> Ours:
    """Open a model file on a device; `options` are passed on to `open_session`."""
    session = open_session(model, device, **options)
    return Ours(session, ModelSpec.from_metadata(session.metadata).head, label)
