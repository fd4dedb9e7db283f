"""`load_model` and `TubeModel.explain`: the stages in order, nothing else."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from .activation import class_activation_map, completeness_error
from .choices import Device
from .errors import LabelError, ModelFileError, SourceError
from .explanation import ClipIdentity, Explanation, ModelIdentity, Timings
from .preprocess import crop
from .sampling import uniform
from .session import RUNTIME_VERSION, Activations, Session, open_session
from .spec import ModelSpec
from .tube import Tube, build_tube
from .video import Clip, open_clip

Label = int | str


class TubeModel:
    """An exported network that explains clips. Made by `load_model`.

    Attributes:
        path: the model file.
        spec: what the file says of itself.
        device: where it runs, ``"cpu"`` or ``"cuda"``.
        note: why ``device="auto"`` did not take CUDA, or None.
    """

    def __init__(self, path: Path, session: Session, spec: ModelSpec) -> None:
        self.path = path
        self.spec = spec
        self.device = session.device
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
        source: str | Path | NDArray[np.uint8],
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
            ModelFileError: the network gives no finite output, or ONNX Runtime fails.
        """
        wanted = self._indices(label, top_k)  # a wrong label must not cost a forward pass
        say = progress or (lambda _: None)
        started = time.perf_counter()
        clip = open_clip(source)
        say(f"decoding {clip.name}")
        indices, timestamps, frames = _read_crops(clip, self.spec)
        decoded = time.perf_counter()
        say(f"running the network on {self.device}")
        activations = self._run(frames)
        ran = time.perf_counter()
        say("building the tube")
        logits, features = activations.logits[0], activations.features[0]
        ranked = np.argsort(-logits, kind="stable")[: top_k or (0 if wanted else 1)]
        labels = list(dict.fromkeys([*wanted, *ranked.tolist()]))
        with one_blas_thread():
            maps = class_activation_map(features, self.spec.weight[labels])
            tubes = tuple(build_tube(k, raw, frames.shape[:3]) for k, raw in zip(labels, maps, strict=True))
        built = time.perf_counter()
        errors = completeness_error(maps, self.spec.bias[labels], logits[labels])
        return Explanation(
            clip=ClipIdentity(clip.name, clip.path, clip.length, hashlib.sha256(frames.data).hexdigest()),
            model=ModelIdentity(self.path, self._session.sha256, self.device, RUNTIME_VERSION),
            spec=self.spec,
            frames=frames,
            frame_indices=indices,
            timestamps=timestamps,
            logits=logits,
            tubes=tubes,
            completeness=float(errors.max() / max(float(np.abs(logits).max()), np.finfo(np.float32).tiny)),
            timings=Timings(decoded - started, ran - decoded, built - ran),
            notes=(*filter(None, [self.note]), *clip.notes, *_notes(clip, self.spec, tubes)),
        )

    def _indices(self, label: Label | Iterable[Label] | None, top_k: int) -> list[int]:
        if not 0 <= top_k <= self.spec.num_classes:
            raise LabelError(f"top_k is {top_k}: expected a number from 0 to {self.spec.num_classes}, the classes")
        if label is None:
            return []
        return [self.spec.label_index(one) for one in ([label] if isinstance(label, int | str) else label)]

    def _run(self, frames: NDArray[np.uint8]) -> Activations:
        activations = self._session.run(frames[None])
        if not (np.isfinite(activations.logits).all() and np.isfinite(activations.features).all()):
            raise ModelFileError(
                f"the network in {self.path} gave infinite or undefined (NaN) values on this clip, so there is "
                "nothing to explain: check the weights it was exported from"
            )
        return activations


def load_model(path: str | Path = "tubes.onnx", device: Device | str = Device.AUTO) -> TubeModel:
    """Load a model file that ``tubes export`` wrote.

    Args:
        path: the ONNX file.
        device: ``"auto"`` (CUDA where it loads, otherwise the CPU), ``"cpu"`` or ``"cuda"``.

    Raises:
        ModelFileError: no such file, not ONNX, not exported by us, or its metadata contradicts its graph.
        DeviceError: a device asked for by name did not load.
    """
    path = Path(path)
    return TubeModel.of(path, open_session(path, device))


def _check_graph(path: Path, session: Session, spec: ModelSpec) -> None:
    """The graph's inputs and outputs have to be the ones that the metadata promises."""
    promised = {
        "frames": spec.input_shape,
        "logits": (spec.num_classes,),
        "features": spec.features_shape,
    }
    found = {name: shape[1:] for name, shape in (session.inputs | session.outputs).items()}
    if found != promised:
        raise ModelFileError(
            f"the graph of {path} contradicts its metadata: expected {promised} for each clip, found {found}. "
            "Export the weights again with `tubes export WEIGHTS`"
        )


def _read_crops(clip: Clip, spec: ModelSpec) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]:
    """Frame indices (T,), timestamps (T,) in seconds, and crops (T, H, W, 3) uint8 RGB."""
    for _ in range(2):  # reading shows how many frames really decode: choose again where that was not known before
        length = clip.length
        indices = uniform(length, spec.frames)
        times: list[float] = []
        crops: list[NDArray[np.uint8]] = []
        for frame in clip.read(indices.tolist()):
            times.append(frame.time)
            crops.append(crop(frame.rgb, spec.preprocessing))
        if clip.length == length:
            return indices, np.array(times), np.stack(crops)
    raise SourceError(
        f"{clip.name} decodes to another number of frames each time it is read: is something still writing it? "
        "Wait until the file is complete"
    )


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep NumPy's BLAS to one thread.

    On products of a millisecond its other threads gain nothing, and then go on spinning on the cores that the network
    and the encoders need.
    """
    limit: AbstractContextManager[object] = _blas().limit(limits=1, user_api="blas")
    return limit


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _notes(clip: Clip, spec: ModelSpec, tubes: Iterable[Tube]) -> Iterator[str]:
    if clip.length < spec.frames:
        yield f"the clip has {clip.length} frames and the network takes {spec.frames}: some are repeated"
    for tube in tubes:
        if tube.is_constant:
            yield f"the map of class {tube.label} is the same everywhere: its tube is zero and points nowhere"
