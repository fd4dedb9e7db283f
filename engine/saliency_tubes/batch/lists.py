"""Lists of clips: text files with a path a line, and CSV files with paths and labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..tables import TableRow, read_table, read_text, wrong_path

LIST_SUFFIXES = frozenset({".csv", ".txt"})


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
    text = read_text(file, "a list of clips")
    table = file.suffix.lower() == ".csv"
    for row in read_table(file, text, ["path"], ["label"]) if table else _txt_rows(text):
        origin = f"{file} line {row.line}"
        path, label = row.fields
        error = row.error or wrong_path(path)
        yield Refused(origin, label or None, error) if error else Row(file.parent / path, label or None, origin)


def _txt_rows(text: str) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a name may hold U+2028
        if line.strip():
            yield TableRow(number, (line.strip(), ""), None)
