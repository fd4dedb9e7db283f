"""Options that several commands have, and what they mean together. Light: nothing of the runtime is imported early."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .choices import (
    USEFUL,
    Align,
    Artifact,
    ChannelOrder,
    Colormap,
    Device,
    Fit,
    InputLayout,
    Norm,
    Precision,
    SamplingName,
    StyleName,
    choice,
)
from .errors import OptionError

if TYPE_CHECKING:
    from .sampling import Sampling
    from .style import Style

ALL = "all"
_LONGEST = 65_536  # pixels of a side; model files hold no more
_FRAMES, _PICTURES = "What the network sees", "What is drawn"
_CHECKPOINTS, _GRAPHS = "Checkpoints", "Networks other than MFNet-3D"

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ModelOption = Annotated[Path, typer.Option("--model", "-m", help="The file that `tubes export` wrote.")]
DeviceOption = Annotated[
    Device, typer.Option(help="Where to run. auto: the first that loads of cuda, openvino and cpu; see `tubes doctor`.")
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(help="Compute in bf16 (with openvino) or tf32 (on NVIDIA GPUs). Without it: as exported."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        "-l",
        help="A class: its index, its name, or how its name begins; repeat it for several. Without it: the predicted "
        "class.",
    ),
]
TopOption = Annotated[int, typer.Option(min=0, help="Explain the N highest classes, too.")]
SaveOption = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=_PICTURES,
        metavar="WHAT,...",
        help=f"What to write, of {', '.join(Artifact)}, or {ALL}. Without it: {', '.join(USEFUL)}.",
        show_default=False,
    ),
]
CompareOption = Annotated[
    bool,
    typer.Option(
        "--compare",
        rich_help_panel=_PICTURES,
        help="Also write a video of all labels side by side, on one colour scale.",
    ),
]
SamplingOption = Annotated[
    SamplingName | None,
    typer.Option(
        rich_help_panel=_FRAMES,
        help="Which frames the network sees. uniform: one window over the whole clip; stepped: one over its beginning; "
        "dense: windows that slide over all of it. Without it: what the model file says, uniform.",
        show_default=False,
    ),
]
StrideOption = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=_FRAMES, help="dense: every N-th frame of the clip. Without it: 2.", show_default=False
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=_FRAMES,
        help="dense: share of a window that the next covers, too. Without it: 0.5.",
        show_default=False,
    ),
]
StepOption = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=_FRAMES, help="stepped: every N-th frame of the clip. Without it: 6.", show_default=False
    ),
]
MaxFramesOption = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=_FRAMES, help="stepped: at most so many of these. Without it: 24.", show_default=False
    ),
]
FitOption = Annotated[
    Fit,
    typer.Option(
        rich_help_panel=_FRAMES,
        help="How a frame becomes the network's square input. squash-crop: squashed, its centre cut out; short-side: "
        "aspect kept, the centre cut out; whole: all of it, squashed.",
    ),
]
AlignOption = Annotated[
    Align | None,
    typer.Option(
        rich_help_panel=_PICTURES,
        help="Where the cells of the map lie in the clip. centers: each in the middle of its equal share, the default; "
        "corners: the first and last at the edges, as the published scripts, and the styles of `tubes run`, have them.",
        show_default=False,
    ),
]
StyleOption = Annotated[
    StyleName | None,
    typer.Option(
        rich_help_panel=_PICTURES,
        help="Draw as the published PyTorch script does (reference), or as the Keras script (keras), alignment "
        "included. Without it: the colours of the first.",
        show_default=False,
    ),
]
ColormapOption = Annotated[
    Colormap | None,
    typer.Option(rich_help_panel=_PICTURES, help="Colours of the tube. Without it: jet.", show_default=False),
]
OpacityOption = Annotated[
    float | None,
    typer.Option(rich_help_panel=_PICTURES, help="Weight of the colours, 0 to 1. Without it: 0.5.", show_default=False),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=_PICTURES,
        help="No colours where the tube is below this, 0 to 1. Without it: 0, or 0.2 in the keras style.",
        show_default=False,
    ),
]
PresetOption = Annotated[
    Norm | None,
    typer.Option(
        "--preset",
        "--norm",
        help="How the frames that it was trained with were prepared. Without it: saliency-tubes. Networks other than "
        "MFNet-3D need it, or --mean and --std.",
        show_default=False,
    ),
]
OpsetOption = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=_CHECKPOINTS, help="ONNX operator set of the file. Without it: 18.", show_default=False
    ),
]
HeadOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_CHECKPOINTS,
        help="Which classifier of a multi-task checkpoint of MFNet-3D.",
        show_default=False,
    ),
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_CHECKPOINTS,
        metavar="MODULE:FACTORY",
        help="What makes the network that the weights are for, such as package.module:function. It is imported, from "
        "this folder, too, and called: its code is run. Without it: MFNet-3D.",
        show_default=False,
    ),
]
ArchKwargsOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_CHECKPOINTS,
        metavar="JSON",
        help="What it is called with: an object of keyword arguments.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=_GRAPHS,
        metavar="FILE",
        help="The weights of a Keras architecture, .weights.h5 or .h5.",
        show_default=False,
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_GRAPHS,
        metavar="R,G,B",
        help="What is taken from pixels between 0 and 1; one number for all three, or one each.",
        show_default=False,
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option(rich_help_panel=_GRAPHS, metavar="R,G,B", help="What the rest is divided by.", show_default=False),
]
ResizeOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_GRAPHS,
        metavar="HxW",
        help="Size of a frame before its centre is cut out. Without it: the preset's proportion to the crop, or 256 to "
        "224.",
        show_default=False,
    ),
]
InputLayoutOption = Annotated[
    InputLayout | None,
    typer.Option(
        rich_help_panel=_GRAPHS,
        case_sensitive=False,
        help="Order of the input's axes, where the network does not say (--arch: NCTHW); frames: (N*T)CHW, one by one.",
        show_default=False,
    ),
]
ChannelsOption = Annotated[
    ChannelOrder | None,
    typer.Option(rich_help_panel=_GRAPHS, help="Order of the input's colours. Without it: rgb.", show_default=False),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_GRAPHS, metavar="TENSOR", help="What is pooled. Without it: as found.", show_default=False
    ),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_GRAPHS,
        metavar="NAME",
        help="Explain what this layer gives, an earlier one than the last: a module's path or a node's name.",
        show_default=False,
    ),
]
ApproximateOption = Annotated[
    bool,
    typer.Option(
        "--approximate",
        rich_help_panel=_GRAPHS,
        help="Go on where what stands behind the features is not linear: maps will not add up to the logits, and "
        "every output says so.",
    ),
]
LogitsOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_GRAPHS,
        metavar="TENSOR",
        help="The logits to explain. Without it: as found, before any softmax.",
        show_default=False,
    ),
]


def artifacts(names: Iterable[str] | None, compare: bool = False) -> tuple[Artifact, ...]:
    """What `--save` names, several behind one comma or each behind an option of its own.

    Raises:
        OptionError: a name is unknown.
    """
    if names is None:
        chosen = list(USEFUL)
    else:
        words = [word.strip() for name in names for word in name.split(",")]
        if not any(words):
            raise OptionError(f"--save names nothing: choose among {', '.join(Artifact)}, {ALL}")
        chosen = [one for word in words if word for one in (Artifact if word == ALL else [_artifact(word)])]
    return tuple(dict.fromkeys([*chosen, Artifact.COMPARISON] if compare else chosen))


def compares(names: Iterable[str] | None, compare: bool) -> bool:
    """Whether a comparison was asked for outright, not as a part of everything."""
    return compare or any(word.strip() == Artifact.COMPARISON for name in names or () for word in name.split(","))


def _artifact(word: str) -> Artifact:
    try:
        return choice(Artifact, "artifact", word)
    except OptionError as error:
        raise OptionError(f"{error}, {ALL}") from None


def alignment(align: Align | None, style: StyleName | None) -> Align:
    """Where the cells of maps lie: as a published script has it, where its pictures are asked for."""
    return align or (Align.CENTERS if style is None else Align.CORNERS)


def style(
    name: StyleName | None, colormap: Colormap | None, opacity: float | None, threshold: float | None
) -> "Style | None":
    """How tubes are drawn; None for the published PyTorch script's look.

    Raises:
        OptionError: a number is not in its range.
    """
    name = name or StyleName.REFERENCE
    if name is StyleName.REFERENCE and all(one is None for one in (colormap, opacity, threshold)):
        return None
    from .style import Style

    return Style.of(name, colormap=colormap, opacity=opacity, threshold=threshold)


def none_given(others: str, **given: object) -> None:
    """Refuse options that belong to something else.

    Raises:
        OptionError: one of them has a value.
    """
    for name, value in given.items():
        if value is not None:
            raise OptionError(f"--{name.replace('_', '-')} is for {others}: leave it out")


def three(text: str | None, option: str) -> tuple[float, float, float] | None:
    """``R,G,B`` as numbers, or one number for all three.

    Raises:
        OptionError: it is something else.
    """
    if text is None:
        return None
    try:
        values = [float(word) for word in text.split(",")]
        r, g, b = values * 3 if len(values) == 1 else values
    except ValueError:
        raise OptionError(f"{option} is {text!r:.60}: expected R,G,B, or one number for all three") from None
    return r, g, b


def sides(text: str | None, option: str) -> tuple[int, int] | None:
    """``HEIGHTxWIDTH`` as whole numbers, or one for both.

    Raises:
        OptionError: it is something else.
    """
    if text is None:
        return None
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isascii() and word.isdigit() and 0 < int(word[:9]) <= _LONGEST for word in words):
        raise OptionError(f"{option} is {text!r:.60}: expected HEIGHTxWIDTH in pixels, or one number for both")
    return int(words[0]), int(words[-1])


def sampling(name: SamplingName | None, **given: float | None) -> "Sampling | None":
    """How frames are taken; None for what the model file says.

    Raises:
        OptionError: an option belongs to another way of sampling, or is out of its range.
    """
    if name is None and not any(value is not None for value in given.values()):
        return None
    from .sampling import Sampling

    return Sampling.of(name or SamplingName.UNIFORM, **given)
