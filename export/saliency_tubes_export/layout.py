"""The same network in layouts that CPU kernels are fast at: exact rewrites of the exported graph.

ONNX Runtime's blocked CPU kernels (NCHWc) serve two-dimensional convolutions whose groups hold a multiple of 16
channels. The convolutions of a 3-D CNN are neither, so they run as im2col and a thin matrix product for every group.
Three layouts of a *volume* (N, C, T, H, W) bring them into that form, without an approximation:

- *frames*: time becomes batch, (N * T, C, H, W). A kernel over three frames sees windows of P + 2 frames side by side
  in its channels, and gives P frames. What follows such a convolution stays in this layout as long as it can.
- *bands*: time becomes channels, (N, C * T, H, W), which moves no data. A 3x3x3 kernel becomes a 3x3 one that is a band
  matrix over (frame out, frame in). It multiplies by zeros, and is faster all the same where groups are thin.
- *tall*: time becomes height, (N, C, T * H, W), which moves no data either: for what looks at one place alone, 1x1x1
  convolutions and the batch norms, ReLUs and sums around them.

Windows and bands write kernels with zeros in them, so that the file grows: MFNet-3D's from 32 to 66 MB. (Spreading the
kernels when the file is loaded, by nodes on constants, was tried: it made loading slower than the larger file does.)
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .convolution import BLOCK, STEM_CHANNELS, TAPS, Conv, Window, attributes_of, read_conv

TO_FRAMES = [0, 2, 1, 3, 4]  # (N, C, T, H, W) <-> (N, T, C, H, W)
_POINTWISE = {"Relu", "Add", "BatchNormalization"}

_Array = NDArray[np.float32]


class Rewrite(StrEnum):
    """What is rewritten; each can be left out, so that it can be measured what it brings."""

    WINDOWS = "windows"  # convolutions over windows of frames, in the layout of frames
    BANDS = "bands"  # convolutions of thin groups over bands of frames
    TALL = "tall"  # 1x1x1 convolutions over tall images
    BATCH_NORM = "batch-norm"  # batch norms between these, as convolutions of one channel each


ALL_REWRITES = frozenset(Rewrite)


def relayout(model: onnx.ModelProto, rewrites: frozenset[Rewrite] = ALL_REWRITES) -> None:
    """Rewrite the convolutions of a 3-D CNN that run faster as two-dimensional ones.

    Args:
        model: a channels-first classifier of static shapes but for N, in float32. Names of its inputs and outputs, and
            what it computes, stay the same up to rounding.
        rewrites: which of them to do.
    """
    _Relayout(model, rewrites).run()


class _Form(StrEnum):
    """How a value lies in memory."""

    VOLUME = "volume"
    FRAMES = "frames"
    BANDS = "bands"
    TALL = "tall"


class _Relayout:
    """Goes through the graph once, in order, and writes each node anew in the layout that suits it.

    A value of five dimensions keeps its name as a volume, and has one of its own in each other form. A form is made
    when something asks for it, and only once.
    """

    def __init__(self, model: onnx.ModelProto, rewrites: frozenset[Rewrite]) -> None:
        self.graph = model.graph
        self.rewrites = rewrites
        inferred = onnx.shape_inference.infer_shapes(model).graph
        infos = [*inferred.value_info, *inferred.input, *inferred.output]
        self.shapes = {
            info.name: tuple(side.dim_value for side in dims[1:])
            for info in infos
            if len(dims := info.type.tensor_type.shape.dim) == 5 and all(side.dim_value for side in dims[1:])
        }
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {info.name for info in self.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        # The forms that a value has, by its name; what the table lacks is a volume.
        self.forms: dict[str, dict[_Form, str]] = {}
        self.made = 0

    def run(self) -> None:
        for node in self.graph.node:
            self._rewrite(node)
        for name in self.outputs & self.forms.keys():
            self._get(name, _Form.VOLUME)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        for index in reversed(range(len(self.graph.initializer))):
            if self.graph.initializer[index].name not in used:
                del self.graph.initializer[index]
        del self.graph.value_info[:]

    def _rewrite(self, node: onnx.NodeProto) -> None:
        conv = self._conv(node)
        if conv is not None and (window := self._window(conv)) is not None:
            self._conv_windows(conv, window)
        elif conv is not None and Rewrite.BANDS in self.rewrites and conv.bands():
            self._conv_bands(conv)
        elif conv is not None and Rewrite.TALL in self.rewrites and self._is_tall(conv):
            weight = self._constant(conv.weight[:, :, 0], node.input[1])
            self._store(
                node, _Form.TALL, self._conv2d(conv, self._get(node.input[0], _Form.TALL), weight, conv.bias, 1)
            )
        elif (form := self._form_of(node)) is not _Form.VOLUME:
            self._follow(node, form)
        else:
            for name in node.input:
                self._get(name, _Form.VOLUME)
            self.nodes.append(node)

    def _window(self, conv: Conv) -> Window | None:
        """Frames are worth a change of layout for thin groups and for pixels; the rest takes them where they are."""
        c_in, _ = conv.group_channels
        there = _Form.FRAMES in self.forms.get(conv.node.input[0], {})
        pays = conv.groups > 1 or c_in <= STEM_CHANNELS or there
        return conv.window() if pays and Rewrite.WINDOWS in self.rewrites else None

    def _is_tall(self, conv: Conv) -> bool:
        """Whether it looks at single places, and no stride of it runs from one frame into the next."""
        return conv.pointwise and self.shapes[conv.node.input[0]][2] % conv.strides[1] == 0

    def _form_of(self, node: onnx.NodeProto) -> _Form:
        """The form in which to write a node that is no convolution: one in which some of its input is there already."""
        there = {form for name in node.input for form in self.forms.get(name, {})}
        if node.op_type == "MaxPool":
            attributes = attributes_of(node)
            kernel, strides, pads = attributes["kernel_shape"], attributes.get("strides"), attributes.get("pads")
            if strides is None or pads is None or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
                return _Form.VOLUME
            of_frames = (kernel[0], strides[0], pads[0], pads[3]) == (1, 1, 0, 0) and len(node.output) == 1
            return _Form.FRAMES if of_frames and _Form.FRAMES in there else _Form.VOLUME
        if node.op_type == "BatchNormalization" and not all(name in self.constants for name in node.input[1:]):
            return _Form.VOLUME
        if node.op_type == "Add" and not all(name in self.shapes for name in node.input):
            return _Form.VOLUME  # a constant is shaped for a volume
        sizes = {self.shapes[name] for name in node.input if name in self.shapes}
        if node.op_type not in _POINTWISE or len(sizes) != 1:
            return _Form.VOLUME
        forms = [_Form.FRAMES, _Form.TALL, *([_Form.BANDS] if node.op_type == "Relu" else [])]
        return next((form for form in forms if form in there), _Form.VOLUME)

    def _conv(self, node: onnx.NodeProto) -> Conv | None:
        if node.op_type != "Conv" or not all(name in self.shapes for name in (node.input[0], node.output[0])):
            return None
        if not all(name in self.constants for name in node.input[1:]):
            return None
        arrays = [self._array(name) for name in node.input[1:]]
        return read_conv(node, arrays, self.shapes[node.input[0]][1], self.shapes[node.output[0]][1])

    def _conv_bands(self, conv: Conv) -> None:
        """(N, C, T, H, W) is (N, G * c * T, H, W) as it lies: a 2-D convolution over (c, T) within each group."""
        c_in, _ = conv.group_channels
        kh, kw = conv.weight.shape[3:]
        band = np.zeros((conv.t_out, conv.t, TAPS), np.float32)
        for frame in range(conv.t_out):
            for tap in range(TAPS):
                seen = frame * conv.strides[0] + tap - 1
                if 0 <= seen < conv.t:
                    band[frame, seen, tap] = 1
        spread = np.einsum("oidhw,fsd->ofishw", conv.weight, band)
        weight = self._constant(spread.reshape(-1, c_in * conv.t, kh, kw), conv.node.input[1])
        bias = None if conv.bias is None else np.repeat(conv.bias, conv.t_out)
        source = self._get(conv.node.input[0], _Form.BANDS)
        self._store(conv.node, _Form.BANDS, self._conv2d(conv, source, weight, bias, conv.groups))

    def _conv_windows(self, conv: Conv, window: Window) -> None:
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
        self._store(conv.node, _Form.FRAMES, out)

    def _windows(self, conv: Conv, frames: int, groups: int) -> str:
        """(N * T / P, G * (P + taps - 1) * c, H, W): for every P frames, these and their neighbours, group by group."""
        source = self._get(conv.node.input[0], _Form.FRAMES)
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

    def _conv2d(self, conv: Conv, source: str, weight: str, bias: _Array | None, groups: int) -> str:
        inputs = [source, weight, *([] if bias is None else [self._constant(bias, conv.node.input[2])])]
        pads = [conv.pads[i] for i in (1, 2, 4, 5)]
        return self._emit("Conv", inputs, group=groups, strides=conv.strides[1:], pads=pads)

    def _follow(self, node: onnx.NodeProto, form: _Form) -> None:
        """Write a node on the other form of its inputs."""
        attributes = attributes_of(node)
        if node.op_type == "MaxPool":
            for name in attributes.keys() & {"kernel_shape", "strides", "dilations"}:
                attributes[name] = attributes[name][1:]
            attributes["pads"] = [attributes["pads"][i] for i in (1, 2, 4, 5)]
        inputs = [self._get(name, form) for name in node.input]
        as_conv = node.op_type == "BatchNormalization" and Rewrite.BATCH_NORM in self.rewrites
        if as_conv and len(self._array(inputs[1])) % BLOCK == 0:
            # Written as a convolution of one channel each, it stays among blocked kernels, and takes the ReLU along.
            gamma, beta, mean, var = (self._array(name) for name in inputs[1:])
            scale = gamma / np.sqrt(var + attributes.get("epsilon", 1e-5))
            weight = self._constant(scale.reshape(-1, 1, 1, 1), inputs[1])
            bias = self._constant(beta - mean * scale, inputs[2])
            self._store(node, form, self._emit("Conv", [inputs[0], weight, bias], group=len(scale)))
            return
        self._store(node, form, self._emit(node.op_type, inputs, **attributes))

    def _array(self, name: str) -> _Array:
        array: _Array = numpy_helper.to_array(self.constants[name])
        return array

    def _get(self, name: str, form: _Form) -> str:
        """The tensor that holds a value in a form; constants have one only."""
        if name not in self.shapes:
            return name
        forms = self.forms.setdefault(name, {_Form.VOLUME: name})
        if form in forms:
            return forms[form]
        c, t, h, w = self.shapes[name]
        volume = name if form is _Form.VOLUME else None
        if form is _Form.FRAMES:
            by_frame = self._emit("Transpose", [self._get(name, _Form.VOLUME)], perm=TO_FRAMES)
            forms[form] = self._reshape(by_frame, (-1, c, h, w))
        elif list(forms) == [_Form.FRAMES]:
            clips = self._reshape(forms[_Form.FRAMES], (-1, t, c, h, w))
            forms[_Form.VOLUME] = self._emit("Transpose", [clips], output=name, perm=TO_FRAMES)
            self._get(name, form)
        else:
            sides = {_Form.VOLUME: (c, t, h, w), _Form.BANDS: (c * t, h, w), _Form.TALL: (c, t * h, w)}[form]
            source = next(tensor for other, tensor in forms.items() if other is not _Form.FRAMES)
            forms[form] = self._reshape(source, (-1, *sides), volume)
        return forms[form]

    def _store(self, node: onnx.NodeProto, form: _Form, tensor: str) -> None:
        self.forms[node.output[0]] = {form: tensor}

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
