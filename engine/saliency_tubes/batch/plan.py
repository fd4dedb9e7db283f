"""From clips as they were named to jobs: each clip once, its labels resolved, in a folder of its own name."""

import hashlib
import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LabelError
from ..explanation import folder_name
from ..model import Label
from ..spec import ModelSpec
from ..video import IMAGE_SUFFIXES
from .lists import Refused
from .sources import Named

_MOST_PARENTS = 3  # in a folder's name; beyond that a few digits say as much
_LONGEST_NAME = 255  # bytes: what file systems take


@dataclass(frozen=True)
class PlannedClip:
    """A clip that is to be explained.

    Attributes:
        source: its real path.
        name: the folder for its results, inside the output folder.
        labels: class indices; empty for what is explained where no label is given.
        fingerprint: hexadecimal; differs where anything does that the results depend on.
    """

    source: Path
    name: str
    labels: tuple[int, ...]
    fingerprint: str


def plan(
    clips: Iterable[Named],
    spec: ModelSpec,
    settings: Mapping[str, Any],
    *,
    labels: Iterable[Label] = (),
    known: Mapping[str, str],
    reserved: Iterable[str],
) -> tuple[list[PlannedClip], list[Refused]]:
    """What there is to do, in the order it was named.

    A clip that is named twice, be it through different paths, is explained once, for all labels that it was named with.

    Args:
        clips: as they were named.
        spec: the model, which knows its labels.
        settings: everything besides the clip and its labels that the results depend on, as JSON types.
        labels: classes for the clips that were named without one.
        known: the folder's name of each real path that had one before; it stays.
        reserved: names that no clip's folder may have.

    Returns:
        The plan, and the clips whose label the model does not know.

    Raises:
        LabelError: one of `labels` is out of range, or a name that the model does not know.
    """
    usual = tuple(dict.fromkeys(map(spec.label_index, labels)))
    paths: dict[str, Path] = {}
    own: dict[str, dict[int, None]] = defaultdict(dict)  # a dict for a set that keeps its order
    refused = []
    for clip in clips:
        real = os.path.realpath(clip.path)
        try:
            index = None if clip.label is None else spec.label_index(clip.label)
        except LabelError as error:
            refused.append(Refused(clip.origin or str(clip.path), clip.label, str(error)))
            continue
        paths.setdefault(real, clip.path)
        own[real].update({} if index is None else {index: None})
    names = folder_names(paths, known, reserved)
    planned = []
    for real in paths:
        indices = tuple(own[real]) or usual
        planned.append(PlannedClip(Path(real), names[real], indices, _fingerprint(real, indices, settings)))
    return planned, refused


def folder_names(paths: Mapping[str, Path], known: Mapping[str, str], reserved: Iterable[str]) -> dict[str, str]:
    """A folder's name for every clip: distinct, the same for the same clips, and unchanged by clips that come later.

    A clip's own name, if no other clip has it; else that of as many parent folders before it as tell the clips apart,
    such as ``archery_001`` and ``bowling_001``; else its own name and the beginning of its path's SHA-256.

    Args:
        paths: the path by which each real path was named.
        known: names from before; they stay, whether that clip is among `paths` or not.
        reserved: names that are taken by something else.
    """
    names = {real: known[real] for real in paths if real in known}
    taken = {_folded(name) for name in (*known.values(), *reserved)}
    groups: dict[str, list[str]] = defaultdict(list)
    for real in sorted(paths.keys() - names.keys()):
        groups[_folded(_own_name(paths[real]))].append(real)
    for group in sorted(groups.values(), key=len):  # who has a name for itself keeps it
        found = _distinct(group, paths, taken)
        names |= found
        taken.update(map(_folded, found.values()))
    return names


def _distinct(group: list[str], paths: Mapping[str, Path], taken: set[str]) -> dict[str, str]:
    """Names for clips that would be called the same."""
    for parents in range(_MOST_PARENTS + 1):
        names = {real: "_".join([*_parents(paths[real], parents), _own_name(paths[real])]) for real in group}
        folded = {_folded(name) for name in names.values()}
        fit = all(len(os.fsencode(name)) <= _LONGEST_NAME for name in names.values())
        if fit and len(folded) == len(group) and not folded & taken:
            return names
    return {real: _hashed(real, _own_name(paths[real])) for real in group}


def _own_name(path: Path) -> str:
    absolute = _absolute(path)
    return folder_name(absolute.name if absolute.is_dir() else absolute.stem)


def _parents(path: Path, count: int) -> tuple[str, ...]:
    return _absolute(path).parts[1:-1][-count:] if count else ()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # a link's own name is the one that its user knows


def _hashed(real: str, name: str) -> str:
    short = os.fsencode(name)[: _LONGEST_NAME - 17]
    return f"{os.fsdecode(short)}~{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}"


def _folded(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _fingerprint(real: str, labels: tuple[int, ...], settings: Mapping[str, Any]) -> str:
    document = json.dumps([real, _state(Path(real)), labels, settings], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def _state(path: Path) -> list[Any] | None:
    """What changes when a file, or one of a folder's frames, is written again; None for what cannot be looked at."""
    try:
        if not path.is_dir():
            return _written(path)
        frames = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        return sorted([file.name, *_written(file)] for file in frames)
    except OSError:
        return None


def _written(file: Path) -> list[Any]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
