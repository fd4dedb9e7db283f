from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.errors import TailError
from saliency_tubes_export.layers import layer_output
from saliency_tubes_export.linearised import linearised
from saliency_tubes_export.tail import find_tail

C, K = 6, 4
PLACES = (2, 3, 5)
RNG = np.random.default_rng(0)
CLIPS = RNG.standard_normal((2, 3, *PLACES)).astype(np.float32)
STEM = RNG.standard_normal((C, 3, 1, 1, 1)).astype(np.float32)
W = RNG.standard_normal((K, C)).astype(np.float32)
B = RNG.standard_normal(K).astype(np.float32)

Node = tuple[str, Sequence[str], str, dict[str, Any]]


def graph(nodes: Sequence[Node], **constants: NDArray[Any]) -> onnx.ModelProto:
    """For one clip: a convolution gives ``relu`` (1, 6, 2, 3, 5), followed by `nodes`."""
    made = [
        helper.make_node("Conv", ["clip", "stem"], ["conv"], name="stem/conv"),
        helper.make_node("Relu", ["conv"], ["relu"], name="stem/relu"),
    ]
    made += [
        helper.make_node(op, list(inputs), [output], name=f"head/{output}", **more)
        for op, inputs, output, more in nodes
    ]
    value = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, [1, 3, *PLACES])],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in ({"stem": STEM} | constants).items()],
    )
    return helper.make_model(value, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def runner(model: onnx.ModelProto) -> Any:
    """What gives tensors of the graph for each of both clips."""

    def run(names: Sequence[str]) -> list[dict[str, NDArray[np.float32]]]:
        twin = onnx.ModelProto()
        twin.CopyFrom(model)
        del twin.graph.output[:]
        twin.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        session = ort.InferenceSession(twin.SerializeToString(), providers=["CPUExecutionProvider"])
        each = [session.run(None, {"clip": CLIPS[i : i + 1]}) for i in range(len(CLIPS))]
        return [dict(zip(names, tensors, strict=True)) for tensors in each]

    return run


def of_both(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    return np.concatenate([found[name] for found in runner(model)([name])])


POOL: Node = ("GlobalAveragePool", ["relu"], "pool", {})
FLAT: Node = ("Flatten", ["pool"], "flat", {})


def expanded(model: onnx.ModelProto, logits: str | None = None, features: str | None = None) -> Any:
    return linearised(model, runner(model), logits, features, lambda _: None)


def test_of_a_linear_end_the_expansion_is_the_end() -> None:
    tail, why = expanded(graph([POOL, FLAT, ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})], w=W, b=B))

    np.testing.assert_allclose(tail.head.weight, W, atol=1e-4)
    np.testing.assert_allclose(tail.head.bias, B, atol=1e-4)
    assert (tail.logits, tail.pathways[0].tensor, tail.features_shape) == ("y", "relu", (C, *PLACES))
    assert why.startswith("what stands between relu and the logits (GlobalAveragePool, Flatten, Gemm) is not linear")


def test_of_a_curved_end_it_is_the_slope_at_the_clips() -> None:
    """``logits = W tanh(mean)``: the slope is ``W diag(1 - tanh^2)``, and each clip has its own."""
    model = graph([POOL, FLAT, ("Tanh", ["flat"], "t", {}), ("Gemm", ["t", "w", "b"], "y", {"transB": 1})], w=W, b=B)

    tail, _ = expanded(model)

    means = of_both(model, "relu").mean(axis=(2, 3, 4), dtype=np.float64)
    slopes = [W * (1 - np.tanh(mean) ** 2) for mean in means]
    assert np.abs(slopes[0] - slopes[1]).max() > 0.05
    np.testing.assert_allclose(tail.head.weight, np.mean(slopes, axis=0), atol=2e-3)
    biases = [W @ np.tanh(mean) + B - slope @ mean for slope, mean in zip(slopes, means, strict=True)]
    np.testing.assert_allclose(tail.head.bias, np.mean(biases, axis=0), atol=5e-3)


