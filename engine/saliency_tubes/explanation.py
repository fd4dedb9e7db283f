"""What a user holds after a run: the prediction, one tube for every label, and `save`."""

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from . import render, writers
from ._opencv import cv2
from ._version import __version__
from .choices import Artifact, Device, Precision
from .errors import OutputError
from .spec import ModelSpec
from .tube import Tube

# The animations keep the clip's own pace within these bounds, and this one where the pace is unknown.
_FASTEST_SECONDS, _SLOWEST_SECONDS, _UNKNOWN_SECONDS = 1 / 30, 0.5, 1 / 8
_TOP = 5
_HEATMAPS = {Artifact.HEATMAP, Artifact.OVERLAY, Artifact.GIF}  # what is made of heatmaps


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each stage of `TubeModel.explain`."""

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


@dataclass(frozen=True)
class ClipIdentity:
    """Which clip was explained.

    `name` is the clip's file or folder name, `path` is None for an array, `length` counts its frames, and
    `input_sha256` is the SHA-256 of the uint8 pixels that the network saw.
    """

    name: str
    path: Path | None
    length: int
    input_sha256: str


@dataclass(frozen=True)
class ModelIdentity:
    """Which model file explained it, on which device, in which precision, and what computed it, with its version."""

    path: Path
    sha256: str
    device: Device
    precision: Precision
    runtime: str


@dataclass(frozen=True, eq=False)
class Explanation:
    """A clip explained by a model.

    Attributes:
        clip: which clip.
        model: which model file, and the device it ran on.
        spec: what the model file says of itself.
        frames: (T, H, W, 3) uint8 RGB, the crops that the network saw.
        frame_indices: (T,) int64, their places in the clip.
        timestamps: (T,) float64, their seconds after the clip's first frame; NaN where the source has no times.
        logits: (K,) float32.
        tubes: one `Tube` for every label that was asked for, in that order.
        completeness: largest ``|mean(map) + bias - logit|`` over these labels, relative to the largest logit.
        timings: seconds of each stage.
        notes: what the user should know about this run: a damaged video, repeated frames, a device fallback.
    """

    clip: ClipIdentity
    model: ModelIdentity
    spec: ModelSpec
    frames: NDArray[np.uint8]
    frame_indices: NDArray[np.int64]
    timestamps: NDArray[np.float64]
    logits: NDArray[np.float32]
    tubes: tuple[Tube, ...]
    completeness: float
    timings: Timings
    notes: tuple[str, ...]

    @property
    def tube(self) -> Tube:
        """The tube of the first label."""
        return self.tubes[0]

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(K,) float64 softmax of the logits."""
        exponentials = np.exp(self.logits.astype(np.float64) - self.logits.max())
        probabilities: NDArray[np.float64] = exponentials / exponentials.sum()
        return probabilities

    @property
    def predicted(self) -> Score:
        """The class with the highest logit."""
        return self.top(1)[0]

    def top(self, count: int = _TOP) -> tuple[Score, ...]:
        """The `count` highest classes, best first; of equal ones the lower index first."""
        order = np.argsort(-self.logits, kind="stable")[:count]
        return tuple(self.score(int(index)) for index in order)

    def score(self, index: int) -> Score:
        """Name, logit and probability of class `index`."""
        return Score(index, self.spec.label_name(index), float(self.logits[index]), float(self.probabilities[index]))

    @property
    def seconds_per_frame(self) -> float:
        """How long an animation shows each frame: the clip's own pace, within what the eye can follow."""
        step = (self.timestamps[-1] - self.timestamps[0]) / max(1, len(self.timestamps) - 1)
        known = np.isfinite(step) and step > 0
        return float(np.clip(step, _FASTEST_SECONDS, _SLOWEST_SECONDS)) if known else _UNKNOWN_SECONDS

    def save(
        self,
        out: str | Path = "visualisations",
        progress: Callable[[str], None] | None = None,
        *,
        artifacts: Iterable[Artifact | str] = tuple(Artifact),
    ) -> tuple[Path, ...]:
        """Write ``out/<clip name>/<label index>/`` for every label.

        Each folder holds ``heatmap/NNN.png``, ``focusmap/NNN.png``, ``overlay.gif``, ``overlay.mp4``, ``tube.npz`` and
        ``info.json``, and appears whole or not at all. An earlier run's folder of the same name is replaced.

        Args:
            out: the folder for all clips; made if it is missing.
            progress: called with a few words before each label is written.
            artifacts: which of these to write, any of `Artifact`; ``info.json`` is always written.

        Returns:
            The folders, in the order of the labels.

        Raises:
            OutputError: a folder cannot be written, or holds files that this program did not write; an artifact is
                unknown.
        """
        chosen = _artifacts(artifacts)
        folders = []
        for tube in self.tubes:
            folder = Path(out) / folder_name(self.clip.name) / str(tube.label)
            if progress is not None:
                progress(f"writing {folder}")
            with writers.replacing_folder(folder) as staging:
                self._write(staging, tube, chosen)
            folders.append(folder)
        return tuple(folders)

    def _write(self, folder: Path, tube: Tube, chosen: frozenset[Artifact]) -> None:
        started = time.perf_counter()
        pace = self.seconds_per_frame
        jobs: list[Callable[[], Path]] = []  # the slowest first
        if chosen & _HEATMAPS:
            heatmaps = render.heatmap(tube.values, self.frames)
        if Artifact.GIF in chosen:
            jobs.append(partial(writers.write_gif, folder / "overlay.gif", heatmaps, pace))
        if Artifact.OVERLAY in chosen:
            jobs.append(partial(writers.write_mp4, folder / "overlay.mp4", heatmaps, pace))
        if Artifact.NPZ in chosen:
            jobs.append(partial(self._write_npz, folder / "tube.npz", tube))
        if Artifact.FOCUSMAP in chosen:
            jobs += writers.png_jobs(folder / "focusmap", render.focusmap(tube.values, self.frames))
        if Artifact.HEATMAP in chosen:
            jobs += writers.png_jobs(folder / "heatmap", heatmaps)
        rendered = time.perf_counter()
        files = writers.write_all(jobs)
        info = self.describe(tube)
        info["timings_s"] |= {"render": rendered - started, "write": time.perf_counter() - rendered}
        files.append(folder / writers.INFO_FILE)
        info["files"] = sorted(file.relative_to(folder).as_posix() for file in files)
        writers.write_json(folder / writers.INFO_FILE, info)

    def _write_npz(self, path: Path, tube: Tube) -> Path:
        score = self.score(tube.label)
        return writers.write_npz(
            path,
            map=tube.map,
            tube=tube.values,
            frame_indices=self.frame_indices,
            timestamps=self.timestamps,
            label=np.int64(tube.label),
            logit=np.float32(score.logit),
            probability=np.float64(score.probability),
        )

    def describe(self, tube: Tube) -> dict[str, Any]:
        """Everything there is to say about one of the tubes, as JSON types: the content of ``info.json``."""
        parity = self.spec.parity
        return {
            "label": asdict(self.score(tube.label)),
            "predicted": asdict(self.predicted),
            "top5": [asdict(score) for score in self.top()],
            "tube": {
                "shape": tube.values.shape,
                "map_shape": tube.map.shape,
                "constant": tube.is_constant,
                "low": tube.low,
                "high": tube.high,
                "completeness_error": self.completeness,
            },
            "clip": asdict(self.clip) | {"path": None if self.clip.path is None else str(self.clip.path.resolve())},
            "sampling": {
                "method": self.spec.sampling,
                "frame_indices": self.frame_indices.tolist(),
                "timestamps_s": [t if np.isfinite(t) else None for t in self.timestamps.tolist()],
            },
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
            "versions": {
                "saliency_tubes": __version__,
                **dict([self.model.runtime.split(" ", 1)]),
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                "av": av.__version__,
                "python": platform.python_version(),
            },
        }


def _artifacts(names: Iterable[Artifact | str]) -> frozenset[Artifact]:
    names = list(names)
    try:
        return frozenset(map(Artifact, names))
    except ValueError as error:
        raise OutputError(f"cannot write {', '.join(names)}: choose among {', '.join(Artifact)}") from error


def folder_name(clip_name: str) -> str:
    """A clip's name as the name of one folder, even for a clip called ``..mp4``."""
    return clip_name if clip_name.strip(".") else "clip"
