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
    "two layers, one of them scaled, shifted and divided": (
        18,
        [
            ("ReduceMean", ["relu", "space"], "s", {}),
            ("ReduceMean", ["s", "time"], "pool", {}),
            ("Squeeze", ["pool", "axes"], "flat", {}),
            ("Gemm", ["flat", "half"], "h", {}),
            ("Mul", ["two", "h"], "m", {}),
            ("Sub", ["m", "shift"], "minus", {}),
            ("MatMul", ["minus", "other"], "o", {}),
            ("Div", ["o", "two"], "y", {}),
        ],
        {
            "half": np.eye(C, dtype=np.float32),
            "other": W.T.copy(),
            "two": np.full(1, 2, np.float32),
            "shift": -np.linalg.lstsq(W.astype(float), 2.0 * B, rcond=None)[0].astype(np.float32),
            "space": np.array([3, 4]),
            "time": np.array([2]),
            "axes": AXES,
        },
        B,
    ),
    "subtracted from a constant": (
        18,
        [POOL, FLAT, ("Gemm", ["flat", "minus_w"], "m", {"transB": 1}), ("Sub", ["b", "m"], "y", {})],
        {"minus_w": -W, "b": B},
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
    np.testing.assert_allclose(tail.head.weight, W, rtol=1e-6)
    np.testing.assert_allclose(tail.head.bias, bias, rtol=1e-5)
    expose(model, tail)
    onnx.checker.check_model(model, full_check=True)
    clip = RNG.standard_normal((2, 3, *SHAPE[1:])).astype(np.float32)
    logits, features = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clip})
    np.testing.assert_allclose(logits, features.mean(axis=(2, 3, 4)) @ tail.head.weight.T + tail.head.bias, atol=1e-5)


LINEAR: Node = ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})
FLAT_T: Node = ("MatMul", ["t", "ones"], "y", {})
LINEAR_T: Node = ("MatMul", ["pool", "w5"], "y", {})


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
        ([POOL, FLAT, LINEAR, ("Softmax", ["y"], "p", {"axis": 0})], {}, "Softmax p is not over the classes"),
        ([POOL, FLAT, LINEAR, ("Sigmoid", ["y"], "p", {})], {}, "Sigmoid p stands between .*before it with --logits"),
        ([POOL, FLAT, LINEAR, ("Add", ["y", "y"], "z", {})], {}, "Add z combines two computed tensors"),
        ([POOL, FLAT, LINEAR, ("Div", ["one", "y"], "z", {})], {}, "Div z divides by what is computed"),
        ([POOL, FLAT, LINEAR, ("Add", ["y", "wide"], "z", {})], {}, "Add z mixes the clips of a batch"),
        (
            [
                ("GlobalAveragePool", ["relu"], "pool", {}),
                ("Transpose", ["pool"], "t", {"perm": [1, 0, 2, 3, 4]}),
                FLAT_T,
            ],
            {},
            "Transpose t moves the batch axis",
        ),
        (
            [POOL, FLAT, ("Gemm", ["flat", "w", "b"], "y", {"transA": 1, "transB": 1})],
            {},
            "Gemm y transposes its input",
        ),
        ([POOL, ("Conv", ["pool", "w3"], "c", {"pads": [1] * 6})], {}, "Conv c behind the pooling is not a 1x1x1"),
        ([("ReduceMean", ["relu", "axes"], "pool", {"keepdims": 0}), LINEAR_T], {}, "is not averaged evenly over"),
        (
            [("Conv", ["relu", "w1"], "c", {}), ("GlobalAveragePool", ["c"], "y", {})],
            {},
            "no linear layer stands behind",
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
    known = {
        "w": W,
        "b": B,
        "one": np.ones(1, np.float32),
        "wide": np.ones((2, K), np.float32),
        "ones": np.ones((1, 1), np.float32),
        "w1": W.reshape(K, C, 1, 1, 1),
        "w3": np.ones((K, C, 3, 3, 3), np.float32),
        "w5": np.ones((5, K), np.float32),
        "axes": np.array([2, 3]),
    }

    with pytest.raises(TailError, match=problem) as refused:
        find_tail(graph(nodes, **(known | constants)))

    last = nodes[-1]
    assert str(refused.value).splitlines()[-1].split()[:2] == [last[0], last[2]]
    assert "global average pooling over (t, h, w)" in str(refused.value)


def test_of_several_outputs_the_one_that_ends_in_a_tail_is_taken() -> None:
    model = graph([POOL, FLAT, LINEAR], w=W, b=B)
    model.graph.output.insert(0, helper.make_tensor_value_info("relu", TensorProto.FLOAT, None))

    assert find_tail(model).logits == "y"


def test_a_pool_over_windows_before_the_whole_one_is_not_passed() -> None:
    windows: Node = ("AveragePool", ["relu"], "windows", {"kernel_shape": [1, 2, 2]})
    model = graph([windows, ("GlobalAveragePool", ["windows"], "pool", {}), FLAT, LINEAR], w=W, b=B)

    assert find_tail(model).features == "windows"


@pytest.mark.parametrize("last", [True, False])
def test_channels_last_is_seen_and_undone_where_a_transpose_made_it(last: bool) -> None:
    moved: Node = ("Transpose", ["relu"], "moved", {"perm": [0, 2, 3, 4, 1]})
    between: Node = ("Abs", ["moved"], "abs", {})
    pool: Node = ("ReduceMean", ["abs" if last else "moved", "axes"], "flat", {"keepdims": 0})
    model = graph([moved, *([between] if last else []), pool, LINEAR], w=W, b=B, axes=np.array([1, 2, 3]))

    tail = find_tail(model)

    assert (tail.features, tail.channels_last, tail.features_shape) == ("abs" if last else "relu", last, SHAPE)
    expose(model, tail)
    assert model.graph.output[1].name == "features"
    clip = RNG.standard_normal((2, 3, *SHAPE[1:])).astype(np.float32)
    logits, features = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clip})
    np.testing.assert_allclose(logits, features.mean(axis=(2, 3, 4)) @ W.T + B, atol=1e-5)


def test_what_the_outputs_do_not_need_falls_out() -> None:
    model = graph([POOL, FLAT, LINEAR, ("Softmax", ["y"], "p", {}), ("Add", ["p", "one"], "q", {})], w=W, b=B, one=B)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", K]))

    expose(model, find_tail(model))

    assert [node.op_type for node in model.graph.node][-1] == "Gemm"
    assert {tensor.name for tensor in model.graph.initializer} == {"stem", "w", "b"}


def test_names_that_are_taken_are_refused() -> None:
    model = graph(
        [("GlobalAveragePool", ["relu"], "features", {}), ("Flatten", ["features"], "flat", {}), LINEAR], w=W, b=B
    )

    with pytest.raises(TailError, match=r"already calls other tensors \['features'\]"):
        expose(model, find_tail(model))
