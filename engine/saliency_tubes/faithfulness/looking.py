"""What a case's metrics are taken over: the tube's frames, and the volumes that are compared over them."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..cells import Cells
from ..errors import SourceError
from ..explanation import Explanation
from ..model import TubeModel
from ..preprocess import crop
from ..tube import Tube
from ..upsample import upsample
from . import baselines
from .options import Method
from .regions import Frames

MOST_FRAMES = 256  # of a whole video; each takes 200 kB a volume at 224x224


@dataclass(frozen=True, eq=False)
class Look:
    """An explained clip, as metrics see it.

    Attributes:
        explanation: the clip's, with one tube.
        steps: (T,) int64, the steps of the tube that are looked at: all of one window, of a video not all.
        frames: (T, H, W, 3) uint8 RGB, what the network sees of these frames.
        cells: (t, h, w), the cells of features that a volume over all steps of the tube is made of.
    """

    explanation: Explanation
    steps: NDArray[np.int64]
    frames: NDArray[np.uint8]
    cells: tuple[int, int, int]

    @classmethod
    def at(cls, explanation: Explanation) -> "Look":
        """Look at an explained clip; of a whole video at `MOST_FRAMES` frames, which are read again.

        Raises:
            SourceError: the video cannot be read again.
        """
        _, t, h, w = explanation.spec.features_shape
        steps = np.arange(len(explanation.frame_indices))
        if explanation.frames is not None:
            return cls(explanation, steps, explanation.frames, (t, h, w))
        if len(steps) > MOST_FRAMES:
            steps = np.linspace(0, len(steps) - 1, MOST_FRAMES).round().astype(np.int64)
        window = explanation.windows[0]
        cell = (window.last - window.first + 1) / t  # frames of the clip
        t = max(1, round(explanation.clip.length / cell))
        return cls(explanation, steps, _read(explanation, steps), (t, h, w))

    @property
    def tube(self) -> Tube:
        """The tube to measure."""
        return self.explanation.tube

    @property
    def is_window(self) -> bool:
        """Whether the frames are what the network saw in one forward pass."""
        return self.explanation.frames is not None

    @property
    def half_cell(self) -> float:
        """Pixels: half the larger side of a cell."""
        _, H, W = self.tube.shape
        _, h, w = self.cells
        return max(H / h, W / w) / 2

    @property
    def half_cell_in_time(self) -> float:
        """Steps that are looked at, half the length of a cell."""
        return len(self.steps) / self.cells[0] / 2

    @property
    def clip_frames(self) -> Frames:
        """Which frames of the clip these are."""
        one = self.explanation
        return Frames(one.frame_indices[self.steps], one.clip.length, one.clip.size_wh, one.spec.preprocessing, one.fit)

    def volumes(
        self, methods: Iterable[Method], model: TubeModel, rng: np.random.Generator
    ) -> Iterator[tuple[Method, NDArray[np.float32]]]:
        """Each of these methods with its volume, (T, H, W) float32 in [0, 1]; a whole video has none of features."""
        shape = (len(self.steps), *self.tube.shape[1:])
        cells = (min(self.cells[0], len(self.steps)), *self.cells[1:])
        smooth = partial(upsample, cells=self._places(cells, shape))
        for method in methods:
            match method:
                case Method.TUBE:
                    yield method, self.tube.values if self.is_window else self._of_video()
                case Method.RANDOM:
                    yield method, baselines.random_volume(shape, cells, rng, smooth)
                case Method.CENTRE:
                    yield method, baselines.centre_volume(shape)
                case Method.FRAME_DIFFERENCE:
                    yield method, baselines.frame_difference(self.frames, cells[1:])
                case Method.FEATURES if self.is_window:
                    features = model.activations(self.frames[None]).features[0]
                    yield method, baselines.feature_mean(features, shape, smooth)

    def _places(self, cells: tuple[int, int, int], shape: tuple[int, int, int]) -> Cells | None:
        """Where so many cells lie in such a volume: where the tube's are; None for corner-aligned."""
        of_tube = self.tube.cells
        if of_tube is None or self.is_window:
            return of_tube
        even = Cells.of_equal_shares(cells, shape)  # the tube of a video has one for each frame
        return Cells((even.offset[0], *of_tube.offset[1:]), (even.stride[0], *of_tube.stride[1:]))

    def _of_video(self) -> NDArray[np.float32]:
        """The tube at `steps`, never the whole of it at once."""
        parts, start = [], 0
        for chunk in self.tube.chunks():
            inside = self.steps[(self.steps >= start) & (self.steps < start + len(chunk))] - start
            parts.append(chunk[inside])
            start += len(chunk)
        return np.concatenate(parts)


def _read(explanation: Explanation, steps: NDArray[np.int64]) -> NDArray[np.uint8]:
    preprocessing, fit = explanation.spec.preprocessing, explanation.fit
    with closing(explanation.source.read(explanation.frame_indices[steps].tolist())) as frames:
        crops = [crop(frame.rgb, preprocessing, fit) for frame in frames]
    if len(crops) != len(steps):
        raise SourceError(f"{explanation.clip.name} gives fewer frames than before: is something changing it?")
    return np.stack(crops)
