"""Where and with what a measurement was made."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

# Several distributions may provide one library; the first that is installed counts.
_DISTRIBUTIONS = {
    "saliency-tubes": ("saliency-tubes",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "torch": ("torch",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "opencv": ("opencv-python", "opencv-python-headless"),
    "av": ("av",),
}


@dataclass(frozen=True)
class Machine:
    """The machine, the libraries and the commit.

    Attributes:
        cpu: the processor's name.
        cores: how many this process may use.
        memory_gib: physical memory; 0 where the system does not say.
        system: operating system and kernel.
        python: the interpreter.
        torch_threads: PyTorch's own choice.
        versions: of the libraries, by name.
        commit: Git commit of the repository; None outside of one.
        dirty: whether there are changes beside that commit.
        load: the system's load average over the last minute, before the measurement.
    """

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    torch_threads: int
    versions: dict[str, str]
    commit: str | None
    dirty: bool
    load: float

    def lines(self) -> tuple[str, ...]:
        """A few lines for people."""
        commit = "unknown" if self.commit is None else self.commit[:12] + (" with local changes" if self.dirty else "")
        return (
            f"machine   {self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}, load {self.load:.2f}",
            f"versions  Python {self.python}, " + ", ".join(f"{k} {v}" for k, v in self.versions.items()),
            f"commit    {commit}",
        )


def describe(root: Path) -> Machine:
    """Describe this machine and the repository at `root`."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch_threads=torch.get_num_threads(),
        versions={name: found for name, names in _DISTRIBUTIONS.items() if (found := _version(names))},
        commit=_git(root, "rev-parse", "HEAD"),
        dirty=bool(_git(root, "status", "--porcelain")),
        load=os.getloadavg()[0],
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


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return 0.0


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
