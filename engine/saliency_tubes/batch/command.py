"""What `tubes batch` does: find the clips, load the model, explain what is not done yet."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from ..choices import Artifact, Device, Precision
from ..model import load_model
from .progress import shown
from .run import BatchSummary, Method, run_batch
from .sources import find_clips
from .stand_in import explain_jobs, save_as


def run_command(
    sources: Sequence[str],
    out: Path,
    model: Path,
    labels: Iterable[str],
    top_k: int,
    artifacts: tuple[Artifact, ...],
    device: Device,
    precision: Precision | None,
    say: Callable[[str], None],
) -> BatchSummary:
    """See `tubes batch`; `say` prints a line to stderr."""
    found = find_clips(sources, out)
    loaded = load_model(model, device, precision)
    notes = (*filter(None, [loaded.note]),)
    for note in (*notes, *found.notes):
        say(f"note: {note}")
    with model.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    method = Method(
        explain=partial(explain_jobs, loaded, top_k=top_k),
        save=partial(save_as, artifacts=artifacts),
        settings={"model": sha256, "precision": precision, "top_k": top_k, "artifacts": sorted(artifacts)},
        notes=notes,
    )
    return run_batch(found, out, loaded.spec, method, labels, partial(shown, say=say))
