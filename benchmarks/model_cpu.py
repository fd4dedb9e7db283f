"""Claim: on the CPU the exported network is ahead of the eager one, with channels first and with channels last.

At least 1.6 times against PyTorch as it comes, at least 1.05 times against its best memory format here. One clip, the
same pixels: ONNX Runtime's default CPU provider on uint8 crops, normalisation included, against eager PyTorch on its
normalised float32 tensor, normalisation not included. All give logits and features, and all take their default number
of threads. In the same rounds runs the file that ``tubes export --layout plain`` writes, which has no bar.
"""

import statistics

import torch
from saliency_tubes.bench.race import Clock
from saliency_tubes.session import open_session
from saliency_tubes_export import reference

from .agreement import compare_features
from .harness import Result, Row, TimesFaster
from .inputs import Inputs, exported
from .pipeline import channels_last, rgb_frames

NAME = "model-cpu"


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race them on the clip."""
    clip = reference.load_clip(inputs.frames)
    frames = rgb_frames(clip)
    network, last = reference.load_network(inputs.weights), channels_last(reference.load_network(inputs.weights))
    tensor_last = clip.tensor.to(memory_format=torch.channels_last_3d)
    session = open_session(inputs.model, "cpu")
    plain = open_session(exported(inputs.weights, inputs.folder / "plain.onnx", "--layout", "plain"), "cpu")
    expected = reference.infer(network, clip.tensor)[1].numpy()
    difference = compare_features(session.run(frames).features, expected)
    compare_features(reference.infer(last, tensor_last)[1].numpy(), expected)
    compare_features(plain.run(frames).features, expected)
    samples = clock.race(
        NAME,
        {
            "eager": lambda: reference.infer(network, clip.tensor),
            "last": lambda: reference.infer(last, tensor_last),
            "plain": lambda: plain.run(frames),
            "ours": lambda: session.run(frames),
        },
    )
    ours = samples["ours"]
    facts = (
        ("largest relative difference of the features", difference),
        ("--layout plain, s", statistics.median(samples["plain"])),
    )
    return [
        Result(NAME, "network, CPU: against eager", "s", ours, samples["eager"], TimesFaster(1.6), facts),
        Result(NAME, "network, CPU: against eager, channels last", "s", ours, samples["last"], TimesFaster(1.05)),
    ]
