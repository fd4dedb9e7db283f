"""Tiny seeded classifiers of other people's making, built with onnx alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

C, K, T, SIZE = 8, 5, 4, 32
FEATURES = (C, T, 8, 8)
RNG = np.random.default_rng(11)
WEIGHTS: dict[str, np.ndarray] = {
    "kernel": RNG.normal(size=(C, 3, 3, 3, 3)).astype(np.float32) / 5,
    "kernel_bias": RNG.normal(size=C).astype(np.float32) / 5,
    "w": RNG.normal(size=(K, C)).astype(np.float32),
    "wt": RNG.normal(size=(C, K)).astype(np.float32),
    "b": RNG.normal(size=K).astype(np.float32),
    "first": RNG.normal(size=(C, 6)).astype(np.float32),
    "first_b": RNG.normal(size=6).astype(np.float32),
    "second": RNG.normal(size=(6, K)).astype(np.float32),
    "pointwise": RNG.normal(size=(K, C, 1, 1, 1)).astype(np.float32),
    "one": np.ones(1, np.float32),
    "time": np.array([2]),
    "space": np.array([3, 4]),
    "volume": np.array([1, 2, 3]),
}

Node = tuple[str, Sequence[str], str, dict[str, Any]]
STEM: tuple[Node, ...] = (
    ("Conv", ["x", "kernel", "kernel_bias"], "conv", {"strides": [1, 4, 4], "pads": [1] * 6}),
    ("Relu", ["conv"], "relu", {}),
)
LAST: Node = ("Transpose", ["relu"], "relu_last", {"perm": [0, 2, 3, 4, 1]})
POOL: Node = ("GlobalAveragePool", ["relu"], "pool", {})
FLAT: Node = ("Flatten", ["pool"], "flat", {})
GEMM: Node = ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})


def classifier(
    nodes: Sequence[Node] = (*STEM, POOL, FLAT, GEMM),
    shape: Sequence[int | str] = ("N", 3, T, SIZE, SIZE),
    outputs: Sequence[str] | None = None,
    opset: int = 18,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    """A network of the input ``x``; its outputs are those named, or the last node's."""
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    arrays = {name: array for name, array in (WEIGHTS | constants).items() if name in used}
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), [output], **attributes) for op, inputs, output, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs or [nodes[-1][2]]],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)  # for the outputs' shapes


def saved(path: Path, model: onnx.ModelProto | None = None) -> Path:
    onnx.save(classifier() if model is None else model, path)
    return path
