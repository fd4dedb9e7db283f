"""From a clip to what the network sees of it: the stages sampling and preprocess, over one pass of decoding."""

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .choices import Fit
from .errors import SourceError
from .preprocess import crop
from .sampling import Sampling, Window
from .spec import ModelSpec, Preprocessing
from .video import Clip


@dataclass(frozen=True, eq=False)
class Crops:
    """One window of a clip as the network sees it.

    Attributes:
        clip: which clip.
        window: which of its frames.
        size_wh: the size of these frames before they were cropped.
        timestamps: (T,) float64, seconds after the clip's first frame; NaN where the source has no times.
        frames: (T, H, W, 3) uint8 RGB.
        seconds: how long it took to decode and crop.
    """

    clip: Clip
    window: Window
    size_wh: tuple[int, int]
    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8]
    seconds: float


def read_crops(clip: Clip, spec: ModelSpec, sampling: Sampling, fit: Fit) -> Crops:
    """Decode, sample and crop a clip of one window as a model wants it.

    Raises:
        SourceError: it cannot be decoded, or is being written.
    """
    started = time.perf_counter()
    for _ in range(2):  # reading shows how many frames really decode: choose again where that was not known before
        length = clip.length
        try:
            windows = sampling.windows(length, spec.frames)
        except SourceError:  # too short, unless the file has more than it announces
            deque(clip.read(()), maxlen=0)
            windows = sampling.windows(clip.length, spec.frames)
            length = clip.length
        found = list(stream_crops(clip, windows, spec.preprocessing, fit))
        if clip.length == length:
            (crops,) = found
            return replace(crops, seconds=time.perf_counter() - started)
    raise unsettled(clip)


def stream_crops(clip: Clip, windows: Sequence[Window], preprocessing: Preprocessing, fit: Fit) -> Generator[Crops]:
    """The crops of windows that may overlap, in one pass; no more frames are kept than the windows in hand need.

    Args:
        clip: what to read.
        windows: ascending.
        preprocessing: the model's own.
        fit: how frames are brought to the network's input.

    Yields:
        One `Crops` for each window, in order. Those that reach beyond the last frame that decodes are left out; the
        clip's `length` is right once the iterator is exhausted.

    Raises:
        SourceError: the clip cannot be decoded.
    """
    waiting = list(reversed(windows))
    kept: dict[int, tuple[float, NDArray[np.uint8]]] = {}
    started = time.perf_counter()
    with closing(clip.read(sorted({index for window in windows for index in window.indices}))) as frames:
        for frame in frames:
            kept[frame.index] = frame.time, crop(frame.rgb, preprocessing, fit)
            while waiting and waiting[-1].last <= frame.index:
                window = waiting.pop()
                times, crops = zip(*(kept[index] for index in window.indices), strict=True)
                size_wh = frame.rgb.shape[1], frame.rgb.shape[0]
                seconds = time.perf_counter() - started
                yield Crops(clip, window, size_wh, np.array(times), np.stack(crops), seconds)
                started = time.perf_counter()
                needed_from = waiting[-1].first if waiting else frame.index + 1
                kept = {index: one for index, one in kept.items() if index >= needed_from}


def unsettled(clip: Clip) -> SourceError:
    """The error for a clip whose length does not stay what it was."""
    return SourceError(
        f"{clip.name} decodes to another number of frames each time it is read: is something still writing it? "
        "Wait until the file is complete"
    )
