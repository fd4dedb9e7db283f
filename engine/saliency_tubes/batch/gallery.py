"""The gallery: ``index.html`` shows, sorts and filters what a batch found. It opens from disk, without network."""

import hashlib
import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .._opencv import cv2
from ..explanation import Score
from ..inline_page import csp_hash, script_json
from ..painter import shrunk
from ..replacing import replacing_file
from .folder import PAGE, PAGE_SIGNATURE, THUMBNAILS
from .results import LabelRecord, Record, Written

_THUMBNAIL_SIDE = 224  # shown at half of that, or at all of it on finer screens
_JPEG_QUALITY = 78


def write_page(out: Path, records: Iterable[Record]) -> Path:
    """Write ``index.html`` for these records into the output folder, in place of an earlier one.

    Raises:
        OutputError: it cannot be written.
    """
    text = page(list(records))
    with replacing_file(out / PAGE, "--out") as staging:
        staging.write_bytes(text.encode())
    return out / PAGE


def write_thumbnail(out: Path, key: str, picture: NDArray[np.uint8]) -> str:
    """Write a small JPEG.

    Args:
        out: the output folder.
        key: what it is of; another picture with the same key takes its place.
        picture: (H, W, 3) uint8 RGB.

    Returns:
        Its path, relative to `out`.

    Raises:
        OutputError: it cannot be written.
    """
    small = shrunk(picture, _THUMBNAIL_SIDE)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    name = f"{THUMBNAILS}/{hashlib.sha256(os.fsencode(key)).hexdigest()[:20]}.jpg"
    with replacing_file(out / name, "--out") as staging:
        staging.write_bytes(data.tobytes())
    return name


def page(records: list[Record]) -> str:
    """The gallery of these records, as HTML. All that came from outside is data for its script, never markup."""
    assets = files(__package__) / "page"
    body, style, script = ((assets / name).read_text("utf-8") for name in ("body.html", "page.css", "page.js"))
    root = _root(records)
    rows = [row for record in records for row in _rows(record, root)]
    data = script_json({"root": root, "clips": len(records), "rows": rows})
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src {csp_hash(style)}; script-src {csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        f'{PAGE_SIGNATURE}<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<style>{style}</style>\n{body}"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n'
    )


def _root(records: list[Record]) -> str:
    """The folder that all clips are in; empty where there is none."""
    folders = {os.path.dirname(record.source) for record in records if record.fingerprint is not None}  # noqa: PTH120
    try:
        return os.path.commonpath(folders)
    except ValueError:  # no clips, or on several drives
        return ""


def _rows(record: Record, root: str) -> list[dict[str, Any]]:
    """The page's rows for a clip: one for each label, or one that says why there is none."""
    named = record.fingerprint is not None
    source = os.path.relpath(record.source, root) if root and named else record.source
    row: dict[str, Any] = {"name": record.name or record.source, "source": source if named else ""}
    if record.predicted is None:
        return [row | {"error": record.error or "no results"}]
    row |= {"predicted": _score(record.predicted), "notes": record.notes, "approximate": record.approximate}
    if record.together:
        row["together"] = _written(record.together)
    return [row | _label(label) for label in record.labels]


def _label(label: LabelRecord) -> dict[str, Any]:
    return {
        "label": _score(label.score),
        "border": _rounded(label.statistics.border_energy),
        "peak": _rounded(label.statistics.peak_s),
        "frame": label.statistics.peak_frame,
        "written": _written(label.written),
        "thumbnail": label.thumbnail and _url(label.thumbnail),
    }


def _written(written: Written) -> dict[str, Any]:
    return {"folder": _url(f"{written.folder}/"), "files": written.files}


def _score(score: Score) -> list[Any]:
    return [score.index, score.name, _rounded(score.probability), _rounded(score.logit)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _url(path: str) -> str:
    """A relative URL of the file with this name, whatever bytes it is made of."""
    return quote(os.fsencode(path))
