"""`load_model`, `TubeModel.explain` and `explain_many`: the stages in order, nothing else."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .activation import class_activation_map, completeness_error
from .blas import one_blas_thread
from .choices import Device, Precision
from .cores import usable_cores
from .crops import Crops, read_crops
from .errors import LabelError, ModelFileError, OutputError, SaliencyTubesError
from .explanation import ClipIdentity, Explanation, ModelIdentity, Timings, folder_name
from .pipeline import Stages, overlapped
from .session import Activations, Session, open_session
from .spec import ModelSpec
from .tube import Tube, build_tubes
from .video import Clip, clip_name, open_clip

Label = int | str
Source = str | Path | NDArray[np.uint8] | Clip
# Batches gain nothing on a CPU, whose cores one clip keeps busy; how many clips fill a GPU has not been measured.
_GPU_BATCH = 8
_MOST_STREAMS = 4  # each holds the activations of a clip; more cores than this share a stream


class TubeModel:
    """An exported network that explains clips. Made by `load_model`.

    Attributes:
        path: the model file.
        spec: what the file says of itself.
        device: where it runs.
        precision: what it computes in.
        note: why ``device="auto"`` did not take a faster device, or None.
    """

    def __init__(self, path: Path, session: Session, spec: ModelSpec) -> None:
        self.path = path
        self.spec = spec
        self.device = session.device
        self.precision = session.precision
        self.note = session.note
        self._session = session

    @classmethod
    def of(cls, path: Path, session: Session) -> "TubeModel":
        """The model of an open session.

        Raises:
            ModelFileError: not exported by us, or its metadata contradicts its graph.
        """
        spec = ModelSpec.from_metadata(session.metadata)
        _check_graph(path, session, spec)
        return cls(path, session, spec)

    def explain(
        self,
        source: Source,
        label: Label | Iterable[Label] | None = None,
        *,
        top_k: int = 0,
        progress: Callable[[str], None] | None = None,
    ) -> Explanation:
        """Explain a clip: one forward pass, and one saliency tube for every label.

        Args:
            source: a video or GIF file, a folder of frames, or a (T, H, W, 3) uint8 RGB array.
            label: a class index or name, or several. None, with no `top_k`: the predicted class.
            top_k: also explain this many of the highest classes.
            progress: called with a few words before each stage.

        Raises:
            SourceError: the clip cannot be read.
            LabelError: a label is out of range, or a name is unknown.
            ModelFileError: the network gives no finite output, or the runtime fails.
        """
        wanted = self._indices(label, top_k)  # a wrong label must not cost a forward pass
        say = progress or (lambda _: None)
        clip = open_clip(source)
        say(f"decoding {clip.name}")
        crops = read_crops(clip, self.spec)
        say(f"running the network on {self.device}")
        activations, seconds = self._run(self._session, [crops])
        say("building the tube")
        (explanation,) = self._build([crops], activations, seconds, wanted, top_k)
        if isinstance(explanation, SaliencyTubesError):
            raise explanation
        return explanation

    def explain_many(
        self,
        sources: Iterable[Source],
        label: Label | Iterable[Label] | None = None,
        *,
        top_k: int = 0,
        batch: int | None = None,
        out: str | Path | None = None,
        on_error: Callable[[Source, SaliencyTubesError], None] | None = None,
    ) -> Iterator[Explanation]:
        """Explain many clips, in their order, with decoding, network, tubes and files of different clips overlapping.

        A few clips are ahead of the one that is handed out, never more: memory does not grow with their number, and
        `sources` may be a generator. On a CPU several clips run side by side, on a core or more each; on a GPU they run
        in batches.

        Args:
            sources: clips as `explain` takes them.
            label: the class or classes to explain in all of them, as for `explain`.
            top_k: also explain this many of each clip's highest classes.
            batch: how many clips the network takes at once; None for what suits the device.
            out: save each explanation into this folder before it is handed out; None to save nothing.
            on_error: called with a clip that cannot be explained and the reason, where that clip's turn is; the others
                go on. None: the reason is raised there.

        Returns:
            An iterator over one `Explanation` for each clip. While it runs it raises `SourceError`, `ModelFileError`
            and `OutputError` as `explain` and `save` do; an `OutputError`, too, where two clips have one name.

        Raises:
            LabelError: a label is out of range, or a name is unknown.
            ValueError: `batch` is below 1.
        """
        wanted = self._indices(label, top_k)
        size = batch if batch is not None else 1 if self._session.on_cpu else _GPU_BATCH
        if size < 1:
            raise ValueError(f"batch is {size}: expected at least 1")
        session = self._throughput_session

        def read(numbered: tuple[Source, bool]) -> Crops:
            source, repeated = numbered
            if repeated and out is not None:
                raise OutputError(
                    f"a second clip is called {clip_name(source)}, and would replace the first in {out}: rename it, or "
                    "explain it into another folder"
                )
            clip = open_clip(source, threads=1)  # other clips have the other cores
            return read_crops(clip, self.spec)

        def explain(batch: Sequence[Crops]) -> list[Explanation | SaliencyTubesError]:
            return self._build(batch, *self._run(session, batch), wanted, top_k)

        def finish(explanation: Explanation) -> Explanation:
            if out is not None:
                explanation.save(out)
            return explanation

        stages = Stages[tuple[Source, bool], Crops, Explanation](read, explain, finish)
        workers = usable_cores()
        results = overlapped(_with_repeats(sources), stages, batch=size, streams=session.streams, workers=workers)
        return _raising(results, on_error)

    @cached_property
    def _throughput_session(self) -> Session:
        """A session that shares the cores out to several clips at once; on a GPU, the one there is."""
        streams = min(usable_cores(), _MOST_STREAMS)
        if not self._session.on_cpu or streams == 1:
            return self._session
        asked = None if self.spec.precision is Precision.FP16 else self.precision
        session = open_session(self.path, self.device, asked, streams=streams, digest=self._session.digest)
        if session.metadata != self._session.metadata:
            raise ModelFileError(f"{self.path} has changed since it was loaded: load it again")
        return session

    def _indices(self, label: Label | Iterable[Label] | None, top_k: int) -> list[int]:
        if not 0 <= top_k <= self.spec.num_classes:
            raise LabelError(f"top_k is {top_k}: expected a number from 0 to {self.spec.num_classes}, the classes")
        if label is None:
            return []
        return [self.spec.label_index(one) for one in ([label] if isinstance(label, int | str) else label)]

    @staticmethod
    def _run(session: Session, batch: Sequence[Crops]) -> tuple[Activations, float]:
        """What the network computes for a batch, and how many seconds it took for each clip."""
        started = time.perf_counter()
        frames = batch[0].frames[None] if len(batch) == 1 else np.stack([crops.frames for crops in batch])
        activations = session.run(frames)
        return activations, (time.perf_counter() - started) / len(batch)

    def _build(
        self, batch: Sequence[Crops], activations: Activations, seconds: float, wanted: list[int], top_k: int
    ) -> list[Explanation | SaliencyTubesError]:
        """The explanations of a batch, or why there is none; their tubes come from one set of matrix products."""
        started = time.perf_counter()
        logits, features = activations.logits, activations.features
        finite = np.asarray(np.isfinite(logits).all(axis=1) & np.isfinite(features).all(axis=(1, 2, 3, 4)))
        if not finite.all():
            logits, features = logits[finite], features[finite]
        ranked = np.argsort(-logits, axis=1, kind="stable")[:, : top_k or (0 if wanted else 1)]
        labels = [list(dict.fromkeys([*wanted, *row])) for row in ranked.tolist()]
        tubes = self._tubes(features, labels, batch[0].frames.shape[:3]) if labels else []
        built = (time.perf_counter() - started) / len(batch)
        parts = zip(logits, tubes, strict=True)
        return [
            self._explanation(crops, *next(parts), Timings(crops.seconds, seconds, built)) if good else self._overflow()
            for crops, good in zip(batch, finite.tolist(), strict=True)
        ]

    def _tubes(
        self, features: NDArray[np.float32], labels: list[list[int]], shape: tuple[int, int, int]
    ) -> list[tuple[Tube, ...]]:
        """The tubes of each clip's labels, (N, C, t, h, w) features in hand."""
        most = max(map(len, labels))
        padded = [row + row[:1] * (most - len(row)) for row in labels]  # the products want as many for each clip
        with one_blas_thread():
            maps = class_activation_map(features, self.spec.weight[np.array(padded, dtype=np.intp)])
            flat = build_tubes([k for row in padded for k in row], maps.reshape(-1, *maps.shape[2:]), shape)
        return [flat[i * most : i * most + len(row)] for i, row in enumerate(labels)]

    def _overflow(self) -> ModelFileError:
        return ModelFileError(
            f"the network in {self.path} gave infinite or undefined (NaN) values on this clip, so there is "
            "nothing to explain: check the weights it was exported from"
        )

    def _explanation(
        self,
        crops: Crops,
        logits: NDArray[np.float32],
        tubes: tuple[Tube, ...],
        timings: Timings,
    ) -> Explanation:
        labels = [tube.label for tube in tubes]
        errors = completeness_error(np.stack([tube.map for tube in tubes]), self.spec.bias[labels], logits[labels])
        clip = crops.clip
        return Explanation(
            clip=ClipIdentity(clip.name, clip.path, clip.length, hashlib.sha256(crops.frames.data).hexdigest()),
            model=ModelIdentity(self.path, self._sha256, self.device, self.precision, self._session.runtime),
            spec=self.spec,
            frames=crops.frames,
            frame_indices=crops.indices,
            timestamps=crops.timestamps,
            logits=logits,
            tubes=tubes,
            completeness=float(errors.max() / max(float(np.abs(logits).max()), np.finfo(np.float32).tiny)),
            timings=timings,
            notes=(*filter(None, [self.note]), *clip.notes, *_notes(clip, self.spec, tubes)),
        )

    @cached_property
    def _sha256(self) -> str:
        try:
            return self._session.digest.result()
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be read any more ({error.strerror}): was it moved?") from error


