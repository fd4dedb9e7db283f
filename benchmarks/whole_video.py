"""Claims: a whole video costs at most 35 % more than its network, and its report is smaller than 5 MB.

A ten-second clip is explained with ``--sampling dense`` and its overlay is written: two passes of decoding, the network
over all windows, the tube, drawing and encoding. Against it stands the network alone on as many windows, in turn. The
report of the same explanation is timed against its overlay, and weighed.
"""

import statistics
from pathlib import Path

import numpy as np
from saliency_tubes import Explanation, load_model
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes.sampling import Sampling
from saliency_tubes.session import open_session

from .harness import Longer, Result, Row
from .inputs import Inputs
from .looped import looped

NAME = "whole-video"
_FRAMES, _RATE = 280, 28
_DENSE = Sampling.dense()
_LARGEST_REPORT = 5_000_000


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race a whole video against its network, and its report against its overlay."""
    model, session = load_model(inputs.model, "cpu"), open_session(inputs.model, "cpu")
    clip = looped(inputs.frames, inputs.folder / "clip.mp4", _FRAMES, _RATE)
    explanation = model.explain(clip, inputs.label, sampling=_DENSE)
    windows = len(explanation.windows)
    pixels = np.zeros((1, *model.spec.input_shape), dtype=np.uint8)

    def network() -> None:
        for _ in range(windows):
            session.run(pixels)

    def whole(out: Path) -> None:
        model.explain(clip, inputs.label, sampling=_DENSE).save(out, artifacts=["overlay"])

    theirs, ours = clock.interleave(
        NAME,
        lambda _: seconds(network),
        lambda turn: seconds(lambda: whole(inputs.folder / f"whole-{turn}")),
    )
    facts = (("windows", windows), ("frames of video a second", _FRAMES / statistics.median(ours)))
    claim = f"{_FRAMES} frames, dense, to a video: against the network alone"
    return [Result(NAME, claim, "s", ours, theirs, Longer(0.35), facts), _report(explanation, inputs, clock)]


def _report(explanation: Explanation, inputs: Inputs, clock: Clock) -> Row:
    """How long the page takes beside the overlay, and how large it is."""

    def save(kind: str, turn: int) -> float:
        return seconds(lambda: explanation.save(inputs.folder / f"{kind}-{turn}", artifacts=[kind]))

    overlay, page = clock.interleave(f"{NAME}, report", lambda t: save("overlay", t), lambda t: save("html", t))
    (file,) = inputs.folder.glob("html-1/*/*/report.html")
    size = file.stat().st_size
    if size > _LARGEST_REPORT:
        raise RuntimeError(f"the report has {size} bytes, expected at most {_LARGEST_REPORT}")
    facts = (("bytes of report.html", size),)
    return Result(NAME, "report.html of the same clip: against its overlay.mp4", "s", page, overlay, Longer(1), facts)
