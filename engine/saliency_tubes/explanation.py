"""What a user holds after a run: the prediction, one tube for every label, and `save`."""

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2
from ._version import __version__
from .approximation import Approximation
from .choices import USEFUL, Align, Artifact, Device, Fit, Precision, SamplingName
from .preprocess import CropBox, crop_box
from .sampling import Sampling, Window
from .spec import ModelSpec
from .time_steps import TimeSteps
from .tube import Tube
from .video import Clip
from .view import highest

if TYPE_CHECKING:
    from .style import Style

_TOP = 5


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each stage of `TubeModel.explain`; of a whole video, where stages overlap, their sums."""

    decode_and_crop: float
    network: float
    tube: float


@dataclass(frozen=True)
class Score:
    """One class of a prediction; `name` is None where the model file carries no class names."""

    index: int
    name: str | None
    logit: float
    probability: float

    @property
    def title(self) -> str:
        """The class for people: its name, or its number where it has none."""
        return f"class {self.index}" if self.name is None else self.name


@dataclass(frozen=True)
class ClipIdentity:
    """Which clip was explained.

    `name` is the clip's file or folder name, `path` is None for an array, `length` counts its frames, `size_wh` is
    their width and height as displayed, and `input_sha256` is the SHA-256 of the uint8 pixels that the network saw; of
    a whole video, the SHA-256 of its windows' own, one after the other.
    """

    name: str
    path: Path | None
    length: int
    size_wh: tuple[int, int]
    input_sha256: str


@dataclass(frozen=True)
class ModelIdentity:
    """Which model file explained it, on which device, in which precision, and what computed it, with its version."""

    path: Path
    sha256: str
    device: Device
    precision: Precision
    runtime: str

    @property
    def versions(self) -> dict[str, str]:
        """Versions of everything that an explanation by it depends on."""
        return {
            "saliency_tubes": __version__,
            **dict([self.runtime.split(" ", 1)]),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "av": av.__version__,
            "python": platform.python_version(),
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """A clip explained by a model.

    Attributes:
        clip: which clip.
        model: which model file, and the device it ran on.
        spec: what the model file says of itself.
        sampling: how frames were taken from the clip.
        fit: how they were brought to the network's input.
        align: where the cells of the maps lie in the clip.
        windows: the frames of each forward pass; one for uniform and stepped sampling.
        window_logits: (n, K) float32, a row for each of them.
        logits: (K,) float32, their mean.
        tubes: one `Tube` for every label that was asked for, in that order.
        frame_indices: (T,) int64, the places in the clip of a tube's steps of time: the sampled frames of the one
            window, or every frame of the video.
        timestamps: (T,) float64, their seconds after the clip's first frame; NaN where the source has no times.
        frames: (T, H, W, 3) uint8 RGB, the crops that the network saw; None for a whole video, which is read again
            when it is drawn.
        completeness: largest ``|mean(map) + bias - logit|`` over these labels, relative to the largest logit.
        timings: seconds of each stage.
        notes: what the user should know about this run: approximate maps first, a damaged video, repeated frames, a
            device fallback.
        source: the open clip, from which pictures are drawn.
    """

    clip: ClipIdentity
    model: ModelIdentity
    spec: ModelSpec
    sampling: Sampling
    fit: Fit
    align: Align
    windows: tuple[Window, ...]
    window_logits: NDArray[np.float32]
    logits: NDArray[np.float32]
    tubes: tuple[Tube, ...]
    frame_indices: NDArray[np.int64]
    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8] | None
    completeness: float
    timings: Timings
    notes: tuple[str, ...]
    source: Clip = field(repr=False)

    @property
    def tube(self) -> Tube:
        """The tube of the first label."""
        return self.tubes[0]

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(K,) float64 softmax of the logits."""
        return softmax(self.logits)

    def window_probabilities(self, index: int) -> NDArray[np.float64]:
        """(n,) float64: the probability of class `index` in each window."""
        return self._window_probabilities[:, index]

    @cached_property
    def _window_probabilities(self) -> NDArray[np.float64]:
        return softmax(self.window_logits)

    @property
    def predicted(self) -> Score:
        """The class with the highest logit."""
        return self.top(1)[0]

    def top(self, count: int = _TOP) -> tuple[Score, ...]:
        """The `count` highest classes, best first; of equal ones the lower index first."""
        return tuple(self.score(index) for index in highest(self.logits, count))

    def score(self, index: int) -> Score:
        """Name, logit and probability of class `index`."""
        return Score(index, self.spec.label_name(index), float(self.logits[index]), float(self.probabilities[index]))

    @property
    def box(self) -> CropBox:
        """Where in a frame of the clip the network looked."""
        return crop_box(self.clip.size_wh, self.spec.preprocessing, self.fit)

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last frame of the clip, inclusive, that the tubes reach over."""
        return self.windows[0].first, self.windows[-1].last

    @property
    def approximation(self) -> Approximation | None:
        """Why and by how much the maps miss the logits; None where they are exact."""
        return Approximation.of(self.spec.approximate, self.completeness)

    @property
    def time_steps(self) -> TimeSteps:
        """Which frames of the clip each step of time of a map stands for; of many windows, those of the first one."""
        slides = self.sampling.name is SamplingName.DENSE  # from frame 0 on, so that the first counts as all do
        return TimeSteps.of(self.spec.features_shape[1], self.windows[0].indices, self.align, slides=slides)

    def save(
        self,
        out: str | Path = "visualisations",
        progress: Callable[[str], None] | None = None,
        *,
        artifacts: Iterable[Artifact | str] = USEFUL,
        style: "Style | None" = None,
        on_note: Callable[[str], None] | None = None,
    ) -> tuple[Path, ...]:
        """Write ``out/<clip name>/<label index>/`` for every label.

        Each folder appears whole or not at all, with ``info.json`` in it, and replaces an earlier run's of the same
        name. What shows several labels at once goes to one more folder, called after all of them, such as ``5+70``;
        with one label, to that label's.

        Args:
            out: the folder for all clips; made if it is missing.
            progress: called with a few words on how far it is.
            artifacts: which of these to write, any of `Artifact`; ``info.json`` is always written.
            style: colours, opacity and threshold; None for the published look.
            on_note: called with what the user should know about what was written, such as sound that had to be left
                out; it is in ``info.json``, too.

        Returns:
            The folders, in the order of the labels; last, where there is one, the folder of all of them.

        Raises:
            OutputError: a folder cannot be written, or holds files that this program did not write.
            OptionError: an artifact is unknown.
            SourceError: the clip cannot be read again, or is no longer what was explained.
        """
        from .saving import save  # late: only here pictures are needed
        from .style import Style

        return save(self, Path(out), progress or _silent, artifacts, style or Style(), on_note or _silent)

    def _repr_html_(self) -> str:
        """The small viewer that a notebook shows: the clip with the tube over it."""
        from .report import inline_html
        from .report_page import report_of
        from .style import Style

        return inline_html(report_of(self, Style()))

    def describe(self, tube: Tube) -> dict[str, Any]:
        """Everything there is to say about one of the tubes, as JSON types: the content of ``info.json``."""
        return {
            "label": asdict(self.score(tube.label)) | {"window_logits": self.window_logits[:, tube.label].tolist()},
            "tube": {
                "shape": tube.shape,
                "map_shape": tube.map.shape,
                "cells": None if tube.cells is None else asdict(tube.cells),
                "constant": tube.is_constant,
                "low": tube.low,
                "high": tube.high,
                "completeness_error": self.completeness,
            },
            **self.describe_run(),
        }

    def describe_run(self) -> dict[str, Any]:
        """What `describe` says that is the same for every tube."""
        parity = self.spec.parity
        return {
            "predicted": asdict(self.predicted),
            "top5": [asdict(score) for score in self.top()],
            "clip": asdict(self.clip) | {"path": None if self.clip.path is None else str(self.clip.path.resolve())},
            "sampling": self._describe_sampling(),
            "align": self.align,
            "time": {"counted_from": "window" if self.time_steps.slides else "clip", **self.time_steps.describe()},
            "approximate": self.spec.approximate,
            "model": asdict(self.model)
            | {
                "path": str(self.model.path.resolve()),
                "architecture": self.spec.architecture,
                "checkpoint_name": self.spec.checkpoint_name,
                "checkpoint_sha256": self.spec.checkpoint_sha256,
                "preprocessing": asdict(self.spec.preprocessing),
                "exported_with": dict(self.spec.versions),
                "parity": None if parity is None else asdict(parity),
            },
            "timings_s": asdict(self.timings),
            "notes": self.notes,
            "versions": self.model.versions,
        }

    def _describe_sampling(self) -> dict[str, Any]:
        """How the clip was sampled. Of many windows only their spans: their frames follow from the stride."""
        document: dict[str, Any] = {
            "method": self.sampling.name,
            **self.sampling.options(),
            "fit": self.fit,
            "box": asdict(self.box),
            "windows": [{"first": window.first, "last": window.last} for window in self.windows],
        }
        if self.frames is not None:
            document["frame_indices"] = self.frame_indices.tolist()
            document["timestamps_s"] = [t if np.isfinite(t) else None for t in self.timestamps.tolist()]
        return document


def _silent(_: str) -> None:
    """What is said where nobody listens."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities, float64, over the last axis."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def folder_name(clip_name: str) -> str:
    """A clip's name as the name of one folder, even for a clip called ``..mp4``."""
    return clip_name if clip_name.strip(".") else "clip"
