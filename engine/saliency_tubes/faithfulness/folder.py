"""The files of an evaluation in a folder of the user's: which are ours, and writing them whole or not at all."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DependencyError, OutputError
from ..replacing import replacing_file
from ..writers import write_json
from .document import SCHEMA, document
from .evaluation import Evaluation

DOCUMENT = "evaluation.json"
PICTURES = "evaluation-*.png"
_SIGNATURE = f'{{\n  "schema": {json.dumps(SCHEMA)},'.encode()


@contextmanager
def written_to(out: Path | None, note: Callable[[str], None]) -> Iterator[Callable[[Evaluation], tuple[Path, ...]]]:
    """What writes an evaluation to a folder, which is made where it is missing; it says which files it wrote.

    Pictures of an earlier evaluation are replaced, and removed where there is nothing to draw now.

    Args:
        out: the folder; None to write nothing.
        note: called where pictures could not be drawn.

    Raises:
        OutputError: the folder cannot be written, or files of others are in the way.
    """
    if out is None:
        yield lambda _: ()
        return
    try:
        _refuse_foreign(out)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out}: {error.strerror or error}. Check the path and its permissions, or choose another "
            "--out"
        ) from error
    with replacing_file(out / DOCUMENT, "--out") as staging:

        def write(evaluation: Evaluation) -> tuple[Path, ...]:
            pictures = _draw(evaluation, out, note)
            for stale in set(out.glob(PICTURES)) - set(pictures):
                stale.unlink()
            write_json(staging, document(evaluation))
            return (out / DOCUMENT, *pictures)

        yield write


def _draw(evaluation: Evaluation, out: Path, note: Callable[[str], None]) -> tuple[Path, ...]:
    try:
        from .plots import write_plots  # late: only here matplotlib is needed
    except DependencyError as error:
        note(f"no pictures: {error}")
        return ()
    return write_plots(evaluation, out)


def _refuse_foreign(out: Path) -> None:
    """Leave alone what others wrote under the names that we use."""
    own = out / DOCUMENT
    if own.exists():
        with own.open("rb") as file:
            theirs = [] if file.read(len(_SIGNATURE)) == _SIGNATURE else [own]
    else:
        theirs = sorted(out.glob(PICTURES))
    if theirs:
        raise OutputError(f"{theirs[0]} is there and is not of `tubes evaluate`: move it, or choose another --out")
