"""A three-dimensional convolution of an ONNX graph, and the two-dimensional ones that compute the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

BLOCK = 16  # channels in a block of ONNX Runtime's NCHWc kernels where the processor has AVX-512; 8 elsewhere
TAPS = 3  # frames that a kernel spans, where it spans any but its own
STEM_CHANNELS = 4  # an input of so few channels (RGB) is a pass over pixels, whatever its kernel
_MOST_WASTE = 2.0  # windows that multiply by more zeros than this lose to the plain convolution, or to bands
_LARGEST_WINDOW = 4
_LONGEST_BAND = 8  # frames; the zeros in a band grow with the square of its length
_THIN = 13  # bands of thicker groups would gain nothing more, and cost many megabytes


@dataclass(frozen=True)
class Window:
    """`frames` frames are computed at once, with `merged` groups as one; `waste` is the arithmetic over what is due."""

    frames: int
    merged: int
    waste: float


@dataclass(frozen=True, eq=False)
class Conv:
    """A three-dimensional convolution, and the sizes that decide how it can be laid out."""

    node: onnx.NodeProto
    weight: NDArray[np.float32]  # (C_out, C_in / groups, kt, kh, kw)
    bias: NDArray[np.float32] | None
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
    def pointwise(self) -> bool:
        """Whether every place of the output sees one place of the input."""
        return self.weight.shape[2:] == (1, 1, 1) and not any(self.pads) and self.groups == 1 and self.strides[0] == 1

    @property
    def centred(self) -> bool:
        """Whether frame t of the output sees frames t-1, t, t+1, or t alone."""
        kt = self.weight.shape[2]
        return kt in (1, TAPS) and self.pads[0] == self.pads[3] == kt // 2

    def window(self) -> Window | None:
        """The cheapest way to do it over windows of frames; None where there is none worth while."""
        if not self.centred or self.strides[0] != 1:
            return None
        c_in, c_out = self.group_channels
        taps = self.weight.shape[2]
        stem = self.groups == 1 and c_in <= STEM_CHANNELS
        found = [
            Window(frames, merged, merged * (frames + taps - 1) / taps)
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
        return (
            self.groups > 1
            and self.weight.shape[2] == TAPS
            and self.centred
            and blocks
            and 1 < c_in < _THIN
            and self.t <= _LONGEST_BAND
        )


def read_conv(node: onnx.NodeProto, arrays: Sequence[NDArray[np.float32]], t: int, t_out: int) -> Conv | None:
    """What a Conv node computes, `arrays` being its weight and bias; None for a dilated or automatically padded one."""
    attributes = attributes_of(node)
    dilated = any(side != 1 for side in attributes.get("dilations", ()))
    if dilated or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    strides = attributes.get("strides", [1, 1, 1])
    return Conv(
        node=node,
        weight=arrays[0],
        bias=arrays[1] if len(arrays) > 1 else None,
        groups=attributes.get("group", 1),
        strides=(strides[0], strides[1], strides[2]),
        pads=tuple(attributes.get("pads", [0] * 6)),
        t=t,
        t_out=t_out,
    )


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes, by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
