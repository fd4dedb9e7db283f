"""What is done: ``results.jsonl``, a line a clip, each on the disk before the next clip is said to be done.

A process that is killed leaves at worst a last line that is not whole; it is dropped when the file is opened again, and
that clip is done again.
"""

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from ..choices import Align
from ..errors import OutputError
from ..explanation import Score
from ..replacing import replacing_file
from ..statistics import TubeStatistics
from ..writers import INFO_FILE
from .folder import RESULTS, RESULTS_SIGNATURE, locked

_SCHEMA = json.loads(f"{RESULTS_SIGNATURE[:-2]}}}")["schema"]


@dataclass(frozen=True)
class Written:
    """A folder that was written: its path, relative to the output folder and with ``/``, and the names in it.

    The name of a folder of pictures has a ``/`` at its end.
    """

    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class LabelRecord:
    """One explained label: its score, its tube in numbers, what was written, and the thumbnail's relative path."""

    score: Score
    statistics: TubeStatistics
    written: Written
    thumbnail: str | None


@dataclass(frozen=True)
class Record:
    """What became of a clip: a line of ``results.jsonl``.

    Attributes:
        source: the clip's real path; for a row of a list that names none, the place in the list.
        name: the folder for its results; None where none was made.
        predicted: the class with the highest logit; None for a clip that failed.
        labels: what was explained; empty for a clip that failed.
        together: what was written for all labels together, if anything.
        notes: what the user should know about this clip.
        error: why it failed; None for a clip that did not.
        seconds: how long it took: reading, network, tubes and files, without waiting for other clips.
        fingerprint: of everything that the results depend on; None for a row that names no clip.
        align: where the cells of its maps lie in the clip; None for a clip that failed.
        approximate: why its maps do not add up to the logits exactly; None where they do. `notes` say by how much.
    """

    source: str
    name: str | None
    predicted: Score | None
    labels: tuple[LabelRecord, ...]
    together: Written | None
    notes: tuple[str, ...]
    error: str | None
    seconds: float | None
    fingerprint: str | None
    align: Align | None = None
    approximate: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there are no results."""
        return self.error is not None

    @property
    def names_clip(self) -> bool:
        """Whether this is a clip, not a row of a list that names none."""
        return self.fingerprint is not None

    def line(self) -> bytes:
        """As a line of JSON, ASCII only."""
        document = {"schema": _SCHEMA, "status": "failed" if self.failed else "done"} | asdict(self)
        document["labels"] = [
            label.pop("score") | label.pop("written") | label for label in (asdict(one) for one in self.labels)
        ]
        return json.dumps(document, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Record":
        """The record that wrote this line.

        Raises:
            ValueError: none did.
        """
        try:
            document = json.loads(line)
            if document.pop("schema") != _SCHEMA:
                raise ValueError("another schema")
            del document["status"]
            predicted = document.pop("predicted")
            align = document.pop("align", None if document["error"] else Align.CORNERS)  # which there was no choice of
            approximate = document.pop("approximate", None)
            return cls(
                approximate=None if approximate is None else str(approximate),
                predicted=predicted and _score(predicted),
                labels=tuple(map(_label, document.pop("labels"))),
                align=None if align is None else Align(align),
                together=_written(document.pop("together")),
                notes=tuple(map(str, document.pop("notes"))),
                **document,
            )
        except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(f"not a record: {error}") from error

    def is_complete(self, out: Path) -> bool:
        """Whether everything that this record speaks of is still there and whole."""
        folders = [label.written.folder for label in self.labels] + ([self.together.folder] if self.together else [])
        thumbnails = [label.thumbnail for label in self.labels if label.thumbnail is not None]
        return (
            not self.failed
            and all(_is_whole(out / folder) for folder in folders)
            and all(_holds_something(out / thumbnail) for thumbnail in thumbnails)
        )


class Results:
    """The records of an output folder, and the file they are in. Made by `open_results`; threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.records, self._torn = _read(path)

    def replace(self, records: list[Record]) -> None:
        """Have these records, and no others, in the file."""
        if records == self.records and not self._torn:
            return
        with replacing_file(self._path, "--out") as staging, staging.open("wb") as file:
            file.writelines(record.line() for record in records)
            file.flush()
            os.fsync(file.fileno())
        self.records, self._torn = list(records), False

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            OutputError: it could not be written.
        """
        with self._lock:
            try:
                with self._path.open("ab", buffering=0) as file:
                    _write_whole(file, record.line())
                    self.records.append(record)  # before what takes so long that signals fall into it
                    os.fsync(file.fileno())
            except OSError as error:
                raise OutputError(
                    f"cannot write to {self._path}: {error.strerror or error}. Check the free space and the folder's "
                    "permissions; the same command goes on from here"
                ) from error


@contextmanager
def open_results(out: Path) -> Iterator[Results]:
    """Open the record of an output folder, which is made where it is missing. Nobody else can while it is open.

    Raises:
        OutputError: somebody else has it open, the folder cannot be written, or a file that this program did not write
            is in the way.
    """
    with locked(out):
        yield Results(out / RESULTS)


def _write_whole(file: FileIO, line: bytes) -> None:
    """Write a line in one call of the system, so that a signal finds all of it or nothing; a full disk, nothing."""
    end = file.seek(0, os.SEEK_END)
    if file.write(line) != len(line):
        file.truncate(end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read(path: Path) -> tuple[list[Record], bool]:
    """The records in the file, and whether its last line is not whole."""
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # nothing, where the last line is whole
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(Record.from_line(line))
        except ValueError as error:
            if number < len(lines) or torn:
                raise OutputError(
                    f"{path} line {number} was not written by this version of `tubes batch`: take the line out, or "
                    "move the file to begin anew"
                ) from error
            torn = line
    return records, bool(torn)


def _score(document: dict[str, Any]) -> Score:
    name = document["name"]
    return Score(
        int(document["index"]),
        None if name is None else str(name),
        float(document["logit"]),
        float(document["probability"]),
    )


def _written(document: dict[str, Any] | None) -> Written | None:
    return None if document is None else Written(str(document["folder"]), tuple(map(str, document["files"])))


def _label(document: dict[str, Any]) -> LabelRecord:
    thumbnail = document["thumbnail"]
    return LabelRecord(
        _score(document),
        TubeStatistics(**document["statistics"]),
        Written(str(document["folder"]), tuple(map(str, document["files"]))),
        None if thumbnail is None else str(thumbnail),
    )


def _is_whole(folder: Path) -> bool:
    """Whether a label's folder holds everything that its own ``info.json`` lists."""
    try:
        files = json.loads((folder / INFO_FILE).read_bytes())["files"]
        return all(_holds_something(folder / str(file)) for file in files)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _holds_something(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
