from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.errors import TailError
from saliency_tubes_export.expose import expose
from saliency_tubes_export.tail import Tail, find_tail

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

    assert [one.tensor for one in tail.pathways] == ["relu"]
    assert tail.features_shape == SHAPE
    assert tail.head.kind == "mean-linear"
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
        (
            [("Flatten", ["relu"], "flat", {}), LINEAR],
            {"w": np.ones((K, 180), np.float32)},
            "no average pooling was found between the last",
        ),
        (
            [
                POOL,
                FLAT,
                ("Gemm", ["flat", "square"], "g", {}),
                ("Relu", ["g"], "r", {}),
                ("Gemm", ["r", "square"], "h", {}),
                ("Relu", ["h"], "s", {}),
                ("Gemm", ["s", "w"], "y", {"transB": 1}),
            ],
            {},
            "Relu r stands between the pooling and the logits, and so does s: one hidden layer",
        ),
        ([("GlobalMaxPool", ["relu"], "pool", {}), FLAT, LINEAR], {}, "GlobalMaxPool pool stands.*takes the largest"),
        (
            [POOL, FLAT, ("LayerNormalization", ["flat", "scale"], "n", {}), ("Gemm", ["n", "w"], "y", {"transB": 1})],
            {},
            "LayerNormalization n stands between .*divides by what it finds",
        ),
        (
            [
                ("AveragePool", ["relu"], "pool", {"kernel_shape": [2, 2, 2]}),
                FLAT,
                ("MatMul", ["flat", "w4"], "y", {}),
            ],
            {"w4": RNG.standard_normal((48, K)).astype(np.float32)},
            "relu, Nx6x2x3x5, is not averaged channel by channel: its places have weights of their own",
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
        ([POOL, ("Conv", ["pool", "w3"], "c", {"pads": [1] * 6})], {}, "Conv c is not a 1x1x1"),
        (
            [("ReduceMean", ["relu", "axes"], "pool", {"keepdims": 0}), LINEAR_T],
            {},
            "y, Nx6x4, is not a row of numbers",
        ),
        ([POOL, FLAT, ("MatMul", ["flat", "flat"], "y", {})], {}, "is computed, not a constant"),
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
        "square": RNG.standard_normal((C, C)).astype(np.float32),
        "scale": np.ones(C, np.float32),
        "w3": np.ones((K, C, 3, 3, 3), np.float32),
        "w5": np.ones((5, K), np.float32),
        "axes": np.array([2, 3]),
    }

    with pytest.raises(TailError, match=problem) as refused:
        find_tail(graph(nodes, **(known | constants)))

    last = nodes[-1]
    assert str(refused.value).splitlines()[-1].split()[:2] == [last[0], last[2]]
    assert "averages its features over (t, h, w), and weighs each channel alike" in str(refused.value)


def test_of_several_outputs_the_one_that_ends_in_a_tail_is_taken() -> None:
    model = graph([POOL, FLAT, LINEAR], w=W, b=B)
    model.graph.output.insert(0, helper.make_tensor_value_info("relu", TensorProto.FLOAT, None))

    assert find_tail(model).logits == "y"


