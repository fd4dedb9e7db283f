"""Class names from a file."""

import json
from pathlib import Path

from saliency_tubes.errors import CheckpointError


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Read one name for every class.

    Args:
        path: text with one name a line, or JSON: a list of names, or an object from index to name.
        num_classes: K, how many names there have to be.

    Raises:
        CheckpointError: the file cannot be read, is malformed, or holds another number of names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"the labels file {path} cannot be read ({getattr(error, 'strerror', None) or error}): expected UTF-8 text "
            "with one name a line, or JSON"
        ) from error
    names = _from_json(path, text) if path.suffix.lower() == ".json" else text.strip("\n").splitlines()
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if len(names) != num_classes:
        raise CheckpointError(
            f"{path} holds {len(names)} names, and the classifier has {num_classes} classes: expected one name for each"
        )
    for number, name in enumerate(names):
        if not name or not name.isprintable():
            raise CheckpointError(f"{path}: the name of class {number} is {name!r}, expected printable text")
    return tuple(names)


def _from_json(path: Path, text: str) -> list[str]:
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            by_index = {int(index): name for index, name in document.items()}
            document = [by_index[index] for index in range(len(by_index))]
    except (ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f'{path} is not a JSON list of names, nor an object with the keys "0", "1", ... '
            f"({type(error).__name__}: {error})"
        ) from error
    if not isinstance(document, list) or not all(isinstance(name, str) for name in document):
        raise CheckpointError(f"{path} is JSON, but neither a list of names nor an object from index to name")
    return document
