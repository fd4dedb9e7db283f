"""One run as one HTML page that needs nothing else: the clip, the tube over it, its timeline, and its volume.

The page's own files are in ``viewer/``; this module turns a `Report` into their data and puts everything into one
string. Whatever came from outside (names, facts, notes) travels as JSON and reaches the page as text, never as markup.
"""

import base64
import html
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .choices import Colormap
from .inline_page import csp_hash, script_json
from .preprocess import CropBox
from .render import colormap_table

if TYPE_CHECKING:
    from .explanation import Score


# One scope, in this order: each file uses what those before it declare.
_SCRIPTS = (
    *("data.js", "field.js", "state.js", "player.js", "stage.js", "timeline.js"),
    *("surface.js", "solid.js", "tube.js", "page.js"),
)
_LIBRARY = "vendor/ogl.min.js"
_UNSEEN = 0  # the code that says that nothing was seen there; the others are the map's values
_MANY_LABELS = 32  # more than these are packed in 8 bits a value, so that hundreds stay a page that opens
_INLINE_HEIGHT = 720


@dataclass(frozen=True, eq=False)
class ReportLabel:
    """One label's tube, as the page shows it.

    Attributes:
        index: the class index.
        name: its name; None where the model has none.
        logit: the label's logit, the mean over the windows.
        probability: its softmax, in [0, 1].
        low: the raw value that this label's own scale shows as 0.
        high: the raw value that it shows as 1; where it equals `low` the map is constant and shown as 0.
        maps: (n, h, w) float32 raw class-activation maps in logit units, one for each picture of the clip. NaN where
            the network saw nothing of that picture.
        probabilities: (m,) float64 in [0, 1], this label's probability in each window.
    """

    index: int
    name: str | None
    logit: float
    probability: float
    low: float
    high: float
    maps: NDArray[np.float32]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows.

    Attributes:
        title: what the clip is called.
        video: the clip as an MP4 that browsers play (H.264, yuv420p), without audio.
        video_wh: its width and height in pixels.
        times: (n,) float64 seconds of the pictures of `video`, ascending; the first is 0.
        box: where in the picture the network's crop lies.
        labels: at least one.
        spans: (m, 2) float64, the first and last second that each window covers.
        top: the highest classes, best first.
        facts: the model's card: what and its text.
        notes: what the reader should know about this run.
        colormap: the colours it starts with.
        opacity: of the heatmap over the clip, in [0, 1].
        threshold: in [0, 1]; where the tube is lower, the heatmap is blank.
        time_note: one sentence about the tube's time axis.
        approximate: a sentence on why the maps are approximate and by how much; empty where they are exact.
        cells: for the maps' y and x, where the first cell lies and how far on the next is, as shares of the crop; None
            for corner-aligned.
    """

    title: str
    video: bytes
    video_wh: tuple[int, int]
    times: NDArray[np.float64]
    box: CropBox
    labels: tuple[ReportLabel, ...]
    spans: NDArray[np.float64]
    top: "tuple[Score, ...]"
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    colormap: Colormap
    opacity: float
    threshold: float
    time_note: str
    approximate: str = ""
    cells: tuple[tuple[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        pictures, windows = len(self.times), len(self.spans)
        if not pictures or not self.labels:
            raise ValueError(
                f"expected at least one picture and at least one label, got {pictures} and {len(self.labels)}"
            )
        shape = (pictures, *self.labels[0].maps.shape[1:])
        for label in self.labels:
            if label.maps.shape != shape or label.probabilities.shape != (windows,):
                raise ValueError(
                    f"expected maps (n, h, w) for {pictures} pictures and {windows} probabilities for every label, "
                    f"got {label.maps.shape} and {label.probabilities.shape} for label {label.index}"
                )


def report_html(report: Report) -> str:
    """The whole page: one self-contained HTML document, without network, that opens from disk."""
    return _page(report, layout="page")


def inline_html(report: Report) -> str:
    """The same viewer, smaller, in a frame of its own for notebooks: neither page can reach into the other."""
    page = html.escape(_page(report, layout="inline"))
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{page}" title="{html.escape(_encodable(report.title))}" '
        f'style="display:block;width:100%;height:{_INLINE_HEIGHT}px;border:0"></iframe>'
    )


def _page(report: Report, layout: str) -> str:
    style, script = _asset("viewer.css"), _script()
    policy = (
        f"default-src 'none'; script-src {csp_hash(script)}; style-src {csp_hash(style)}; media-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("page.html")).substitute(
        layout=layout,
        policy=policy,
        title=html.escape(_encodable(report.title)),
        style=style,
        data=script_json(_document(report)),
        script=script,
    )


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("viewer", name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """The library and the page's own files; these share one scope and leave nothing in the global one."""
    own = "\n".join(_asset(name) for name in _SCRIPTS)
    return f'{_asset(_LIBRARY)}\n(() => {{\n"use strict";\n{own}\n}})();\n'


