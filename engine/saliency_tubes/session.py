"""A loaded model: which device it runs on, and running it. What computes is behind a `Backend`."""

import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import nvidia
from .choices import Device, Precision
from .errors import DeviceError, ModelFileError, NotLoadedError, first_line
from .file_digest import FileDigest
from .graph_cache import GraphCache
from .spec import stored_precision

# What `auto` tries, the fastest first. TensorRT is left to those who ask for it: an engine takes minutes to build, and
# computes in TF32.
FASTEST_FIRST = (Device.CUDA, Device.OPENVINO, Device.CPU)
_NAMES = {Device.CUDA: "CUDA", Device.TENSORRT: "TensorRT", Device.OPENVINO: "OpenVINO", Device.CPU: "the CPU"}
_NVIDIA = (Device.CUDA, Device.TENSORRT)
_ARM = ("arm64", "aarch64")  # processors for which ONNX Runtime has kernels of float16
# What a float32 file may compute in, by device; the first is what it does when nothing is asked for.
PRECISIONS = {
    Device.CPU: (Precision.FP32,),
    Device.OPENVINO: (Precision.FP32, Precision.BF16),
    Device.CUDA: (Precision.FP32, Precision.TF32),
    Device.TENSORRT: (Precision.TF32,),
}


@dataclass(frozen=True, eq=False)
class Activations:
    """What the graph computes for a batch of clips.

    Attributes:
        logits: (N, K) float32, before any softmax.
        features: (N, C, t, h, w) float32, what the network averages before its classifier.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Backend(Protocol):
    """A model file loaded by a runtime.

    Attributes:
        runtime: the runtime's name and version.
        metadata: the ONNX file's metadata.
        inputs: shapes of the graph's inputs by name; a dynamic dimension is a string or None.
        outputs: shapes of the graph's outputs by name.
    """

    runtime: str

    @property
    def metadata(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def inputs(self) -> Mapping[str, tuple[int | str | None, ...]]: ...  # noqa: D102

    @property
    def outputs(self) -> Mapping[str, tuple[int | str | None, ...]]: ...  # noqa: D102

    def run(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, C, t, h, w) of frames (N, T, H, W, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class Session:
    """One loaded model file on one device. Made by `open_session`.

    Attributes:
        backend: what computes.
        device: where.
        precision: what a float32 file computes in there.
        streams: how many runs at once the CPU's cores are shared out to.
        note: why `auto` did not take a faster device, or None.
        digest: the file's SHA-256.
    """

    backend: Backend
    device: Device
    precision: Precision
    streams: int
    note: str | None
    digest: FileDigest

    @property
    def on_cpu(self) -> bool:
        """Whether the cores that decode and write are the ones that compute."""
        return self.device in (Device.CPU, Device.OPENVINO)

    @property
    def runtime(self) -> str:
        """Name and version of what computes."""
        return self.backend.runtime

    @property
    def metadata(self) -> Mapping[str, str]:
        """The ONNX file's metadata."""
        return self.backend.metadata

    @property
    def inputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shapes of the graph's inputs by name; a dynamic dimension is a string or None."""
        return dict(self.backend.inputs)

    @property
    def outputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shapes of the graph's outputs by name; a dynamic dimension is a string or None."""
        return dict(self.backend.outputs)

    def run(self, frames: NDArray[np.uint8]) -> Activations:
        """Run the network on a batch of clips.

        Args:
            frames: (N, T, H, W, 3) uint8 RGB, with the model's own T, H and W.

        Raises:
            ModelFileError: the runtime refused the input or failed while computing.
        """
        try:
            logits, features = self.backend.run(frames)
        except Exception as error:  # the runtimes' exceptions share no public base class
            raise ModelFileError(
                f"{self.runtime} could not run this model on {self.device} with frames of shape {frames.shape} "
                f"{frames.dtype}: {first_line(error)}"
            ) from error
        return Activations(logits=logits, features=features)


def open_session(
    path: Path,
    device: Device | str = Device.AUTO,
    precision: Precision | str | None = None,
    cache: GraphCache | None = None,
    streams: int = 1,
    digest: FileDigest | None = None,
) -> Session:
    """Load a model file on a device.

    Args:
        path: an ONNX file.
        device: one of `Device`; ``"auto"`` takes the first that loads of CUDA, OpenVINO and ONNX Runtime on the CPU. A
            device asked for by name never falls back to another.
        precision: what float32 files compute in; None for float32, where the device has it. See `Precision`.
        cache: where to look for, and keep, the graph as optimised for the CPU. None: optimise it anew.
        streams: how many runs at once the CPU's cores are shared out to; 1 for the lowest latency.
        digest: the file's SHA-256, where another session of it has that already.

    Raises:
        ModelFileError: no such file, not ONNX, or the runtime cannot load it.
        DeviceError: the device or the precision is unknown, did not load, or is not to be had there.
    """
    wanted, asked = _device(device), _precision(precision)
    if not path.is_file():
        raise ModelFileError(
            f"no model file at {path}: make one with `tubes export WEIGHTS --output {path}`, "
            "or name another with --model"
        )
    how = _How(asked, cache, streams, digest or FileDigest(path))
    if wanted is not Device.AUTO:
        try:
            return _open(path, wanted, how, None)
        except NotLoadedError as obstacle:
            raise DeviceError(f"{_NAMES[wanted]} did not load: {obstacle}. `--device cpu` needs none of this") from None
    return _open_fastest(path, how)


