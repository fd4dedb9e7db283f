"""Model files whose maps do not add up to the logits, from export to what a run says of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes import load_model
from saliency_tubes.cli import app
from saliency_tubes.errors import TailError
from saliency_tubes.presets import Pixels
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import GraphHints, export_onnx
from typer.testing import CliRunner

T, SIZE, C, K = 4, 32, 5, 3
PIXELS = Pixels(None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
RNG = np.random.default_rng(1)


def network(path: Path, features: str = "early", last: bool = False) -> Path:
    """Two convolutions, a maximum over the places, a linear layer; one constant as exporters write them."""
    weights = {
        "stem": RNG.standard_normal((C, 3, 1, 8, 8)).astype(np.float32) / 10,
        "next": RNG.standard_normal((C, C, 3, 3, 3)).astype(np.float32) / 5,
        "w": RNG.standard_normal((C, K)).astype(np.float32),
        "axes": np.array([1, 2, 3] if last else [2, 3, 4]),
    }
    early = [
        helper.make_node("Conv", ["clip", "stem"], ["stem_out"], name="stem/conv", strides=[1, 8, 8]),
        helper.make_node("Relu", ["stem_out"], ["active" if last else features], name="stem/relu"),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
    ]
    if last:
        early.append(helper.make_node("Transpose", ["active"], [features], perm=[0, 2, 3, 4, 1]))
        ending = [helper.make_node("Mul", [features, "two"], ["both"])]
    else:
        ending = [
            helper.make_node("Conv", [features, "next"], ["deep"], name="layer2/conv", pads=[1] * 6),
            helper.make_node("Mul", ["deep", "two"], ["both"], name="layer2/mul"),
        ]
    ending += [
        helper.make_node("ReduceMax", ["both", "axes"], ["flat"], keepdims=0),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        early + ending,
        "net",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, ["N", 3, T, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", K])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_without_the_option_the_way_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(TailError, match=r"ReduceMax flat stands(.|\n)*With --approximate, maps that do not add up"):
        export_onnx(network(tmp_path / "net.onnx"), tmp_path / "tubes.onnx", PIXELS)


@pytest.mark.parametrize(
    ("hints", "shape"),
    [
        (GraphHints(approximate=True), (C, T, 4, 4)),
        (GraphHints(approximate=True, layer="stem"), (C, T, 4, 4)),
        (GraphHints(approximate=True, features="deep"), (C, T, 4, 4)),
    ],
)
def test_a_file_that_is_approximate_says_so(hints: GraphHints, shape: tuple[int, ...], tmp_path: Path) -> None:
    report = export_onnx(network(tmp_path / "net.onnx"), tmp_path / "tubes.onnx", PIXELS, hints=hints)

    assert report.passed
    assert report.parity.completeness > 1e-3  # of the synthetic clip: it is an approximation
    model = load_model(tmp_path / "tubes.onnx", "cpu")
    assert model.spec.features_shape == shape
    assert model.spec.approximate is not None
    assert "is not linear; its first-order expansion around synthetic clips" in model.spec.approximate
    explanation = model.explain(synthetic_clip((T, SIZE, SIZE, 3), 3), range(K))
    assert explanation.notes[0].startswith("approximate: what stands between")
    assert np.ptp([tube.map.mean() for tube in explanation.tubes]) > 0


def test_channels_that_come_last_are_found(tmp_path: Path) -> None:
    hints = GraphHints(approximate=True, features="early")
    export_onnx(network(tmp_path / "net.onnx", last=True), tmp_path / "tubes.onnx", PIXELS, hints=hints)

    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.features_shape == (C, T, 4, 4)


@pytest.mark.parametrize("name", ["scope/" * 100 + "relu", "two\nlines"])
def test_names_of_any_length_and_content_can_be_read_back(name: str, tmp_path: Path) -> None:
    report = export_onnx(
        network(tmp_path / "net.onnx", name),
        tmp_path / "tubes.onnx",
        PIXELS,
        hints=GraphHints(approximate=True, features=name),
    )

    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.approximate
    assert "two\nlines" not in report.table()


def test_the_options_of_the_command(tmp_path: Path) -> None:
    arguments = [
        "export",
        str(network(tmp_path / "net.onnx")),
        "-o",
        str(tmp_path / "t.onnx"),
        "--mean",
        "0.5",
        "--std",
        "0.5",
    ]

    done = CliRunner().invoke(app, [*arguments, "--layer", "stem", "--approximate"])
    assert done.exit_code == 0, done.output
    assert "note: approximate: what stands between early and the logits (Conv, Mul, ReduceMax, MatMul)" in done.output
    twice = CliRunner().invoke(app, [*arguments, "--layer", "stem", "--features", "early"])
    assert twice.exit_code == 2
    assert "leave one out" in twice.output
