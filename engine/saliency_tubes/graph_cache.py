"""Optimised graphs kept between processes, so that the next one loads its network in a fraction of the time."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "SALIENCY_TUBES_CACHE"
GRAPH, WEIGHTS = "graph.onnx", "graph.bin"
_CONTENT = "content.sha256"
_KEPT = 4  # networks; each takes what its model file takes
_FORMAT = "1"
_ENTRY = re.compile(r"[0-9a-f]{64}")
_PARTIAL = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{12}\.partial")
_ABANDONED_SECONDS = 3600  # whoever was filling it was killed


class GraphCache:
    """A folder with one sub-folder, an *entry*, for each model that was loaded lately.

    An entry belongs to the content of a model file, a version of the runtime and a kind of processor: an optimised
    graph is made for all of these. It holds the graph, its weights, and the SHA-256 of both, without which it is not
    used. Entries appear whole or not at all; of two processes that write one, the first wins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls) -> "GraphCache | None":
        """The user's own: ``$SALIENCY_TUBES_CACHE``, or the system's place for caches.

        None where the variable is empty, or there is no such place.
        """
        by_system = {"Windows": os.environ.get("LOCALAPPDATA", ""), "Darwin": "~/Library/Caches"}
        home = by_system.get(platform.system(), os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        chosen = os.environ.get(VARIABLE, str(Path(home) / "saliency-tubes"))
        try:
            folder = Path(chosen).expanduser()
        except RuntimeError:  # a user without a home
            return None
        return cls(folder) if folder.is_absolute() else None  # never in the working folder

    def entry(self, model_sha256: str, runtime: str) -> Path:
        """The folder of a model under a version of the runtime, whether it exists or not."""
        key = (_FORMAT, runtime, _processor(), model_sha256)
        return self.folder / hashlib.sha256(repr(key).encode()).hexdigest()

    def holds(self, entry: Path) -> bool:
        """Whether there is such an entry, as far as one may look."""
        try:
            return entry.is_dir()
        except OSError:
            return False

    def is_sound(self, entry: Path) -> bool:
        """Whether an entry holds what was written into it."""
        try:
            return (entry / _CONTENT).read_text(encoding="ascii") == _content(entry)
        except (OSError, ValueError):
            return False

    def used(self, entry: Path) -> None:
        """Note that an entry was of use."""
        with contextlib.suppress(OSError):
            os.utime(entry)

    def discard(self, entry: Path) -> None:
        """Take an entry away, first out of others' sight."""
        retired = _partial(entry)
        with contextlib.suppress(OSError):
            entry.rename(retired)
        shutil.rmtree(retired, ignore_errors=True)

    @contextlib.contextmanager
    def filling(self, entry: Path) -> Iterator[Path]:
        """An empty folder to write an entry into and to `publish`; gone afterwards if it was not.

        Raises:
            OSError: the folder cannot be made.
        """
        staging = _partial(entry)
        staging.mkdir(parents=True)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, staging: Path, entry: Path) -> None:
        """Move a filled folder into place, unless another process was first, and drop what was used least lately.

        A cache that cannot be written is no error: the next process loads the model file.
        """
        with contextlib.suppress(OSError):
            (staging / _CONTENT).write_text(_content(staging), encoding="ascii")
            staging.rename(entry)
            self._drop_old()

    def _drop_old(self) -> None:
        present = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in [path for path in present if _ENTRY.fullmatch(path.name)][_KEPT:]:
            self.discard(path)
        for path in present:
            if _PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _partial(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:12]}.partial")


def _content(folder: Path) -> str:
    """The SHA-256 of the graph's, then of the weights' own."""
    return " ".join(file_sha256(folder / name) for name in (GRAPH, WEIGHTS))


def _processor() -> str:
    """What decides which kernels a graph is optimised for."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.node()} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"
