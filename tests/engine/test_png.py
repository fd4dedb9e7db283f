import struct
import sys
import zlib
from importlib import reload
from typing import Any

import cv2
import numpy as np
import pytest
from saliency_tubes import png


def images() -> list[Any]:
    rng = np.random.default_rng(4)
    return [
        rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
        for height, width in [(1, 1), (1, 7), (5, 1), (33, 57)]
        for channels in (3, 4)
    ]


def decoded(data: bytes) -> Any:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image[..., [2, 1, 0, 3][: image.shape[2]]]


@pytest.mark.parametrize("image", images(), ids=lambda image: str(image.shape))
def test_other_decoders_read_the_same_pixels(image: Any) -> None:
    np.testing.assert_array_equal(decoded(png.encode(image)), image)


def test_a_view_is_encoded_as_what_it_shows() -> None:
    image = np.random.default_rng(4).integers(0, 256, (20, 30, 4), dtype=np.uint8)

    np.testing.assert_array_equal(decoded(png.encode(image[::2, 5:20, :3])), image[::2, 5:20, :3])


def test_every_chunk_has_its_checksum() -> None:
    data, kinds = png.encode(images()[-1])[8:], []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        body, checksum, data = data[4 : 8 + length], data[8 + length : 12 + length], data[12 + length :]
        assert struct.unpack(">I", checksum) == (zlib.crc32(body),)
        kinds.append(body[:4])

    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_smooth_pictures_shrink() -> None:
    y, x = np.mgrid[0:200, 0:200]
    image = np.stack([y, x, y // 2 + x // 2], axis=-1).astype(np.uint8)

    assert len(png.encode(image)) < image.nbytes / 20


def test_without_isal_the_standard_library_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = images()[-1]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "isal", None)
        reload(png)
        assert png._deflate is zlib
        np.testing.assert_array_equal(decoded(png.encode(image)), image)
    reload(png)
