"""A model that sees brightness alone, and clips with a bright square: it is known where and when the evidence is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tiny import CHANNELS, CLASSES, tiny_graph, tiny_spec

LENGTH, HEIGHT, WIDTH = 8, 36, 45


def write_bright(path: Path) -> Path:
    """A model file: the logit of class 0, and of no other, rises with the brightness of every place; crops of 32x32."""
    weight = np.zeros((CLASSES, CHANNELS), dtype=np.float32)
    weight[0, 0] = 60.0
    plain = replace(tiny_spec().preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    spec = tiny_spec(weight=weight, bias=np.array([-2, 0, 0, 0, 0], dtype=np.float32), preprocessing=plain)
    model = tiny_graph(spec)
    kernel = np.zeros((CHANNELS, 3, 2, 8, 8), dtype=np.float32)
    kernel[0] = 1 / kernel[0].size
    (place,) = (i for i, tensor in enumerate(model.graph.initializer) if tensor.name == "kernel")
    model.graph.initializer[place].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    helper.set_model_props(model, spec.to_metadata())
    onnx.save(model, path)
    return path


def bright_square(left: int = 22, top: int = 6, first: int = 0, last: int = LENGTH - 1) -> NDArray[np.bool_]:
    """(LENGTH, HEIGHT, WIDTH) bool: a square of 10x10 pixels in the frames from `first` to `last`."""
    mask = np.zeros((LENGTH, HEIGHT, WIDTH), dtype=np.bool_)
    mask[first : last + 1, top : top + 10, left : left + 10] = True
    return mask


def clip_of(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(n, h, w, 3) uint8 RGB: white where the mask is, nearly black elsewhere."""
    return np.where(mask[..., None], 255, 10).astype(np.uint8).repeat(3, axis=3)
