"""Claim: with everything loaded, a clip becomes pictures at least 3 times faster, with OpenVINO's bfloat16 6 times.

From a folder of frames to both sets of PNGs, 32 files: `explain` and `save` against the published pipeline. OpenVINO
runs the file of ``tubes export --layout plain``. In one row we write a GIF, a video of the whole clip
and an NPZ besides, which the reference does not.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from saliency_tubes import TubeModel, load_model
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes.choices import PUBLISHED, Align, Artifact, Precision
from saliency_tubes_export import reference

from .agreement import compare_pictures, compare_tubes
from .harness import Result, Row, Skipped, TimesFaster
from .inputs import Inputs, exported
from .openvino_cpu import obstacle

NAME = "warm-clip"
_MORE = (*PUBLISHED, Artifact.GIF, Artifact.OVERLAY, Artifact.NPZ)
_BARS = {Precision.FP32: TimesFaster(3), Precision.BF16: TimesFaster(6)}


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race them, each with its network loaded, each round into a new folder."""
    network = reference.load_network(inputs.weights)
    tube = reference.explain(network, inputs.frames, inputs.label, inputs.folder / "warm-reference")
    default = load_model(inputs.model, "cpu")
    explanation = default.explain(inputs.frames, inputs.label, align=Align.CORNERS)
    (folder,) = explanation.save(inputs.folder / "warm-ours", artifacts=PUBLISHED)
    facts = (
        ("largest difference of the tubes", compare_tubes(explanation.tube.values, tube)),
        ("equal values in the worst picture", compare_pictures(folder, inputs.folder / "warm-reference")),
    )
    ways: dict[str, tuple[TimesFaster, Callable[[Path], object]]] = {
        "frames to PNGs": (TimesFaster(3), partial(_run, default, inputs, PUBLISHED)),
        "frames to PNGs, GIF, video and arrays": (TimesFaster(2.5), partial(_run, default, inputs, _MORE)),
    }
    skipped: list[Row] = []
    for precision, bar in _BARS.items():
        name = f"frames to PNGs, OpenVINO {precision}"
        if (why := obstacle(precision)) is None:
            file = exported(inputs.weights, inputs.folder / "warm-plain.onnx", "--layout", "plain")
            ways[name] = bar, partial(_run, load_model(file, "openvino", precision), inputs, PUBLISHED)
        else:
            skipped.append(Skipped(NAME, f"{name}, warm", why))
    theirs, *ours = clock.in_turn(
        NAME,
        [
            _sampler(
                lambda out: reference.explain(network, inputs.frames, inputs.label, out), inputs.folder / "theirs"
            ),
            *(_sampler(run, inputs.folder / name) for name, (_, run) in ways.items()),
        ],
    )
    rows = [
        Result(NAME, f"{name}, warm", "s", samples, theirs, bar, facts if not i else ())
        for i, ((name, (bar, _)), samples) in enumerate(zip(ways.items(), ours, strict=True))
    ]
    return [*rows, *skipped]


def _run(model: TubeModel, inputs: Inputs, artifacts: tuple[Artifact, ...], out: Path) -> object:
    return model.explain(inputs.frames, inputs.label, align=Align.CORNERS).save(out, artifacts=artifacts)


def _sampler(job: Callable[[Path], object], folder: Path) -> Callable[[int], float]:
    return lambda turn: seconds(lambda: job(folder / str(turn)))
