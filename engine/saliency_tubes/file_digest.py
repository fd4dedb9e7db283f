"""What a model file is, to the last bit of its weights, wherever these are."""

import hashlib
import mmap
import os
import threading
from concurrent.futures import Future
from pathlib import Path

_LOCATION = b"\x0a\x08location\x12"
_LONGEST_NAME = 4096  # bytes, of a field


class FileDigest:
    """The SHA-256 of a model file, in hexadecimal: computed on a thread of its own, unless somebody knows it already.

    Where the file keeps weights in others, it is that of all of them, one after the other.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False
        self._future = Future[str]()

    def known(self, sha256: str) -> None:
        """Take it from somebody who computed it before, unless it is being computed."""
        if not self._begun:
            self._begun = True
            self._future.set_result(sha256)

    def start(self) -> None:
        """Begin to compute it, unless that was begun, or it is known."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._compute).start()

    def result(self) -> str:
        """The digest; waits until it is computed.

        Raises:
            OSError: the file cannot be read.
        """
        return self._future.result()

    def _compute(self) -> None:
        try:
            digest = hashlib.sha256()
            for path in (self._path, *external_files(self._path)):
                with path.open("rb") as file:
                    hashlib.file_digest(file, lambda: digest)
            self._future.set_result(digest.hexdigest())
        except OSError as error:
            self._future.set_exception(error)


def external_files(model: Path) -> list[Path]:
    """The files beside an ONNX file that it keeps weights in, in the order of their names.

    Each such tensor says where, in an entry whose key is ``location`` (ONNX's `TensorProto.external_data`). Of what is
    said of other folders there is no file here: nothing of ours says so.

    Raises:
        OSError: the file cannot be read.
    """
    names = set()
    with model.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(_LOCATION)
            while at >= 0:
                at += len(_LOCATION)
                names.add(_text_at(content[at : at + _LONGEST_NAME]))
                at = content.find(_LOCATION, at)
    plain = (name for name in sorted(names) if name and not set(name) & set(b"/\\\0"))
    return [path for path in (model.with_name(os.fsdecode(name)) for name in plain) if path.is_file()]


def _text_at(field: bytes) -> bytes:
    """A field of text that begins with its length: seven bits a byte, the lowest first, the last below 128."""
    length = 0
    for place, byte in enumerate(field[:5]):
        length |= (byte & 127) << 7 * place
        if byte < 128:
            return field[place + 1 : place + 1 + length]
    return b""
