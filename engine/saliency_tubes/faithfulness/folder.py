"""The files of an evaluation in a folder of the user's: which are ours, and writing them whole or not at all."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ..errors import OutputError, SaliencyTubesError
from ..pipeline import attempted
from ..replacing import replacing_file
from ..writers import write_json
from .document import SCHEMA, document
from .evaluation import Evaluation

DOCUMENT = "evaluation.json"
LOCALISATION_PICTURE, PERTURBATION_PICTURE = "evaluation-localisation.png", "evaluation-perturbation.png"
PICTURES = (LOCALISATION_PICTURE, PERTURBATION_PICTURE)
_SIGNATURE = f'{{\n  "schema": {json.dumps(SCHEMA)},'.encode()


@contextmanager
def written_to(out: Path | None, note: Callable[[str], None]) -> Iterator[Callable[[Evaluation], tuple[Path, ...]]]:
    """What writes an evaluation to a folder, which is made where it is missing; it says which files it wrote.

    The numbers are in their place before anything is drawn, and stay where drawing fails. Pictures of an earlier
    evaluation are replaced, and removed where there is nothing to draw now.

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
    with ExitStack() as begun:
        staging = begun.enter_context(replacing_file(out / DOCUMENT, "--out"))

        def write(evaluation: Evaluation) -> tuple[Path, ...]:
            write_json(staging, document(evaluation))
            begun.close()  # this moves it into place
            pictures = attempted(partial(_draw, evaluation, out))
            if isinstance(pictures, SaliencyTubesError):
                note(f"no pictures: {pictures}")
                return (out / DOCUMENT,)
            return (out / DOCUMENT, *pictures)

        yield write


def _draw(evaluation: Evaluation, out: Path) -> tuple[Path, ...]:
    for name in PICTURES:
        (out / name).unlink(missing_ok=True)
    from .plots import write_plots  # late: only here matplotlib is needed

    return write_plots(evaluation, out)


def _refuse_foreign(out: Path) -> None:
    """Leave alone what others wrote under the names that we use."""
    own, pictures = out / DOCUMENT, [out / name for name in PICTURES]
    if own.exists():
        with own.open("rb") as file:
            is_ours = file.read(len(_SIGNATURE)) == _SIGNATURE
        theirs = [file for file in pictures if file.is_dir()] if is_ours else [own]
    else:
        theirs = [file for file in pictures if file.exists()]
    if theirs:
        raise OutputError(f"{theirs[0]} is there and is not of `tubes evaluate`: move it, or choose another --out")
