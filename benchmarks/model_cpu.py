"""Claim: on the CPU the exported network is at least 1.25 times faster than the eager one.

One clip, the same pixels: ONNX Runtime's default CPU provider on uint8 crops, normalisation included, against eager
PyTorch on its normalised float32 tensor, normalisation not included. Both give logits and features, and both take
their default number of threads.
"""

import numpy as np
from saliency_tubes.session import open_session

from . import reference
from .harness import Clock, Result, TimesFaster, seconds
from .inputs import Inputs

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
    facts = (("largest relative difference of the features", difference),)
    return Result(NAME, "clip to logits and features, CPU", "s", ours_s, reference_s, TimesFaster(1.25), facts)
