"""Graphs of float16 and bfloat16: exported as the float32 graphs that they are roundings of."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FEATURES, FLAT, GEMM, POOL, SIZE, STEM, C, K, Node, T, classifier, saved
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes import load_model
from saliency_tubes.choices import Norm, Precision
from saliency_tubes.errors import ParityError
from saliency_tubes.presets import Pixels
from saliency_tubes.session import open_session
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import export_onnx, halves
from saliency_tubes_export.halves import halves_in, in_float32

I3D = Pixels(Norm.I3D)
HALF, BFLOAT, FLOAT = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT
NODES: tuple[Node, ...] = (*STEM, POOL, FLAT, GEMM)


def rounded(nodes: tuple[Node, ...] = NODES, kind: int = HALF, inside: bool = False) -> onnx.ModelProto:
    """A classifier with weights in halves; its input and output, too, or, with `inside`, float32 with casts behind."""
    if inside:
        front: Node = ("Cast", ["x"], "x_half", {"to": kind})
        first: Node = (nodes[0][0], ["x_half", *nodes[0][1][1:]], *nodes[0][2:])
        last: Node = (*nodes[-1][:2], "y_half", nodes[-1][3])
        nodes = (front, first, *nodes[1:-1], last, ("Cast", ["y_half"], "y", {"to": FLOAT}))
    model = classifier(nodes, opset=22)  # the first with convolutions of bfloat16
    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT:
            array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    del model.graph.value_info[:]
    for info in () if inside else (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = kind
    return onnx.shape_inference.infer_shapes(model)


def logits(path: Path) -> np.ndarray:
    return open_session(path, "cpu").run(synthetic_clip((T, SIZE, SIZE, 3), 4)[None]).logits


def rounded_float32(kind: int) -> onnx.ModelProto:
    """The same classifier in float32, of rounded weights."""
    model = classifier(NODES, opset=22)
    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT:
            array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("kind", [HALF, BFLOAT])
def test_a_graph_in_halves_becomes_a_file_of_float32(tmp_path: Path, kind: int, inside: bool) -> None:
    network = saved(tmp_path / "net.onnx", rounded(kind=kind, inside=inside))
    export_onnx(saved(tmp_path / "float32.onnx", rounded_float32(kind)), tmp_path / "expected.onnx", I3D)

    report = export_onnx(network, tmp_path / "tubes.onnx", I3D)

    name = {HALF: "float16", BFLOAT: "bfloat16"}[kind]
    assert f"the graph is in {name}, and the file computes in float32" in report.table()
    assert "compared with the original graph, converted to float32, in ONNX Runtime" in report.table()
    assert max(report.parity.logits_rel, report.parity.features_rel) < 1e-5 < report.parity.tolerance == 1e-4
    spec = load_model(tmp_path / "tubes.onnx", "cpu").spec
    assert (spec.precision, spec.storage) == (Precision.FP32, Precision.FP32)
    np.testing.assert_allclose(logits(tmp_path / "tubes.onnx"), logits(tmp_path / "expected.onnx"), atol=1e-5)
    ours, plain = (onnx.load(tmp_path / name).graph.node for name in ("tubes.onnx", "expected.onnx"))
    assert [node.op_type for node in ours][: len(plain)] == [node.op_type for node in plain]
    compared = "differ from those of the graph as it came by" if kind == HALF else "does not run the graph as it came"
    assert compared in report.table()


def test_one_layer_in_halves_is_enough(tmp_path: Path) -> None:
    half: tuple[Node, ...] = (("Cast", ["flat"], "h", {"to": HALF}), ("MatMul", ["h", "wh"], "hy", {}))
    model = classifier((*STEM, POOL, FLAT, *half, ("Cast", ["hy"], "y", {"to": FLOAT})), wh=np.ones((C, K), np.float16))

    report = export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)

    assert "the graph is in float16" in report.table()
    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.head.weight.tolist() == np.ones((K, C)).tolist()


def test_casts_of_whole_numbers_stay_and_a_float32_graph_is_none_of_this(tmp_path: Path) -> None:
    count: tuple[Node, ...] = (("Shape", ["x"], "sides", {}), ("Cast", ["sides"], "count", {"to": HALF}))
    scaled: tuple[Node, ...] = (("ReduceMax", ["count"], "side", {"keepdims": 0}), ("Mul", ["h", "side"], "y", {}))
    model = classifier((*count, ("Cast", ["x"], "h", {"to": HALF}), *scaled))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", HALF, ["N", 3, T, SIZE, SIZE]))
    assert halves_in(model) == "float16"

    converted = in_float32(model)

    assert halves_in(converted) is None
    assert [node.op_type for node in converted.graph.node] == ["Shape", "Cast", "ReduceMax", "Mul"]
    assert halves_in(classifier()) is None


def test_casts_one_after_the_other_and_branches_lose_theirs(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["twice"], ["negative"])],
        "branch", [], [helper.make_tensor_value_info("negative", HALF, ["N", 3, T, SIZE, SIZE])],
    )  # fmt: skip
    chain: tuple[Node, ...] = (
        ("Cast", ["x"], "once", {"to": HALF}),
        ("Cast", ["once"], "wide", {"to": FLOAT}),
        ("Cast", ["wide"], "twice", {"to": HALF}),
        ("If", ["yes"], "chosen", {"then_branch": branch, "else_branch": branch}),
        ("Cast", ["chosen"], "y", {"to": FLOAT}),
    )
    model = classifier(chain, yes=np.array(True))

    converted = in_float32(model)

    assert [node.op_type for node in converted.graph.node] == ["If", "Cast"]
    inner = converted.graph.node[0].attribute[0].g
    assert (inner.node[0].input[0], inner.output[0].type.tensor_type.elem_type) == ("x", FLOAT)


def test_a_graph_that_changes_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "TOLERANCE", 1e-9)

    with pytest.raises(ParityError, match=r"gives other logits than as it came: they differ by .* tolerance is 1e-09"):
        export_onnx(saved(tmp_path / "net.onnx", rounded()), tmp_path / "tubes.onnx", I3D)

    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_half_weights_may_be_asked_for(tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path / "net.onnx", rounded()), tmp_path / "tubes.onnx", I3D, half_weights=True)

    assert report.passed
    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.features_shape == FEATURES
