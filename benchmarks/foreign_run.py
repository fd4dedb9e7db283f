"""Claim: a file exported from somebody's ONNX graph takes at most 3 % longer than that graph.

The same ONNX Runtime, its CPU provider, one clip, in turn in each round: the exported file on uint8 frames, with the
normalisation inside and the features as an output beside the logits, against the graph as PyTorch wrote it, on its
normalised float32 tensor, which gives logits alone. MFNet-3D in the plain layout, for the default one is faster; and
networks as large as R3D-18, SlowFast and X3D, with the endings of these.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from saliency_tubes import load_model
from saliency_tubes.bench.race import Clock
from saliency_tubes.choices import Layout, Norm
from saliency_tubes.presets import Pixels
from saliency_tubes.session import open_session
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import export_onnx, reference
from saliency_tubes_export.checkpoint import load_checkpoint
from saliency_tubes_export.parity import normalised
from saliency_tubes_export.torch_graph import plain_classifier

from .families import FAMILIES, write_graph
from .harness import Longer, Result, Row
from .inputs import Inputs

NAME = "foreign-run"
_BAR = Longer(0.03)
_RELATIVE_TOLERANCE = 1e-4


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Export each graph, then race the file with it."""
    clock.say(f"{NAME}: exporting MFNet-3D")
    rows = [_race("MFNet-3D", write_mfnet(inputs), inputs.folder, clock)]
    for name, family in FAMILIES.items():
        clock.say(f"{NAME}: exporting {name}")
        rows.append(_race(name, write_graph(family, inputs.folder / f"{name}.onnx"), inputs.folder, clock))
    return rows


def write_mfnet(inputs: Inputs) -> Path:
    """The checkpoint as a plain ONNX classifier, as a stranger would bring it."""
    path = inputs.folder / "mfnet.onnx"
    onnx.save(
        plain_classifier(load_checkpoint(inputs.weights).network, torch.zeros(1, 3, reference.CLIP_LENGTH, 224, 224)),
        path,
    )
    return path


def _race(name: str, graph: Path, folder: Path, clock: Clock) -> Row:
    tubes = folder / f"{name}-tubes.onnx"
    export_onnx(graph, tubes, Pixels(Norm.SLOWFAST), layout=Layout.PLAIN)
    ours = open_session(tubes, "cpu")
    spec = load_model(tubes, "cpu").spec
    frames = synthetic_clip(spec.input_shape, 0)[None]
    theirs = _original(graph, normalised(frames, spec.preprocessing))
    difference = _difference(ours.run(frames).logits, theirs())
    samples = clock.race(f"{NAME}: {name}", {"theirs": theirs, "ours": lambda: ours.run(frames)})
    facts = ((f"{name}: largest relative difference of the logits", difference),)
    return Result(NAME, f"{name}: file against graph", "s", samples["ours"], samples["theirs"], _BAR, facts)


def _original(graph: Path, clip: NDArray[np.float32]) -> Callable[[], NDArray[np.float32]]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()

    def run() -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {entry.name: clip})[0]
        return logits

    return run


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not difference <= _RELATIVE_TOLERANCE:
        raise RuntimeError(f"the logits differ by {difference:.3g} of their largest: these are not the same network")
    return difference
