"""What options can be, by name: apart from the rest, so that a command line can be read before anything is imported."""

from enum import StrEnum


class Device(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


class Precision(StrEnum):
    """What a network computes in; logits and features are float32 all the same.

    A file is exported as fp32 or fp16. Where a file of fp32 runs, its device may be allowed less: tf32 on NVIDIA GPUs,
    bf16 with OpenVINO.
    """

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


class Against(StrEnum):
    """Whom `tubes bench` measures a model against; `saliency_tubes_export` has a module for each."""

    EAGER = "eager"  # the network alone
    REFERENCE = "reference"  # the whole published pipeline


class Layout(StrEnum):
    """How the convolutions of an exported network are written down; what they compute is the same."""

    BLOCKED = "blocked"  # two-dimensional, for the blocked kernels of ONNX Runtime on the CPU
    PLAIN = "plain"  # three-dimensional, as the network's own framework has them


class Norm(StrEnum):
    """Named preprocessing: what the published scripts did to the frames."""

    SALIENCY_TUBES = "saliency-tubes"
    MFNET = "mfnet"


class Artifact(StrEnum):
    """What can be written for an explained label."""

    HEATMAP = "heatmap"
    FOCUSMAP = "focusmap"
    OVERLAY = "overlay"
    GIF = "gif"
    NPZ = "npz"


class ImageFormat(StrEnum):
    """What frames taken out of a video are written as."""

    JPG = "jpg"
    PNG = "png"
