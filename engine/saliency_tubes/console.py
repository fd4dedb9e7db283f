"""How the command speaks: results, notes, progress, documents."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


def say(text: str, error: bool = False) -> None:
    """Print text that may hold file and class names from elsewhere: nothing in it may steer the terminal."""
    typer.echo("".join(c if c.isprintable() or c == "\n" else "?" for c in text), err=error)


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr with the present stage; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda stage: status.update(escape(stage))


@contextmanager
def document_file(target: str | None) -> Iterator[Callable[[dict[str, Any]], object]]:
    """What writes a document to a file, whole or not at all; to stdout for ``-``; nowhere for None."""
    if target is None:
        yield lambda _: None
    elif target == "-":
        yield lambda document: say(json.dumps(document, allow_nan=False))
    else:
        from .replacing import replacing_file
        from .writers import write_json

        with replacing_file(Path(target), "--json") as staging:
            yield lambda document: write_json(staging, document)
