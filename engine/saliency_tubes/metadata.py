"""Arrays and values of a model file's metadata: written as text, and read back from text that nobody vouches for."""

import base64
import binascii
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_SIDE = 65_536


def encode(values: NDArray[np.float32]) -> str:
    """An array as base64 of little-endian float32, row-major."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def decode(base64_text: str, shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    """The array again, of a shape that is known.

    Raises:
        ValueError: it is something else, or not finite.
    """
    try:
        data = base64.b64decode(base64_text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is not base64") from error
    if len(data) != 4 * math.prod(shape):
        raise ValueError(f"{name} holds {len(data)} bytes, expected {4 * math.prod(shape)} for shape {shape}")
    values = np.frombuffer(data, dtype="<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    return values


def expect(value: Any, kind: type[Any], name: str) -> Any:
    """A value of a kind.

    Raises:
        TypeError: it is of another.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {type(value).__name__}, expected {kind.__name__}")
    return value


def text(value: Any, name: str) -> str:
    """Text that can be shown.

    Raises:
        TypeError: it is no text.
        ValueError: it cannot be printed.
    """
    found: str = expect(value, str, name)
    if not found.isprintable():  # these strings reach terminals, pages and file names
        raise ValueError(f"{name} holds characters that cannot be printed")
    return found


def printable(name: str) -> str:
    """A name of somebody else's as text that `text` takes: what cannot be printed becomes a question mark."""
    return "".join(character if character.isprintable() else "?" for character in name)


def integers(values: Any, count: int, name: str) -> tuple[int, ...]:
    """Sides of arrays, and other whole numbers from 1 on.

    Raises:
        TypeError: it is no list.
        ValueError: there are more or fewer, or they are something else.
    """
    items = expect(values, list, name)
    if len(items) != count or not all(type(i) is int and 0 < i <= _MAX_SIDE for i in items):
        raise ValueError(f"{name} is {items!r:.60}, expected {count} whole number(s) from 1 to {_MAX_SIDE}")
    return tuple(items)


def floats(values: Any, name: str) -> tuple[float, ...]:
    """Finite numbers.

    Raises:
        TypeError: it is no list.
        ValueError: some are something else.
    """
    items = expect(values, list, name)
    if not all(type(i) in (int, float) and math.isfinite(i) for i in items):
        raise ValueError(f"{name} is {items!r:.60}, expected finite numbers")
    return tuple(float(i) for i in items)
