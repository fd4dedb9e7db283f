"""Lists of cases, and of boxes, in CSV files."""

import math
from collections.abc import Iterator
from pathlib import Path

from ..errors import SourceError
from ..tables import TableRow, read_table, read_text, wrong_path
from .cases import Box, Case, CaseError, Evidence

_SHOWN = 60  # characters of what came that an error repeats
_EDGES = ("left", "top", "right", "bottom")
_DIGITS = 9  # a clip has no more than a milliard frames


def read_cases(file: Path) -> Iterator[Case | CaseError]:
    """Read a list of cases: a CSV table in UTF-8, its fields separated by commas, semicolons or tabs.

    Columns, in any case and order; paths are relative to the list's folder, and every field but the path may be empty:

    - ``path``: a video, a GIF, or a folder of frames;
    - ``label``: the class to explain, its index or name; without one, the predicted class;
    - ``mask``: a video, GIF, folder of frames, or one picture for all frames, bright where the evidence is;
    - ``boxes``: a CSV file with boxes around the evidence, see `read_boxes`;
    - ``first``, ``last``: the frames between which the evidence happens, inclusive, counted from 0.

    Yields:
        A case for each row, named by its path as it stands there, or why there is none. What a case names is not
        looked at.

    Raises:
        SourceError: the file cannot be read, is no such table, or holds no rows.
    """
    empty = True
    for row in _rows(file, "a list of cases", ["path"], ["label", "mask", "boxes", "first", "last"]):
        empty = False
        place = f"{file} line {row.line}"
        error = row.error or wrong_path(row.fields[0])
        try:
            yield CaseError(place, error, names_clip=False) if error else _case(place, file.parent, *row.fields)
        except ValueError as wrong:
            yield CaseError(place, str(wrong), names_clip=False)
    if empty:
        raise SourceError(f"{file} holds no cases: expected a row for each clip below the header")


def read_boxes(file: Path) -> tuple[Box, ...]:
    """Read boxes: a CSV table with the columns ``frame``, ``left``, ``top``, ``right`` and ``bottom``.

    Frames are counted from 0, edges are in pixels of the upright source frame, and right and bottom lie beyond the last
    pixel. Several rows for a frame are several boxes.

    Raises:
        SourceError: the file cannot be read, is no such table, or a row of it is no box.
    """
    boxes = []
    for row in _rows(file, "a table of boxes", ["frame", *_EDGES]):
        try:
            if row.error:
                raise ValueError(row.error)
            frame, *edges = row.fields
            boxes.append(Box(_whole("frame", frame), *map(_number, _EDGES, edges)))
        except ValueError as error:
            raise SourceError(f"{file} line {row.line}: {error}") from None
    return tuple(boxes)


def _rows(file: Path, what: str, required: list[str], optional: list[str] | None = None) -> Iterator[TableRow]:
    try:
        text = read_text(file, what)
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{file} cannot be read ({reason}): expected {what}, a CSV file") from error
    yield from read_table(file, text, required, optional or [])


def _case(place: str, folder: Path, path: str, label: str, mask: str, boxes: str, first: str, last: str) -> Case:
    if mask and boxes:
        raise ValueError("there are a mask and boxes: expected one of them; leave the other empty")
    if bool(first) != bool(last):
        raise ValueError("there is a first frame or a last one alone: expected both, or neither")
    evidence = Evidence(
        mask=folder / mask if mask else None,
        boxes=folder / boxes if boxes else None,
        moving=(_whole("first", first), _whole("last", last)) if first else None,
    )
    known = mask or boxes or first
    return Case(path, folder / path, label or None, evidence if known else None, place)


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise ValueError(f"{name} is {text[:_SHOWN]!r}: expected a whole number, counted from 0")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is {text[:_SHOWN]!r}: expected a number of pixels")
    return value
