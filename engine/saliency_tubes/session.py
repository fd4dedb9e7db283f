"""Running a model file: the only module that imports ONNX Runtime."""

import contextlib
import ctypes
import io
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .choices import Device
from .errors import DeviceError, ModelFileError
from .graph_cache import GRAPH, WEIGHTS, GraphCache, file_sha256
from .spec import SCHEMA_KEY

RUNTIME_VERSION: str = ort.__version__
# Warnings and below stay out of the user's terminal: what matters is raised or noted by this module.
_LOG_ERRORS_ONLY = 3
_LOG_NOTHING = 4
_CPU = ["CPUExecutionProvider"]
_CUDA_MEND = "install CUDA and cuDNN beside it with: pip install 'saliency-tubes[cuda]'"


@dataclass(frozen=True, eq=False)
class Activations:
    """What the graph computes for a batch of clips.

    Attributes:
        logits: (N, K) float32, before any softmax.
        features: (N, C, t, h, w) float32, what the network averages before its classifier.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Session:
    """One loaded model file on one device. Made by `open_session`."""

    def __init__(self, inference: ort.InferenceSession, sha256: str, device: Device, note: str | None) -> None:
        self._inference = inference
        self.sha256 = sha256
        self.device = device
        self.note = note
        self.metadata: Mapping[str, str] = inference.get_modelmeta().custom_metadata_map

    @property
    def inputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shapes of the graph's inputs by name; a dynamic dimension is a string or None."""
        return {node.name: tuple(node.shape) for node in self._inference.get_inputs()}

    @property
    def outputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shapes of the graph's outputs by name; a dynamic dimension is a string or None."""
        return {node.name: tuple(node.shape) for node in self._inference.get_outputs()}

    def run(self, frames: NDArray[np.uint8]) -> Activations:
        """Run the network on a batch of clips.

        Args:
            frames: (N, T, H, W, 3) uint8 RGB, with the model's own T, H and W.

        Raises:
            ModelFileError: ONNX Runtime refused the input or failed while computing.
        """
        try:
            logits, features = self._inference.run(["logits", "features"], {"frames": frames})
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise ModelFileError(
                f"ONNX Runtime could not run this model on {self.device} with frames of shape {frames.shape} "
                f"{frames.dtype}: {_first_line(error)}"
            ) from error
        return Activations(logits=logits, features=features)


def open_session(
    path: Path,
    device: Device | str = Device.AUTO,
    cache: GraphCache | None = None,
    digest: Future[str] | None = None,
) -> Session:
    """Load a model file on a device.

    Args:
        path: an ONNX file.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA where it loads, otherwise the CPU. A device asked for
            by name never falls back to another.
        cache: where to look for, and keep, the graph as optimised for the CPU. None: optimise it anew.
        digest: the file's SHA-256, where somebody is computing it already.

    Raises:
        ModelFileError: no such file, not ONNX, or ONNX Runtime cannot load it.
        DeviceError: the named device is unknown or did not load.
    """
    try:
        wanted = Device(device)
    except ValueError as error:
        raise DeviceError(f"no device is called {device!r}: choose one of {', '.join(Device)}") from error
    if not path.is_file():
        raise ModelFileError(
            f"no model file at {path}: make one with `tubes export WEIGHTS --output {path}`, "
            "or name another with --model"
        )
    with ThreadPoolExecutor(1) as pool:  # hashed on another core while the session is made
        digest = digest or pool.submit(file_sha256, path)
        obstacle = None
        if wanted is not Device.CPU:
            inference, obstacle = _load_cuda(path)
            if inference is not None:
                return Session(inference, digest.result(), Device.CUDA, None)
            if wanted is Device.CUDA:
                raise DeviceError(f"CUDA did not load: {obstacle}. `--device cpu` needs none of this")
        note = None if obstacle is None else f"running on the CPU: {obstacle}"
        return Session(_load_cpu(path, cache, digest, pool), digest.result(), Device.CPU, note)


def _load_cuda(path: Path) -> tuple[ort.InferenceSession | None, str | None]:
    """The session on CUDA, or what kept it from loading."""
    obstacle = _cuda_obstacle()
    if obstacle is not None:
        return None, obstacle
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses, and stdout is for results
        ort.preload_dlls()
    # ONNX Runtime falls back to the CPU by itself and only logs it: what really loaded is what it lists.
    inference = _load(path, ["CUDAExecutionProvider", "CPUExecutionProvider"], ort.SessionOptions())
    return (inference, None) if "CUDAExecutionProvider" in inference.get_providers() else (None, _missing_library())


def _load_cpu(
    path: Path, cache: GraphCache | None, digest: Future[str], pool: ThreadPoolExecutor
) -> ort.InferenceSession:
    try:
        entry = None if cache is None else cache.entry(digest.result(), RUNTIME_VERSION)
    except OSError:  # the model file cannot be read: loading it says so
        entry = None
    if cache is None or entry is None:
        return _load(path, _CPU, ort.SessionOptions())
    if cache.holds(entry):
        if (kept := _load_kept(cache, entry, pool)) is not None:
            return kept
        cache.discard(entry)
    try:
        with cache.filling(entry) as staging:
            options = ort.SessionOptions()
            options.optimized_model_filepath = str(staging / GRAPH)
            # Beside the graph, weights are mapped into memory instead of parsed and copied.
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
            inference = _load(path, _CPU, options)
            if SCHEMA_KEY in inference.get_modelmeta().custom_metadata_map:  # others are refused: not worth a place
                cache.publish(staging, entry)
            return inference
    except (OSError, ModelFileError):  # either the cache cannot be written or the model cannot be loaded: see which
        return _load(path, _CPU, ort.SessionOptions())


def _load_kept(cache: GraphCache, entry: Path, pool: ThreadPoolExecutor) -> ort.InferenceSession | None:
    """The session of a kept graph; None where the entry is damaged, which is found out beside the loading."""
    sound = pool.submit(cache.is_sound, entry)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        inference = _load(entry / GRAPH, _CPU, options)
    except ModelFileError:
        return None
    if not sound.result():
        return None
    cache.used(entry)
    return inference


def _load(path: Path, providers: list[str], options: ort.SessionOptions) -> ort.InferenceSession:
    # Spinning between the operators of a run is worth its while; after the run the files are written on these cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = _LOG_NOTHING if "CUDAExecutionProvider" in providers else _LOG_ERRORS_ONLY
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ModelFileError(
            f"{path} is not a model that ONNX Runtime {RUNTIME_VERSION} can load ({_first_line(error)}): "
            "expected an ONNX file that `tubes export WEIGHTS` wrote"
        ) from error


def _cuda_obstacle() -> str | None:
    """Why CUDA cannot work here, found before ONNX Runtime is asked; None when nothing speaks against it."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return (
            f"this onnxruntime {RUNTIME_VERSION} was built without CUDA: "
            "pip uninstall onnxruntime, then pip install 'saliency-tubes[cuda]'"
        )
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return f"no NVIDIA driver on this machine ({driver} was not found)"
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no GPU on this machine"
    return None


def _missing_library() -> str:
    """The library that kept ONNX Runtime's CUDA provider from loading, in the dynamic linker's words."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        if sys.platform != "win32":
            ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return f"{error}; {_CUDA_MEND}"
    return f"ONNX Runtime {RUNTIME_VERSION} did not take the GPU; {_CUDA_MEND}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