# Poolings over windows, and classifiers in front of an average: what is averaged is always ``relu``.
WINDOWED: dict[str, tuple[list[Node], dict[str, np.ndarray]]] = {
    "windows that overlap, then their mean": (
        [
            ("AveragePool", ["relu"], "windows", {"kernel_shape": [1, 2, 2]}),
            ("GlobalAveragePool", ["windows"], "pool", {}),
            FLAT,
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W},
    ),
    "I3D: a logit for each window of time, and their mean": (
        [
            ("AveragePool", ["relu"], "windows", {"kernel_shape": [1, 3, 5]}),
            ("Dropout", ["windows"], "dropped", {}),
            ("Conv", ["dropped", "kernel", "b"], "each", {}),
            ("Squeeze", ["each", "space"], "steps", {}),
            ("ReduceMean", ["steps", "two"], "y", {"keepdims": 0}),
        ],
        {"kernel": W.reshape(K, C, 1, 1, 1), "space": np.array([3, 4]), "two": np.array([2])},
    ),
    "S3D: windows, classifier, mean over all": (
        [
            ("AveragePool", ["relu"], "windows", {"kernel_shape": [2, 3, 3]}),
            ("Conv", ["windows", "kernel", "b"], "each", {}),
            ("ReduceMean", ["each", "all"], "y", {"keepdims": 0}),
        ],
        {"kernel": W.reshape(K, C, 1, 1, 1), "all": AXES},
    ),
    "a window that leaves the border out": (
        [
            ("AveragePool", ["relu"], "pool", {"kernel_shape": [2, 2, 3], "strides": [9, 9, 9]}),
            FLAT,
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W},
    ),
    "padded windows": (
        [
            ("AveragePool", ["relu"], "windows", {"kernel_shape": [1, 3, 3], "pads": [0, 1, 1, 0, 1, 1]}),
            ("GlobalAveragePool", ["windows"], "pool", {}),
            FLAT,
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W},
    ),
    "padded windows, their zeros counted": (
        [
            (
                "AveragePool",
                ["relu"],
                "windows",
                {"kernel_shape": [2, 3, 3], "pads": [1, 1, 1, 0, 1, 1], "strides": [1, 2, 2], "count_include_pad": 1},
            ),
            ("GlobalAveragePool", ["windows"], "pool", {}),
            FLAT,
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W},
    ),
    "windows padded to the same size": (
        [
            ("AveragePool", ["relu"], "windows", {"kernel_shape": [2, 2, 2], "auto_pad": "SAME_LOWER"}),
            ("GlobalAveragePool", ["windows"], "pool", {}),
            FLAT,
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        {"w": W},
    ),
    "a classifier of places, then the mean": (
        [
            ("Conv", ["relu", "kernel", "b"], "each", {}),
            ("GlobalAveragePool", ["each"], "pool", {}),
            ("Flatten", ["pool"], "y", {}),
        ],
        {"kernel": W.reshape(K, C, 1, 1, 1)},
    ),
    "a matrix product of places, channels last, then means": (
        [
            ("Transpose", ["relu"], "last", {"perm": [0, 2, 3, 4, 1]}),
            ("MatMul", ["last", "matrix"], "each", {}),
            ("Add", ["each", "b"], "shifted", {}),
            ("ReduceMean", ["shifted", "middle"], "steps", {"keepdims": 0}),
            ("ReduceMean", ["steps", "one"], "y", {"keepdims": 0}),
        ],
        {"matrix": W.T.copy(), "middle": np.array([2, 3]), "one": np.array([1])},
    ),
    "X3D: a hidden layer without bias": (
        [
            POOL,
            ("Conv", ["pool", "narrow"], "hidden", {}),
            ("Relu", ["hidden"], "active", {}),
            ("Flatten", ["active"], "flat", {}),
            ("Gemm", ["flat", "out", "b"], "y", {"transB": 1}),
            ("Softmax", ["y"], "p", {"axis": 1}),
        ],
        {
            "narrow": RNG.standard_normal((9, C, 1, 1, 1)).astype(np.float32),
            "out": RNG.standard_normal((K, 9)).astype(np.float32),
        },
    ),
    "a hidden layer with bias behind windows": (
        [
            ("AveragePool", ["relu"], "pool", {"kernel_shape": [2, 2, 3], "strides": [9, 9, 9]}),
            FLAT,
            ("Gemm", ["flat", "narrow", "shift"], "hidden", {}),
            ("Relu", ["hidden"], "active", {}),
            ("Gemm", ["active", "out", "b"], "y", {"transB": 1}),
        ],
        {
            "narrow": RNG.standard_normal((C, 9)).astype(np.float32),
            "shift": RNG.standard_normal(9).astype(np.float32),
            "out": RNG.standard_normal((K, 9)).astype(np.float32),
        },
    ),
    "PySlowFast: softmax for each place, of which there is one, then a mean": (
        [
            POOL,
            ("Transpose", ["pool"], "last", {"perm": [0, 2, 3, 4, 1]}),
            ("MatMul", ["last", "matrix"], "m", {}),
            ("Add", ["m", "b"], "each", {}),
            ("Softmax", ["each"], "soft", {"axis": 4}),
            ("ReduceMean", ["soft", "middle"], "y", {"keepdims": 0}),
        ],
        {"matrix": W.T.copy(), "middle": np.array([1, 2, 3])},
    ),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_what_is_almost_mean_and_linear_adds_up_too(name: str) -> None:
    nodes, constants = WINDOWED[name]
    model = graph(nodes, b=B, **constants)

    tail = find_tail(model)

    assert [one.tensor for one in tail.pathways] == ["relu"]
    assert (tail.head.coverage is None) == (nodes[0][0] != "AveragePool" or "time" in name)
    assert (tail.head.hidden is not None) == ("hidden" in name)
    expose(model, tail)
    onnx.checker.check_model(model, full_check=True)
    clip = RNG.standard_normal((3, 3, *SHAPE[1:])).astype(np.float32)
    logits, features = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clip})
    assert features.shape[1:] == tail.features_shape
    found = tail.head.maps(features, np.tile(np.arange(K), (3, 1)))
    np.testing.assert_allclose(found.maps.mean(axis=(2, 3, 4)) + found.bias, logits, atol=1e-5)
    assert np.ptp(logits, axis=0).min() > 0.01


