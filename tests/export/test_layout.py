from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch")

from saliency_tubes.choices import Norm
from saliency_tubes.presets import preset
from saliency_tubes_export.graph import absorb_scale, add_prefix
from saliency_tubes_export.layout import ALL_REWRITES, Rewrite, relayout

RNG = np.random.default_rng(3)


def graph(nodes: list[onnx.NodeProto], channels: int, clip: tuple[int, int, int], **arrays: object) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, *clip])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)  # for the shape of y


def conv(groups: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], x: str, y: str) -> onnx.NodeProto:
    pads = [side // 2 for side in kernel] * 2
    return helper.make_node("Conv", [x, f"{y}_w", f"{y}_b"], [y], group=groups, strides=stride, pads=pads)


def weights(groups: int, c_in: int, c_out: int, kernel: tuple[int, int, int], y: str) -> dict[str, NDArray[np.float64]]:
    return {f"{y}_w": RNG.normal(size=(groups * c_out, c_in, *kernel)) / 8, f"{y}_b": RNG.normal(size=groups * c_out)}


def outputs(model: onnx.ModelProto, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def check(
    model: onnx.ModelProto, x: NDArray[np.float32], rewrites: frozenset[Rewrite] = ALL_REWRITES
) -> onnx.ModelProto:
    """Rewrite a copy, compare what the two compute, and return the copy."""
    written = onnx.ModelProto.FromString(model.SerializeToString())
    relayout(written, rewrites)
    onnx.checker.check_model(written, full_check=True)
    for ours, plain in zip(outputs(written, x), outputs(model, x), strict=True):
        assert ours.shape == plain.shape
        np.testing.assert_allclose(ours, plain, atol=2e-6 * float(np.abs(plain).max()))
    return written


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize(
    ("groups", "c_in", "c_out", "kernel", "stride", "t", "rewritten"),
    [
        (16, 6, 6, (3, 3, 3), (1, 1, 1), 8, (16 * 6 * 8, 6 * 8, 3, 3)),  # bands
        (16, 6, 12, (3, 3, 3), (1, 2, 2), 8, (16 * 12 * 8, 6 * 8, 3, 3)),
        (4, 4, 8, (3, 3, 3), (2, 1, 1), 8, (4 * 8 * 4, 4 * 8, 3, 3)),  # and a stride in time
        (16, 24, 24, (3, 3, 3), (1, 1, 1), 8, (2 * 384, 4 * 24, 3, 3)),  # windows of two frames
        (16, 12, 24, (3, 3, 3), (1, 2, 2), 4, (2 * 384, 4 * 12, 3, 3)),
        (16, 24, 24, (3, 3, 3), (1, 1, 1), 5, (384, 3 * 48, 3, 3)),  # an odd length: one frame, two groups as one
        (16, 48, 48, (3, 3, 3), (1, 1, 1), 8, (768, 3 * 48, 3, 3)),
        (16, 24, 24, (1, 3, 3), (1, 1, 1), 8, (384, 48, 3, 3)),
        (1, 3, 16, (3, 5, 5), (1, 2, 2), 16, (32, 4 * 3, 5, 5)),  # pixels
    ],
)
def test_a_convolution_becomes_two_dimensional_and_computes_the_same(
    groups: int,
    c_in: int,
    c_out: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    t: int,
    rewritten: tuple[int, ...],
) -> None:
    arrays = weights(groups, c_in, c_out, kernel, "y")
    model = graph([conv(groups, kernel, stride, "x", "y")], groups * c_in, (t, 6, 7), **arrays)

    written = check(model, RNG.normal(size=(2, groups * c_in, t, 6, 7)).astype(np.float32))

    assert kernels(written) == [rewritten]


@pytest.mark.parametrize(
    ("groups", "c_in", "c_out", "kernel", "changes"),
    [
        (16, 6, 6, (3, 3, 3), {}),  # too long for bands: these clips have 16 frames
        (1, 32, 32, (3, 3, 3), {}),  # one thick group: the plain kernel is good
        (16, 6, 6, (1, 3, 3), {}),  # too thin for windows, and nothing to band
        (16, 24, 24, (3, 3, 3), {"strides": [2, 1, 1]}),  # windows do not stride
        (16, 24, 24, (3, 3, 3), {"dilations": [1, 2, 2], "pads": [1, 2, 2, 1, 2, 2]}),
        (16, 24, 24, (3, 3, 3), {"pads": [0, 1, 1, 0, 1, 1]}),  # frame t of the output sees others than t-1, t, t+1
        (16, 24, 24, (5, 3, 3), {}),
    ],
)
def test_other_convolutions_stay_as_they_are(
    groups: int, c_in: int, c_out: int, kernel: tuple[int, int, int], changes: dict[str, list[int]]
) -> None:
    node = conv(groups, kernel, (1, 1, 1), "x", "y")
    kept = [attribute for attribute in node.attribute if attribute.name not in changes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in changes.items())
    model = graph([node], groups * c_in, (16, 5, 5), **weights(groups, c_in, c_out, kernel, "y"))

    written = check(model, RNG.normal(size=(1, groups * c_in, 16, 5, 5)).astype(np.float32))

    assert written.graph.node == model.graph.node


@pytest.mark.parametrize(("pool", "follows"), [((1, 3, 3), True), ((3, 3, 3), False)])
def test_what_surrounds_a_window_follows_into_its_layout(pool: tuple[int, int, int], follows: bool) -> None:
    """A residual unit: one change of layout on the way in, one on the way out, none between."""
    norm = {name: RNG.uniform(0.5, 2, 384) for name in ("scale", "shift", "mean", "var")}
    pads = [side // 2 for side in pool] * 2
    nodes = [
        conv(16, (3, 3, 3), (1, 1, 1), "x", "a"),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        conv(1, (1, 1, 1), (1, 1, 1), "c", "d"),
        helper.make_node("Add", ["d", "x"], ["e"]),
        helper.make_node("MaxPool", ["e"], ["y"], kernel_shape=pool, strides=[1, 2, 2], pads=pads),
    ]
    arrays = norm | weights(16, 24, 24, (3, 3, 3), "a") | weights(1, 384, 384, (1, 1, 1), "d")
    model = graph(nodes, 384, (5, 6, 6), **arrays)

    written = check(model, RNG.normal(size=(2, 384, 5, 6, 6)).astype(np.float32))

    assert Counter(node.op_type for node in written.graph.node)["Transpose"] == 2
    assert [len(shape) for shape in kernels(written)] == [4, 4, 4]  # the second is the batch norm
    (pooling,) = [node for node in written.graph.node if node.op_type == "MaxPool"]
    (kernel,) = [a.ints for a in pooling.attribute if a.name == "kernel_shape"]
    assert len(kernel) == (2 if follows else 3)


@pytest.mark.parametrize("channels", [32, 20])
def test_what_looks_at_single_places_is_written_without_moving_data(channels: int) -> None:
    norm = {name: RNG.uniform(0.5, 2, channels) for name in ("scale", "shift", "mean", "var")}
    nodes = [
        conv(1, (1, 1, 1), (1, 1, 1), "x", "a"),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"], epsilon=0.1),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["d"]),
        conv(1, (1, 1, 1), (1, 2, 2), "d", "y"),
    ]
    arrays = norm | weights(1, channels, channels, (1, 1, 1), "a") | weights(1, channels, 8, (1, 1, 1), "y")
    model = graph(nodes, channels, (3, 6, 7), **arrays)

    written = check(model, RNG.normal(size=(2, channels, 3, 6, 7)).astype(np.float32))

    depthwise = (channels, 1, 1, 1)  # batch norm, where its channels come in whole blocks
    assert kernels(written) == [
        (channels, channels, 1, 1),
        *([depthwise] if channels == 32 else []),
        (8, channels, 1, 1),
    ]
    assert "Transpose" not in {node.op_type for node in written.graph.node}


@pytest.mark.parametrize(
    ("left_out", "changed"),
    [
        (None, {}),
        (Rewrite.WINDOWS, {"windows": (384, 24, 1, 3, 3)}),
        (Rewrite.BANDS, {"bands": (96, 6, 3, 3, 3)}),
        (Rewrite.TALL, {"thin": (96, 96, 1, 1, 1), "batch norm": None, "thick": (384, 96, 1, 1, 1)}),
        (Rewrite.BATCH_NORM, {"batch norm": None}),
    ],
)
def test_each_rewrite_can_be_left_out(left_out: Rewrite | None, changed: dict[str, tuple[int, ...] | None]) -> None:
    norm = {name: RNG.uniform(0.5, 2, 96) for name in ("scale", "shift", "mean", "var")}
    nodes = [
        conv(1, (1, 1, 1), (1, 1, 1), "x", "thin"),
        helper.make_node("BatchNormalization", ["thin", *norm], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        conv(16, (3, 3, 3), (1, 1, 1), "r", "bands"),
        conv(1, (1, 1, 1), (1, 1, 1), "bands", "thick"),
        conv(16, (1, 3, 3), (1, 1, 1), "thick", "y"),
    ]
    arrays = norm | weights(1, 96, 96, (1, 1, 1), "thin") | weights(16, 6, 6, (3, 3, 3), "bands")
    arrays |= weights(1, 96, 384, (1, 1, 1), "thick") | weights(16, 24, 24, (1, 3, 3), "y")
    model = graph(nodes, 96, (8, 5, 5), **arrays)
    expected = {
        "thin": (96, 96, 1, 1),
        "batch norm": (96, 1, 1, 1),
        "bands": (768, 48, 3, 3),
        "thick": (384, 96, 1, 1),
        "windows": (384, 48, 3, 3),
    }

    written = check(model, RNG.normal(size=(1, 96, 8, 5, 5)).astype(np.float32), ALL_REWRITES - {left_out})

    assert kernels(written) == [shape for shape in (expected | changed).values() if shape is not None]


def test_a_stride_that_would_run_from_one_frame_into_the_next_stays_three_dimensional() -> None:
    model = graph([conv(1, (1, 1, 1), (1, 2, 2), "x", "y")], 16, (3, 5, 6), **weights(1, 16, 8, (1, 1, 1), "y"))

    written = check(model, RNG.normal(size=(1, 16, 3, 5, 6)).astype(np.float32))

    assert written.graph.node == model.graph.node


def test_a_value_that_is_wanted_both_ways_is_made_both_ways() -> None:
    nodes = [
        conv(16, (1, 3, 3), (1, 1, 1), "x", "a"),
        helper.make_node("Sigmoid", ["a"], ["b"]),  # no business of single frames, as far as the rewrite knows
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Mul", ["c", "a"], ["y"]),
    ]
    model = graph(nodes, 384, (4, 5, 5), **weights(16, 24, 24, (1, 3, 3), "a"))

    check(model, RNG.normal(size=(2, 384, 4, 5, 5)).astype(np.float32))


def test_a_constant_that_is_added_to_a_volume_finds_one() -> None:
    nodes = [
        conv(16, (1, 3, 3), (1, 1, 1), "x", "a"),
        helper.make_node("Add", ["a", "offset"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["y"], kernel_shape=[1, 2, 2]),  # strides and pads left to ONNX
    ]
    arrays = weights(16, 24, 24, (1, 3, 3), "a") | {"offset": RNG.normal(size=(384, 1, 1, 1))}
    model = graph(nodes, 384, (4, 5, 5), **arrays)

    check(model, RNG.normal(size=(2, 384, 4, 5, 5)).astype(np.float32))


def test_nothing_unused_is_left_in_the_file() -> None:
    model = graph([conv(16, (3, 3, 3), (1, 1, 1), "x", "y")], 96, (8, 6, 6), **weights(16, 6, 6, (3, 3, 3), "y"))

    relayout(model)

    assert {tensor.name for tensor in model.graph.initializer} <= {i for node in model.graph.node for i in node.input}


@pytest.mark.parametrize("first", ["Conv", "Conv, left alone", "Relu", "shared"])
@pytest.mark.parametrize("blocked", [False, True])
def test_the_prefix_normalises_whatever_stands_first(first: str, blocked: bool) -> None:
    preprocessing = preset(Norm.SALIENCY_TUBES, 32)
    nodes = [conv(1, (3, 5, 5), (1, 2, 2), "x", "y")]
    if first == "Relu":
        nodes = [helper.make_node("Relu", ["x"], ["r"]), conv(1, (3, 5, 5), (1, 2, 2), "r", "y")]
    if first == "shared":  # the first kernel serves another convolution, too
        second = helper.make_node("Conv", ["r", "a_w"], ["y"], pads=[0, 0, 0] * 2)
        nodes = [conv(1, (1, 1, 1), (1, 1, 1), "x", "a"), helper.make_node("Relu", ["a"], ["r"]), second]
    arrays = weights(1, 3, 3, (1, 1, 1), "a") if first == "shared" else weights(1, 3, 16, (3, 5, 5), "y")
    model = graph(nodes, 3, (4, 32, 32), **arrays)
    frames = RNG.integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    clip = (frames / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    (expected,) = outputs(model, np.ascontiguousarray(clip.transpose(0, 4, 1, 2, 3), dtype=np.float32))

    absorb_scale(model, preprocessing, in_kernels=first != "Conv, left alone")
    if blocked:
        relayout(model)
    add_prefix(model, 4, preprocessing)
    onnx.checker.check_model(model, full_check=True)

    np.testing.assert_allclose(outputs(model, frames)[0], expected, atol=1e-5 * float(np.abs(expected).max()))  # type: ignore[arg-type]
    assert ("Mul" in {node.op_type for node in model.graph.node}) == (first != "Conv")


def test_a_value_whose_sides_are_not_known_is_left_alone() -> None:
    sides = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 96, 8, "H", "W"])
    model = graph([conv(16, (3, 3, 3), (1, 1, 1), "x", "y")], 96, (8, 6, 6), **weights(16, 6, 6, (3, 3, 3), "y"))
    model.graph.input[0].CopyFrom(sides)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 96, 8, "H", "W"]))

    relayout(model)

    assert [node.op_type for node in model.graph.node] == ["Conv"]