def _encodable(text: str) -> str:
    """The text with what UTF-8 cannot hold replaced: file names may carry lone surrogates."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _document(report: Report) -> dict[str, Any]:
    """Everything the page is told; `viewer/data.js` reads it."""
    box = report.box
    bits = 16 if len(report.labels) <= _MANY_LABELS else 8
    return {
        "title": report.title,
        "size": report.video_wh,
        "times": _rounded(report.times),
        "box": [box.left, box.top, box.right, box.bottom],
        "bits": bits,
        "shape": report.labels[0].maps.shape,
        "labels": [_label_document(label, bits) for label in report.labels],
        "spans": [_rounded(span) for span in report.spans],
        "top": [
            {"index": s.index, "name": s.name, "logit": _number(s.logit), "probability": _number(s.probability)}
            for s in report.top
        ],
        "facts": report.facts,
        "notes": report.notes,
        "colormap": report.colormap,
        "opacity": report.opacity,
        "threshold": report.threshold,
        "timeNote": report.time_note,
        "approximate": report.approximate,
        "cells": report.cells,
        "colormaps": {name: _base64(colormap_table(name).tobytes()) for name in Colormap},
        "video": _base64(report.video),
    }


def _label_document(label: ReportLabel, bits: int) -> dict[str, Any]:
    packed, least, most = pack_maps(label.maps, bits)
    return {
        "index": label.index,
        "name": label.name,
        "logit": _number(label.logit),
        "probability": _number(label.probability),
        "low": _number(label.low) or 0.0,
        "high": _number(label.high) or 0.0,
        "range": [least, most],
        "maps": _base64(packed),
        "probabilities": _rounded(label.probabilities),
    }


def pack_maps(maps: NDArray[np.float32], bits: int = 16) -> tuple[bytes, float, float]:
    """Maps in few bytes: 16 or 8 bits a value, then differences from picture to picture, then deflate.

    Neighbouring pictures are much alike, so most differences are small; their low bytes come first, then all high
    bytes, which are nearly all the same.

    Args:
        maps: (n, h, w) float32; NaN (or an infinity) where nothing was seen.
        bits: 16 or 8.

    Returns:
        The zlib stream; the values of code 1 and of the last code, the least and the greatest in `maps`. Code 0 is NaN.
        An error of at most half a code remains: at 16 bits, half of the range's 65534th part.
    """
    dtype = np.dtype(f"<u{bits // 8}")
    seen = np.isfinite(maps)
    least, most = (float(maps[seen].min()), float(maps[seen].max())) if seen.any() else (0.0, 0.0)
    steps = (2**bits - 2) / (most - least) if most > least else 0.0
    codes = np.where(seen, np.rint((np.where(seen, maps, least) - np.float64(least)) * steps) + 1, _UNSEEN)
    nothing = np.zeros((1, *maps.shape[1:]), dtype)
    differences = np.diff(codes.astype(dtype), axis=0, prepend=nothing)  # modulo 2 ** bits
    planes = differences.astype(dtype).reshape(-1, 1).view(np.uint8).T
    return zlib.compress(planes.tobytes(), 9), least, most


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _number(value: float) -> float | None:
    """A number JSON has; None for NaN and the infinities."""
    return float(value) if np.isfinite(value) else None


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """Six decimals: microseconds, and less than a page can show of a probability."""
    return [_number(round(float(value), 6)) for value in values]