STRIDED = {"starts": np.array([0]), "ends": np.array([99]), "time": np.array([2]), "step": np.array([2])}


def two_pathways(first: str, pool: tuple[str, dict[str, Any]] = ("GlobalAveragePool", {})) -> onnx.ModelProto:
    """`relu` with two steps of time, and `slow`, twice as large, with one; pooled, concatenated, linear."""
    order = ["slow_pool", "pool"] if first == "slow" else ["pool", "slow_pool"]
    return graph(
        [
            ("Slice", ["relu", "starts", "ends", "time", "step"], "every", {}),
            ("Mul", ["every", "twice"], "scaled", {}),
            ("Abs", ["scaled"], "slow", {}),
            (pool[0], ["slow"], "slow_pool", pool[1]),
            (pool[0], ["relu"], "pool", pool[1]),
            ("Concat", order, "both", {"axis": 1}),
            ("Flatten", ["both"], "flat", {}),
            ("Gemm", ["flat", "wide", "b"], "y", {"transB": 1}),
        ],
        wide=np.random.default_rng(5).standard_normal((K, 2 * C)).astype(np.float32),
        b=B,
        twice=np.full(1, 2, np.float32),
        **STRIDED,
    )


@pytest.mark.parametrize("first", ["slow", "fast"])
@pytest.mark.parametrize("kernel", [None, [1, 3, 5], [1, 2, 2]])
def test_two_pathways_share_one_map(first: str, kernel: list[int] | None) -> None:
    if kernel is None:
        model = two_pathways(first)
    else:
        model = two_pathways(first, ("AveragePool", {"kernel_shape": kernel, "strides": [9, 9, 9]}))
        if kernel[0] == 1:  # of the fast pathway's two steps, the second counts for nothing
            with pytest.raises(TailError, match="over windows that cover places differently"):
                find_tail(model)
            return

    tail = find_tail(model)

    assert [one.tensor for one in tail.pathways] == (["slow", "relu"] if first == "slow" else ["relu", "slow"])
    assert tail.features_shape == (2 * C, 2, 3, 5)
    expose(model, tail)
    onnx.checker.check_model(model, full_check=True)
    clip = RNG.standard_normal((2, 3, *SHAPE[1:])).astype(np.float32)
    logits, features = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clip})
    slow = features[:, :C] if first == "slow" else features[:, C:]
    np.testing.assert_array_equal(slow[:, :, 0], slow[:, :, 1])  # its one step, for both of the fast pathway's
    found = tail.head.maps(features, np.tile(np.arange(K), (2, 1)))
    np.testing.assert_allclose(found.maps.mean(axis=(2, 3, 4)) + found.bias, logits, atol=1e-5)


