from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.errors import TailError
from saliency_tubes_export.tail import expose, find_tail

C, K = 6, 4
SHAPE = (C, 2, 3, 5)
RNG = np.random.default_rng(0)
W = RNG.standard_normal((K, C)).astype(np.float32)
B = RNG.standard_normal(K).astype(np.float32)

Node = tuple[str, Sequence[str], str, dict[str, Any]]


def graph(nodes: Sequence[Node], opset: int = 18, **constants: np.ndarray) -> onnx.ModelProto:
    """A network whose convolution gives ``relu`` (N, 6, 2, 3, 5), followed by `nodes`; the last output is the logits."""
    weights = {"stem": np.ones((C, 3, 1, 1, 1), np.float32)} | constants
    made = [helper.make_node("Conv", ["clip", "stem"], ["conv"]), helper.make_node("Relu", ["conv"], ["relu"])]
    made += [helper.make_node(op, list(inputs), [output], **attributes) for op, inputs, output, attributes in nodes]
    value = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, ["N", 3, *SHAPE[1:]])],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, ["N", None])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(value, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


POOL: Node = ("GlobalAveragePool", ["relu"], "pool", {})
FLAT: Node = ("Flatten", ["pool"], "flat", {})
AXES = np.array([2, 3, 4])

TAILS = {
    "gemm": (18, [POOL, FLAT, ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})], {"w": W, "b": B}, B),
    "gemm, not transposed, scaled": (
        18,
        [POOL, FLAT, ("Gemm", ["flat", "w", "b"], "y", {"alpha": 0.5, "beta": 2.0})],
        {"w": 2 * W.T, "b": B / 2},
        B,
    ),
    "matmul and add": (
        18,
        [POOL, FLAT, ("MatMul", ["flat", "w"], "m", {}), ("Add", ["b", "m"], "y", {})],
        {"w": np.ascontiguousarray(W.T), "b": B},
        B,
    ),
    "matmul without bias": (18, [POOL, FLAT, ("MatMul", ["flat", "w"], "y", {})], {"w": W.T.copy()}, 0 * B),
    "matmul of a transposed constant": (
        18,
        [POOL, FLAT, ("Transpose", ["w"], "wt", {"perm": [1, 0]}), ("MatMul", ["flat", "wt"], "y", {})],
        {"w": W},
        0 * B,
    ),
    "1x1x1 convolution": (
        18,
        [POOL, ("Conv", ["pool", "w", "b"], "c", {}), ("Flatten", ["c"], "y", {})],
        {"w": W.reshape(K, C, 1, 1, 1), "b": B},
        B,
    ),
    "mean, axes as input, dropout": (
        18,
        [
            ("ReduceMean", ["relu", "axes"], "pool", {"keepdims": 0}),
            ("Dropout", ["pool"], "d", {}),
            ("Identity", ["d"], "i", {}),
            ("Gemm", ["i", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W, "b": B, "axes": AXES},
        B,
    ),
    "mean, axes as attribute, negative": (
        17,
        [
            ("ReduceMean", ["relu"], "pool", {"axes": [-1, -2, -3], "keepdims": 0}),
            ("Gemm", ["pool", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W, "b": B},
        B,
    ),
    "average pool over the whole map": (
        18,
        [
            ("AveragePool", ["relu"], "pool", {"kernel_shape": list(SHAPE[1:])}),
            ("Reshape", ["pool", "to"], "flat", {}),
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W, "b": B, "to": np.array([-1, C])},
        B,
    ),
}


@pytest.mark.parametrize("name", TAILS)
def test_pool_and_linear_are_found_and_add_up_to_the_logits(name: str) -> None:
    opset, nodes, constants, bias = TAILS[name]
    model = graph(nodes, opset, **constants)

    tail = find_tail(model)

    assert tail.features == "relu"
    assert tail.features_shape == SHAPE
    np.testing.assert_allclose(tail.weight, W, rtol=1e-6)
    np.testing.assert_allclose(tail.bias, bias, rtol=1e-6)
    expose(model, tail)
    onnx.checker.check_model(model, full_check=True)
    clip = RNG.standard_normal((2, 3, *SHAPE[1:])).astype(np.float32)
    logits, features = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clip})
    np.testing.assert_allclose(logits, features.mean(axis=(2, 3, 4)) @ tail.weight.T + tail.bias, atol=1e-5)


LINEAR: Node = ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})


@pytest.mark.parametrize(
    ("nodes", "constants", "problem"),
    [
        ([POOL, FLAT], {}, "no linear layer stands behind the pooling"),
        ([("Flatten", ["relu"], "flat", {}), LINEAR], {"w": np.ones((K, 180), np.float32)}, "Relu relu stands between"),
        (
            [POOL, FLAT, ("Relu", ["flat"], "r", {}), ("Gemm", ["r", "w"], "y", {"transB": 1})],
            {},
            "Relu r stands betwe",
        ),
        ([POOL, FLAT, LINEAR, ("Softmax", ["y"], "p", {})], {}, "Softmax p stands between"),
        (
            [POOL, FLAT, LINEAR, ("Gemm", ["y", "w2"], "z", {})],
            {"w2": np.ones((K, 2), np.float32)},
            "Gemm y stands befo",
        ),
        (
            [POOL, FLAT, ("Add", ["flat", "one"], "a", {}), ("Gemm", ["a", "w", "b"], "y", {"transB": 1})],
            {},
            "Add a stan",
        ),
        ([POOL, FLAT, ("MatMul", ["flat", "flat"], "y", {})], {}, "is computed, not a constant"),
        (
            [("AveragePool", ["relu"], "pool", {"kernel_shape": [2, 2, 2]}), FLAT, ("MatMul", ["flat", "w4"], "y", {})],
            {"w4": np.ones((48, K), np.float32)},
            "AveragePool pool stands between",
        ),
    ],
)
def test_any_other_tail_is_refused_with_its_last_nodes(
    nodes: list[Node], constants: dict[str, np.ndarray], problem: str
) -> None:
    known = {"w": W, "b": B, "one": np.ones(1, np.float32)}

    with pytest.raises(TailError, match=problem) as refused:
        find_tail(graph(nodes, **(known | constants)))

    last = nodes[-1]
    assert str(refused.value).splitlines()[-1].split()[:2] == [last[0], last[2]]
    assert "global average pooling over (t, h, w)" in str(refused.value)


def test_a_graph_of_two_outputs_is_refused() -> None:
    model = graph([POOL, FLAT, LINEAR], w=W, b=B)
    model.graph.output.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, None))

    with pytest.raises(TailError, match="expected a graph with one output, the logits; it has 2"):
        find_tail(model)


def test_names_that_are_taken_are_refused() -> None:
    model = graph(
        [("GlobalAveragePool", ["relu"], "features", {}), ("Flatten", ["features"], "flat", {}), LINEAR], w=W, b=B
    )

    with pytest.raises(TailError, match=r"already calls other tensors \['features'\]"):
        expose(model, find_tail(model))
