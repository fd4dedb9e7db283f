"""Running a model file with ONNX Runtime on an NVIDIA GPU, by CUDA or TensorRT."""

import contextlib
import ctypes
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import onnxruntime as ort

from . import nvidia
from .backend_ort import CPU, LOG_NOTHING, RUNTIME, BoundBackend, OrtBackend, load, session_options
from .choices import Precision
from .errors import ModelFileError, NotLoadedError, first_line
from .file_digest import FileDigest
from .spec import stored_precision

_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_INSTALL = {
    _CUDA: "install CUDA and cuDNN beside it with: pip install 'saliency-tubes[cuda]'",
    _TENSORRT: "install TensorRT 10 for CUDA 13 beside it with: pip install 'saliency-tubes[cuda]' tensorrt-cu13",
}
_LIBRARY = {_CUDA: "libonnxruntime_providers_cuda.so", _TENSORRT: "libonnxruntime_providers_tensorrt.so"}
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")
_LARGEST_BATCH = 32  # clips in one TensorRT run; an engine is built for a range of batches


def cuda_obstacle() -> str | None:
    """Why CUDA does not work here; None when nothing speaks against it.

    For a process that opens no session afterwards: ONNX Runtime has to be the first to load its own libraries.
    """
    return nvidia.obstacle() or _built_without(_CUDA, "CUDA") or _missing_library(_CUDA)


def tensorrt_obstacle() -> str | None:
    """Why TensorRT does not work here; None when nothing speaks against it. With the same caveat."""
    return nvidia.obstacle() or _built_without(_TENSORRT, "TensorRT") or _missing_library(_TENSORRT)


def open_cuda(path: Path, precision: Precision, digest: FileDigest) -> BoundBackend:
    """Load a model file on the first NVIDIA GPU, which the driver has found.

    The search for convolution algorithms is exhaustive, once for every batch size. TF32, with a mantissa of 10 bits for
    float32's 23, is used only where `precision` is tf32: it does not keep the exported parity of 1e-4.

    Args:
        path: an ONNX file.
        precision: what float32 graphs compute in, fp32 or tf32.
        digest: the file's SHA-256, to be started here.

    Raises:
        NotLoadedError: CUDA cannot work here; the message says why, and what to install.
        ModelFileError: ONNX Runtime cannot load the file.
    """
    if (reason := _built_without(_CUDA, "CUDA")) is not None:
        raise NotLoadedError(reason)
    _preload()
    digest.start()
    provider = {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "use_tf32": str(int(precision is Precision.TF32)),
    }
    try:  # a graph of which some nodes can only run on the CPU cannot be recorded
        recorded = load(path, [(_CUDA, provider | {"enable_cuda_graph": "1"}), CPU], session_options(log=LOG_NOTHING))
        return BoundBackend(_taken(recorded, _CUDA), "cuda", graphs=True)
    except ModelFileError:
        return BoundBackend(_load_on_gpu(path, [(_CUDA, provider), CPU], _CUDA), "cuda", graphs=False)


def open_tensorrt(path: Path, digest: FileDigest) -> BoundBackend:
    """Build a TensorRT engine of a model file for the first NVIDIA GPU, or load the one that was built before.

    Engines are kept beside the model, in ``<model>.engines/<sha256>-<GPU>/``; building one takes minutes. They serve
    batches of up to 32 clips. Of a float16 file TensorRT may compute the float32 parts in halves, too: the completeness
    error of every explanation tells what that did to it.

    Args:
        path: an ONNX file.
        digest: the file's SHA-256, to be started here.

    Raises:
        NotLoadedError: TensorRT cannot work here; the message says why, and what to install.
        ModelFileError: the file cannot be loaded or read.
    """
    if (reason := _built_without(_TENSORRT, "TensorRT")) is not None:
        raise NotLoadedError(reason)
    _preload()
    digest.start()
    looks = session_options()
    looks.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = OrtBackend(load(path, [CPU], looks))
    try:
        engines = _engine_folder(path, digest.result(), nvidia.gpu_name())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    provider = _tensorrt_options(plain, engines)
    inference = _load_on_gpu(path, [(_TENSORRT, provider), _CUDA, CPU], _TENSORRT)
    return BoundBackend(inference, "cuda", graphs=False)


def _tensorrt_options(model: OrtBackend, engines: Path | None) -> dict[str, str]:
    """What TensorRT needs to know: the range of shapes, whether halves are allowed, where engines are kept."""
    sides = "x".join(str(side) for side in model.inputs["frames"][1:])
    options = {f"trt_profile_{end}_shapes": f"frames:{n}x{sides}" for end, n in
               (("min", 1), ("opt", 1), ("max", _LARGEST_BATCH))}  # fmt: skip
    options["trt_fp16_enable"] = str(int(stored_precision(model.metadata) is Precision.FP16))
    if engines is not None:
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(engines)}
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(engines)}
    return options


def _engine_folder(path: Path, sha256: str, gpu: str) -> Path | None:
    """Where the engines of a model and a GPU are kept; None where nothing can be written there."""
    folder = path.with_name(f"{path.name}.engines") / f"{sha256[:16]}-{re.sub(r'[^A-Za-z0-9]+', '-', gpu)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _load_on_gpu(path: Path, providers: list[Any], wanted: str) -> ort.InferenceSession:
    """A session of a provider. What loads on the CPU alone is no damaged file: the GPU is in the way, or its memory."""
    try:
        return _taken(load(path, providers, session_options(log=LOG_NOTHING)), wanted)
    except ModelFileError as error:
        load(path, [CPU], session_options())  # or it is the file
        raise NotLoadedError(f"the GPU did not take this model ({first_line(error.__cause__ or error)})") from error


def _taken(inference: ort.InferenceSession, provider: str) -> ort.InferenceSession:
    """ONNX Runtime falls back to the CPU by itself and only logs it: what really loaded is what it lists."""
    if provider not in inference.get_providers():
        raise NotLoadedError(_missing_library(provider) or f"{RUNTIME} did not take the GPU; {_INSTALL[provider]}")
    return inference


def _built_without(provider: str, name: str) -> str | None:
    if provider in ort.get_available_providers():
        return None
    return (
        f"this {RUNTIME} was built without {name}: pip uninstall onnxruntime, then pip install 'saliency-tubes[cuda]'"
    )


def _missing_library(provider: str) -> str | None:
    """The library that keeps a provider from loading, in the dynamic linker's words; None where all are there."""
    _preload()
    folder = Path(ort.__file__).parent / "capi"
    if not (folder / _LIBRARY[provider]).is_file():  # where libraries have other names, loading tells
        return None
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / _LIBRARY[provider]))
    except OSError as error:
        return f"{error}; {_INSTALL[provider]}"
    return None


def _preload() -> None:
    """Load CUDA, cuDNN and TensorRT out of their own packages, where that is how they were installed."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses, and stdout is for results
        ort.preload_dlls()
    package = importlib.util.find_spec("tensorrt_libs")
    for folder in [] if package is None else package.submodule_search_locations or []:
        for name in _TENSORRT_LIBRARIES:
            with contextlib.suppress(OSError):  # what is missing shows when the provider is loaded
                ctypes.CDLL(str(Path(folder) / name), mode=ctypes.RTLD_GLOBAL)
