"""The one input of somebody else's graph: how its axes lie and how long they are; and the graph as if they lay ours."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.choices import ChannelOrder, InputLayout
from saliency_tubes.errors import ExportError

from .convolution import attributes_of
from .lookup import Lookup, shape_of

_CHANNELS = 3
_LETTERS = "NCTHW"


@dataclass(frozen=True)
class ClipInput:
    """How a graph takes a clip.

    Attributes:
        name: of the input.
        layout: the order of its axes.
        channels: the order of its colours.
        frames: T.
        size_hw: (H, W).
        fixed_batch: whether the graph says that it takes one clip at a time.
    """

    name: str
    layout: InputLayout
    channels: ChannelOrder
    frames: int
    size_hw: tuple[int, int]
    fixed_batch: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The sides of one clip as the graph takes it, without N."""
        sides = {"C": _CHANNELS, "T": self.frames, "H": self.size_hw[0], "W": self.size_hw[1]}
        return tuple(sides[axis] for axis in self.layout.value[1:])

    @property
    def perm(self) -> list[int]:
        """What transposes (N, C, T, H, W) into the layout."""
        return [_LETTERS.index(axis) for axis in self.layout.value]

    def of(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clips (N, 3, T, H, W) float32 RGB as the graph takes them."""
        ordered = clips[:, ::-1] if self.channels is ChannelOrder.BGR else clips
        return np.ascontiguousarray(ordered.transpose(self.perm))


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
        frames: T, where the graph does not say.
        size: H and W, where the graph does not say.

    Raises:
        ExportError: it takes something else, does not say, or says other than the arguments.
    """
    info = _only_input(model)
    shape = shape_of(info)
    if len(shape) == 4:
        raise ExportError(
            f"the input {info.name} has four axes ({_text(shape)}): networks of images, and of frames one by one "
            "(N*T, 3, H, W), are not supported"
        )
    if len(shape) != 5:
        raise ExportError(f"the input {info.name} has {len(shape)} axes ({_text(shape)}): expected five, such as N3THW")
    layout = _layout(info.name, shape, layout)
    if shape[0] not in (1, None):
        raise ExportError(
            f"the graph takes {shape[0]} clips at a time, no more and no fewer: export it for any number, or for one"
        )
    found = dict(zip(layout.value, shape, strict=True))
    sizes = [_side(found[axis], given, option, axis) for axis, given, option in (
        ("T", frames, "--frames"), ("H", size, "--size"), ("W", size, "--size"),
    )]  # fmt: skip
    return ClipInput(info.name, layout, channels, sizes[0], (sizes[1], sizes[2]), shape[0] == 1)


def set_input(model: onnx.ModelProto, clip: ClipInput, batch: int | str) -> None:
    """Give the input its sides, and forget the shapes that followed from others."""
    info = _only_input(model)
    info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, [batch, *clip.shape]))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def free_batch(model: onnx.ModelProto, look: Lookup) -> None:
    """Let constant targets of Reshape that were written for one clip take the number of clips from what they reshape.

    Args:
        model: the graph, its input set to any number of clips.
        look: the same graph for one clip.
    """
    for node in model.graph.node:
        target = look.constant(node.input[1]) if node.op_type == "Reshape" else None
        if target is None or target[:1] != 1 or look.shapes.get(node.input[0], (None,))[0] != 1:
            continue
        if attributes_of(node).get("allowzero", 0):  # without a zero, it says nothing
            if 0 in target:
                continue
            del node.attribute[:]
        name = f"{node.output[0]}_of_any_batch"
        sides = np.array([0, *target[1:]], np.int64)  # 0: as long as the input's
        model.graph.initializer.append(numpy_helper.from_array(sides, name))
        node.input[1] = name


def to_channels_first(model: onnx.ModelProto, clip: ClipInput, name: str) -> None:
    """Let the graph take (N, C, T, H, W), called `name`; a Transpose that undoes ours falls out with it."""
    graph = model.graph
    (info,) = graph.input
    old = info.name
    users = [node for node in graph.node if old in node.input]
    if clip.layout is InputLayout.NCTHW:
        _rename(graph, old, name)
    elif [node.op_type for node in users] == ["Transpose"] and _undoes(attributes_of(users[0])["perm"], clip.perm):
        graph.node.remove(users[0])
        _rename(graph, users[0].output[0], name)
    else:
        graph.node.insert(0, helper.make_node("Transpose", [name], [old], perm=clip.perm))
    shape: list[str | int | None] = ["N", _CHANNELS, clip.frames, *clip.size_hw]
    info.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _only_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in weights]
    if len(inputs) != 1:
        listing = "".join(f"\n  {info.name}  {_text(shape_of(info))}" for info in inputs)
        raise ExportError(
            f"expected a graph with one input, a clip; it has {len(inputs)}{listing}\nNetworks of several "
            "inputs, such as one for each pathway, are not supported"
        )
    info: onnx.ValueInfoProto = inputs[0]
    kind = info.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(kind).lower() if kind else "something else than a tensor"
        raise ExportError(f"the input {info.name} takes {found}: expected a float32 clip, normalised by whoever calls")
    return info


def _layout(name: str, shape: tuple[int | None, ...], asked: InputLayout | None) -> InputLayout:
    """The layout whose channels are three; what is dynamic may be three as well."""
    sides = {layout: shape[layout.value.index("C")] for layout in InputLayout}
    if asked is not None:
        if sides[asked] not in (_CHANNELS, None):
            raise ExportError(
                f"in the layout {asked} the input {name} ({_text(shape)}) has {sides[asked]} colours, not 3"
            )
        return asked
    certain = [layout for layout, side in sides.items() if side == _CHANNELS]
    if len(certain) == 1:
        return certain[0]
    possible = certain or [layout for layout, side in sides.items() if side is None]
    if not possible:
        raise ExportError(
            f"no axis of the input {name} ({_text(shape)}) has length 3: expected RGB frames, in one of the layouts "
            f"{', '.join(InputLayout)}"
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


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _undoes(second: list[int], first: list[int]) -> bool:
    return [first[axis] for axis in second] == sorted(first)


def _text(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)
