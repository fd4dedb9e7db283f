"""Reading one picture: its size from its header, or its pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2
from .decoding import reason
from .errors import SourceError


def announced_wh(file: Path) -> tuple[int, int]:
    """Width and height from the header; formats without a header that is known are decoded."""
    import imagesize  # late: only folders need it, and it takes an XML parser along

    try:
        width, height = imagesize.get(file)
    except (OSError, ValueError, TypeError):
        width, height = -1, -1
    if width > 0 and height > 0:
        return int(width), int(height)
    rows, columns = read_image(file).shape[:2]
    return columns, rows


def read_image(file: Path) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB of 8 bits a channel, turned as its Exif data say; transparent pixels have their colours.

    Raises:
        SourceError: it cannot be read or decoded.
    """
    return np.asarray(_decoded(file, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def is_partly_transparent(file: Path) -> bool:
    """Whether some of an image's pixels are more transparent than others.

    Raises:
        SourceError: it cannot be read or decoded.
    """
    image = _decoded(file, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.shape[2] != 4:
        return False
    alpha = image[..., 3]
    return bool(alpha.min() != alpha.max())


def _decoded(file: Path, flags: int) -> NDArray[Any]:
    try:
        data = np.frombuffer(file.read_bytes(), dtype=np.uint8)
        image = cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error) as error:
        raise SourceError(f"{file} cannot be read as an image ({reason(error)})") from error
    if image is None:
        raise SourceError(
            f"{file} cannot be decoded as an image: the file is damaged or empty. Extract the frames again, "
            "or take it out of the folder"
        )
    return np.asarray(image)