def test_what_skips_the_features_stays_as_it_is() -> None:
    """The tanh of what is named, beside the same tensor unnamed: only the former counts."""
    model = graph(
        [
            ("Tanh", ["conv"], "named", {}),
            ("Add", ["named", "relu"], "sum", {}),
            ("GlobalAveragePool", ["sum"], "pool", {}),
            FLAT,
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ],
        w=W,
        b=B,
    )

    tail, _ = expanded(model, features="named")

    np.testing.assert_allclose(tail.head.weight, W, atol=1e-4)
    relu = of_both(model, "relu").mean(axis=(0, 2, 3, 4), dtype=np.float64)
    np.testing.assert_allclose(tail.head.bias, B + W @ relu, atol=1e-3)


def test_places_with_weights_of_their_own_are_taken_together() -> None:
    """C3D's end: a matrix over all places. A channel counts what its places count, all of them together."""
    count = int(np.prod(PLACES))
    matrix = RNG.standard_normal((C * count, K)).astype(np.float32)
    tail, _ = expanded(
        graph(
            [("Flatten", ["relu"], "flat", {}), ("MatMul", ["flat", "m"], "h", {}), ("Softplus", ["h"], "y", {})],
            m=matrix * np.float32(1e-3),
        )
    )

    near = matrix.reshape(C, count, K).sum(axis=1).T * 1e-3 * 0.5  # softplus has a slope of a half around zero
    np.testing.assert_allclose(tail.head.weight, near, atol=0.05 * np.abs(near).max())


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ("flat", "flat, Nx6, has no places"),
        ("nowhere", "computes no tensor called 'nowhere', which --features names"),
        ("beside", "y does not depend on beside"),
    ],
)
def test_features_without_places_or_effect_are_refused(features: str, problem: str) -> None:
    model = graph(
        [POOL, FLAT, ("Abs", ["relu"], "beside", {}), ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})], w=W, b=B
    )

    with pytest.raises(TailError, match=problem):
        expanded(model, features=features)


def test_a_layer_is_its_last_tensor_with_places() -> None:
    model = graph([POOL, FLAT, ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})], w=W, b=B)

    assert layer_output(model, "stem") == "relu"
    assert layer_output(model, "stem/conv") == "conv"
    with pytest.raises(TailError, match=r"no layer is called 'stam': the closest names are stem, stem/\w+"):
        layer_output(model, "stam")
    with pytest.raises(TailError, match=r"what the layer 'head/flat' gives has no places"):
        layer_output(model, "head/flat")


def test_layers_go_by_the_modules_that_pytorch_notes() -> None:
    model = graph([POOL, FLAT, ("Gemm", ["flat", "w", "b"], "y", {"transB": 1})], w=W, b=B)
    for node, scopes in zip(
        model.graph.node,
        ("['', 'layers', 'layers.0', 'conv3d']", "['', 'layers', 'relu']", "[", "7", "''"),
        strict=True,
    ):
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", scopes

    assert layer_output(model, "layers.0") == "conv"
    assert layer_output(model, "layers") == "relu"


def test_an_earlier_layer_before_linear_ones_is_exact() -> None:
    """Between ``relu`` and the pool stands a convolution of places and a batch norm."""
    constants = {
        "mix": RNG.standard_normal((5, C, 1, 1, 1)).astype(np.float32),
        "scale": RNG.random(5, np.float32),
        "shift": RNG.random(5, np.float32),
        "mean": RNG.random(5, np.float32),
        "variance": RNG.random(5, np.float32) + np.float32(0.5),
        "narrow": RNG.standard_normal((K, 5)).astype(np.float32),
        "b": B,
    }
    model = graph(
        [
            ("Conv", ["relu", "mix"], "mixed", {}),
            ("BatchNormalization", ["mixed", "scale", "shift", "mean", "variance"], "normed", {}),
            ("GlobalAveragePool", ["normed"], "pool", {}),
            FLAT,
            ("Gemm", ["flat", "narrow", "b"], "y", {"transB": 1}),
        ],
        **constants,
    )
    assert find_tail(model).pathways[0].tensor == "normed"

    tail = find_tail(model, features="relu")

    assert tail.features_shape == (C, *PLACES)
    features, logits = of_both(model, "relu"), of_both(model, "y")
    found = tail.head.maps(features, np.tile(np.arange(K), (2, 1)))
    np.testing.assert_allclose(found.maps.mean(axis=(2, 3, 4)) + found.bias, logits, atol=1e-5)
