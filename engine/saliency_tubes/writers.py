"""Files, each of them whole or absent."""

import contextlib
import ctypes
import functools
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from . import png
from .cores import usable_cores
from .errors import OutputError

INFO_FILE = "info.json"
_ABANDONED_SECONDS = 24 * 3600  # a folder that was last written to this long ago has nobody filling it
_GIF_TICK = Fraction(1, 100)  # GIF counts time in hundredths of a second
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Fill a temporary sibling of `target`, then move it into place.

    Whatever happens inside, `target` is afterwards either what it was or the complete new folder. A folder that is
    replaced must hold only files that its own ``info.json`` lists, so that nothing of the user's is deleted.

    Yields:
        The empty folder to fill.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or `target` holds other people's files.
    """
    staging = target.parent / f".{target.name}.{os.urandom(6).hex()}.partial"
    made: list[Path] = []
    try:
        _refuse_foreign(target)
        _sweep(target)
        made = [parent for parent in staging.parents if not parent.exists()]
        staging.mkdir(parents=True)
        yield staging
        _move_into_place(staging, target)
    except BaseException as error:
        _remove(staging, made)
        if isinstance(error, OSError):
            raise OutputError(
                f"cannot write to {target}: {error.strerror or error}. Check the path, its permissions and the free "
                "space, or name another folder with --out"
            ) from error
        raise


def write_all(jobs: Iterable[Callable[[], Path]]) -> list[Path]:
    """Write several files at once, on all cores: the encoders release the interpreter's lock.

    Returns:
        What the jobs return, in their order. The first error is raised, once all jobs have ended.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(lambda job: job(), jobs))


def png_jobs(folder: Path, images: NDArray[np.uint8]) -> Iterator[Callable[[], Path]]:
    """Jobs for `write_all` that write ``000.png``, ``001.png``, ... into a new `folder`.

    Args:
        folder: made here; its parent must exist.
        images: (T, H, W, 3) uint8 RGB or (T, H, W, 4) uint8 RGBA.
    """
    folder.mkdir()
    for index, image in enumerate(images):
        yield functools.partial(write_png, folder / f"{index:03d}.png", image)


def write_png(path: Path, image: NDArray[np.uint8]) -> Path:
    """Write an (H, W, 3) uint8 RGB or (H, W, 4) uint8 RGBA image."""
    path.write_bytes(png.encode(image))
    return path


def write_gif(path: Path, images: NDArray[np.uint8], seconds_per_frame: float) -> Path:
    """Write (T, H, W, 3) uint8 RGB images as an endlessly looping GIF with a palette made for them."""
    height, width = images.shape[1:3]
    # Five bits a channel, a GIF's 256 colours show no more: choosing the palette is then ten times faster.
    coarse = (images & 0xF8) | 0x04
    with _muxer(path, "gif") as container:
        stream = container.add_stream("gif", rate=Fraction(1 / seconds_per_frame).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = height, width, "pal8"
        stream.codec_context.time_base = _GIF_TICK
        graph = _palette_graph(width, height)
        for index, image in enumerate(coarse):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(index * seconds_per_frame / _GIF_TICK), _GIF_TICK
            graph.vpush(frame)
        graph.vpush(None)
        for _ in images:
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode(None))
    return path


def _palette_graph(width: int, height: int) -> av.filter.Graph:
    """FFmpeg's way to a good GIF: one palette from all frames, then each frame drawn with it."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=_GIF_TICK)
    split, sink = graph.add("split"), graph.add("buffersink")
    generate = graph.add("palettegen", "stats_mode=full")
    use = graph.add("paletteuse", "dither=none")
    source.link_to(split)
    split.link_to(generate, 0)
    split.link_to(use, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


@contextlib.contextmanager
def _muxer(path: Path, kind: str, **options: str) -> Iterator["av.container.OutputContainer"]:
    with ffmpeg_as_os_errors(), av.open(str(path), "w", format=kind, options=options) as container:
        yield container


@contextlib.contextmanager
def ffmpeg_as_os_errors() -> Iterator[None]:
    """Raise PyAV's errors as OSError: not all of them are, and where the disk is full this one has to be one."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def write_npz(path: Path, **arrays: Any) -> Path:
    """Write named arrays, uncompressed: splines of floats do not shrink, and loading stays instant."""
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a document as UTF-8 JSON; NaN and infinity are refused."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name need not be UTF-8; what is not becomes a JSON escape.
    path.write_bytes(text.encode("utf-8", errors="backslashreplace"))
    return path


def _refuse_foreign(target: Path) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputError(f"{target} is in the way: a folder was to be written there. Move it, or choose another --out")
    present = {entry.relative_to(target) for entry in target.rglob("*")}
    try:
        listed = json.loads((target / INFO_FILE).read_text(encoding="utf-8"))["files"]
        files = {PurePath(str(name)) for name in listed}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        files = set()
    own = files.union(*(file.parents for file in files))
    foreign = sorted(str(entry) for entry in present - own)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputError(
            f"{target} holds files that this program did not write ({', '.join(foreign[:3])}{more}), and replacing it "
            "would delete them: move them, or choose another --out"
        )


def sweep(folder: Path) -> None:
    """Remove what runs that were killed left in a folder that nobody else is writing to."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch(r"\..+\.[0-9a-f]{12}\.partial", path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what runs that were killed left beside `target`, once it is old: another may be at work there."""
    leftover = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{12}\.partial")
    with contextlib.suppress(OSError):  # no folder yet, or none that may be listed
        for path in target.parent.iterdir():
            if leftover.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _move_into_place(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
    elif _exchange(staging, target):
        shutil.rmtree(staging, ignore_errors=True)
    else:
        retired = staging.with_suffix(".old")
        target.rename(retired)
        try:
            staging.rename(target)
        except BaseException:
            retired.rename(target)
            raise
        shutil.rmtree(retired, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one atomic step, where the system can: Linux's renameat2(2)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)


def _remove(staging: Path, made: list[Path]) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    with contextlib.suppress(OSError):  # a parent that is not empty is in use: leave it
        for parent in made:
            parent.rmdir()
