"""Claim: on the CPU the exported network is at least 1.6 times faster than the eager one.

One clip, the same pixels: ONNX Runtime's default CPU provider on uint8 crops, normalisation included, against eager
PyTorch on its normalised float32 tensor, normalisation not included. Both give logits and features, and both take
their default number of threads. Beside the result stand two more ways to run the network, timed after it: eager
PyTorch with channels last, its best memory format here, and the file that ``tubes export --layout plain`` writes.
"""

import statistics

import numpy as np
import torch
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes.session import open_session
from saliency_tubes_export import reference

from .harness import Result, TimesFaster
from .inputs import Inputs, exported

NAME = "model-cpu"
_RELATIVE_TOLERANCE = 1e-3


def measure(inputs: Inputs, clock: Clock) -> Result:
    """Race the two on the clip."""
    network = reference.load_network(inputs.weights)
    clip = reference.load_clip(inputs.frames)
    session = open_session(inputs.model, "cpu")
    frames = np.ascontiguousarray(np.stack(clip.pictures)[None, ..., ::-1])  # BGR to RGB

    expected = reference.infer(network, clip.tensor)[1].numpy()
    difference = float(np.abs(session.run(frames).features - expected).max() / np.abs(expected).max())
    if not difference <= _RELATIVE_TOLERANCE:
        raise RuntimeError(f"the features differ by {difference:.3g} of their largest: the two are not one network")

    reference_s, ours_s = clock.interleave(
        NAME,
        lambda _: seconds(lambda: reference.infer(network, clip.tensor)),
        lambda _: seconds(lambda: session.run(frames)),
    )
    last = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    tensor = clip.tensor.to(memory_format=torch.channels_last_3d)
    plain = open_session(exported(inputs.weights, inputs.folder / "plain.onnx", "--layout", "plain"), "cpu")
    last_s, plain_s = clock.interleave(
        f"{NAME}, other ways",
        lambda _: seconds(lambda: reference.infer(last, tensor)),
        lambda _: seconds(lambda: plain.run(frames)),
    )
    facts = (
        ("largest relative difference of the features", difference),
        ("eager with channels last, s", statistics.median(last_s)),
        ("--layout plain, s", statistics.median(plain_s)),
    )
    return Result(NAME, "clip to logits and features, CPU", "s", ours_s, reference_s, TimesFaster(1.6), facts)
