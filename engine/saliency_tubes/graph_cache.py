"""Optimised graphs kept between processes, so that the next one loads its network in a quarter of the time."""

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
_KEPT = 4  # networks; each takes what its model file takes
_FORMAT = "1"
_ORIGIN = "origin.sha256"
_PARTIAL = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{12}\.partial")
_ABANDONED_SECONDS = 3600  # whoever was filling it was killed


class GraphCache:
    """A folder with one sub-folder for each model file that was loaded lately.

    An entry belongs to one path, size and time of a model file, one version of the runtime and one kind of processor:
    an optimised graph is made for all of these. It also names the SHA-256 of the file it was made from, and is used
    only if that is still the file's. Entries appear whole or not at all; of two processes that write one, either wins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls) -> "GraphCache | None":
        """The user's own: ``$SALIENCY_TUBES_CACHE``, or the system's place for caches.

        None where the variable is empty, or there is no such place.
        """
        chosen = os.environ.get(VARIABLE)
        if chosen is not None:
            return cls(Path(chosen)) if chosen else None
        by_system = {"Windows": os.environ.get("LOCALAPPDATA", ""), "Darwin": "~/Library/Caches"}
        home = by_system.get(platform.system(), os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        try:
            folder = Path(home).expanduser() / "saliency-tubes"
        except RuntimeError:  # a user without a home
            return None
        return cls(folder) if folder.is_absolute() else None  # never in the working folder

    def entry(self, model: Path, runtime: str) -> Path:
        """The folder of a model file under a version of the runtime, whether it exists or not."""
        status = model.stat()
        key = (_FORMAT, runtime, _processor(), model.resolve(), status.st_size, status.st_mtime_ns)
        return self.folder / hashlib.sha256(repr(key).encode("utf-8", errors="surrogateescape")).hexdigest()

    def origin(self, entry: Path) -> str | None:
        """The SHA-256 of the model file that an entry was made from; None where there is no entry."""
        try:
            return (entry / _ORIGIN).read_text(encoding="ascii")
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def filling(self, entry: Path) -> Iterator[Path]:
        """An empty folder to write an entry into and to `publish`; gone afterwards if it was not.

        Raises:
            OSError: the folder cannot be made.
        """
        staging = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:12]}.partial")
        staging.mkdir(parents=True)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, staging: Path, entry: Path, origin: str) -> None:
        """Move a filled folder into place, and drop the entries that were used least lately.

        A cache that cannot be written is no error: the next process loads the model file.
        """
        with contextlib.suppress(OSError):
            (staging / _ORIGIN).write_text(origin, encoding="ascii")
            shutil.rmtree(entry, ignore_errors=True)
            staging.rename(entry)
            self._drop_old()

    def used(self, entry: Path) -> None:
        """Note that an entry was of use."""
        with contextlib.suppress(OSError):
            os.utime(entry)

    def _drop_old(self) -> None:
        entries = [path for path in self.folder.iterdir() if (path / _ORIGIN).is_file()]
        entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        abandoned = [
            path
            for path in self.folder.glob("*.partial")
            if _PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
        ]
        for path in entries[_KEPT:] + abandoned:
            shutil.rmtree(path, ignore_errors=True)


def _processor() -> str:
    """What decides which kernels a graph is optimised for."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.node()} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"
