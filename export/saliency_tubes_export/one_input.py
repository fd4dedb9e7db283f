"""Whatever somebody else's graph takes for a clip, the same graph with one input (N, C, T, H, W), for any N."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.choices import InputLayout
from saliency_tubes.errors import ExportError

from .clip_input import CHANNELS, ClipInput
from .convolution import attributes_of
from .lookup import Lookup

_OF_SHAPE = ("Shape", "Size")  # what they give depends on no value


def take_clip(model: onnx.ModelProto, clip: ClipInput) -> None:
    """Let the graph have one input of five axes, in its own layout: in the place of two, or of frames one by one.

    Raises:
        ExportError: of frames one by one, it gives an answer for each.
    """
    graph = model.graph
    if clip.slow is not None:
        (slow,) = [info for info in graph.input if info.name == clip.slow.name]
        graph.input.remove(slow)
        places = _constant(graph, f"{clip.slow.name}_places", clip.slow.frames)
        axis = clip.layout.axes.index("T")
        graph.node.insert(0, helper.make_node("Gather", [clip.name, places], [clip.slow.name], axis=axis))
    elif clip.layout.folded:
        target = _constant(graph, f"{clip.name}_by_frame", (-1, *clip.shape[1:]))
        whole = _unused(graph, f"{clip.name}_by_clip")
        graph.node.insert(0, helper.make_node("Reshape", [whole, target], [clip.name]))
        graph.input[0].name = whole
        set_input(model, clip, 1)
        _check_answers(model, clip)


def set_input(model: onnx.ModelProto, clip: ClipInput, batch: int | str) -> None:
    """Give the one input its sides, and forget the shapes that followed from others."""
    (info,) = model.graph.input
    info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, [batch, *clip.shape]))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def free_batch(model: onnx.ModelProto, look: Lookup) -> None:
    """Let constants that were written for one clip follow the number of clips: targets of Reshape, parts of Concat.

    Args:
        model: the graph, its input set to any number of clips.
        look: the same graph for one clip.
    """
    computed = {info.name for info in model.graph.input}  # from the clip's values
    for node in list(model.graph.node):
        if computed.isdisjoint(node.input) or node.op_type in _OF_SHAPE:
            continue
        computed.update(node.output)
        if node.op_type == "Reshape" and node.input[0] in computed:
            _free_reshape(model.graph, node, look)
        elif node.op_type == "Concat":
            _free_concat(model.graph, node, computed, look)


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
    shape: list[str | int | None] = ["N", CHANNELS, clip.frames, *clip.size_hw]
    info.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _check_answers(model: onnx.ModelProto, clip: ClipInput) -> None:
    """Images one by one are no clip, unless the network makes one answer of their answers."""
    look = Lookup(model)
    firsts = {look.shapes.get(output.name, (None,))[:1] for output in model.graph.output}
    if clip.frames > 1 and firsts == {(clip.frames,)}:
        raise ExportError(
            f"the graph gives an answer for each of {clip.frames} frames, and none for the clip: let the network "
            "average over the frames of a clip, and export it again"
        )


def _free_reshape(graph: onnx.GraphProto, node: onnx.NodeProto, look: Lookup) -> None:
    target = look.constant(node.input[1])
    before, after = (look.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    if target is None or not before or not target.size or target[0] < 1:  # computed, or -1 or 0: it follows as it is
        return
    sides = [0, *target[1:].astype(int)]  # 0: as long as the input's
    if attributes_of(node).get("allowzero", 0):  # without a zero, it says nothing
        if 0 in target:
            return
        del node.attribute[:]
    if target[0] != before[0]:  # frames become clips, or clips frames
        if None in after:
            return
        sides = [-1, *(side or 0 for side in after[1:])]
    node.input[1] = _constant(graph, f"{node.output[0]}_of_any_batch", sides)


def _free_concat(graph: onnx.GraphProto, node: onnx.NodeProto, computed: set[str], look: Lookup) -> None:
    """Constants beside what is computed, such as the zeros that a shift in time lets in, once for every clip."""
    rank = len(look.shapes.get(node.output[0], ()))
    if not rank or attributes_of(node)["axis"] % rank == 0:
        return
    at = list(graph.node).index(node)
    follows = next(name for name in node.input if name in computed)
    for place, name in enumerate(node.input):
        values = None if name in computed else look.constant(name)
        if values is None or values.shape[:1] != (1,) or look.shapes.get(follows, (None,))[0] != 1:
            continue
        stem = f"{node.output[0]}_part{place}"
        first = _constant(graph, f"{stem}_first", (0,))
        rest = _constant(graph, f"{stem}_rest", values.shape[1:])
        added = (
            helper.make_node("Shape", [follows], [f"{stem}_shape"]),
            helper.make_node("Gather", [f"{stem}_shape", first], [f"{stem}_batch"]),
            helper.make_node("Concat", [f"{stem}_batch", rest], [f"{stem}_sides"], axis=0),
            helper.make_node("Expand", [name, f"{stem}_sides"], [stem]),
        )
        for one in reversed(added):
            graph.node.insert(at, one)
        at += len(added)
        node.input[place] = stem


def _constant(graph: onnx.GraphProto, name: str, values: tuple[int, ...] | list[int] | NDArray[np.int64]) -> str:
    """The name of a new constant of whole numbers."""
    name = _unused(graph, name)
    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _unused(graph: onnx.GraphProto, name: str) -> str:
    """A name that no tensor has."""
    taken = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    taken.update(output for node in graph.node for output in node.output)
    while name in taken:
        name += "_"
    return name


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _undoes(second: list[int], first: list[int]) -> bool:
    return [first[axis] for axis in second] == sorted(first)
