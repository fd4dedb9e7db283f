"""What somebody else's graph takes for a clip: which inputs, how their axes lie and how long they are."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from saliency_tubes.choices import ChannelOrder, InputLayout
from saliency_tubes.errors import ExportError

from .shapes import inputs_of, shape_of

CHANNELS = 3
_LETTERS = "NCTHW"
_LARGEST_CLIP = 2**30  # bytes, as float32; 128 frames of 448x448 are a third of it
_ACCEPTED = (
    "Accepted is one clip, or one video twice, with more and with fewer frames, as SlowFast takes it: float32, of the "
    "same height and width, in the same order of axes"
)


@dataclass(frozen=True)
class SlowInput:
    """A second input, for fewer frames of the same clip.

    Attributes:
        name: of the input.
        frames: which frames of the clip it gets.
    """

    name: str
    frames: tuple[int, ...]

    @classmethod
    def of_length(cls, name: str, length: int, whole: int) -> "SlowInput":
        """`length` of `whole` frames, at ``floor(linspace(0, whole - 1, length))``, as PySlowFast and PyTorchVideo."""
        return cls(name, tuple(i * (whole - 1) // max(length - 1, 1) for i in range(length)))


@dataclass(frozen=True)
class ClipInput:
    """How a graph takes a clip.

    Attributes:
        name: of the input; of two, the one with more frames.
        layout: the order of its axes.
        channels: the order of its colours.
        frames: T.
        size_hw: (H, W).
        fixed_batch: whether the graph says that it takes one clip at a time.
        slow: the input with fewer frames; None where there is no other.
    """

    name: str
    layout: InputLayout
    channels: ChannelOrder
    frames: int
    size_hw: tuple[int, int]
    fixed_batch: bool
    slow: SlowInput | None = None

    def __post_init__(self) -> None:
        if (size := 4 * math.prod(self.shape)) > _LARGEST_CLIP:
            sides = f"{self.frames}x{self.size_hw[0]}x{self.size_hw[1]}"
            raise ExportError(
                f"a clip of {sides} takes {size / 2**30:.1f} GiB before the network has begun: expected no more than "
                f"{_LARGEST_CLIP >> 30}, so choose smaller --frames and --size, or export the network for fewer"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The sides of one clip as the graph takes it, without N."""
        sides = {"C": CHANNELS, "T": self.frames, "H": self.size_hw[0], "W": self.size_hw[1]}
        return tuple(sides[axis] for axis in self.layout.axes[1:])

    @property
    def perm(self) -> list[int]:
        """What transposes (N, C, T, H, W) into the layout."""
        return [_LETTERS.index(axis) for axis in self.layout.axes]

    def feeds(self, clips: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """What the graph as it came is given for clips (N, 3, T, H, W) float32 RGB, by name of its inputs."""
        ordered = clips[:, ::-1] if self.channels is ChannelOrder.BGR else clips
        given = {self.name: ordered}
        if self.slow is not None:
            given[self.slow.name] = ordered[:, :, self.slow.frames]
        laid = {name: np.ascontiguousarray(clip.transpose(self.perm)) for name, clip in given.items()}
        if self.layout.folded:
            return {name: clip.reshape(-1, *clip.shape[2:]) for name, clip in laid.items()}
        return laid


def find_clip_input(
    model: onnx.ModelProto,
    layout: InputLayout | None = None,
    channels: ChannelOrder = ChannelOrder.RGB,
    frames: int | None = None,
    size: int | None = None,
) -> ClipInput:
    """Find out how a graph takes a clip.

    Args:
        model: the graph.
        layout: the order of its axes, where the graph does not say.
        channels: the order of its colours, which no graph says.
        frames: T, where the graph does not say; of two inputs, of the longer.
        size: H and W, where the graph does not say.

    Raises:
        ExportError: it takes something else, does not say, or says other than the arguments.
    """
    infos = inputs_of(model.graph)
    if len(infos) == 2 and all(_is_clip(info) for info in infos):
        return _two(infos, layout, channels, frames, size)
    info = _only(infos)
    shape = shape_of(info)
    found = _sides(info.name, shape, layout)
    if found.layout.folded:
        if shape[0] == 1:
            raise ExportError(
                f"the input {info.name} ({_text(shape)}) takes a single image: expected a network of clips, or of all "
                "the frames of a clip along the first axis"
            )
        if shape[0] is None and frames is None:
            raise ExportError(
                f"the input {info.name} ({_text(shape)}) takes frames one by one, any number: say with --frames how "
                "many make a clip"
            )
    elif shape[0] not in (1, None):
        raise ExportError(
            f"the graph takes {shape[0]} clips at a time, no more and no fewer: export it for any number, or for one"
        )
    sizes = [_side(found.by_axis[axis], given, option, axis) for axis, given, option in (
        ("T", frames, "--frames"), ("H", size, "--size"), ("W", size, "--size"),
    )]  # fmt: skip
    return ClipInput(info.name, found.layout, channels, sizes[0], (sizes[1], sizes[2]), shape[0] is not None)


@dataclass(frozen=True)
class _Sides:
    """The layout of an input, and its sides by axis: None where one is dynamic, no N where it shares T's."""

    layout: InputLayout
    by_axis: dict[str, int | None]


def _is_clip(info: onnx.ValueInfoProto) -> bool:
    return info.type.tensor_type.elem_type == TensorProto.FLOAT and len(shape_of(info)) == 5


def _only(infos: list[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if len(infos) != 1:
        raise _refused(infos, f"it has {len(infos)}")
    info = infos[0]
    if info.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ExportError(
            f"the input {info.name} takes {_kind(info)}: expected a float32 clip, normalised by whoever calls"
        )
    return info


def _two(
    infos: list[onnx.ValueInfoProto],
    layout: InputLayout | None,
    channels: ChannelOrder,
    frames: int | None,
    size: int | None,
) -> ClipInput:
    """The input of two pathways; the slow one's frames are among the fast one's."""
    found = [_sides(info.name, shape_of(info), layout) for info in infos]
    if found[0].layout is not found[1].layout:
        raise _refused(infos, f"the axes of one lie in {found[0].layout}, of the other in {found[1].layout}")
    if any(sides.by_axis["N"] not in (1, None) for sides in found):
        raise _refused(infos, "they take several clips at a time: export the network for any number, or for one")
    size_hw = []
    for axis in "HW":
        fixed = {sides.by_axis[axis] for sides in found} - {None}
        if len(fixed) > 1:
            raise _refused(infos, f"they differ in {axis}")
        size_hw.append(_side(next(iter(fixed), None), size, "--size", axis))
    lengths = _lengths(infos, [sides.by_axis["T"] for sides in found], frames)
    slow, fast = sorted((0, 1), key=lengths.__getitem__)
    return ClipInput(
        name=infos[fast].name,
        layout=found[0].layout,
        channels=channels,
        frames=lengths[fast],
        size_hw=(size_hw[0], size_hw[1]),
        fixed_batch=any(sides.by_axis["N"] == 1 for sides in found),
        slow=SlowInput.of_length(infos[slow].name, lengths[slow], lengths[fast]),
    )


def _lengths(infos: list[onnx.ValueInfoProto], given: list[int | None], frames: int | None) -> list[int]:
    """How many frames each of two inputs takes; `frames` is the longer one's, and the shorter has to be fixed."""
    fixed = [length for length in given if length is not None]
    if not fixed or (len(fixed) == 1 and frames in (None, *fixed)):
        raise _refused(
            infos,
            "how many frames each takes is not fixed: export the network with the length of the shorter fixed, and say "
            "with --frames how many the longer takes",
        )
    lengths = [frames or 0 if length is None else length for length in given]
    if frames not in (None, max(lengths)):
        raise _refused(infos, f"--frames is {frames}, and is the longer one's: leave it out where the graph says it")
    if max(lengths) % min(lengths) or lengths[0] == lengths[1]:
        raise _refused(infos, f"{max(lengths)} frames are no multiple, by two or more, of {min(lengths)}")
    return lengths


def _sides(name: str, shape: tuple[int | None, ...], asked: InputLayout | None) -> _Sides:
    """The layout whose channels are three; what is dynamic may be three as well."""
    axes = {layout: layout.axes[layout.folded :] for layout in InputLayout}
    fitting = [layout for layout in InputLayout if len(axes[layout]) == len(shape)]
    if not fitting:
        raise ExportError(
            f"the input {name} has {len(shape)} axes ({_text(shape)}): expected five, such as N3THW, or four for "
            "frames one by one, (N*T)3HW"
        )
    if asked is not None and asked not in fitting:
        raise ExportError(
            f"the layout {asked} has {len(axes[asked])} axes, and the input {name} ({_text(shape)}) has {len(shape)}: "
            f"expected {' or '.join(fitting)}"
        )
    sides = {layout: dict(zip(axes[layout], shape, strict=True)) for layout in fitting}
    if asked is not None:
        if sides[asked]["C"] not in (CHANNELS, None):
            raise ExportError(
                f"in the layout {asked} the input {name} ({_text(shape)}) has {sides[asked]['C']} colours, not 3"
            )
        return _Sides(asked, sides[asked])
    certain = [layout for layout in fitting if sides[layout]["C"] == CHANNELS]
    if len(certain) == 1:
        return _Sides(certain[0], sides[certain[0]])
    possible = certain or [layout for layout in fitting if sides[layout]["C"] is None]
    if not possible:
        raise ExportError(
            f"no axis of the input {name} ({_text(shape)}) has length 3: expected RGB frames, in one of the layouts "
            f"{', '.join(fitting)}"
        )
    raise ExportError(
        f"the input {name} ({_text(shape)}) can be read as {' and as '.join(possible)}: say which with --input-layout"
    )


def _side(found: int | None, given: int | None, option: str, axis: str) -> int:
    if found is None and given is None:
        raise ExportError(f"the graph takes any length of {axis}: say which one to export for with {option}")
    if found is not None and given not in (None, found):
        raise ExportError(f"the graph takes {axis} = {found} only, and {option} is {given}: leave {option} out")
    side = found or given or 0
    if side < 1:
        raise ExportError(f"{option} is {side}: expected at least 1")
    return side


def _refused(infos: list[onnx.ValueInfoProto], problem: str) -> ExportError:
    listing = "".join(f"\n  {info.name}  {_kind(info)} {_text(shape_of(info)) or 'scalar'}" for info in infos)
    others = [info.name for info in infos if len(shape_of(info)) < 4]
    hint = f". {', '.join(others)}: export the network with a fixed value in its place" if others else ""
    return ExportError(f"expected a graph with one input, a clip, or with two; {problem}{listing}\n{_ACCEPTED}{hint}")


def _kind(info: onnx.ValueInfoProto) -> str:
    kind = info.type.tensor_type.elem_type
    return TensorProto.DataType.Name(kind).lower() if kind else "something else than a tensor"


def _text(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)
