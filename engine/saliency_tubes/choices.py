"""What options can be, by name: apart from the rest, so that a command line can be read before anything is imported."""

from enum import StrEnum


class Device(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Layout(StrEnum):
    """How the convolutions of an exported network are written down; what they compute is the same."""

    BLOCKED = "blocked"  # two-dimensional, for the blocked kernels of ONNX Runtime on the CPU
    PLAIN = "plain"  # three-dimensional, as the network's own framework has them


class Norm(StrEnum):
    """Named preprocessing: what the published scripts did to the frames."""

    SALIENCY_TUBES = "saliency-tubes"
    MFNET = "mfnet"
