"""What `tubes demo` does: explain the clip that comes with the package, and the user's, if there is one."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import demo
from ..choices import Fit
from ..errors import ModelFileError, OutputError
from ..explanation import Explanation, folder_name
from ..graph_cache import GraphCache
from ..model import TubeModel
from ..session import open_session
from ..texts import run_document, run_text
from ..video import Clip, open_clip
from .planted import Planted, Verdict, judge, verdict_rows


@dataclass(frozen=True, eq=False)
class Shown:
    """A clip that was explained.

    Attributes:
        explanation: what was found.
        folders: where it was written.
        notes: what there is to know of what was written.
        verdict: what it makes of what is known of the clip; None for the user's.
    """

    explanation: Explanation
    folders: tuple[Path, ...]
    notes: list[str]
    verdict: Verdict | None = None


def run_demo(clip: Path | None, out: Path, progress: Callable[[str], None]) -> tuple[Shown, ...]:
    """Explain the package's own clip, then `clip`; what the user names is opened before anything is computed.

    Raises:
        SourceError: a clip cannot be read, or files of the package are missing or damaged.
        ModelFileError: the package's network is missing or damaged.
        OutputError: the results cannot be written, or those of `clip` would replace the others.
    """
    evidence = Planted.read(demo.evidence_path())
    planted = open_clip(demo.clip_path())
    theirs = None if clip is None else open_clip(clip)
    if theirs is not None and folder_name(theirs.name).casefold() == folder_name(planted.name).casefold():
        raise OutputError(
            f"{clip} is called as the demo's own clip, and would replace its results in {out}: rename it, or explain "
            f"it alone with `tubes run {clip} --model {demo.model_path()}`"
        )
    progress("loading the network")
    model = _model()
    explanation, folders, notes = _shown(model, planted, out, progress)
    shown = [Shown(explanation, folders, notes, judge(explanation, evidence))]
    if theirs is not None:
        shown.append(Shown(*_shown(model, theirs, out, progress)))
    return tuple(shown)


def demo_text(shown: tuple[Shown, ...]) -> str:
    """What was found, in plain words; the report to open comes last."""
    texts = []
    for one in shown:
        rows = [f"{about:<11}{words}" for about, words in _rows(one)]
        texts.append("\n".join([*rows, run_text(one.explanation, one.folders)]))
    return "\n\n".join(texts)


def demo_document(shown: tuple[Shown, ...]) -> dict[str, Any]:
    """The same as JSON types."""
    planted, *theirs = (run_document(one.explanation, one.folders, one.notes) for one in shown)
    verdict = shown[0].verdict
    return {
        "planted": planted | {"verdict": None if verdict is None else asdict(verdict)},
        "clip": theirs[0] if theirs else None,
    }


def _model() -> TubeModel:
    path = demo.model_path()
    try:
        return TubeModel.of(path, open_session(path, cache=GraphCache.of_user()))
    except ModelFileError as error:
        raise ModelFileError(
            f"the demo's own network cannot be used; install saliency-tubes again ({error})"
        ) from error


def _shown(
    model: TubeModel, clip: Clip, out: Path, progress: Callable[[str], None]
) -> tuple[Explanation, tuple[Path, ...], list[str]]:
    notes: list[str] = []
    explanation = model.explain(clip, sampling=demo.sampling(), fit=Fit.WHOLE, progress=progress)
    return explanation, explanation.save(out, progress, on_note=notes.append), notes


def _rows(shown: Shown) -> Iterator[tuple[str, str]]:
    explanation = shown.explanation
    if shown.verdict is not None:
        yield from verdict_rows(shown.verdict, explanation.predicted.title)
        return
    names = explanation.spec.labels or ()
    yield "clip", f"{explanation.clip.name}, of which nothing is known"
    yield (
        "network",
        f"knows {len(names)} ways in which one thing moves over textures, and not the world: {', '.join(names)}",
    )
    yield "tube", "shows what resembles most the one that it names, however sure it is"