def test_frames_one_by_one_have_steps_of_time() -> None:
    """(N * T, C, h, w), as networks of images have them: pooled, classified, and averaged over the frames."""
    T = 4
    nodes = [
        helper.make_node("Conv", ["clip", "stem"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["each"], transB=1),
        helper.make_node("Reshape", ["each", "to"], ["frames"]),
        helper.make_node("ReduceMean", ["frames", "one"], ["y"], keepdims=0),
    ]
    constants = {"stem": RNG.standard_normal((C, 3, 1, 1)).astype(np.float32), "w": W, "b": B}
    constants |= {"to": np.array([-1, T, K]), "one": np.array([1])}
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, [T, 3, 3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    tail = find_tail(model)

    assert tail.pathways[0].by_frame
    assert tail.features_shape == (C, T, 3, 5)
    expose(model, tail)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("clip", TensorProto.FLOAT, ["NT", 3, 3, 5]))
    clips = RNG.standard_normal((2 * T, 3, 3, 5)).astype(np.float32)
    logits, features = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clips})
    assert features.shape == (2, C, T, 3, 5)
    found = tail.head.maps(features, np.tile(np.arange(K), (2, 1)))
    np.testing.assert_allclose(found.maps.mean(axis=(2, 3, 4)) + found.bias, logits, atol=1e-5)


@pytest.mark.parametrize("last", [True, False])
def test_channels_last_is_seen_and_undone_where_a_transpose_made_it(last: bool) -> None:
    moved: Node = ("Transpose", ["relu"], "moved", {"perm": [0, 2, 3, 4, 1]})
    between: Node = ("Abs", ["moved"], "abs", {})
    pool: Node = ("ReduceMean", ["abs" if last else "moved", "axes"], "flat", {"keepdims": 0})
    model = graph([moved, *([between] if last else []), pool, LINEAR], w=W, b=B, axes=np.array([1, 2, 3]))

    tail = find_tail(model)

    (pathway,) = tail.pathways
    assert (pathway.tensor, pathway.channel_axis, pathway.shape) == (("abs", 3, SHAPE) if last else ("relu", 0, SHAPE))
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


def check_complete(model: onnx.ModelProto, features: str | None = None) -> Tail:
    """The maps of the tail that is found add up to the logits of the graph that is made of it."""
    tail = find_tail(model, features=features)
    expose(model, tail)
    clip = RNG.standard_normal((2, 3, *SHAPE[1:])).astype(np.float32)
    logits, made = onnx.reference.ReferenceEvaluator(model).run(None, {"clip": clip})
    found = tail.head.maps(made, np.tile(np.arange(tail.head.num_classes), (2, 1)))
    np.testing.assert_allclose(found.maps.mean(axis=(2, 3, 4)) + found.bias, logits, atol=1e-5)
    return tail


@pytest.mark.parametrize(("axis", "kept"), [(2, np.s_[:1]), (4, np.s_[:, :, 1:4])])
def test_what_is_cut_off_before_the_pooling_counts_for_nothing_where_it_was(axis: int, kept: tuple[slice, ...]) -> None:
    start, end = (0, 1) if axis == 2 else (1, 4)
    cut: Node = ("Slice", ["relu", "starts", "ends", "axes"], "cut", {})
    model = graph(
        [cut, ("GlobalAveragePool", ["cut"], "pool", {}), FLAT, LINEAR],
        w=W,
        b=B,
        starts=np.array([start]),
        ends=np.array([end]),
        axes=np.array([axis]),
    )

    tail = check_complete(model)

    assert tail.pathways[0].tensor == "relu"
    assert tail.head.coverage is not None
    seen = np.zeros(SHAPE[1:], bool)
    seen[kept] = True
    np.testing.assert_allclose(tail.head.coverage[~seen], 0, atol=1e-12)
    np.testing.assert_allclose(tail.head.coverage[seen], seen.size / seen.sum(), rtol=1e-6)