def load_model(
    path: str | Path = "tubes.onnx", device: Device | str = Device.AUTO, precision: Precision | str | None = None
) -> TubeModel:
    """Load a model file that ``tubes export`` wrote.

    Args:
        path: the ONNX file.
        device: ``"auto"`` takes the first that loads of CUDA, OpenVINO (where it is installed) and the CPU. A device
            asked for by name, ``"cpu"``, ``"cuda"``, ``"openvino"`` or ``"tensorrt"``, never falls back to another.
        precision: what a float32 file computes in: None for float32, ``"bf16"`` with OpenVINO, ``"tf32"`` on NVIDIA
            GPUs.

    Raises:
        ModelFileError: no such file, not ONNX, not exported by us, or its metadata contradicts its graph.
        DeviceError: a device asked for by name did not load, or does not have that precision.
    """
    path = Path(path)
    return TubeModel.of(path, open_session(path, device, precision))


def _check_graph(path: Path, session: Session, spec: ModelSpec) -> None:
    """The graph's inputs and outputs have to be the ones that the metadata promises."""
    promised = {
        "frames": spec.input_shape,
        "logits": (spec.num_classes,),
        "features": spec.features_shape,
    }
    found = {name: shape[1:] for name, shape in {**session.inputs, **session.outputs}.items()}
    if found != promised:
        raise ModelFileError(
            f"the graph of {path} contradicts its metadata: expected {promised} for each clip, found {found}. "
            "Export the weights again with `tubes export WEIGHTS`"
        )


def _with_repeats(sources: Iterable[Source]) -> Iterator[tuple[Source, bool]]:
    """Each source, and whether one before it has the same name."""
    names: set[str] = set()
    for source in sources:
        try:
            name = folder_name(clip_name(source)).casefold()  # as file systems may
        except OSError:  # reading it says what is wrong
            name = ""
        yield source, name in names
        names.update([name] if name else [])


def _raising(
    results: Generator[tuple[tuple[Source, bool], Explanation | SaliencyTubesError]],
    on_error: Callable[[Source, SaliencyTubesError], None] | None,
) -> Iterator[Explanation]:
    """The explanations among the results; errors go to `on_error`, or are raised."""
    with closing(results):
        for (source, _), result in results:
            if not isinstance(result, SaliencyTubesError):
                yield result
            elif on_error is None:
                raise result
            else:
                on_error(source, result)


def _notes(clip: Clip, spec: ModelSpec, tubes: Iterable[Tube]) -> Iterator[str]:
    if clip.length < spec.frames:
        yield f"the clip has {clip.length} frames and the network takes {spec.frames}: some are repeated"
    for tube in tubes:
        if tube.is_constant:
            yield f"the map of class {tube.label} is the same everywhere: its tube is zero and points nowhere"
