"""One file, whole or absent."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError


@contextlib.contextmanager
def replacing_file(target: Path, option: str) -> Iterator[Path]:
    """Fill a temporary sibling of `target`, then move it over `target`; removed if anything goes wrong before.

    The sibling is made at once, so that a place that cannot be written is known before the work for it is done.

    Args:
        target: the file to write. What stood there is replaced only at the end.
        option: what names another file on the command line, for the error.

    Yields:
        The empty file to fill.

    Raises:
        OutputError: the file cannot be written.
    """
    if target.exists() and not target.is_file():  # a folder, or a device, which must not be replaced by a file
        raise OutputError(f"{target} is there and is no file: name another place with {option}")
    staging = target.with_name(f".{target.name}.{os.urandom(6).hex()}.partial")
    try:
        staging.touch()
        yield staging
        staging.replace(target)
    except OSError as error:
        if error.filename is not None and Path(error.filename) != staging:  # of another file: not for us to explain
            raise
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}. Check the folder's permissions and the free space, or "
            f"choose another {option}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            staging.unlink(missing_ok=True)
