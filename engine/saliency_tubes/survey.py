"""A whole video seen through many windows, in memory that hardly grows with its length."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .activation import completeness_error, relative_completeness
from .crops import Crops, stream_crops, unsettled
from .pipeline import ahead
from .sampling import Window
from .session import Activations
from .spec import ModelSpec
from .video import Clip
from .view import View, highest

# Maps kept of each window beside the wanted ones, while the classes to explain are not known yet: 1.5 kB each.
_SPARE = 3
_ROUNDS = 4  # one for all windows, one for a length that was announced wrongly, one for maps that were not kept


@dataclass(frozen=True, eq=False)
class Survey:
    """What the network says of every window of a video.

    Attributes:
        windows: ascending.
        logits: (n, K) float32, one row a window.
        labels: the classes to explain, as asked for, then the highest of the mean logits.
        maps: for each of these labels, a (t, h, w) float32 raw map of every window.
        completeness: largest ``|mean(map) + bias - logit|`` over windows and labels, relative to the largest logit.
        size_wh: the size of the video's frames.
        timestamps: (L,) float64, seconds of every frame after the first; between frames that the network saw they are
            interpolated. NaN where the source has no times.
        sha256: SHA-256, in hexadecimal, of the SHA-256 of every window's crops, one after the other.
        reading, network: seconds spent on each, over all windows.
    """

    windows: tuple[Window, ...]
    logits: NDArray[np.float32]
    labels: list[int]
    maps: list[list[NDArray[np.float32]]]
    completeness: float
    size_wh: tuple[int, int]
    timestamps: NDArray[np.float64]
    sha256: str
    reading: float
    network: float


class Surveyor:
    """Runs a network over the windows of one clip, and keeps of each the logits and a few maps.

    Which classes are the highest over the whole video is known only at its end, and the features of all windows would
    fill the memory. So of each window the maps of its own highest classes and of the highest so far are kept; should
    one that wins in the end be missing somewhere, those windows are run again.
    """

    def __init__(
        self,
        clip: Clip,
        spec: ModelSpec,
        view: View,
        run: Callable[[NDArray[np.uint8]], Activations],
        batch: int,
        progress: Callable[[str], None],
    ) -> None:
        self._clip, self._spec, self._view = clip, spec, view
        self._run, self._batch, self._progress = run, batch, progress
        self._sum = np.zeros(spec.num_classes)
        self._logits: dict[Window, NDArray[np.float32]] = {}
        self._maps: dict[Window, dict[int, tuple[NDArray[np.float32], np.float32]]] = {}  # and what they leave out
        self._digests: dict[Window, bytes] = {}
        self._times: dict[int, float] = {}
        self._size_wh = (0, 0)
        self._reading = self._network = 0.0

    def survey(self) -> Survey:
        """Visit every window.

        Raises:
            SourceError: the clip cannot be decoded, or is being written.
            ModelFileError: the runtime fails, or the network gives values that are not finite.
        """
        wanted = list(self._view.wanted.indices)
        for _ in range(_ROUNDS):
            windows = self._view.sampling.windows(self._clip.length, self._spec.frames)
            labels = self._labels(windows)
            missing = [w for w in windows if not set(labels or wanted) <= self._maps.get(w, {}).keys()]
            missing = [w for w in windows if w not in self._logits] or missing
            if not missing:
                return self._found(windows, labels)
            self._visit(missing, labels or wanted)
        raise unsettled(self._clip)

    def _labels(self, windows: Sequence[Window]) -> list[int]:
        """The classes to explain; none before every window has been seen."""
        if not all(window in self._logits for window in windows):
            return []
        return self._view.wanted.labels(np.mean([self._logits[window] for window in windows], axis=0))

    def _visit(self, windows: list[Window], wanted: list[int]) -> None:
        read = stream_crops(self._clip, windows, self._spec.preprocessing, self._view.fit)
        done = 0
        with closing(read), closing(ahead(read)) as stream:
            for group in _groups(stream, self._batch):
                self._progress(f"window {done + 1} of {len(windows)}")
                started = time.perf_counter()
                activations = self._run(np.stack([crops.frames for crops in group]))
                self._network += time.perf_counter() - started
                for crops, logits, features in zip(group, activations.logits, activations.features, strict=True):
                    self._keep(crops, logits, features, wanted)
                done += len(group)

    def _keep(
        self, crops: Crops, logits: NDArray[np.float32], features: NDArray[np.float32], wanted: list[int]
    ) -> None:
        if crops.window not in self._logits:  # run again for its maps alone: what it said at first stands
            self._sum += logits
            self._logits[crops.window] = logits.copy()
        self._digests[crops.window] = hashlib.sha256(crops.frames.data).digest()
        self._times.update(zip(crops.window.indices, crops.timestamps.tolist(), strict=True))
        self._size_wh = crops.size_wh
        self._reading += crops.seconds
        ranks = self._view.wanted.ranks
        spare = highest(logits, ranks + _SPARE) + highest(self._sum, ranks + _SPARE) if ranks else []
        labels = list(dict.fromkeys([*wanted, *spare]))
        found = self._spec.head.maps(features, np.array(labels, dtype=np.intp))
        self._maps[crops.window] = {
            label: (one.copy(), bias) for label, one, bias in zip(labels, found.maps, found.bias, strict=True)
        }

    def _found(self, windows: tuple[Window, ...], labels: list[int]) -> Survey:
        logits = np.stack([self._logits[window] for window in windows])
        kept = [[self._maps[window][label] for window in windows] for label in labels]
        maps = [[one for one, _ in of_label] for of_label in kept]
        errors = [
            completeness_error(np.stack(of_label), np.array([bias for _, bias in pairs]), logits[:, label])
            for label, of_label, pairs in zip(labels, maps, kept, strict=True)
        ]
        digest = hashlib.sha256(b"".join(self._digests[window] for window in windows))
        return Survey(
            windows=windows,
            logits=logits,
            labels=labels,
            maps=maps,
            completeness=relative_completeness(errors, logits),
            size_wh=self._size_wh,
            timestamps=_at_every_frame(self._times, self._clip.length),
            sha256=digest.hexdigest(),
            reading=self._reading,
            network=self._network,
        )


def _groups(stream: Iterable[Crops], size: int) -> Iterator[list[Crops]]:
    waiting = iter(stream)
    while group := list(islice(waiting, size)):
        yield group


def _at_every_frame(times: dict[int, float], length: int) -> NDArray[np.float64]:
    """(length,) float64: the times of frames that were seen, interpolated between them and held beyond the last."""
    known = sorted((index, seconds) for index, seconds in times.items() if math.isfinite(seconds) and index < length)
    if not known:
        return np.full(length, math.nan)
    indices, seconds = zip(*known, strict=True)
    every: NDArray[np.float64] = np.interp(np.arange(length), indices, seconds)
    return every
