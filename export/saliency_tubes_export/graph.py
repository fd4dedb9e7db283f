"""What is put in front of a plain classifier's graph: the uint8 prefix, and the scale in its first kernels."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.spec import Preprocessing

from .convolution import attributes_of
from .weights import values

# What a float16 clip counts pixels in. As a power of two it keeps them exact where the mean is whole, which normalised
# values would not be; as one close to 255 * std it leaves the first kernels the size that they were trained to, away
# from the smallest numbers of float16.
HALF_UNIT = 64.0


def absorb_scale(
    model: onnx.ModelProto, preprocessing: Preprocessing, unit: float = 1.0, *, in_kernels: bool = True
) -> None:
    """Let the network take ``(x - 255 * mean) / unit`` for ``(x / 255 - mean) / std``.

    The scale goes into its first kernels. Where the input does not go into one convolution alone, or `in_kernels` is
    off, a multiplication is put in front.
    """
    graph = model.graph
    (clip,) = graph.input
    scale = (unit / (255 * np.array(preprocessing.std))).astype(np.float32)
    if in_kernels and (kernel := _first_kernel(graph)) is not None:
        by_channel = scale.reshape(3, *[1] * (len(kernel.dims) - 2))
        kernel.CopyFrom(numpy_helper.from_array(values(kernel) * by_channel, kernel.name))
        return
    graph.initializer.append(numpy_helper.from_array(scale.reshape(3, 1, 1, 1), "preprocessing_scale"))
    _put_in_front(graph, helper.make_node("Mul", [clip.name, "preprocessing_scale"], ["scaled_clip"]))


def take_rgb(model: onnx.ModelProto) -> None:
    """Let a network that takes BGR take RGB: in its first kernels, or with their order turned in front."""
    graph = model.graph
    if (kernel := _first_kernel(graph)) is not None:
        kernel.CopyFrom(numpy_helper.from_array(_turned(values(kernel)), kernel.name))
        return
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "channel_order"))
    _put_in_front(graph, helper.make_node("Gather", [graph.input[0].name, "channel_order"], ["bgr_clip"], axis=1))


def add_prefix(model: onnx.ModelProto, frames: int, preprocessing: Preprocessing) -> None:
    """Put the preprocessing in front: ``frames`` (N, T, H, W, 3) uint8 RGB become the old input, float32 or float16.

    The mean is subtracted, and for float16 the rest divided by `HALF_UNIT`: `absorb_scale` has made the network ready
    for that.
    """
    graph = model.graph
    (old,) = graph.input
    users = [node for node in graph.node if old.name in node.input]
    name, perm = old.name, [0, 4, 1, 2, 3]
    if [node.op_type for node in users] == ["Transpose"]:
        # The network wants another order, such as (N, T, 3, H, W): it gets that, instead of being transposed twice.
        name, perm = users[0].output[0], [perm[axis] for axis in attributes_of(users[0])["perm"]]
        graph.node.remove(users[0])
    behind_channels = len(perm) - 1 - perm.index(4)
    ordered = "frames" if perm == sorted(perm) else "frames_by_channel"
    nodes = [  # transposed first, while a value is one byte
        *([] if ordered == "frames" else [helper.make_node("Transpose", ["frames"], [ordered], perm=perm)]),
        helper.make_node("Cast", [ordered], ["frames_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["frames_float", "preprocessing_mean"], [name]),
    ]
    if old.type.tensor_type.elem_type == TensorProto.FLOAT16:
        nodes[-1].output[0] = "frames_centred"
        graph.initializer.append(numpy_helper.from_array(np.array(1 / HALF_UNIT, np.float32), "preprocessing_unit"))
        nodes.append(helper.make_node("Mul", ["frames_centred", "preprocessing_unit"], ["frames_scaled"]))
        nodes.append(helper.make_node("Cast", ["frames_scaled"], [name], to=TensorProto.FLOAT16))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    mean = (255 * np.array(preprocessing.mean)).astype(np.float32).reshape(3, *[1] * behind_channels)
    graph.initializer.append(numpy_helper.from_array(mean, "preprocessing_mean"))
    shape: list[str | int | None] = ["N", frames, *preprocessing.crop_hw, 3]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("frames", TensorProto.UINT8, shape))


def _first_kernel(graph: onnx.GraphProto) -> onnx.TensorProto | None:
    """The kernel of the convolution that the input goes into; None where it goes elsewhere, or the kernel is shared."""
    users = _users(graph, _pixels(graph))
    inputs = [name for node in graph.node for name in node.input]
    if [node.op_type for node in users] != ["Conv"] or inputs.count(users[0].input[1]) != 1:
        return None
    return next((t for t in graph.initializer if t.name == users[0].input[1] and t.dims[1:2] == [3]), None)


def _pixels(graph: onnx.GraphProto) -> str:
    """The tensor that convolutions take pixels from: the clip, or, where nothing else is made of it, all its frames."""
    clip = graph.input[0]
    name = str(clip.name)
    by_time = _users(graph, name)
    if [(n.op_type, attributes_of(n).get("perm")) for n in by_time] != [("Transpose", [0, 2, 1, 3, 4])]:
        return name
    by_frame = _users(graph, by_time[0].output[0])
    if [node.op_type for node in by_frame] != ["Reshape"]:
        return name
    h, w = (dim.dim_value for dim in clip.type.tensor_type.shape.dim[3:])
    targets = [numpy_helper.to_array(t).tolist() for t in graph.initializer if t.name == by_frame[0].input[1]]
    return str(by_frame[0].output[0]) if targets == [[-1, 3, h, w]] else name


def _users(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if name in node.input]


def _put_in_front(graph: onnx.GraphProto, first: onnx.NodeProto) -> None:
    for node in graph.node:
        node.input[:] = [first.output[0] if name == graph.input[0].name else name for name in node.input]
    graph.node.insert(0, first)


def _turned(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(kernel[:, ::-1])
