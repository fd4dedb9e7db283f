"""What this machine can run models on, what would be faster, and how to get it."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from . import backend_nvidia, backend_openvino, nvidia
from .choices import Device, Layout, Precision
from .cores import usable_cores
from .session import FASTEST_FIRST, PRECISIONS
from .spec import ModelSpec

_PACKAGES = ("saliency-tubes", "onnxruntime-gpu", "onnxruntime", "openvino", "tensorrt-cu13", "torch", "numpy", "av")


@dataclass(frozen=True)
class Finding:
    """One device.

    Attributes:
        device: which.
        ready: whether a model can run there.
        precisions: what a float32 file can compute in there; empty where it is not ready.
        remark: the hardware where it is ready; otherwise why not, and what to install.
    """

    device: Device
    ready: bool
    precisions: tuple[Precision, ...]
    remark: str


@dataclass(frozen=True)
class Diagnosis:
    """What `tubes doctor` found.

    Attributes:
        findings: one for each device.
        chosen: what ``auto`` takes.
        advice: what would be faster, and the command for it.
        versions: (package, version) of what is installed.
    """

    findings: tuple[Finding, ...]
    chosen: Device
    advice: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]


def diagnose(spec: ModelSpec | None = None) -> Diagnosis:
    """Look at this machine, and at a model file's `spec` if there is one.

    For a process that opens no session afterwards; see `backend_nvidia.cuda_obstacle`.

    Args:
        spec: what the model file that is to run says of itself.
    """
    findings = (
        _finding(Device.CUDA, backend_nvidia.cuda_obstacle()),
        _finding(Device.TENSORRT, backend_nvidia.tensorrt_obstacle()),
        _finding(Device.OPENVINO, backend_openvino.obstacle()),
        _finding(Device.CPU, None),
    )
    ready = {finding.device for finding in findings if finding.ready}
    chosen = next(device for device in FASTEST_FIRST if device in ready)
    return Diagnosis(findings, chosen, tuple(_advice(findings, chosen, spec)), tuple(_versions()))


def _finding(device: Device, obstacle: str | None) -> Finding:
    if obstacle is not None:
        return Finding(device, False, (), obstacle)
    precisions = PRECISIONS[device]
    if device is Device.OPENVINO and not backend_openvino.has_bfloat16():
        precisions = tuple(precision for precision in precisions if precision is not Precision.BF16)
    hardware = nvidia.gpu_name() if device in (Device.CUDA, Device.TENSORRT) else f"{usable_cores()} cores"
    return Finding(device, True, precisions, hardware)


def _advice(findings: tuple[Finding, ...], chosen: Device, spec: ModelSpec | None) -> Iterator[str]:
    """Only what was measured to be faster; benchmarks/RESULTS.md has the figures."""
    openvino = next(finding for finding in findings if finding.device is Device.OPENVINO)
    if chosen is Device.CPU and not openvino.ready:
        yield "OpenVINO is the fastest way on a CPU: pip install 'saliency-tubes[openvino]'"
    if chosen is Device.OPENVINO and Precision.BF16 in openvino.precisions:
        yield "bfloat16 is faster still, and less exact: tubes run --precision bf16"
    if spec is None:
        return
    best = Layout.PLAIN if chosen is Device.OPENVINO else Layout.BLOCKED
    if chosen in (Device.OPENVINO, Device.CPU) and spec.layout is not best:
        yield f"this model has the layout {spec.layout}, on {chosen} {best} is faster: tubes export --layout {best}"


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
