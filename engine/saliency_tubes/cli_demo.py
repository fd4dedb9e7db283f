"""The command that shows what the others do, with a network and a clip of the package's own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .console import progress_line, say
from .options import DebugOption, JsonOption

app = typer.Typer()


@app.command(epilog="Examples:\n\n  tubes demo\n\n  tubes demo clip.mp4 --out figures")
def demo(
    clip: Annotated[
        Path | None,
        typer.Argument(
            help="A clip of yours to explain, too: a video, a GIF, or a folder of frames.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("visualisations"),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Explain a clip that comes with the package, by a network that does.

    In that clip one thing's motion is the class, and it is known where and
    when it moves: the demo says whether the tube points at it.
    """
    with progress_line() as progress:
        from .demo.command import demo_document, demo_text, run_demo

        shown = run_demo(clip, out, progress)
    for note in dict.fromkeys(note for one in shown for note in (*one.explanation.notes, *one.notes)):
        say(f"note: {note}", error=True)
    say(json.dumps(demo_document(shown)) if as_json else demo_text(shown))
