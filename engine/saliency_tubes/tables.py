"""Text files and CSV tables that anybody may have written."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import SourceError

_DELIMITERS = ",;\t"
_LARGEST_BYTES = 64 << 20  # half a million paths
_LONGEST_PATH = 4096
_SHOWN = 60  # characters of what came that an error repeats


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        line: where it ends, counted from 1.
        fields: one for each required and optional column, without the space around them; empty where there is none.
        error: why the row is not as the header promises; None where it is.
    """

    line: int
    fields: tuple[str, ...]
    error: str | None


def read_text(file: Path, what: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; other bytes, as in names, become surrogates.

    Args:
        file: what to read.
        what: what it should be, as in "a list of clips".

    Raises:
        SourceError: not text, or too large.
    """
    size = file.stat().st_size
    if size > _LARGEST_BYTES:
        raise SourceError(
            f"{file} has {size >> 20} MiB: expected {what} of at most {_LARGEST_BYTES >> 20} MiB. Is it one?"
        )
    data = file.read_bytes()
    if b"\0" in data:
        hint = " It looks like UTF-16: save it as UTF-8." if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise SourceError(f"{file} is not a text file (it holds zero bytes): expected {what} in UTF-8.{hint}")
    return data.decode("utf-8-sig", errors="surrogateescape")  # a file's name need not be UTF-8


def read_table(file: Path, text: str, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[TableRow]:
    """The rows of a CSV table: a header with these columns, in any case and order, and no others.

    Fields are separated by commas, semicolons or tabs, and may be quoted. Empty lines are passed over.

    Args:
        file: its name, for errors.
        text: what is in it.
        required: columns that it must have.
        optional: columns that it may have.

    Raises:
        SourceError: not CSV, or without these columns.
    """
    header = text.lstrip("\r\n").split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    try:
        columns = [name.strip() for name in next((row for row in reader if row), [])]
        places = _places(file, columns, required, optional)
        for row in reader:
            if not any(field.strip() for field in row) and len(row) < len(columns):
                continue  # an empty line
            error = None
            if len(row) > len(columns):
                error = f"{len(row)} fields, where the header has {len(columns)}: quote a field that holds a separator"
            yield TableRow(reader.line_num, tuple(row[i].strip() if 0 <= i < len(row) else "" for i in places), error)
    except csv.Error as error:
        raise SourceError(
            f"{file} line {reader.line_num} is not CSV ({error}): expected fields as the header has"
        ) from error


def wrong_path(path: str) -> str | None:
    """What is wrong with a field that should be a clip's path; None where it may be one."""
    if not path:
        return "the path is empty: expected a video or a folder of frames"
    if len(path) > _LONGEST_PATH:
        return f"{path[:_SHOWN]!r}... has {len(path)} characters: expected a path of at most {_LONGEST_PATH}"
    return None


def _places(file: Path, columns: list[str], required: Sequence[str], optional: Sequence[str]) -> list[int]:
    """Where the columns are that are wanted; -1 for an optional one that is not there."""
    lowered = [name.casefold() for name in columns]
    wanted = [*required, *optional]
    if not set(required) <= set(lowered) <= set(wanted) or len(set(lowered)) < len(lowered):
        found = ", ".join(repr(name[:_SHOWN]) for name in columns[:20]) or "nothing"
        asked = _listed(required) + (f" and, if wanted, {_listed(optional)}" if optional else "")
        raise SourceError(
            f"{file} has the columns {found}: expected a first line that names {asked}, each once, and no other "
            "column. Rename or remove what is different"
        )
    return [lowered.index(name) if name in lowered else -1 for name in wanted]


def _listed(names: Sequence[str]) -> str:
    """As in ``'a'``, ``'a' and 'b'``, ``'a', 'b' and 'c'``."""
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
