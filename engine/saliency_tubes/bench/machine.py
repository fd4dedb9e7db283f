"""Where and with what a measurement was made."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..cores import usable_cores

# Several distributions may provide one library; the first that is installed counts.
_DISTRIBUTIONS = {
    "saliency-tubes": ("saliency-tubes",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "opencv": ("opencv-python", "opencv-python-headless"),
    "av": ("av",),
}
_GPU_SECONDS = 20  # a driver that has to wake up takes some


@dataclass(frozen=True)
class Machine:
    """The machine and the libraries.

    Attributes:
        cpu: the processor's name.
        cores: how many this process may use.
        gpu: name and driver of each NVIDIA GPU; None where none is found.
        memory_gib: physical memory; 0 where the system does not say.
        system: operating system and kernel.
        python: the interpreter.
        versions: of the libraries that are installed, by name; not all of them take part in every measurement.
        load: the system's load average over the last minute, before the measurement; 0 where it does not say.
    """

    cpu: str
    cores: int
    gpu: str | None
    memory_gib: float
    system: str
    python: str
    versions: dict[str, str]
    load: float

    def lines(self) -> tuple[str, ...]:
        """A few lines for people."""
        gpu = "" if self.gpu is None else f"{self.gpu}, "
        return (
            f"machine   {self.cpu}, {self.cores} cores, {gpu}{self.memory_gib:.0f} GiB, {self.system}, "
            f"load {self.load:.2f}",
            f"versions  Python {self.python}, " + ", ".join(f"{k} {v}" for k, v in self.versions.items()),
        )


def describe() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_cpu(),
        cores=usable_cores(),
        gpu=_gpu(),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: found for name, names in _DISTRIBUTIONS.items() if (found := _version(names))},
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
    )


def _cpu() -> str:
    """The processor by its name where there is one, and by the numbers that tell models apart where that is vague."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def _gpu() -> str | None:
    """What NVIDIA's own tool says, one GPU after the other."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = [" driver ".join(line.split(", ")) for line in done.stdout.splitlines()]
    return ", ".join(found) if done.returncode == 0 and found else None


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return 0.0


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
