"""Optimised graphs kept between processes, so that the next one loads its network in a fraction of the time."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .file_digest import FileDigest, external_files

VARIABLE = "SALIENCY_TUBES_CACHE"
PUBLISHER = "saliency-tubes-graph-cache"  # the name of the thread that moves an entry into place
_CONTENT = "content.json"
_KEPT = 4  # networks; each takes what its weights take in float32
_FORMAT = "2"
_ENTRY = re.compile(r"[0-9a-f]{64}")
_PARTIAL = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{12}\.partial")
_ABANDONED_SECONDS = 3600  # whoever was filling it was killed
# A file that was written this lately could be written again without its times showing it.
_SETTLED_SECONDS = 2.0

T = TypeVar("T")


class GraphCache:
    """A folder with one sub-folder, an `Entry`, for each model that was loaded lately."""

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

    def entry(self, model: Path, runtime: str) -> "Entry | None":
        """The entry of a model file under a runtime, whether it exists or not; None where the file cannot be seen.

        Args:
            model: the model file.
            runtime: name, version and settings of what optimised the graph.
        """
        try:
            state = _state(model)
        except OSError:
            return None
        key = (_FORMAT, runtime, _processor(), state)
        return Entry(self.folder / hashlib.sha256(repr(key).encode()).hexdigest(), model, state)


@dataclass(frozen=True)
class Entry:
    """What one runtime made of one model file on one kind of processor.

    It belongs to the state of that file: size, times and place on the disk, which differ after any change. Beside the
    runtime's files it holds the model's SHA-256 and the state of those files, without which it is not used. Entries
    appear whole or not at all; of two processes that write one, the first wins.

    Attributes:
        folder: where it is, or would be.
        model: the model file.
        state: that file's state.
    """

    folder: Path
    model: Path
    state: tuple[int, ...]

    def model_sha256(self) -> str | None:
        """The model file's SHA-256 if the entry is there and holds what was written into it; otherwise None."""
        try:
            content = json.loads((self.folder / _CONTENT).read_text(encoding="ascii"))
            sound = content["files"] == _states(self.folder)
            return str(content["model_sha256"]) if sound else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def used(self) -> None:
        """Note that the entry was of use."""
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def discard(self) -> None:
        """Take the entry away, first out of others' sight."""
        _retire(self.folder)

    def fill(self, build: Callable[[Path | None], T], digest: FileDigest, worth: Callable[[T], bool]) -> T:
        """Make the entry anew, beside what is returned.

        A cache that cannot be written is no error: the next process loads the model file. The files are moved into
        place on a thread of their own, and what was used least lately is dropped. A model with weights in other files
        gets no entry: the key does not know their state, and what is kept so is too large to be kept twice.

        Args:
            build: makes the result, and writes files into the empty folder it is given; None: it writes none. Where it
                fails with a folder, it is asked again without.
            digest: the model file's SHA-256.
            worth: whether the result is worth a place.
        """
        self.discard()
        staging = _partial(self.folder)
        try:
            if external_files(self.model):
                return build(None)
            staging.mkdir(parents=True)
        except OSError:
            return build(None)
        try:
            made = build(staging)
        except Exception:  # of whatever kind the runtime's are: a full disk, or a model that cannot be loaded
            shutil.rmtree(staging, ignore_errors=True)
            return build(None)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        if worth(made):
            threading.Thread(target=self._publish, args=(staging, digest), name=PUBLISHER).start()
        else:
            shutil.rmtree(staging, ignore_errors=True)
        return made

    def _publish(self, staging: Path, digest: FileDigest) -> None:
        try:
            content = {"model_sha256": digest.result(), "files": _states(staging)}
            whole = bool(content["files"])
            settled = (
                _state(self.model) == self.state and time.time_ns() - max(self.state[-2:]) > _SETTLED_SECONDS * 1e9
            )
            if whole and settled and not self.folder.exists():
                (staging / _CONTENT).write_text(json.dumps(content), encoding="ascii")
                for file in staging.iterdir():
                    _to_disk(file)
                staging.rename(self.folder)
                _drop_old(self.folder.parent)
        except OSError:  # the cache cannot be written, or the model file is gone
            pass
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _partial(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.{os.urandom(6).hex()}.partial")


def _retire(entry: Path) -> None:
    retired = _partial(entry)
    with contextlib.suppress(OSError):
        entry.rename(retired)
    shutil.rmtree(retired, ignore_errors=True)


def _drop_old(folder: Path) -> None:
    present = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [path for path in present if _ENTRY.fullmatch(path.name)][_KEPT:]:
        _retire(path)
    for path in present:
        if _PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _state(file: Path) -> tuple[int, ...]:
    """What changes with a file's content: its place on the disk, size, and times in nanoseconds."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _states(folder: Path) -> dict[str, list[int]]:
    """The states of an entry's own files, by name."""
    return {file.name: list(_state(file)) for file in folder.iterdir() if file.name != _CONTENT}


def _to_disk(file: Path) -> None:
    """A machine that loses its power must not leave a file of the right size and times without its content."""
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _processor() -> str:
    """What decides which kernels a graph is optimised for."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.node()} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"
