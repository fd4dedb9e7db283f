"""Running a model file with OpenVINO: the only module that imports it."""

import contextlib
import importlib.metadata
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .choices import Precision
from .errors import DeviceError, ModelFileError, NotLoadedError
from .file_digest import FileDigest
from .graph_cache import Entry, GraphCache
from .spec import SCHEMA_KEY

_INSTALL = "pip install 'saliency-tubes[openvino]'"
_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}
_TELEMETRY = "openvino_telemetry"
_METADATA = "framework"  # where OpenVINO keeps the metadata of an ONNX file


def obstacle() -> str | None:
    """Why OpenVINO does not load here; None where it does."""
    try:
        _core()
    except NotLoadedError as error:
        return str(error)
    return None


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; where it does not, OpenVINO takes float32 and does not say so."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoBackend:
    """A model file compiled by OpenVINO for the CPU, in float32 or bfloat16.

    Attributes:
        runtime: name and version.
        metadata: the ONNX file's metadata.
        inputs: shapes of the graph's inputs by name; a dynamic dimension is None.
        outputs: shapes of the graph's outputs by name.
    """

    def __init__(self, compiled: Any, metadata: dict[str, str], streams: int) -> None:
        self.runtime = _runtime()
        self.metadata = metadata
        self.inputs = {port.any_name: _shape(port) for port in compiled.inputs}
        self.outputs = {port.any_name: _shape(port) for port in compiled.outputs}
        self._requests = queue.SimpleQueue[Any]()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())

    def run(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and features; as many threads as there are streams may call it at once."""
        request = self._requests.get()
        try:
            found = request.infer({"frames": frames})
            return found["logits"], found["features"]
        finally:
            self._requests.put(request)


def open_openvino(
    path: Path, precision: Precision, cache: GraphCache | None, digest: FileDigest, streams: int
) -> OpenVinoBackend:
    """Compile a model file.

    Args:
        path: an ONNX file.
        precision: what to compute in, fp32 or bf16.
        cache: where to look for, and keep, the compiled network. None: compile it anew.
        digest: the file's SHA-256, to be started or told here.
        streams: how many runs at once the cores are shared out to; 1 for the lowest latency.

    Raises:
        NotLoadedError: OpenVINO is not installed, or does not load.
        DeviceError: this processor cannot compute in `precision`.
        ModelFileError: OpenVINO cannot load the file.
    """
    core = _core()
    if precision is Precision.BF16 and not has_bfloat16():
        raise DeviceError(
            "this processor has no bfloat16 arithmetic (AVX-512 BF16 or AMX), so OpenVINO would compute in float32: "
            "leave --precision out"
        )
    settings = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "NUM_STREAMS": str(streams)}
    entry = None if cache is None else cache.entry(path, f"{_runtime()} {settings}")
    try:
        model = _read(path)
        compiled = _compile(core, model, settings, entry, digest)
    except Exception as error:  # OpenVINO raises its own exceptions, and RuntimeError
        raise ModelFileError(
            f"{path} is not a model that {_runtime()} can load ({_reason(error)}): "
            "expected an ONNX file that `tubes export WEIGHTS` wrote"
        ) from error
    return OpenVinoBackend(compiled, _metadata(model), streams)


def _compile(core: Any, model: Any, settings: dict[str, str], entry: Entry | None, digest: FileDigest) -> Any:
    """The compiled model: out of `entry` where that is sound, otherwise made and kept there."""

    def build(folder: Path | None) -> Any:
        return core.compile_model(model, "CPU", settings if folder is None else settings | {"CACHE_DIR": str(folder)})

    if entry is not None and (sha256 := entry.model_sha256()) is not None:
        with contextlib.suppress(RuntimeError):  # made anew below
            compiled = build(entry.folder)
            digest.known(sha256)
            entry.used()
            return compiled
    digest.start()
    if entry is None:
        return build(None)
    return entry.fill(build, digest, worth=lambda _: SCHEMA_KEY in _metadata(model))


def _core() -> Any:
    try:
        with _unreported():
            import openvino
    except ImportError as error:
        missing = getattr(error, "name", None) == "openvino"
        raise NotLoadedError(
            f"the package openvino is not installed: {_INSTALL}" if missing else f"{error}; {_INSTALL}"
        ) from error
    return openvino.Core()


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """Keep OpenVINO from reporting its import to its makers: it does without where its telemetry is not installed."""
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # what Python looks at first
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


def _read(path: Path) -> Any:
    """The file as OpenVINO's model; through its ONNX reader by name, or it tries others on whatever the file is."""
    from openvino.frontend import FrontEndManager

    reader = FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    if not model.inputs:
        raise ValueError("it holds no network")
    return model


def _metadata(model: Any) -> dict[str, str]:
    if _METADATA not in model.get_rt_info():
        return {}
    return {str(name): str(model.get_rt_info([_METADATA, name]).value) for name in model.get_rt_info()[_METADATA]}


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(None if side.is_dynamic else int(side.get_length()) for side in port.partial_shape)


def _runtime() -> str:
    return f"openvino {importlib.metadata.version('openvino')}"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
