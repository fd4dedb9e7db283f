"""Lists of clips: text files with a path a line, and CSV files with paths and labels."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SourceError

LIST_SUFFIXES = frozenset({".csv", ".txt"})
_COLUMNS = ("path", "label")
_DELIMITERS = ",;\t"
_LARGEST_BYTES = 64 << 20  # half a million paths
_LONGEST_PATH = 4096
_SHOWN = 60  # characters of what came that an error repeats


@dataclass(frozen=True)
class Row:
    """A row of a list: the path, made absolute by the list's folder, the label, if any, and where this stands."""

    path: Path
    label: str | None
    origin: str


@dataclass(frozen=True)
class Refused:
    """A row that names no clip: where it stands, its label, and why."""

    source: str
    label: str | None
    error: str


def read_list(file: Path) -> Iterator[Row | Refused]:
    """Read a list of clips. UTF-8, with or without a byte order mark; paths are relative to the list's folder.

    - ``.txt``: a path a line. Space around it is dropped, empty lines are passed over.
    - ``.csv``: a header with the columns ``path`` and, if wanted, ``label``, in any case and order, and no others.
      Fields are separated by commas, semicolons or tabs, and may be quoted. A label is a class's index or name; an
      empty one is as good as none.

    Raises:
        SourceError: not text, too large, or a CSV without these columns.
    """
    text = _text(file)
    rows = _csv_rows(file, text) if file.suffix.lower() == ".csv" else _txt_rows(text)
    for line, path, label, error in rows:
        origin = f"{file} line {line}"
        error = error or _wrong_path(path)
        yield Refused(origin, label, error) if error else Row(file.parent / path, label, origin)


def _text(file: Path) -> str:
    size = file.stat().st_size
    if size > _LARGEST_BYTES:
        raise SourceError(
            f"{file} has {size >> 20} MiB: expected a list of clips of at most {_LARGEST_BYTES >> 20} MiB. Is it one?"
        )
    data = file.read_bytes()
    if b"\0" in data:
        hint = " It looks like UTF-16: save it as UTF-8." if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise SourceError(f"{file} is not a text file (it holds zero bytes): expected a list of clips in UTF-8.{hint}")
    return data.decode("utf-8-sig", errors="surrogateescape")  # a file's name need not be UTF-8


def _txt_rows(text: str) -> Iterator[tuple[int, str, str | None, str | None]]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a name may hold U+2028
        if line.strip():
            yield number, line.strip(), None, None


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, str, str | None, str | None]]:
    header = text.lstrip("\r\n").split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    try:
        columns = [name.strip() for name in next((row for row in reader if row), [])]
        places = _places(file, columns)
        for row in reader:
            if not any(field.strip() for field in row) and len(row) < len(columns):
                continue  # an empty line
            path, label = (row[i].strip() if 0 <= i < len(row) else "" for i in places)
            error = None
            if len(row) > len(columns):
                error = f"{len(row)} fields, where the header has {len(columns)}: quote a field that holds a separator"
            yield reader.line_num, path, label or None, error
    except csv.Error as error:
        raise SourceError(
            f"{file} line {reader.line_num} is not CSV ({error}): expected fields as the header has"
        ) from error


def _places(file: Path, columns: list[str]) -> list[int]:
    """Where ``path`` and ``label`` are among the columns; -1 for a label that is not."""
    lowered = [name.casefold() for name in columns]
    unknown = set(lowered) - set(_COLUMNS)
    if "path" not in lowered or unknown or len(set(lowered)) < len(lowered):
        found = ", ".join(repr(name[:_SHOWN]) for name in columns[:20]) or "nothing"
        raise SourceError(
            f"{file} has the columns {found}: expected a first line that names 'path' and, if wanted, 'label', each "
            "once, and no other column. Rename or remove what is different"
        )
    return [lowered.index(name) if name in lowered else -1 for name in _COLUMNS]


def _wrong_path(path: str) -> str | None:
    if not path:
        return "the path is empty: expected a video or a folder of frames"
    if len(path) > _LONGEST_PATH:
        return f"{path[:_SHOWN]!r}... has {len(path)} characters: expected a path of at most {_LONGEST_PATH}"
    return None