def import_backend(device: Device) -> None:
    """Import what `open_session` will import first, so that a thread can do the rest beside other imports."""
    if device is Device.AUTO:
        device = next(one for one in FASTEST_FIRST if installed(one) and not (one in _NVIDIA and nvidia.obstacle()))
    backend = {Device.OPENVINO: ".backend_openvino", Device.CPU: ".backend_ort"}.get(device, ".backend_nvidia")
    module = import_module(backend, __package__)
    if device is Device.OPENVINO:
        module.obstacle()  # imports the runtime itself; what is wrong with it, `open_session` says


def installed(device: Device) -> bool:
    """Whether what a device needs is there at all, so that it is worth a word where it does not load."""
    return device is not Device.OPENVINO or importlib.util.find_spec("openvino") is not None


@dataclass(frozen=True, eq=False)
class _How:
    """What `open_session` was asked for, beside the device."""

    precision: Precision | None
    cache: GraphCache | None
    streams: int
    digest: FileDigest


def _open_fastest(path: Path, how: _How) -> Session:
    obstacles: list[str] = []
    for device in FASTEST_FIRST:
        if not installed(device) or how.precision not in (None, *PRECISIONS[device], Precision.FP16):
            continue
        note = f"running on {_NAMES[device]}: {'; '.join(obstacles)}" if obstacles else None
        try:
            return _open(path, device, how, note)
        except NotLoadedError as obstacle:
            obstacles.append(str(obstacle))
    reason = "; ".join(obstacles) or f"what computes in {how.precision} is not installed"
    raise DeviceError(f"no device here computes in {how.precision} ({reason}): leave --precision out")


def _open(path: Path, device: Device, how: _How, note: str | None) -> Session:
    precision = PRECISIONS[device][0] if how.precision in (None, Precision.FP16) else how.precision
    if precision not in PRECISIONS[device]:
        known = " or ".join(PRECISIONS[device])
        raise DeviceError(f"{_NAMES[device]} computes in {known}, not in {precision}: leave --precision out")
    backend = _load(path, device, precision, how)
    agreed = _agreed(path, device, backend, precision, how.precision)
    return Session(backend, device, agreed, how.streams, note, how.digest)


def _load(path: Path, device: Device, precision: Precision, how: _How) -> Backend:
    """What computes; a runtime is imported only where it is asked for."""
    if device is Device.OPENVINO:
        from .backend_openvino import open_openvino

        return open_openvino(path, precision, how.cache, how.digest, how.streams)
    if device is Device.CPU:
        from .backend_ort import open_cpu

        return open_cpu(path, how.cache, how.digest, how.streams)
    if (reason := nvidia.obstacle()) is not None:  # asked before ONNX Runtime is imported
        raise NotLoadedError(reason)
    from .backend_nvidia import open_cuda, open_tensorrt

    return open_cuda(path, precision, how.digest) if device is Device.CUDA else open_tensorrt(path, how.digest)


def _agreed(path: Path, device: Device, backend: Backend, precision: Precision, asked: Precision | None) -> Precision:
    """What is computed in: float16 files leave no choice, and are float32 where the device has no halves."""
    stored = stored_precision(backend.metadata)
    if asked is not None and (stored is Precision.FP16) != (asked is Precision.FP16):
        raise DeviceError(
            f"{path} was exported in {stored}, so it cannot run in {asked}: leave --precision out, or export the "
            f"weights again with `tubes export --precision {'fp16' if asked is Precision.FP16 else 'fp32'}`"
        )
    if stored is not Precision.FP16:
        return precision
    halves = device in _NVIDIA or (device is Device.CPU and platform.machine() in _ARM)
    return Precision.FP16 if halves else Precision.FP32


def _device(name: Device | str) -> Device:
    try:
        return Device(name)
    except ValueError as error:
        raise DeviceError(f"no device is called {name!r}: choose one of {', '.join(Device)}") from error


def _precision(name: Precision | str | None) -> Precision | None:
    try:
        return None if name is None else Precision(name)
    except ValueError as error:
        raise DeviceError(f"no precision is called {name!r}: choose one of {', '.join(Precision)}") from error
