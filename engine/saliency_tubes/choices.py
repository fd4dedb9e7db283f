"""What options can be, by name: apart from the rest, so that a command line can be read before anything is imported."""

from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from .errors import OptionError

E = TypeVar("E", bound=StrEnum)


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
    """Named preprocessing: what published scripts, and libraries of video networks, do to the frames."""

    SALIENCY_TUBES = "saliency-tubes"
    MFNET = "mfnet"
    KINETICS_TORCHVISION = "kinetics-torchvision"
    SLOWFAST = "slowfast"
    MMACTION = "mmaction"
    I3D = "i3d"


class InputLayout(StrEnum):
    """The order of the axes of a clip: clips, colours, time, height, width."""

    NCTHW = "NCTHW"
    NTHWC = "NTHWC"
    NTCHW = "NTCHW"
    FRAMES = "frames"  # (N*T, C, H, W): frames one by one, those of a clip in a row
    FRAMES_LAST = "frames-last"  # (N*T, H, W, C)

    @property
    def folded(self) -> bool:
        """Whether clips and time share the first axis."""
        return self in (InputLayout.FRAMES, InputLayout.FRAMES_LAST)

    @property
    def axes(self) -> str:
        """The five axes in their order, such as ``"NTCHW"``; N and T also where they share one."""
        return {InputLayout.FRAMES: "NTCHW", InputLayout.FRAMES_LAST: "NTHWC"}.get(self, self.value)


class ChannelOrder(StrEnum):
    """The order of the colours of a pixel."""

    RGB = "rgb"
    BGR = "bgr"


class SamplingName(StrEnum):
    """Which frames of a clip the network sees."""

    UNIFORM = "uniform"  # one window at even distances over the whole clip, as the published script
    STEPPED = "stepped"  # one window of every step-th frame, as the published frame extractor
    DENSE = "dense"  # windows that slide over the whole video


class Fit(StrEnum):
    """How a frame of any shape is brought to the network's square input."""

    SQUASH_CROP = "squash-crop"  # squashed, then the centre cut out, as the published script
    SHORT_SIDE = "short-side"  # resized with its aspect kept, then the centre cut out
    WHOLE = "whole"  # all of it, squashed


class Align(StrEnum):
    """Where the cells of the feature map lie in the clip."""

    CENTERS = "centers"  # each in the middle of its equal share
    CORNERS = "corners"  # the first and last at the edges, as the published scripts' upsampling has them


class Fill(StrEnum):
    """What takes the place of what is removed from a clip, to see whether the network needs it."""

    BLUR = "blur"  # the mean of all frames, blurred
    MEAN = "mean"  # the clip's mean colour


class Artifact(StrEnum):
    """What can be written for an explained clip."""

    OVERLAY = "overlay"
    SHEET = "sheet"
    TIMELINE = "timeline"
    HTML = "html"
    HEATMAP = "heatmap"
    FOCUSMAP = "focusmap"
    GIF = "gif"
    NPZ = "npz"
    COMPARISON = "comparison"


# What is written unless it is said otherwise: what one wants to look at first.
USEFUL = (Artifact.OVERLAY, Artifact.SHEET, Artifact.TIMELINE, Artifact.HTML)
MOST_COMPARED = 36  # labels side by side; more would be too small to tell anything
PUBLISHED = (Artifact.HEATMAP, Artifact.FOCUSMAP)  # what the published script writes


class Colormap(StrEnum):
    """Colours for a tube, from 0 to 1. Viridis and cividis read well in grey print and with any colour vision."""

    JET = "jet"
    TURBO = "turbo"
    VIRIDIS = "viridis"
    INFERNO = "inferno"
    MAGMA = "magma"
    PLASMA = "plasma"
    CIVIDIS = "cividis"
    PARULA = "parula"
    HOT = "hot"
    BONE = "bone"
    GRAY = "gray"


class StyleName(StrEnum):
    """Whose pictures to draw: the two published implementations normalise and blend each in its own way."""

    REFERENCE = "reference"  # the PyTorch script's
    KERAS = "keras"


class ImageFormat(StrEnum):
    """What frames taken out of a video are written as."""

    JPG = "jpg"
    PNG = "png"


def parse_artifacts(names: Iterable[Artifact | str]) -> frozenset[Artifact]:
    """The artifacts that these names name; a single name may come as it is.

    Raises:
        OptionError: one names none.
    """
    several = [names] if isinstance(names, str) else names
    return frozenset(choice(Artifact, "artifact", one) for one in several)


def choice(kind: type[E], what: str, value: object) -> E:
    """The member of `kind` that `value` names; `what` calls it in the error.

    Raises:
        OptionError: it names none.
    """
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        raise OptionError(f"there is no {what} {str(value)[:80]!r}: choose among {', '.join(kind)}") from None
