"""Claim: with everything loaded, a clip becomes pictures at least 2.5 times faster.

From a folder of frames to files. The reference writes what the published script writes, 32 PNGs and a text file.
Ours is `explain` and `save` on the CPU, and writes the same PNGs and a GIF, an MP4, an NPZ and a JSON file besides.
"""

from pathlib import Path

from saliency_tubes import load_model
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes_export import reference

from .agreement import compare_pictures, compare_tubes
from .harness import Result, Row, TimesFaster
from .inputs import Inputs

NAME = "warm-clip"


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race the two, each with its network loaded, each round into a new folder."""
    network = reference.load_network(inputs.weights)
    model = load_model(inputs.model, "cpu")

    def run_reference(out: Path) -> object:
        return reference.explain(network, inputs.frames, inputs.label, out)

    def run_ours(out: Path) -> object:
        return model.explain(inputs.frames, inputs.label).save(out)

    explanation = model.explain(inputs.frames, inputs.label)
    (folder,) = explanation.save(inputs.folder / "warm-ours")
    tube = reference.explain(network, inputs.frames, inputs.label, inputs.folder / "warm-reference")
    facts = (
        ("largest difference of the tubes", compare_tubes(explanation.tube.values, tube)),
        ("equal values in the worst picture", compare_pictures(folder, inputs.folder / "warm-reference")),
    )
    reference_s, ours_s = clock.interleave(
        NAME,
        lambda turn: seconds(lambda: run_reference(inputs.folder / f"warm-reference-{turn}")),
        lambda turn: seconds(lambda: run_ours(inputs.folder / f"warm-ours-{turn}")),
    )
    return [Result(NAME, "frames to pictures, warm", "s", ours_s, reference_s, TimesFaster(2.5), facts)]
