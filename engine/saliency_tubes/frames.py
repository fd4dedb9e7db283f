"""Frames taken out of a clip as the published extractor takes them, into a folder of pictures."""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2
from ._version import __version__
from .choices import ImageFormat, choice
from .errors import OptionError, SourceError
from .sampling import every
from .video import Clip, VideoFile, open_clip
from .writers import INFO_FILE, replacing_folder, write_json, write_png

_JPEG_QUALITY = 95


@dataclass(frozen=True)
class ExtractedFrames:
    """What `extract_frames` wrote.

    Attributes:
        folder: the folder.
        files: the pictures in it, in the order of the clip.
        indices: their places in the clip.
        timestamps: their seconds after the clip's first frame; NaN where it has no times.
        notes: what the user should know: fewer frames than asked for, a damaged video.
    """

    folder: Path
    files: tuple[Path, ...]
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    notes: tuple[str, ...]


def extract_frames(
    source: str | Path | NDArray[np.uint8] | Clip,
    out: str | Path,
    *,
    step: int = 6,
    max_frames: int = 24,
    crop: int | None = None,
    image_format: ImageFormat | str = ImageFormat.JPG,
) -> ExtractedFrames:
    """Write every `step`-th frame of a clip, at most `max_frames` of them, as ``000.jpg``, ``001.jpg``, ...

    The rule of the published extractor (``frames.py`` beside the Keras reference, whose defaults these are): it counts
    from one and takes the frames whose count is a multiple of `step`, so the first one is number ``step - 1`` from
    zero. Its crop is a square of the frame as it is, without a resize: `crop` rows from ``h // 2 - crop // 2`` on, and
    as many columns likewise. Unlike it, this keeps red and blue in their places and keeps what there is of a clip that
    is too short.

    Args:
        source: the clip.
        out: the folder, which appears whole or not at all and may then be explained like any folder of frames. Beside
            the pictures it holds ``info.json``, which says where they came from.
        step: take one frame in so many; at least 1.
        max_frames: stop after so many; at least 1.
        crop: side of the square to cut out of the centre, in pixels; None for whole frames.
        image_format: jpg (quality 95) or png (lossless).

    Raises:
        SourceError: the clip cannot be read or has fewer than `step` frames, or the crop does not fit into its frames.
        OptionError: `step`, `max_frames` or `crop` is not positive, or there is no such format.
        OutputError: the folder cannot be written, or holds files that this program did not write.
    """
    for name, value in (("step", step), ("max_frames", max_frames), ("crop", 1 if crop is None else crop)):
        if value < 1:
            raise OptionError(f"the {name} is {value}: expected a whole number of at least 1")
    image_format = choice(ImageFormat, "picture format", image_format)
    clip, out = open_clip(source), Path(out)
    width, height = clip.size_wh
    if crop is not None and crop > min(width, height):
        raise SourceError(
            f"a crop of {crop}x{crop} does not fit into frames of {width}x{height}: choose at most {min(width, height)}"
        )
    with replacing_folder(out) as staging:
        taken = _take(clip, staging, step, max_frames, crop, image_format)
        names = [name for name, _, _ in taken]
        short = f"the clip has {clip.length} frames: {len(names)} were taken, where {max_frames} are the most"
        notes = (*clip.notes, *([short] if len(names) < max_frames else []))
        document = {
            "source": {"name": clip.name, "path": None if clip.path is None else str(clip.path.resolve())},
            "size_wh": [width, height],
            "step": step,
            "max_frames": max_frames,
            "crop": crop,
            "frames": [
                {"file": name, "index": index, "time_s": None if math.isnan(time) else time}
                for name, index, time in taken
            ],
            "notes": notes,
            "saliency_tubes": __version__,
            "files": [*names, INFO_FILE],
        }
        write_json(staging / INFO_FILE, document)
    _, indices, times = zip(*taken, strict=True)
    return ExtractedFrames(out, tuple(out / name for name in names), indices, times, notes)


def _take(
    clip: Clip, folder: Path, step: int, max_frames: int, crop: int | None, image_format: ImageFormat
) -> list[tuple[str, int, float]]:
    """Write the frames; their names, places in the clip, and times.

    A video may hold more or fewer frames than it announces, so the reading itself says where it ends.
    """
    taken: list[tuple[str, int, float]] = []
    end = step * max_frames if isinstance(clip, VideoFile) else min(clip.length, step * max_frames)
    with closing(clip.read(range(step - 1, end, step))) as frames:
        for frame in frames:
            name = f"{len(taken):03d}.{image_format}"
            _write(folder / name, frame.rgb if crop is None else centre_crop(frame.rgb, crop), image_format)
            taken.append((name, frame.index, frame.time))
            if len(taken) == max_frames:
                break  # the rest of the video need not be decoded
    if not taken:
        every(clip.length, step, max_frames)  # says why
    return taken


def centre_crop(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Cut a (side, side, 3) square out of the centre of an (h, w, 3) uint8 frame that is at least as large."""
    top, left = rgb.shape[0] // 2 - side // 2, rgb.shape[1] // 2 - side // 2
    return rgb[top : top + side, left : left + side]


def _write(path: Path, rgb: NDArray[np.uint8], image_format: ImageFormat) -> None:
    if image_format is ImageFormat.PNG:
        write_png(path, rgb)
        return
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    path.write_bytes(data.tobytes())
