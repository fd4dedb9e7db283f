"""Class names, from a file or as they are."""

import json
from collections.abc import Sequence
from pathlib import Path

from saliency_tubes.errors import CheckpointError

Labels = Path | str | Sequence[str]  # a file, or the names


def class_names(labels: Labels, num_classes: int) -> tuple[str, ...]:
    """One name for every class.

    Args:
        labels: a path, see `read_labels`; or the names, in the order of the logits.
        num_classes: K, how many names there have to be.

    Raises:
        CheckpointError: as `read_labels`.
    """
    if isinstance(labels, str | Path):
        return read_labels(Path(labels), num_classes)
    strange = [name for name in labels if not isinstance(name, str)]
    if strange:
        raise CheckpointError(f"labels holds {strange[0]!r:.80}: expected a path, or one name for each class")
    return _checked("labels", labels, num_classes)


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
    return _checked(str(path), names, num_classes)


def _checked(source: str, lines: Sequence[str], num_classes: int) -> tuple[str, ...]:
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if len(names) != num_classes:
        raise CheckpointError(
            f"{source} holds {len(names)} names, and the classifier has {num_classes} classes: expected one name for "
            "each"
        )
    for number, name in enumerate(names):
        if not name or not name.isprintable():
            raise CheckpointError(f"{source}: the name of class {number} is {name!r}, expected printable text")
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
