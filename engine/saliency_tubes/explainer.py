"""From what a network sees to explanations: the stages network, class activation and tube."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .activation import completeness_error, relative_completeness
from .blas import one_blas_thread
from .cells import Cells
from .choices import Align, SamplingName
from .crops import Crops
from .errors import ModelFileError, SaliencyTubesError
from .explanation import ClipIdentity, Explanation, ModelIdentity, Timings
from .session import Activations, Session
from .spec import ModelSpec
from .survey import Surveyor
from .tube import Tube, build_tubes, merged_tube
from .video import Clip
from .view import View


class Explainer:
    """An open session, and what it takes to make explanations of what it computes."""

    def __init__(self, path: Path, session: Session, spec: ModelSpec) -> None:
        self._path, self._session, self._spec = path, session, spec

    def explain(
        self, session: Session, batch: Sequence[Crops], views: Sequence[View]
    ) -> list[Explanation | SaliencyTubesError]:
        """The explanations of a batch of clips of one window each, or why there is none.

        Args:
            session: what runs them.
            batch: the clips.
            views: how each of them is looked at, aligned alike.
        """
        started = time.perf_counter()
        activations = session.run(batch[0].frames[None] if len(batch) == 1 else np.stack([c.frames for c in batch]))
        ran = time.perf_counter()
        finite = _finite(activations)
        good = [(crops, view) for crops, view, fine in zip(batch, views, finite, strict=True) if fine]
        logits, features = (a if finite.all() else a[finite] for a in (activations.logits, activations.features))
        labels = [view.wanted.labels(row) for (_, view), row in zip(good, logits, strict=True)]
        cells = self._cells(views[0].align)
        tubes = self._tubes(features, labels, batch[0].frames.shape[:3], cells) if good else []
        network, built = ((b - a) / len(batch) for a, b in ((started, ran), (ran, time.perf_counter())))
        explained = (
            self._of_window(crops, view, row, *of_clip, Timings(crops.seconds, network, built))
            for (crops, view), row, of_clip in zip(good, logits, tubes, strict=True)
        )
        return [next(explained) if fine else self._overflow() for fine in finite]

    def activations(self, frames: NDArray[np.uint8]) -> Activations:
        """What the network computes for crops, (N, T, H, W, 3) uint8 RGB.

        Raises:
            ModelFileError: the network gives no finite output, or the runtime fails.
        """
        activations = self._session.run(frames)
        if not _finite(activations).all():
            raise self._overflow()
        return activations

    def survey(self, clip: Clip, view: View, batch: int, progress: Callable[[str], None]) -> Explanation:
        """The explanation of a whole video, window by window.

        Raises:
            SourceError: the clip cannot be decoded.
            ModelFileError: the network gives no finite output, or the runtime fails.
        """
        found = Surveyor(clip, self._spec, view, self.activations, batch, progress).survey()
        progress("building the tubes")
        started = time.perf_counter()
        size_hw, cells = self._spec.preprocessing.crop_hw, self._cells(view.align)
        with one_blas_thread():
            tubes = tuple(
                merged_tube(label, found.windows, maps, clip.length, size_hw, cells, self._spec.approximate is not None)
                for label, maps in zip(found.labels, found.maps, strict=True)
            )
        built = time.perf_counter() - started
        explained = Explanation(
            clip=ClipIdentity(clip.name, clip.path, clip.length, found.size_wh, found.sha256),
            model=self.identity,
            spec=self._spec,
            sampling=view.sampling,
            fit=view.fit,
            align=view.align,
            windows=found.windows,
            window_logits=found.logits,
            logits=found.logits.mean(axis=0),
            tubes=tubes,
            frame_indices=np.arange(clip.length),
            timestamps=found.timestamps,
            frames=None,
            completeness=found.completeness,
            timings=Timings(found.reading, found.network, built),
            notes=(),
            source=clip,
        )
        return replace(explained, notes=tuple(self._notes(explained, view)))

    def _tubes(
        self,
        features: NDArray[np.float32],
        labels: list[list[int]],
        shape: tuple[int, int, int],
        cells: Cells | None,
    ) -> list[tuple[tuple[Tube, ...], NDArray[np.float32]]]:
        """The tubes of each clip's labels, and what they leave out of the logits, by one set of products for all."""
        most = max(map(len, labels))
        padded = [row + row[:1] * (most - len(row)) for row in labels]  # the products want as many for each clip
        with one_blas_thread():
            found = self._spec.head.maps(features, np.array(padded, dtype=np.intp))
            maps = found.maps.reshape(-1, *found.maps.shape[2:])
            flat = build_tubes(
                [k for row in padded for k in row], maps, shape, cells, self._spec.approximate is not None
            )
        return [
            (flat[i * most : i * most + len(row)], bias[: len(row)])
            for i, (row, bias) in enumerate(zip(labels, found.bias, strict=True))
        ]

    def _cells(self, align: Align) -> Cells | None:
        """Where the cells of one window lie; None for corner-aligned."""
        if align is Align.CORNERS:
            return None
        spec = self._spec
        return Cells.of_equal_shares(spec.features_shape[1:], spec.input_shape[:3])

    def _of_window(
        self,
        crops: Crops,
        view: View,
        logits: NDArray[np.float32],
        tubes: tuple[Tube, ...],
        bias: NDArray[np.float32],
        timings: Timings,
    ) -> Explanation:
        labels = [tube.label for tube in tubes]
        errors = completeness_error(np.stack([tube.map for tube in tubes]), bias, logits[labels])
        clip = crops.clip
        digest = hashlib.sha256(crops.frames.data).hexdigest()
        explained = Explanation(
            clip=ClipIdentity(clip.name, clip.path, clip.length, crops.size_wh, digest),
            model=self.identity,
            spec=self._spec,
            sampling=view.sampling,
            fit=view.fit,
            align=view.align,
            windows=(crops.window,),
            window_logits=logits[None],
            logits=logits,
            tubes=tubes,
            frame_indices=np.array(crops.window.indices, dtype=np.int64),
            timestamps=crops.timestamps,
            frames=crops.frames,
            completeness=relative_completeness([errors], logits),
            timings=timings,
            notes=(),
            source=clip,
        )
        return replace(explained, notes=tuple(self._notes(explained, view)))

    def _notes(self, explained: Explanation, view: View) -> Iterator[str]:
        clip = explained.source
        if explained.approximation is not None:
            yield explained.approximation.note
        if self._session.note is not None:
            yield self._session.note
        yield from clip.notes
        frames, stride = self._spec.frames, view.sampling.stride
        if clip.length < frames:
            count = "one frame" if clip.length == 1 else f"{clip.length} frames"
            yield f"the clip has {count} and the network takes {frames}: some are repeated"
        elif view.sampling.name is SamplingName.DENSE and clip.length < (frames - 1) * stride + 1:
            yield (
                f"the clip has {clip.length} frames, fewer than a window of {frames} at stride {stride}: one window "
                f"covers all of it, its frames {(clip.length - 1) / (frames - 1):.1f} apart"
            )
        if explained.time_steps.note is not None:
            yield explained.time_steps.note
        for index, times in Counter(view.wanted.indices).items():
            if times > 1:
                yield f"class {index} was asked for {times} times: it is explained once"
        for tube in explained.tubes:
            if tube.is_constant:
                yield f"the map of class {tube.label} is the same everywhere: its tube is zero and points nowhere"

    @property
    def identity(self) -> ModelIdentity:
        """Which model file this is, where it runs, in which precision, and what computes it."""
        session = self._session
        return ModelIdentity(self._path, self.sha256, session.device, session.precision, session.runtime)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the model file, in hexadecimal.

        Raises:
            ModelFileError: it cannot be read any more.
        """
        try:
            return self._session.digest.result()
        except OSError as error:
            raise ModelFileError(f"{self._path} cannot be read any more ({error.strerror}): was it moved?") from error

    def _overflow(self) -> ModelFileError:
        return ModelFileError(
            f"the network in {self._path} gave infinite or undefined (NaN) values on this clip, so there is "
            "nothing to explain: check the weights it was exported from"
        )


def _finite(activations: Activations) -> NDArray[np.bool_]:
    """(N,) whether a clip's outputs are all finite."""
    finite = np.isfinite(activations.logits).all(axis=1) & np.isfinite(activations.features).all(axis=(1, 2, 3, 4))
    return np.asarray(finite)
