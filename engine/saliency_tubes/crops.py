"""From a clip to what the network sees of it: the stages sampling and preprocess, over one pass of decoding."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import SourceError
from .preprocess import crop
from .sampling import uniform
from .spec import ModelSpec
from .video import Clip


@dataclass(frozen=True, eq=False)
class Crops:
    """A clip as the network sees it.

    Attributes:
        clip: which clip.
        indices: (T,) int64, the frames' places in it.
        timestamps: (T,) float64, seconds after its first frame; NaN where the source has no times.
        frames: (T, H, W, 3) uint8 RGB.
        seconds: how long it took to decode and crop.
    """

    clip: Clip
    indices: NDArray[np.int64]
    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8]
    seconds: float


def read_crops(clip: Clip, spec: ModelSpec) -> Crops:
    """Decode, sample and crop a clip as a model wants it.

    Raises:
        SourceError: it cannot be decoded, or is being written.
    """
    started = time.perf_counter()
    for _ in range(2):  # reading shows how many frames really decode: choose again where that was not known before
        length = clip.length
        indices = uniform(length, spec.frames)
        times: list[float] = []
        frames: list[NDArray[np.uint8]] = []
        for frame in clip.read(indices.tolist()):
            times.append(frame.time)
            frames.append(crop(frame.rgb, spec.preprocessing))
        if clip.length == length:
            return Crops(clip, indices, np.array(times), np.stack(frames), time.perf_counter() - started)
    raise SourceError(
        f"{clip.name} decodes to another number of frames each time it is read: is something still writing it? "
        "Wait until the file is complete"
    )
