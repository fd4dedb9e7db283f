"""The output folder: what in it is ours, and whose turn it is to write."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import OutputError

RESULTS = "results.jsonl"
PAGE = "index.html"
THUMBNAILS = "gallery"
LOCK = ".lock"
RESERVED = (RESULTS, PAGE, THUMBNAILS, LOCK)
# What these files begin with, if they are ours.
RESULTS_SIGNATURE = '{"schema": "saliency-tubes/results/1", '
PAGE_SIGNATURE = '<!doctype html>\n<html lang="en">\n<meta name="generator" content="saliency-tubes batch">\n'


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Have an output folder for oneself; it, an empty record and a folder for thumbnails are made where missing.

    The lock is the operating system's, on an open file: it ends with the process, however that ends. The empty file
    stays. On file systems without locks there is none.

    Raises:
        OutputError: another process has it, or something in the folder is not ours.
    """
    try:
        _refuse_foreign(out)
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("ab")
        (out / RESULTS).open("ab").close()  # first: it says whose the folder for thumbnails is
        (out / THUMBNAILS).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out}: {error.strerror or error}. Check the path and its permissions, or choose another "
            "--out"
        ) from error
    with file:
        if not _lock(file):
            raise OutputError(f"another `tubes batch` is writing to {out}: wait for it, or choose another --out")
        yield


def _refuse_foreign(out: Path) -> None:
    """Leave alone what others wrote under the names that we use."""
    theirs = [out / PAGE] if not _begins(out / PAGE, PAGE_SIGNATURE) else []
    if not _begins(out / RESULTS, RESULTS_SIGNATURE):
        theirs.append(out / RESULTS)
    elif (out / THUMBNAILS).exists() and not (out / RESULTS).exists():
        theirs.append(out / THUMBNAILS)
    if theirs:
        raise OutputError(
            f"{theirs[0]} is there and was not written by this version of `tubes batch`: move it, or choose another "
            "--out"
        )


def _begins(path: Path, signature: str) -> bool:
    """Whether a file begins like this, as far as it goes; one that does not exist does."""
    try:
        with path.open("rb") as file:
            return signature.encode().startswith(file.read(len(signature)))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # a folder of that name, for one
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> bool:
        with suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        return False

else:
    import fcntl

    def _lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks here
            pass
        return True