def test_pathways_that_see_different_steps_are_refused() -> None:
    nodes: list[Node] = [
        POOL,
        ("Slice", ["relu", "zero", "one", "two"], "half", {}),
        ("GlobalAveragePool", ["half"], "half_pool", {}),
        ("Concat", ["pool", "half_pool"], "both", {"axis": 1}),
        ("Flatten", ["both"], "flat", {}),
        ("Gemm", ["flat", "wide"], "y", {}),
    ]
    wide = RNG.standard_normal((2 * C, K)).astype(np.float32)
    with pytest.raises(TailError, match=r"not averaged channel by channel|cover places differently"):
        find_tail(graph(nodes, wide=wide, zero=np.array([0]), one=np.array([1]), two=np.array([2])))


def test_steps_of_time_are_not_taken_for_channels() -> None:
    model = graph(
        [("ReduceMean", ["relu", "axes"], "flat", {"keepdims": 0}), ("Gemm", ["flat", "w2"], "y", {})],
        axes=np.array([1, 3, 4]),
        w2=RNG.standard_normal((2, K)).astype(np.float32),
    )
    with pytest.raises(TailError, match="places have weights of their own"):
        find_tail(model)


def test_means_of_channels_are_weights_like_others() -> None:
    model = graph(
        [
            POOL,
            ("Reshape", ["pool", "groups"], "grouped", {}),
            ("ReduceMean", ["grouped", "two"], "flat", {"keepdims": 0}),
            ("Gemm", ["flat", "w2"], "y", {}),
        ],
        groups=np.array([-1, 2, 3]),
        two=np.array([2]),
        w2=RNG.standard_normal((2, K)).astype(np.float32),
    )
    check_complete(model)


def test_a_tensor_that_is_pooled_twice_has_the_weights_of_both() -> None:
    model = graph(
        [
            POOL,
            ("Flatten", ["pool"], "one", {}),
            ("ReduceMean", ["relu", "axes"], "other", {"keepdims": 0}),
            ("Concat", ["one", "other"], "flat", {"axis": 1}),
            ("Gemm", ["flat", "wide"], "y", {}),
        ],
        axes=AXES,
        wide=RNG.standard_normal((2 * C, K)).astype(np.float32),
    )
    assert len(check_complete(model).pathways) == 1


ODD: dict[str, tuple[list[Node], str]] = {
    "a ReLU in one branch": (
        [
            POOL,
            FLAT,
            ("Gemm", ["flat", "square"], "g", {}),
            ("Relu", ["g"], "r", {}),
            ("Concat", ["r", "flat"], "both", {"axis": 1}),
            ("Gemm", ["both", "wide"], "y", {}),
        ],
        "Relu r stands between",
    ),
    "an index that is not there": (
        [POOL, FLAT, ("Gather", ["flat", "far"], "g", {"axis": 1}), ("Gemm", ["g", "square"], "y", {})],
        "Gather g cannot be followed",
    ),
    "a single number": (
        [POOL, FLAT, ("MatMul", ["flat", "column"], "m", {}), ("Squeeze", ["m"], "y", {})],
        "y is a single number|mixes the batch|not a row of numbers|not static",
    ),
    "weights on the left": (
        [POOL, FLAT, ("MatMul", ["square", "flat"], "y", {})],
        "MatMul y has its weights on the left",
    ),
    "places that cancel": (
        [("Mul", ["relu", "signs"], "m", {}), ("GlobalAveragePool", ["m"], "pool", {}), FLAT, LINEAR],
        "places have weights of their own",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_graphs_get_a_sentence(name: str) -> None:
    nodes, problem = ODD[name]
    constants = {
        "square": RNG.standard_normal((C, C)).astype(np.float32),
        "wide": RNG.standard_normal((2 * C, K)).astype(np.float32),
        "column": RNG.standard_normal((C, 1)).astype(np.float32),
        "far": np.array(99),
        "signs": np.where(np.arange(30).reshape(1, 1, 2, 3, 5) % 2, 1, -1).astype(np.float32),
        "w": W,
        "b": B,
    }
    with pytest.raises(TailError, match=problem):
        find_tail(graph(nodes, **constants), features="relu" if name == "places that cancel" else None)
