"""`load_model`, `TubeModel.explain` and `explain_many`: the stages in order, nothing else."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from .choices import USEFUL, Align, Artifact, Device, Fit, Precision, SamplingName, choice, parse_artifacts
from .cores import usable_cores
from .crops import Crops, read_crops
from .errors import LabelError, ModelFileError, OptionError, OutputError, SaliencyTubesError
from .explainer import Explainer
from .explanation import Explanation, ModelIdentity, folder_name
from .pipeline import Stages, overlapped
from .sampling import Sampling
from .session import Activations, Session, open_session
from .spec import ModelSpec
from .video import Clip, clip_name, open_clip
from .view import View, Wanted

Label = int | np.integer | str
Source = str | Path | NDArray[np.uint8] | Clip
R = TypeVar("R")
# Batches gain nothing on a CPU, whose cores one clip keeps busy; how many clips fill a GPU has not been measured.
_GPU_BATCH = 8
_MOST_STREAMS = 4  # each holds the activations of a clip; more cores than this share a stream


@dataclass(frozen=True, eq=False)
class Job:
    """One clip of many, and what to explain in it.

    Attributes:
        source: a clip as `TubeModel.explain` takes it.
        label: a class index or name, or several; None for the predicted class, or the `top_k` highest.
    """

    source: Source
    label: Label | Iterable[Label] | None = None


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
        self._explainer = Explainer(path, session, spec)

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
        sampling: Sampling | SamplingName | str | None = None,
        fit: Fit | str = Fit.SQUASH_CROP,
        align: Align | str = Align.CENTERS,
        progress: Callable[[str], None] | None = None,
    ) -> Explanation:
        """Explain a clip: one saliency tube for every label.

        Args:
            source: a video or GIF file, a folder of frames, or a (T, H, W, 3) uint8 RGB array.
            label: a class index or name, or several. None, with no `top_k`: the predicted class.
            top_k: also explain this many of the highest classes.
            sampling: ``"uniform"``, ``"stepped"``, ``"dense"``, or a `Sampling` with options of its own; None for what
                the model file says. Uniform and stepped are one forward pass; dense slides over the whole video, in
                memory that hardly grows with its length.
            fit: ``"squash-crop"``, as the published script does; ``"short-side"``, with the aspect kept, or
                ``"whole"``, so that nothing of the frame is cut off.
            align: where the map's cells lie in the clip: ``"centers"``, each in the middle of its equal share;
                ``"corners"``, the first and last at the edges, as the published scripts upsample them.
            progress: called with a few words before each stage.

        Raises:
            SourceError: the clip cannot be read.
            LabelError: a label is out of range, or a name is unknown.
            OptionError: another option has a value that means nothing.
            ModelFileError: the network gives no finite output, or the runtime fails.
        """
        view = self._view(label, top_k, sampling, fit, align)  # a wrong label must not cost a forward pass
        say = progress or (lambda _: None)
        clip = open_clip(source)
        if view.sampling.name is SamplingName.DENSE:
            return self._survey(clip, view, say)
        say(f"decoding {clip.name}")
        crops = read_crops(clip, self.spec, view.sampling, view.fit)
        say(f"running the network on {self.device}")
        (explanation,) = self._explainer.explain(self._session, [crops], [view])
        if isinstance(explanation, SaliencyTubesError):
            raise explanation
        return explanation

    def explain_many(
        self,
        sources: Iterable[Source],
        label: Label | Iterable[Label] | None = None,
        *,
        top_k: int = 0,
        sampling: Sampling | SamplingName | str | None = None,
        fit: Fit | str = Fit.SQUASH_CROP,
        align: Align | str = Align.CENTERS,
        batch: int | None = None,
        out: str | Path | None = None,
        artifacts: Iterable[Artifact | str] = USEFUL,
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
            sampling: as for `explain`.
            fit: as for `explain`.
            align: as for `explain`.
            batch: how many clips the network takes at once; None for what suits the device.
            out: save each explanation into this folder before it is handed out; None to save nothing.
            artifacts: what to save, as for `Explanation.save`.
            on_error: called with a clip that cannot be explained and the reason, where that clip's turn is; the others
                go on. None: the reason is raised there.

        Returns:
            An iterator over one `Explanation` for each clip. While it runs it raises `SourceError`, `ModelFileError`
            and `OutputError` as `explain` and `save` do; an `OutputError`, too, where two clips have one name.

        Raises:
            LabelError: a label is out of range, or a name is unknown.
            OptionError: another option has a value that means nothing.
        """
        chosen = parse_artifacts(artifacts)
        wanted = label if label is None or isinstance(label, int | np.integer | str) else tuple(label)
        self._view(wanted, top_k, sampling, fit, align)
        repeated = WeakSet[Job]()

        def finish(job: Job, explanation: Explanation) -> Explanation:
            if out is not None and job in repeated:
                raise OutputError(
                    f"a second clip is called {explanation.clip.name}, and would replace the first in {out}: rename "
                    "it, or explain it into another folder"
                )
            if out is not None:
                explanation.save(out, artifacts=chosen)
            return explanation

        jobs = _noting_repeats((Job(source, wanted) for source in sources), repeated)
        results = self.explain_jobs(jobs, finish, top_k=top_k, sampling=sampling, fit=fit, align=align, batch=batch)
        return _raising(results, on_error)

    def explain_jobs(
        self,
        jobs: Iterable[Job],
        finish: Callable[[Job, Explanation], R],
        *,
        top_k: int = 0,
        sampling: Sampling | SamplingName | str | None = None,
        fit: Fit | str = Fit.SQUASH_CROP,
        align: Align | str = Align.CENTERS,
        batch: int | None = None,
    ) -> Generator[tuple[Job, R | SaliencyTubesError]]:
        """Explain many clips, each with labels of its own; what `explain_many` does, for those who keep the results.

        Args:
            jobs: what to explain, read only as far as there is room.
            finish: what is made of each explanation, on a thread of its own; an error that it raises is the job's.
            top_k: as for `explain`.
            sampling: as for `explain`.
            fit: as for `explain`.
            align: as for `explain`.
            batch: how many clips the network takes at once; None for what suits the device.

        Returns:
            An iterator over every job, in order, with what `finish` made of it or with why there is nothing.

        Raises:
            OptionError: an option has a value that means nothing.
        """
        self._view(None, top_k, sampling, fit, align)
        size = batch if batch is not None else 1 if self._session.on_cpu else _GPU_BATCH
        if size < 1:
            raise OptionError(f"batch is {size}: expected a whole number of at least 1")
        dense = self._sampling(sampling).name is SamplingName.DENSE
        session = self._session if dense else self._throughput_session

        def read(job: Job) -> tuple[Job, View, Crops | Clip]:
            view = self._view(job.label, top_k, sampling, fit, align)
            clip = open_clip(job.source, threads=0 if dense else 1)  # other clips have the other cores
            return job, view, clip if dense else read_crops(clip, self.spec, view.sampling, view.fit)

        def explain(
            inputs: Sequence[tuple[Job, View, Crops | Clip]],
        ) -> list[tuple[Job, Explanation] | SaliencyTubesError]:
            jobs, views, clips = zip(*inputs, strict=True)
            results = (
                [self._survey(clip, view, lambda _: None) for clip, view in zip(clips, views, strict=True)]
                if dense
                else self._explainer.explain(session, clips, views)
            )
            return [
                one if isinstance(one, SaliencyTubesError) else (job, one)
                for job, one in zip(jobs, results, strict=True)
            ]

        stages = Stages(read, explain, lambda pair: finish(*pair))
        streams = 1 if dense else session.streams
        return overlapped(jobs, stages, batch=1 if dense else size, streams=streams, workers=usable_cores())

    def activations(self, frames: NDArray[np.uint8]) -> Activations:
        """What the network computes for clips that are in its own form already: for metrics, and for maps of one's own.

        Args:
            frames: (N, T, H, W, 3) uint8 RGB, such as `Explanation.frames`, with T, H and W those of
                `ModelSpec.input_shape`; N at least 1. All run at once, so N decides how much memory it takes.

        Returns:
            ``logits`` (N, K) and ``features`` (N, C, t, h, w), float32.

        Raises:
            OptionError: the frames have another shape or type.
            ModelFileError: the network gives no finite output, or the runtime fails.
        """
        shape = self.spec.input_shape
        if frames.dtype != np.uint8 or frames.shape[1:] != shape or not len(frames):
            raise OptionError(
                f"expected clips of this model's shape, (N, {', '.join(map(str, shape))}) uint8, got {frames.shape} "
                f"{frames.dtype}: `explain` takes clips of any shape, and keeps what the network saw of them"
            )
        return self._explainer.activations(frames)

    @property
    def sha256(self) -> str:
        """SHA-256 of the model file, in hexadecimal."""
        return self._explainer.sha256

    @property
    def identity(self) -> ModelIdentity:
        """Which model file this is, where it runs, in which precision, and what computes it."""
        return self._explainer.identity

    @property
    def on_cpu(self) -> bool:
        """Whether the cores that decode and write are the ones that compute."""
        return self._session.on_cpu

    def _survey(self, clip: Clip, view: View, progress: Callable[[str], None]) -> Explanation:
        return self._explainer.survey(clip, view, 1 if self._session.on_cpu else _GPU_BATCH, progress)

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

    def _view(
        self,
        label: Label | Iterable[Label] | None,
        top_k: int,
        sampling: Sampling | SamplingName | str | None,
        fit: Fit | str,
        align: Align | str,
    ) -> View:
        if not 0 <= top_k <= self.spec.num_classes:
            raise LabelError(f"top_k is {top_k}: expected a number from 0 to {self.spec.num_classes}, the classes")
        several = [] if label is None else [label] if isinstance(label, int | np.integer | str) else label
        indices = tuple(self.spec.label_index(one) for one in several)
        return View(
            self._sampling(sampling),
            choice(Fit, "fit", fit),
            Wanted(indices, top_k),
            choice(Align, "alignment", align),
        )

    def _sampling(self, sampling: Sampling | SamplingName | str | None) -> Sampling:
        if isinstance(sampling, Sampling):
            return sampling
        return Sampling(choice(SamplingName, "sampling", self.spec.sampling if sampling is None else sampling))


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


def _noting_repeats(jobs: Iterable[Job], repeated: WeakSet[Job]) -> Iterator[Job]:
    """The jobs; those whose clip is called as one before it are noted in `repeated`."""
    names: set[str] = set()
    for job in jobs:
        try:
            name = folder_name(clip_name(job.source)).casefold()  # as file systems may
        except OSError:  # reading it says what is wrong
            name = ""
        if name in names:
            repeated.add(job)
        names.update([name] if name else [])
        yield job


def _raising(
    results: Generator[tuple[Job, Explanation | SaliencyTubesError]],
    on_error: Callable[[Source, SaliencyTubesError], None] | None,
) -> Iterator[Explanation]:
    """The explanations among the results; errors go to `on_error`, or are raised."""
    with closing(results):
        for job, result in results:
            if not isinstance(result, SaliencyTubesError):
                yield result
            elif on_error is None:
                raise result
            else:
                on_error(job.source, result)
