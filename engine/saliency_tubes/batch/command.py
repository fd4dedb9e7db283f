"""What `tubes batch` does: find the clips, load the model, explain what is not done yet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ..choices import Align, Artifact, Device, Fit, Precision, SamplingName
from ..explanation import Explanation
from ..model import TubeModel, load_model
from ..progress import StopWords, shown
from ..sampling import Sampling
from ..style import Style
from ..time_steps import TimeSteps
from .run import BatchSummary, Procedure, run_batch
from .sources import find_clips

STOP_WORDS = StopWords(
    heard="stopping when the clips in hand are finished; Ctrl-C again stops at once",
    ended="stopped. What is finished is on record; the same command goes on from there",
)


@dataclass(frozen=True)
class Order:
    """How every clip of a batch is explained, and what is written of it.

    Attributes:
        labels: classes for the clips that were named without one.
        top_k: how many of each clip's highest classes to explain, too.
        sampling: which frames the network sees; None for what the model file says.
        fit: how they are brought to the network's input.
        align: where the cells of the maps lie in the clip.
        artifacts: what is written.
        style: how it is drawn; None for the published look.
    """

    labels: tuple[str, ...]
    top_k: int
    sampling: Sampling | None
    fit: Fit
    align: Align
    artifacts: tuple[Artifact, ...]
    style: Style | None


def run_command(
    sources: Sequence[str],
    out: Path,
    model: Path,
    device: Device,
    precision: Precision | None,
    order: Order,
    say: Callable[[str], None],
) -> BatchSummary:
    """See `tubes batch`; `say` prints a line to stderr."""
    found = find_clips(sources, out)
    loaded = load_model(model, device, precision)
    sampling = order.sampling or Sampling(SamplingName(loaded.spec.sampling))
    notes = tuple(_notes(loaded, sampling))
    for note in (*notes, *found.notes):
        say(f"note: {note}")
    settings = asdict(replace(order, sampling=sampling))
    settings |= {"model": loaded.sha256, "precision": precision, "artifacts": sorted(order.artifacts)}
    del settings["labels"]  # each clip has its own
    if order.align is Align.CORNERS:  # what was done before there was a choice need not be done again
        del settings["align"]
    procedure = Procedure(
        explain=partial(
            loaded.explain_jobs, top_k=order.top_k, sampling=order.sampling, fit=order.fit, align=order.align
        ),
        save=partial(save_as, artifacts=order.artifacts, style=order.style),
        settings=settings,
        notes=notes,
    )
    return run_batch(found, out, loaded.spec, procedure, order.labels, partial(shown, say=say, words=STOP_WORDS))


def _notes(model: TubeModel, sampling: Sampling) -> Iterator[str]:
    """What is true of all clips; how far approximate maps are off is each clip's own."""
    spec = model.spec
    if spec.approximate is not None:
        yield f"approximate: {spec.approximate}"
    if model.note is not None:
        yield model.note
    slides = sampling.name is SamplingName.DENSE
    time = TimeSteps.of(spec.features_shape[1], range(spec.frames), slides=slides).note
    if time is not None:
        yield time


def save_as(
    explanation: Explanation,
    out: Path,
    name: str,
    on_note: Callable[[str], None],
    artifacts: Iterable[Artifact],
    style: Style | None = None,
) -> tuple[Path, ...]:
    """Save into ``out/name/``, whatever the clip itself is called."""
    named = replace(explanation, clip=replace(explanation.clip, name=name))
    return named.save(out, artifacts=artifacts, style=style, on_note=on_note)
