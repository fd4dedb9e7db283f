"""Claim: each rewrite of the exported graph pays on the CPU; the network with all of them against each left out.

One clip through ONNX Runtime's CPU provider, all graphs in turn in each round. `ours` is the graph with all rewrites,
`reference` the one without the rewrite that the row names, or, in the last row, without any. A rewrite that does not
pay does not stay, so the bar is what can be told from noise.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes.choices import Norm
from saliency_tubes.presets import preset
from saliency_tubes.session import Session, open_session
from saliency_tubes_export import reference
from saliency_tubes_export.checkpoint import load_checkpoint
from saliency_tubes_export.expose import expose
from saliency_tubes_export.graph import absorb_scale, add_prefix
from saliency_tubes_export.layout import ALL_REWRITES, Rewrite, relayout
from saliency_tubes_export.tail import find_tail
from saliency_tubes_export.torch_graph import plain_classifier

from .harness import Result, Row, TimesFaster
from .inputs import Inputs
from .pipeline import rgb_frames

NAME = "rewrites"
_SCALE = "scale in kernels"
_NOTHING: frozenset[str] = frozenset()
_EVERYTHING = ALL_REWRITES | {_SCALE}
_SIZE, _OPSET = 224, 18
_PAYS = TimesFaster(1.01)
_RELATIVE_TOLERANCE = 1e-4


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race the whole against what lacks a part: one result for every rewrite, and one for all of them."""
    clip = reference.load_clip(inputs.frames)
    frames = rgb_frames(clip)
    left_out = {f"without {one}": _EVERYTHING - {one} for one in (*Rewrite, _SCALE)} | {"without any": _NOTHING}
    plain = _plain(inputs.weights)
    ours, *others = (_session(plain, kept, inputs.folder) for kept in (_EVERYTHING, *left_out.values()))
    for session in others:
        _check_same(session, ours, frames)
    ours_s, *others_s = clock.in_turn(NAME, [_job(session, frames) for session in (ours, *others)])
    return [
        Result(NAME, f"the network {name}", "s", ours_s, samples, _PAYS)
        for name, samples in zip(left_out, others_s, strict=True)
    ]


def _plain(weights: Path) -> onnx.ModelProto:
    """The graph as PyTorch exports it, its features exposed."""
    example = torch.zeros(1, 3, reference.CLIP_LENGTH, _SIZE, _SIZE)
    model = plain_classifier(load_checkpoint(weights).network, example, _OPSET)
    expose(model, find_tail(model))
    return model


def _session(plain: onnx.ModelProto, rewrites: frozenset[str], folder: Path) -> Session:
    """A session of the graph with some rewrites."""
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    preprocessing = preset(Norm.SALIENCY_TUBES, _SIZE)
    absorb_scale(model, preprocessing, in_kernels=_SCALE in rewrites)
    relayout(model, ALL_REWRITES & rewrites)
    add_prefix(model, reference.CLIP_LENGTH, preprocessing)
    path = folder / "rewritten.onnx"
    onnx.save(model, path)
    return open_session(path, "cpu")


def _check_same(one: Session, other: Session, frames: NDArray[np.uint8]) -> None:
    a, b = one.run(frames).features, other.run(frames).features
    difference = float(np.abs(a - b).max() / np.abs(b).max())
    if not difference <= _RELATIVE_TOLERANCE:
        raise RuntimeError(f"the features differ by {difference:.3g} of their largest: a rewrite is not exact")


def _job(session: Session, frames: NDArray[np.uint8]) -> Callable[[int], float]:
    return lambda _: seconds(lambda: session.run(frames))
