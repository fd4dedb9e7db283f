"""The same network in layouts that CPU kernels are fast at: exact rewrites of the exported graph.

ONNX Runtime's blocked CPU kernels (NCHWc) serve two-dimensional convolutions whose groups hold a multiple of 16
channels. The convolutions of a 3-D CNN are neither, so they run as im2col and a thin matrix product for every group.
Two rewrites bring them into that form, without an approximation:

- *bands*: time becomes channels, (N, C, T, H, W) -> (N, C*T, H, W), which moves no data. A 3x3x3 kernel becomes a 3x3
  one that is a band matrix over (frame out, frame in). It multiplies by zeros, and is faster all the same where groups
  are thin.
- *windows*: time becomes batch, (N, C, T, H, W) -> (N*T, C, H, W). A kernel over three frames sees windows of P + 2
  frames side by side in its channels, and gives P frames. What surrounds such convolutions (batch norm, ReLU, sums,
  pooling and 1x1x1 convolutions) follows into this layout.

Both write kernels with zeros in them, so that the file grows: MFNet-3D's from 32 to 51 MB. (Spreading the kernels when
the file is loaded, by nodes on constants, was tried: it made loading slower than the larger file does.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 16  # channels in a block of ONNX Runtime's NCHWc kernels where the processor has AVX-512; 8 elsewhere
_TAPS = 3
_MOST_WASTE = 2.0  # windows that multiply by more zeros than this lose to the plain convolution, or to bands
_LARGEST_WINDOW = 4
_THIN = 8  # bands of thicker groups gain a few milliseconds, and cost as many megabytes
_STEM_CHANNELS = 4  # an input of so few channels (RGB) is a pass over pixels, whatever its kernel
TO_FRAMES = [0, 2, 1, 3, 4]  # (N, C, T, H, W) <-> (N, T, C, H, W)
_POINTWISE = {"Relu", "Add", "BatchNormalization"}

_Array = NDArray[np.float32]


def relayout(model: onnx.ModelProto) -> None:
    """Rewrite the convolutions of a 3-D CNN that run faster as two-dimensional ones.

    Args:
        model: a channels-first classifier of static shapes but for N, in float32. Names of its inputs and outputs, and
            what it computes, stay the same up to rounding.
    """
    _Relayout(model).run()


@dataclass(frozen=True)
class _Conv:
    """A three-dimensional convolution, and the sizes that decide how it can be laid out."""

    node: onnx.NodeProto
    weight: _Array  # (C_out, C_in / groups, kt, kh, kw)
    bias: _Array | None
    groups: int
    strides: tuple[int, int, int]
    pads: tuple[int, ...]
    t: int
    t_out: int

    @property
    def group_channels(self) -> tuple[int, int]:
        """Channels in and out of one group."""
        return self.weight.shape[1], self.weight.shape[0] // self.groups

    @property
    def centred(self) -> bool:
        """Whether frame t of the output sees frames t-1, t, t+1, or t alone."""
        kt = self.weight.shape[2]
        return kt in (1, _TAPS) and self.pads[0] == self.pads[3] == kt // 2

    def window(self) -> "_Window | None":
        """The cheapest way to do it over windows of frames; None where there is none worth while."""
        if not self.centred or self.strides[0] != 1:
            return None
        c_in, c_out = self.group_channels
        taps = self.weight.shape[2]
        stem = self.groups == 1 and c_in <= _STEM_CHANNELS
        found = [
            _Window(frames, merged, merged * (frames + taps - 1) / taps)
            for frames in ([1] if taps == 1 else range(1, _LARGEST_WINDOW + 1))
            for merged in range(1, self.groups + 1)
            if self.t % frames == 0
            and self.groups % merged == 0
            and (stem or merged * (frames + taps - 1) * c_in % BLOCK == 0)
            and merged * frames * c_out % (2 * BLOCK if stem else BLOCK) == 0
        ]
        best = min(found, key=lambda window: (window.waste, window.frames), default=None)
        return best if best is not None and best.waste <= _MOST_WASTE else None

    def bands(self) -> bool:
        """Whether it is one over bands of frames."""
        c_in, c_out = self.group_channels
        blocks = c_in * self.t % BLOCK == 0 and c_out * self.t_out % BLOCK == 0
        return self.groups > 1 and self.weight.shape[2] == _TAPS and self.centred and blocks and 1 < c_in < _THIN


@dataclass(frozen=True)
class _Window:
    """`frames` frames are computed at once, with `merged` groups as one; `waste` is the arithmetic over what is due."""

    frames: int
    merged: int
    waste: float


class _Relayout:
    """Goes through the graph once, in order, and writes each node anew in the layout that suits it.

    A value of five dimensions keeps its name as a *volume* (N, C, T, H, W); as *frames* (N*T, C, H, W) it has a name of
    its own. Each of the two is made from the other when something asks for it, and only once.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        inferred = onnx.shape_inference.infer_shapes(model).graph
        infos = [*inferred.value_info, *inferred.input, *inferred.output]
        self.shapes = {
            info.name: tuple(side.dim_value for side in info.type.tensor_type.shape.dim[1:])
            for info in infos
            if len(info.type.tensor_type.shape.dim) == 5
        }
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {info.name for info in self.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.as_frames: dict[str, str] = {}  # volume name -> frames name
        self.volumes = set(self.shapes)  # volume names that exist, once what makes them is written
        self.made = 0

    def run(self) -> None:
        for node in self.graph.node:
            self._rewrite(node)
        for name in self.outputs & self.as_frames.keys():
            self._volume(name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        for index in reversed(range(len(self.graph.initializer))):
            if self.graph.initializer[index].name not in used:
                del self.graph.initializer[index]
        del self.graph.value_info[:]

    def _rewrite(self, node: onnx.NodeProto) -> None:
        conv = self._conv(node)
        if conv is not None and (window := conv.window()) is not None and self._pays(conv):
            self._conv_windows(conv, window)
        elif conv is not None and conv.bands():
            self._conv_bands(conv)
        elif self._follows(node):
            self._pointwise(node)
        else:
            for name in node.input:
                self._volume(name)
            self.nodes.append(node)

    def _pays(self, conv: _Conv) -> bool:
        """Frames are worth a change of layout for thin groups and for pixels; the rest takes them where they are."""
        c_in, _ = conv.group_channels
        return conv.node.input[0] in self.as_frames or conv.groups > 1 or c_in <= _STEM_CHANNELS

    def _follows(self, node: onnx.NodeProto) -> bool:
        """Whether a node is one frame's business, and one of its inputs is laid out as frames."""
        if not any(name in self.as_frames for name in node.input):
            return False
        if node.op_type == "MaxPool":
            attributes = _attributes(node)
            kernel, strides, pads = (attributes[name] for name in ("kernel_shape", "strides", "pads"))
            return (kernel[0], strides[0], pads[0], pads[3]) == (1, 1, 0, 0) and len(node.output) == 1
        volumes = [name for name in node.input if name in self.shapes]
        return node.op_type in _POINTWISE and len({self.shapes[name] for name in volumes}) == 1

    def _conv(self, node: onnx.NodeProto) -> _Conv | None:
        """What a node convolves, where it is a plain 3-D convolution with constant weights."""
        if node.op_type != "Conv" or node.input[0] not in self.shapes or node.output[0] not in self.shapes:
            return None
        if not all(name in self.constants for name in node.input[1:]):
            return None
        attributes = _attributes(node)
        if (
            any(side != 1 for side in attributes.get("dilations", ()))
            or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
        ):
            return None
        weight, *bias = (numpy_helper.to_array(self.constants[name]) for name in node.input[1:])
        strides = attributes.get("strides", [1, 1, 1])
        return _Conv(
            node=node,
            weight=weight,
            bias=bias[0] if bias else None,
            groups=attributes.get("group", 1),
            strides=(strides[0], strides[1], strides[2]),
            pads=tuple(attributes.get("pads", [0] * 6)),
            t=self.shapes[node.input[0]][1],
            t_out=self.shapes[node.output[0]][1],
        )

    def _conv_bands(self, conv: _Conv) -> None:
        """(N, C, T, H, W) is (N, G * c * T, H, W) as it lies: a 2-D convolution over (c, T) within each group."""
        c_in, _ = conv.group_channels
        kh, kw = conv.weight.shape[3:]
        band = np.zeros((conv.t_out, conv.t, _TAPS), np.float32)
        for frame in range(conv.t_out):
            for tap in range(_TAPS):
                source = frame * conv.strides[0] + tap - 1
                if 0 <= source < conv.t:
                    band[frame, source, tap] = 1
        spread = np.einsum("oidhw,fsd->ofishw", conv.weight, band)
        weight = self._constant(spread.reshape(-1, c_in * conv.t, kh, kw), conv.node.input[1])
        bias = None if conv.bias is None else np.repeat(conv.bias, conv.t_out)
        _, t, h, w = self.shapes[conv.node.input[0]]
        wide = self._reshape(self._volume(conv.node.input[0]), (0, conv.groups * c_in * t, h, w))
        out = self._conv2d(conv, wide, weight, bias, conv.groups)
        self._reshape(out, (0, *self.shapes[conv.node.output[0]]), conv.node.output[0])

    def _conv_windows(self, conv: _Conv, window: _Window) -> None:
        """Every `window.frames` frames of the output from as many and their neighbours, side by side as channels."""
        c_in, c_out = conv.group_channels
        _, _, taps, kh, kw = conv.weight.shape
        P, seen, groups = window.frames, window.frames + taps - 1, conv.groups // window.merged
        window_of = np.zeros((P, seen, taps), np.float32)
        for frame in range(P):
            window_of[frame, range(frame, frame + taps), range(taps)] = 1
        merged = np.zeros((groups, window.merged, c_out, window.merged, c_in, taps, kh, kw), np.float32)
        by_group = conv.weight.reshape(groups, window.merged, c_out, c_in, taps, kh, kw)
        for member in range(window.merged):
            merged[:, member, :, member] = by_group[:, member]
        channels = window.merged * c_in
        spread = np.einsum("gmonidhw,fsd->gfmosnihw", merged, window_of)
        weight = self._constant(spread.reshape(-1, seen * channels, kh, kw), conv.node.input[1])
        bias = None if conv.bias is None else np.tile(conv.bias.reshape(groups, 1, -1), (1, P, 1)).reshape(-1)
        out = self._conv2d(conv, self._windows(conv, P, groups), weight, bias, groups)
        if P > 1:  # (N * T / P, G, P, c, H, W): frames out of the channels again
            c, _, h, w = self.shapes[conv.node.output[0]]
            blocks = self._reshape(out, (-1, groups, P, c // groups * h * w))
            ordered = self._emit("Transpose", [blocks], perm=[0, 2, 1, 3])
            out = self._reshape(ordered, (-1, c, h, w))
        self._store(conv.node.output[0], out)

    def _windows(self, conv: _Conv, frames: int, groups: int) -> str:
        """(N * T / P, G * (P + taps - 1) * c, H, W): for every P frames, these and their neighbours, group by group."""
        source = self._frames(conv.node.input[0])
        taps = conv.weight.shape[2]
        if taps == 1:
            return source
        c, t, h, w = self.shapes[conv.node.input[0]]
        clips = self._reshape(source, (-1, t, groups, c // groups * h * w))
        padded = self._emit("Pad", [clips, self._integers([0, 1, 0, 0, 0, 1, 0, 0])])
        seen = [
            self._emit("Slice", [padded, *(self._integers([i]) for i in (tap, tap + t - frames + 1, 1, frames))])
            for tap in range(frames + taps - 1)
        ]
        beside = self._emit("Concat", seen, axis=3)
        return self._reshape(beside, (-1, c * (frames + taps - 1), h, w))

    def _conv2d(self, conv: _Conv, source: str, weight: str, bias: _Array | None, groups: int) -> str:
        inputs = [source, weight, *([] if bias is None else [self._constant(bias, conv.node.input[2])])]
        pads = [conv.pads[i] for i in (1, 2, 4, 5)]
        return self._emit("Conv", inputs, group=groups, strides=conv.strides[1:], pads=pads)

    def _pointwise(self, node: onnx.NodeProto) -> None:
        attributes = _attributes(node)
        if node.op_type == "MaxPool":
            attributes["kernel_shape"], attributes["strides"] = (
                attributes["kernel_shape"][1:],
                attributes["strides"][1:],
            )
            attributes["pads"] = [attributes["pads"][i] for i in (1, 2, 4, 5)]
            attributes["dilations"] = attributes.get("dilations", [1, 1, 1])[1:]
        inputs = [self._frames(name) if name in self.shapes else name for name in node.input]
        self._store(node.output[0], self._emit(node.op_type, inputs, **attributes))

    def _frames(self, name: str) -> str:
        """The value as (N * T, C, H, W)."""
        if name not in self.as_frames:
            by_frame = self._emit("Transpose", [name], perm=TO_FRAMES)
            self.as_frames[name] = self._reshape(by_frame, self._frames_shape(name))
        return self.as_frames[name]

    def _volume(self, name: str) -> str:
        """The value as (N, C, T, H, W), under its own name."""
        if name not in self.volumes and name in self.as_frames:
            c, t, h, w = self.shapes[name]
            clips = self._reshape(self.as_frames[name], (-1, t, c, h, w))
            self._emit("Transpose", [clips], output=name, perm=TO_FRAMES)
            self.volumes.add(name)
        return name

    def _store(self, name: str, frames: str) -> None:
        self.as_frames[name] = frames
        self.volumes.discard(name)

    def _frames_shape(self, name: str) -> tuple[int, ...]:
        c, _, h, w = self.shapes[name]
        return (-1, c, h, w)

    def _reshape(self, name: str, shape: Sequence[int], output: str | None = None) -> str:
        return self._emit("Reshape", [name, self._integers(shape)], output=output)

    def _emit(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or self._name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def _integers(self, values: Sequence[int]) -> str:
        name = "integers_" + "_".join(str(value) for value in values)
        if name not in self.constants:
            tensor = numpy_helper.from_array(np.array(values, np.int64), name)
            self.constants[name] = tensor
            self.graph.initializer.append(tensor)
        return name

    def _constant(self, values: NDArray[np.float32], name: str) -> str:
        name = self._name(name)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def _name(self, what: str) -> str:
        self.made += 1
        return f"{what}_layout_{self.made}"


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
