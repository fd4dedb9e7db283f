"""Which clips are meant: folders, globs, files, and lists of them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SourceError
from ..video import IMAGE_SUFFIXES, natural_key
from .lists import LIST_SUFFIXES, Refused, Row, read_list

# What is taken for a video in a folder; a file named by itself may be called anything.
VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"}
    | {".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
_FEWEST_IMAGES = 2  # one picture in a folder is a cover, not a clip


@dataclass(frozen=True)
class Named:
    """A clip as it was named.

    Attributes:
        path: a file, or a folder of frames; it need not exist where a list names it.
        label: what the list says, a class's index or name; None where it says nothing.
        origin: the place in a list, such as ``clips.csv line 3``; None for a clip that was named directly or found.
    """

    path: Path
    label: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Found:
    """What sources hold: clips in the order they were named, rows of lists that name none, and what was odd."""

    clips: tuple[Named, ...]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]


def find_clips(sources: Iterable[str | Path], out: Path) -> Found:
    """Find the clips that `sources` name.

    - A folder: every file in it with one of `VIDEO_SUFFIXES`, however deep, in natural order. A folder that holds two
      images or more and no video is one clip. Links are followed, each folder entered once.
    - A glob, such as ``'clips/**/*.mp4'``: what it matches, folders as above, files where their suffix is in the
      pattern or in `VIDEO_SUFFIXES`.
    - ``.txt`` and ``.csv``: a list of files and folders, see `read_list`.
    - Any other file: that clip.

    Hidden files and folders, and `out`, are passed over.

    Args:
        sources: what was named.
        out: the folder for the results.

    Raises:
        SourceError: a source does not exist, a list cannot be read, or no clip is found.
    """
    named = list(map(Path, sources))
    clips: list[Named] = []
    refused: list[Refused] = []
    notes: list[str] = []
    search = _Search(out, notes)
    for source in named:
        before = len(clips) + len(refused)
        for one in _named(source, search):
            if isinstance(one, Refused):
                refused.append(one)
            else:
                clips.append(one)
        if len(clips) + len(refused) == before:
            notes.append(f"{source} holds no clips")
    if not clips and not refused:
        raise SourceError(
            f"no clips in {', '.join(map(str, named))}: expected videos ({' '.join(sorted(VIDEO_SUFFIXES))}) or "
            f"folders with {_FEWEST_IMAGES} images or more. {' '.join(f'{note}.' for note in notes)}".strip()
        )
    return Found(tuple(clips), tuple(refused), tuple(notes))


def _named(source: Path, search: "_Search") -> Iterator[Named | Refused]:
    try:
        if source.is_dir():
            yield from map(Named, search.folder(source))
        elif source.is_file():
            if source.suffix.lower() in LIST_SUFFIXES:
                yield from _listed(source, search)
            else:
                yield Named(source)
        elif any(sign in str(source) for sign in "*?["):
            yield from map(Named, search.glob(source))
        else:
            what = "is neither a file nor a folder" if source.exists() else "does not exist"
            raise SourceError(
                f"{source} {what}: expected a video, a folder, a glob such as 'clips/*.mp4', or a list (.txt or .csv)"
            )
    except (OSError, ValueError) as error:  # a name too long or with a NUL in it, a folder that may not be entered
        raise SourceError(f"{source} cannot be read ({error}): check the path and its permissions") from error


def _listed(file: Path, search: "_Search") -> Iterator[Named | Refused]:
    for row in read_list(file):
        if isinstance(row, Refused):
            yield row
            continue
        found = list(search.folder(row.path)) if _is_folder(row) else [row.path]
        yield from (Named(path, row.label, row.origin) for path in found)
        if not found:
            yield Refused(row.origin, row.label, f"the folder {row.path} holds no clips")


def _is_folder(row: Row) -> bool:
    try:
        return row.path.is_dir()
    except OSError:  # reading it as a clip says what is wrong
        return False


class _Search:
    """Looks through folders, but not into the output folder `out`."""

    def __init__(self, out: Path, notes: list[str]) -> None:
        self._out = Path(os.path.realpath(out))
        self._out_identity = _identity(out) if out.exists() else None
        self._notes = notes

    def folder(self, top: Path) -> Iterator[Path]:
        """The clips in a folder, or the folder, if it is one."""
        entered: set[tuple[int, int]] = set()
        waiting = [iter([top])]  # a stack, not recursion: folders can be nested deeper than Python's calls
        while waiting:
            entry = next(waiting[-1], None)
            if entry is None:
                waiting.pop()
            elif entry.is_dir():
                identity = _identity(entry)
                if identity == self._out_identity:
                    self._notes.append(f"{entry} is the folder for the results and was passed over")
                elif identity not in entered:
                    entered.add(identity)
                    inside = self._entries(entry)
                    if _is_clip(inside):
                        yield entry
                    waiting.append(iter([path for path, kind in inside if kind in ("folder", "video")]))
            else:
                yield entry

    def glob(self, pattern: Path) -> Iterator[Path]:
        """The clips among what a pattern matches."""
        parts = pattern.parts
        fixed = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
        root = Path(*parts[:fixed])
        suffixes = VIDEO_SUFFIXES | {pattern.suffix.lower()} - IMAGE_SUFFIXES - LIST_SUFFIXES - {""}
        try:
            # Not the glob module: its ** follows links, and two links to their own folder keep it busy for ever.
            matches = sorted(root.glob(str(Path(*parts[fixed:]))), key=lambda path: natural_key(str(path)))
        except (ValueError, NotImplementedError) as error:
            raise SourceError(f"{pattern} is no pattern ({error}): expected one such as 'clips/**/*.mp4'") from error
        searching_results = self._out in Path(os.path.realpath(root)).parents  # then that is what is wanted
        for match in matches:
            if any(part.startswith(".") for part in match.relative_to(root).parts):
                continue
            real = Path(os.path.realpath(match))
            if not searching_results and self._out in (real, *real.parents):
                continue
            if match.is_dir():
                yield from self.folder(match)
            elif match.suffix.lower() in suffixes and match.is_file():
                yield match

    def _entries(self, folder: Path) -> list[tuple[Path, str]]:
        """What a folder holds that matters, in natural order, and what it is."""
        try:
            visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
            entries = [(path, _kind(path)) for path in sorted(visible, key=lambda path: natural_key(path.name))]
        except OSError as error:
            self._notes.append(f"the folder {folder} cannot be read ({error.strerror}) and was passed over")
            return []
        return entries


def _identity(folder: Path) -> tuple[int, int]:
    """The same for every path to a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _kind(path: Path) -> str:
    """Whether this is a folder, a video, an image, or something else: another file, a pipe, a dead link."""
    if path.is_dir():
        return "folder"
    suffix = path.suffix.lower()
    kind = "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else ""
    return kind if kind and path.is_file() else ""


def _is_clip(entries: list[tuple[Path, str]]) -> bool:
    """Whether a folder with these entries is a clip, whose frames they are."""
    kinds = [kind for _, kind in entries]
    return kinds.count("image") >= _FEWEST_IMAGES and "video" not in kinds
