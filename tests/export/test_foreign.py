"""Classifiers from other people: exported, loaded by the runtime, explained, and compared with what they were."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import FEATURES, FLAT, GEMM, LAST, POOL, SIZE, STEM, C, K, Node, T, classifier, saved
from onnx import TensorProto, helper, numpy_helper, version_converter
from saliency_tubes import load_model
from saliency_tubes.choices import ChannelOrder, InputLayout, Layout, Norm, Precision
from saliency_tubes.errors import CheckpointError, ExportError, OptionError, OutputError, TailError
from saliency_tubes.presets import Pixels
from saliency_tubes.session import open_session
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import ParityReport, export_onnx, foreign, proven
from saliency_tubes_export.foreign import GraphHints

I3D = Pixels(Norm.I3D)
SOFTMAX: Node = ("Softmax", ["y"], "probabilities", {"axis": -1})
MERGED: tuple[Node, ...] = (  # (N, T, 3, H, W), as many data sets give clips
    ("Transpose", ["x"], "c", {"perm": [0, 2, 1, 3, 4]}),
    ("Conv", ["c", *STEM[0][1][1:]], "conv", STEM[0][3]),
    STEM[1],
)

FAMILIES: dict[str, tuple[Sequence[Node], Sequence[int | str]]] = {
    "torch: pool, flatten, gemm": ((*STEM, POOL, FLAT, GEMM), ("N", 3, T, SIZE, SIZE)),
    "keras: channels last, mean, matmul, add, softmax": (
        (
            ("Transpose", ["x"], "c", {"perm": [0, 4, 1, 2, 3]}),
            ("Conv", ["c", "kernel", "kernel_bias"], "conv", STEM[0][3]),
            ("Transpose", ["conv"], "last", {"perm": [0, 2, 3, 4, 1]}),
            ("Relu", ["last"], "relu", {}),
            ("ReduceMean", ["relu", "volume"], "pool", {"keepdims": 0}),
            ("MatMul", ["pool", "wt"], "m", {}),
            ("Add", ["m", "b"], "y", {}),
            SOFTMAX,
        ),
        ("N", T, SIZE, SIZE, 3),
    ),
    "channels last by a transpose before the mean": (
        (*STEM, LAST, ("ReduceMean", ["relu_last", "volume"], "flat", {"keepdims": 0}), GEMM),
        ("N", 3, T, SIZE, SIZE),
    ),
    "time before colours": ((*MERGED, POOL, FLAT, GEMM), ("N", T, 3, SIZE, SIZE)),
    "time before colours, used as it is": (
        (
            ("Relu", ["x"], "positive", {}),
            ("Transpose", ["positive"], "c", {"perm": [0, 2, 1, 3, 4]}),
            *MERGED[1:],
            POOL,
            FLAT,
            GEMM,
        ),
        ("N", T, 3, SIZE, SIZE),
    ),
    "channels last, used as it is": (
        (
            ("Relu", ["x"], "positive", {}),
            ("Transpose", ["positive"], "c", {"perm": [0, 4, 1, 2, 3]}),
            ("Conv", ["c", "kernel", "kernel_bias"], "conv", STEM[0][3]),
            STEM[1],
            POOL,
            FLAT,
            GEMM,
        ),
        ("N", T, SIZE, SIZE, 3),
    ),
    "1x1x1 convolution, softmax over five axes": (
        (
            *STEM,
            ("AveragePool", ["relu"], "pool", {"kernel_shape": list(FEATURES[1:])}),
            ("Conv", ["pool", "pointwise", "b"], "y", {}),
            ("Softmax", ["y"], "p", {"axis": 1}),
            ("Flatten", ["p"], "probabilities", {}),
        ),
        ("N", 3, T, SIZE, SIZE),
    ),
    "two layers without activation, time then space": (
        (
            *STEM,
            ("ReduceMean", ["relu", "space"], "s", {"keepdims": 0}),
            ("ReduceMean", ["s", "time"], "flat", {"keepdims": 0}),
            ("MatMul", ["flat", "first"], "m", {}),
            ("Add", ["first_b", "m"], "a", {}),
            ("Dropout", ["a"], "d", {}),
            ("Gemm", ["d", "second", "b"], "y", {"alpha": 0.5, "beta": 2.0}),
            ("LogSoftmax", ["y"], "probabilities", {}),
        ),
        ("N", 3, T, SIZE, SIZE),
    ),
    "one clip at a time": (
        (*STEM, POOL, ("Reshape", ["pool", "to"], "flat", {}), GEMM, SOFTMAX),
        (1, 3, T, SIZE, SIZE),
    ),
    "names of ours": (
        (
            ("Conv", ["x", "kernel", "kernel_bias"], "frames", STEM[0][3]),
            ("Relu", ["frames"], "logits", {}),
            ("GlobalAveragePool", ["logits"], "clip", {}),
            ("Flatten", ["clip"], "preprocessing_mean", {}),
            ("Gemm", ["preprocessing_mean", "w", "b"], "features", {"transB": 1}),
        ),
        ("N", 3, T, SIZE, SIZE),
    ),
}


def theirs(model: onnx.ModelProto, frames: np.ndarray, layout: str, bgr: bool = False) -> np.ndarray:
    """The first output of the graph as it is, for clips as I3D takes them, written down without the exporter's help."""
    clip = frames[..., ::-1] if bgr else frames
    clip = np.einsum(f"NTHWC->{layout}", clip / 127.5 - 1).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": clip[i : i + 1]})[0].reshape(1, -1) for i in range(len(clip))])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_becomes_a_model_file_that_computes_the_same(name: str, tmp_path: Path) -> None:
    nodes, shape = FAMILIES[name]
    model = classifier(nodes, shape, to=np.array([1, C]))
    saved(tmp_path / "net.onnx", model)
    frames = np.stack([synthetic_clip((T, SIZE, SIZE, 3), seed) for seed in (5, 6, 7)])
    layout = {1: "NCTHW", 2: "NTCHW", 4: "NTHWC"}[list(shape).index(3)]
    expected = theirs(model, frames, layout)

    report = export_onnx(tmp_path / "net.onnx", tmp_path / "tubes.onnx", I3D)

    assert report.passed
    session = open_session(tmp_path / "tubes.onnx", "cpu")
    assert session.inputs == {"frames": ("N", T, SIZE, SIZE, 3)}
    assert session.outputs == {"logits": ("N", K), "features": ("N", *FEATURES)}
    ours = session.run(frames).logits
    last = nodes[-1][0] if nodes[-1][0] != "Flatten" else "Softmax"
    made = {"Softmax": softmax(ours), "LogSoftmax": np.log(softmax(ours))}.get(last, ours)
    np.testing.assert_allclose(made, expected, atol=1e-5)
    onnx.checker.check_model(onnx.load(tmp_path / "tubes.onnx"), full_check=True)

    explanation = load_model(tmp_path / "tubes.onnx", "cpu").explain(frames[0], range(K))
    for tube in explanation.tubes:
        assert tube.map.shape == FEATURES[1:]
        total = tube.map.mean(dtype=np.float64) + explanation.spec.head.bias[tube.label]
        assert total == pytest.approx(
            explanation.logits[tube.label], abs=1e-4 * float(np.abs(explanation.logits).max())
        )


def test_the_file_says_where_it_is_from_and_what_was_found(tmp_path: Path) -> None:
    saved(tmp_path / "my net.onnx", classifier((*STEM, POOL, FLAT, GEMM, SOFTMAX), (1, 3, T, SIZE, SIZE)))
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")

    report = export_onnx(
        tmp_path / "my net.onnx",
        tmp_path / "tubes.onnx",
        Pixels(Norm.KINETICS_TORCHVISION),
        labels=tmp_path / "names.txt",
    )

    spec = load_model(tmp_path / "tubes.onnx", "cpu").spec
    assert (spec.architecture, spec.checkpoint_name, spec.labels) == ("my net", "my net.onnx", tuple("abcde"))
    assert spec.preprocessing.resize_hw == (37, 49)
    assert (spec.preprocessing.name, spec.preprocessing.crop_hw) == ("kinetics-torchvision", (SIZE, SIZE))
    assert len(spec.checkpoint_sha256) == 64
    assert spec.parity is not None
    assert spec.parity.reference == f"the original graph in ONNX Runtime {ort.__version__}"
    assert max(spec.parity.logits_rel, spec.parity.features_rel, spec.parity.completeness) < 1e-5
    for found in (
        "features relu, logits y",
        "Softmax at the end is left out",
        "one clip at a time; the fi",
    ):
        assert found in report.table()


def test_weights_are_the_graphs_own(tmp_path: Path) -> None:
    model = classifier()
    export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)

    spec = load_model(tmp_path / "tubes.onnx", "cpu").spec
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(spec.head.weight, weights["w"])
    np.testing.assert_array_equal(spec.head.bias, weights["b"])


@pytest.mark.parametrize("first", ["Conv", "Relu"])
def test_a_network_of_bgr_gets_it(tmp_path: Path, first: str) -> None:
    front: tuple[Node, ...] = (("Relu", ["x"], "in", {}),) if first == "Relu" else ()
    conv: Node = ("Conv", ["in" if front else "x", *STEM[0][1][1:]], "conv", STEM[0][3])
    model = classifier((*front, conv, STEM[1], POOL, FLAT, GEMM))
    frames = synthetic_clip((T, SIZE, SIZE, 3), 1)[None]

    hints = GraphHints(channels=ChannelOrder.BGR)
    export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D, hints=hints)

    ours = open_session(tmp_path / "tubes.onnx", "cpu").run(frames).logits
    np.testing.assert_allclose(ours, theirs(model, frames, "NCTHW", bgr=True), atol=1e-5)
    operators = [node.op_type for node in onnx.load(tmp_path / "tubes.onnx").graph.node]
    assert ("Gather" in operators) == (first == "Relu")  # else it is in the first kernels


def test_channels_last_are_told_from_as_many_frames(tmp_path: Path) -> None:
    last: tuple[Node, ...] = (LAST, ("Abs", ["relu_last"], "abs", {}))
    nodes = (*STEM, *last, ("ReduceMean", ["abs", "volume"], "flat", {"keepdims": 0}), GEMM)
    network = saved(tmp_path / "net.onnx", classifier(nodes, ("N", 3, C, SIZE, SIZE)))

    assert "features abs, channels last" in export_onnx(network, tmp_path / "tubes.onnx", I3D).table()
    network = saved(tmp_path / "net.onnx", classifier(shape=("N", 3, C, SIZE, SIZE)))
    assert "features relu, logits" in export_onnx(network, tmp_path / "tubes.onnx", I3D).table()


def test_sizes_that_the_graph_leaves_open_are_given(tmp_path: Path) -> None:
    network = saved(tmp_path / "net.onnx", classifier(shape=("N", 3, "T", "H", "W")))

    with pytest.raises(ExportError, match="takes any length of T: say which one to export for with --frames"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
    with pytest.raises(ExportError, match="takes any length of H: say which one to export for with --size"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D, hints=GraphHints(frames=6))
    with pytest.raises(ExportError, match=r"a clip of 6x90000x90000 takes 543\.1 GiB .* expected no more than 1, so"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D, hints=GraphHints(frames=6, size=90_000))
    export_onnx(network, tmp_path / "tubes.onnx", I3D, hints=GraphHints(frames=6, size=40))

    spec = load_model(tmp_path / "tubes.onnx", "cpu").spec
    assert (spec.input_shape, spec.features_shape) == ((6, 40, 40, 3), (C, 6, 10, 10))


@pytest.mark.parametrize(
    ("shape", "hints", "message"),
    [
        (("N", 3, T, SIZE, SIZE), {"frames": 9}, r"takes T = 4 only, and --frames is 9: leave --frames out"),
        (("N", 3, T, SIZE, SIZE), {"layout": InputLayout.NTHWC}, r"in the layout NTHWC the input x .* has 32 colours"),
        (("N", 3, 3, SIZE, SIZE), {}, r"x \(\?x3x3x32x32\) can be read as NCTHW and as NTCHW: say which"),
        (("N", "C", T, SIZE, SIZE), {}, r"can be read as NCTHW: say which with --input-layout"),
        (("N", 2, T, SIZE, SIZE), {}, r"no axis of the input x \(\?x2x4x32x32\) has length 3: expected RGB"),
        ((8, 3, T, SIZE, SIZE), {}, r"the graph takes 8 clips at a time"),
        (
            ("N", 1, 3, T, SIZE, SIZE),
            {},
            r"has 6 axes \(\?x1x3x4x32x32\): expected five, .*or four for frames one by one",
        ),
        (("N", 3, SIZE, SIZE), {}, r"\(\?x3x32x32\) takes frames one by one, any number: say with --frames how many"),
        ((1, 3, SIZE, SIZE), {}, r"\(1x3x32x32\) takes a single image: expected a network of clips, or of all the fra"),
        ((T, 3, SIZE, SIZE), {"frames": 8}, r"takes T = 4 only, and --frames is 8: leave --frames out"),
        ((T, 3, SIZE, 3), {}, r"x \(4x3x32x3\) can be read as frames and as frames-last: say which"),
        ((T, 1, SIZE, SIZE), {}, r"x \(4x1x32x32\) has length 3: expected .*the layouts frames, frames-last"),
        ((T, 3, SIZE, SIZE), {"layout": InputLayout.NCTHW}, r"the layout NCTHW has 5 axes, and the input x .* has 4"),
        (
            ("N", 3, T, SIZE, SIZE),
            {"layout": InputLayout.FRAMES},
            r"frames has 4 axes, and .* has 5: expected NCTHW or",
        ),
    ],
)
def test_inputs_of_another_kind_are_refused(
    tmp_path: Path, shape: Sequence[int | str], hints: dict[str, Any], message: str
) -> None:
    model = classifier()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    for infos in (model.graph.value_info, model.graph.output):
        del infos[:]
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", K]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx.checker, "check_model", lambda *_, **__: None)  # the rest of the graph does not fit
        with pytest.raises(ExportError, match=message):
            export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D, hints=GraphHints(**hints))


def test_inputs_of_other_types_are_refused(tmp_path: Path) -> None:
    bytes_in = classifier((("Cast", ["u"], "x", {"to": 1}), *STEM, POOL, FLAT, GEMM))
    bytes_in.graph.input[0].CopyFrom(helper.make_tensor_value_info("u", TensorProto.UINT8, ["N", 3, T, SIZE, SIZE]))
    with pytest.raises(ExportError, match="the input u takes uint8: expected a float32 clip"):
        export_onnx(saved(tmp_path / "net.onnx", bytes_in), tmp_path / "tubes.onnx", I3D)


def test_weights_may_be_inputs_with_defaults_and_constants_may_be_nodes(tmp_path: Path) -> None:
    model = classifier()
    for tensor in list(model.graph.initializer):
        if tensor.name == "kernel":
            model.graph.initializer.remove(tensor)
            model.graph.node.insert(0, helper.make_node("Constant", [], ["kernel"], value=tensor))
        else:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    assert export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D).passed


def test_an_old_opset_is_upgraded(tmp_path: Path) -> None:
    squeeze: Node = ("Squeeze", ["pool"], "flat", {"axes": [2, 3, 4]})
    network = saved(tmp_path / "net.onnx", classifier((*STEM, POOL, squeeze, GEMM), opset=11))

    report = export_onnx(network, tmp_path / "tubes.onnx", I3D)

    assert "opset 11 was upgraded to 18" in report.table()
    assert onnx.load(tmp_path / "tubes.onnx").opset_import[0].version == 18


def test_a_softmax_of_an_old_opset_over_five_axes_is_left_out(tmp_path: Path) -> None:
    head: tuple[Node, ...] = (
        ("Conv", ["pool", "pointwise", "b"], "y", {}),
        ("Dropout", ["y"], "d", {}),
        ("Softmax", ["d"], "p", {"axis": 1}),  # of all that lies behind axis 1, as it was up to opset 12
        ("Flatten", ["p"], "probabilities", {}),
    )
    network = saved(tmp_path / "net.onnx", classifier((*STEM, POOL, *head), opset=11))

    report = export_onnx(network, tmp_path / "tubes.onnx", I3D)

    assert "features relu, logits y\n" in report.table()
    assert "Softmax at the end is left out" in report.table()


def test_an_opset_that_cannot_be_upgraded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no adapter for Upsample\nand a page more")

    monkeypatch.setattr(version_converter, "convert_version", fail)

    with pytest.raises(
        ExportError, match=r"has opset 11, and ONNX cannot upgrade it to 18 \(no adapter for Upsample\)"
    ):
        export_onnx(saved(tmp_path / "net.onnx", classifier(opset=11)), tmp_path / "tubes.onnx", I3D)


def test_an_opset_of_the_future_is_refused(tmp_path: Path) -> None:
    model = classifier()
    model.opset_import[0].version = 99

    with pytest.raises(ExportError, match=r"has opset 99, and onnx .* knows those up to \d+: install newer versions"):
        export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)


def external(folder: Path, location: str) -> Path:
    """The classifier with its kernel in another file."""
    network = folder / "net.onnx"
    onnx.save_model(
        classifier(),
        network,
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
        all_tensors_to_one_file=True,
    )
    model = onnx.load(network, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    network.write_bytes(model.SerializeToString())
    return network


@pytest.mark.parametrize("location", ["net.data", "./net.data"])
def test_weights_beside_the_network_are_read(tmp_path: Path, location: str) -> None:
    export_onnx(external(tmp_path, location), tmp_path / "tubes.onnx", I3D)
    (tmp_path / "net.data").unlink()

    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.head.weight.shape == (K, C)


@pytest.mark.parametrize("location", ["../outside.data", "/outside.data", "link.data", "in/../net.data"])
def test_weights_outside_the_networks_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    network = external(folder, location)
    (folder / "net.data").replace(tmp_path / "outside.data")
    (folder / "in").mkdir()
    (folder / "link.data").symlink_to(tmp_path / "outside.data")

    with pytest.raises(ExportError, match="outside its own folder, where nothing is read"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)


def test_missing_and_short_weight_files_are_refused(tmp_path: Path) -> None:
    network = external(tmp_path, "net.data")
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(ExportError, match=r"do not load|not valid ONNX, or damaged"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ExportError, match=r"keeps weights in 'net\.data', which is not there"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x08\x08" + b"\xff" * 40, bytes(1000)])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)

    with pytest.raises(ExportError, match="is not ONNX, or damaged"):
        export_onnx(tmp_path / "net.onnx", tmp_path / "tubes.onnx", I3D)


def test_a_cut_off_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    data = classifier().SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ExportError, match="damaged"):
        export_onnx(tmp_path / "net.onnx", tmp_path / "tubes.onnx", I3D)
    with pytest.raises(ExportError, match=r"none\.onnx cannot be read \(No such file or directory\)"):
        export_onnx(tmp_path / "none.onnx", tmp_path / "tubes.onnx", I3D)


def test_operators_of_ones_own_and_quantised_graphs_are_refused(tmp_path: Path) -> None:
    own = classifier()
    own.graph.node[1].domain = "com.acme"
    own.opset_import.append(helper.make_opsetid("com.acme", 1))
    with pytest.raises(ExportError, match=r"operators that are not ONNX's own: com\.acme::Relu"):
        export_onnx(saved(tmp_path / "net.onnx", own), tmp_path / "tubes.onnx", I3D)

    scale = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.uint8)}
    quantised = classifier(
        (
            ("QuantizeLinear", ["x", "scale", "zero"], "q", {}),
            ("DequantizeLinear", ["q", "scale", "zero"], "d", {}),
            ("Conv", ["d", *STEM[0][1][1:]], "conv", STEM[0][3]),
            STEM[1],
            POOL,
            FLAT,
            GEMM,
        ),
        **scale,
    )
    with pytest.raises(ExportError, match=r"is quantised \(DequantizeLinear, QuantizeLinear\): export the float32"):
        export_onnx(saved(tmp_path / "net.onnx", quantised), tmp_path / "tubes.onnx", I3D)


def test_a_file_of_ours_and_writing_over_the_network_are_refused(tmp_path: Path) -> None:
    network = saved(tmp_path / "net.onnx")
    export_onnx(network, tmp_path / "tubes.onnx", I3D)

    with pytest.raises(ExportError, match=r"was written by `tubes export` already: use it with `tubes run"):
        export_onnx(tmp_path / "tubes.onnx", tmp_path / "again.onnx", I3D)
    with pytest.raises(OutputError, match="is the network itself: choose another --output"):
        export_onnx(network, network, I3D)
    assert network.read_bytes() == classifier().SerializeToString()


NORM: Node = ("LayerNormalization", ["flat", "scale_of_norm"], "normed", {})


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ((*STEM, POOL, FLAT, NORM, ("MatMul", ["normed", "wt"], "y", {})), "LayerNormalization normed stands between"),
        (
            (*STEM, (FLAT[0], ["relu"], "flat", {}), ("MatMul", ["flat", "all"], "y", {})),
            "no average pooling was found between",
        ),
        ((*STEM, POOL, FLAT, GEMM, ("Sigmoid", ["y"], "p", {})), "Sigmoid p stands .*: name the tensor before it with"),
        (
            (*STEM, ("AveragePool", ["relu"], "part", {"kernel_shape": [2, 8, 8]}), ("MatMul", ["part", "q"], "y", {})),
            "y, Nx8x3x1x5, is not a row of numbers for each clip",
        ),
    ],
)
def test_other_heads_are_refused_with_the_end_of_the_graph(tmp_path: Path, nodes: Sequence[Node], problem: str) -> None:
    arrays = {"all": np.ones((C * T * 64, K)), "scale_of_norm": np.ones(C), "q": np.ones((1, K))}
    model = classifier(nodes, opset=18, **{name: array.astype(np.float32) for name, array in arrays.items()})

    with pytest.raises(TailError, match=rf"{problem}(.|\n)*The graph ends in:\n(.|\n)*<- here"):
        export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("mean_first", [True, False])
def test_a_network_of_single_frames_has_a_step_of_time_for_each(tmp_path: Path, mean_first: bool) -> None:
    mean: Node = ("ReduceMean", ["steps", "axis"], "flat", {"keepdims": 0})
    by_frame: tuple[Node, ...] = (
        ("MatMul", ["steps", "wt"], "scores", {}),
        ("ReduceMean", ["scores", "axis"], "y", {}),
    )
    frames = classifier(
        (
            ("Reshape", ["x", "to_frames"], "frame", {}),
            ("Conv", ["frame", "kernel2d"], "conv", {}),
            ("GlobalAveragePool", ["conv"], "pool", {}),
            ("Reshape", ["pool", "to_clips"], "steps", {}),
            *((mean, GEMM) if mean_first else by_frame),
        ),
        ("N", T, 3, SIZE, SIZE),
        to_frames=np.array([-1, 3, SIZE, SIZE]),
        to_clips=np.array([-1, T, C]),
        axis=np.array([1]),
        kernel2d=np.random.default_rng(3).standard_normal((C, 3, 3, 3)).astype(np.float32),
    )

    report = export_onnx(saved(tmp_path / "net.onnx", frames), tmp_path / "tubes.onnx", I3D)

    assert report.passed
    assert report.outputs == (("logits", f"(N, {K})"), ("features", f"(N, {C}, {T}, {SIZE - 2}, {SIZE - 2})"))
    found = load_model(tmp_path / "tubes.onnx", "cpu").explain(synthetic_clip((T, SIZE, SIZE, 3), 5), range(K))
    assert found.completeness < 1e-4
    assert found.tubes[0].map.shape == (T, SIZE - 2, SIZE - 2)


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_graph_that_takes_one_clip_only_is_refused(tmp_path: Path, batch: int | str) -> None:
    first: Node = ("Gather", ["conv", "zero"], "first_clip", {"axis": 0})
    nodes = (STEM[0], first, ("Relu", ["first_clip"], "relu", {}), POOL, FLAT, GEMM)
    model = classifier(nodes, (batch, 3, T, SIZE, SIZE), zero=np.array([0]))

    with pytest.raises(
        ExportError, match=r"gives y for 1 clip, however many go in: export the network with a batch axis"
    ):
        export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)


@pytest.mark.parametrize(
    ("target", "allow_zero"), [([1, *FEATURES], 0), ([1, *FEATURES], 1), ([1, C, -1, 8, 8], 0), ([-1, *FEATURES], 0)]
)
def test_shapes_written_for_one_clip_take_any_number(tmp_path: Path, target: list[int], allow_zero: int) -> None:
    reshape: Node = ("Reshape", ["conv", "to"], "same", {"allowzero": allow_zero})
    nodes = (STEM[0], reshape, ("Relu", ["same"], "relu", {}), POOL, FLAT, GEMM)
    model = classifier(nodes, (1, 3, T, SIZE, SIZE), to=np.array(target))

    assert export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D).passed


def test_a_graph_that_fails_on_two_clips_is_refused(tmp_path: Path) -> None:
    wide: tuple[Node, ...] = (
        ("Shape", ["x"], "sides", {}),
        ("Slice", ["sides", "start", "stop"], "batch", {}),
        ("Concat", ["batch", "rest"], "to", {"axis": 0}),
        ("Squeeze", ["conv", "start"], "bare", {}),  # one clip alone can lose its axis
        ("Reshape", ["bare", "to"], "same", {}),
    )
    nodes = (STEM[0], *wide, ("Relu", ["same"], "relu", {}), POOL, FLAT, GEMM)
    constants = {"start": np.array([0]), "stop": np.array([1]), "rest": np.array(FEATURES)}
    model = classifier(nodes, **constants)

    with pytest.raises(
        ExportError, match=r"has shape \(1, 5\), however many clips go in: export the network with a batch axis"
    ):
        export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)


TWO_HEADS: tuple[Node, ...] = (*STEM, POOL, FLAT, GEMM, ("MatMul", ["flat", "wt"], "z", {}))


def test_of_two_heads_one_is_chosen(tmp_path: Path) -> None:
    model = classifier(TWO_HEADS, outputs=["y", "z"])
    network = saved(tmp_path / "net.onnx", model)

    with pytest.raises(TailError, match="y and z do both: choose one with --logits"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
    export_onnx(network, tmp_path / "tubes.onnx", I3D, hints=GraphHints(logits="z", features="relu"))

    spec = load_model(tmp_path / "tubes.onnx", "cpu").spec
    np.testing.assert_array_equal(spec.head.bias, np.zeros(K))
    with pytest.raises(TailError, match="computes no tensor called 'nowhere', which --logits names"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D, hints=GraphHints(logits="nowhere"))
    with pytest.raises(TailError, match="no average pooling stands between flat and z"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D, hints=GraphHints(logits="z", features="flat"))


def test_of_logits_probabilities_and_features_the_logits_are_taken(tmp_path: Path) -> None:
    model = classifier((*STEM, POOL, FLAT, GEMM, SOFTMAX), outputs=["relu", "probabilities", "y"])

    report = export_onnx(saved(tmp_path / "net.onnx", model), tmp_path / "tubes.onnx", I3D)

    assert "features relu, logits y" in report.table()


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "absorb_scale", lambda *_: None)
    (tmp_path / "tubes.onnx").write_text("the old file")

    with pytest.raises(ExportError, match=r"differs from the original graph by more than the tolerance(.|\n)*FAILED"):
        export_onnx(saved(tmp_path / "net.onnx"), tmp_path / "tubes.onnx", I3D)

    assert (tmp_path / "tubes.onnx").read_text() == "the old file"
    assert len(list(tmp_path.iterdir())) == 2


GROUPED: tuple[Node, ...] = (
    ("Conv", ["x", "wide"], "conv", {"strides": [1, 4, 4], "pads": [1] * 6}),
    ("Conv", ["conv", "grouped"], "conv2", {"pads": [1] * 6, "group": 8}),
    ("Relu", ["conv2"], "relu", {}),
    POOL,
    FLAT,
    ("Gemm", ["flat", "w48"], "y", {}),
)


def grouped() -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    shapes = {"wide": (48, 3, 3, 3, 3), "grouped": (48, 6, 3, 3, 3), "w48": (48, K)}
    return classifier(GROUPED, **{name: rng.normal(size=side).astype(np.float32) / 9 for name, side in shapes.items()})


def layout_of(path: Path) -> tuple[Layout, set[int]]:
    """What a file says of its layout, and how many axes the kernels in it have."""
    model = onnx.load(path)
    sides = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    convs = {sides[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
    return load_model(path, "cpu").spec.layout, convs


def test_grouped_convolutions_are_rewritten_and_others_left_alone(tmp_path: Path) -> None:
    network = saved(tmp_path / "net.onnx", grouped())

    report = export_onnx(network, tmp_path / "blocked.onnx", I3D)
    export_onnx(network, tmp_path / "plain.onnx", I3D, layout=Layout.PLAIN)
    alone = export_onnx(saved(tmp_path / "alone.onnx"), tmp_path / "tubes.onnx", I3D)

    assert layout_of(tmp_path / "blocked.onnx") == (Layout.BLOCKED, {4, 5})
    assert layout_of(tmp_path / "plain.onnx") == (Layout.PLAIN, {5})
    assert layout_of(tmp_path / "tubes.onnx") == (Layout.PLAIN, {5})
    assert "layout plain" not in report.table()
    assert "note: layout plain: only convolutions in groups of several channels gain" in alone.table()


def test_a_rewrite_that_is_not_equal_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = proven.relayout

    def wrong(model: onnx.ModelProto) -> None:
        real(model)
        kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))

    monkeypatch.setattr(proven, "relayout", wrong)

    report = export_onnx(saved(tmp_path / "net.onnx", grouped()), tmp_path / "tubes.onnx", I3D)

    assert report.passed
    assert layout_of(tmp_path / "tubes.onnx") == (Layout.PLAIN, {5})
    assert "layout plain: the network rewritten is not equal" in report.table()


def test_an_onnx_graph_needs_neither_pytorch_nor_its_exporter(tmp_path: Path) -> None:
    saved(tmp_path / "net.onnx")
    script = (
        "import sys\n"
        "for name in ('torch', 'onnxscript', 'safetensors'): sys.modules[name] = None\n"
        "sys.argv = ['tubes', 'export', 'net.onnx', '--preset', 'i3d']\n"
        "from saliency_tubes.cli import entry\n"
        "entry()\n"
    )

    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("wrote tubes.onnx\n")
    assert "features relu, logits y" in result.stdout


def tubes_export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    from saliency_tubes import cli

    monkeypatch.setattr(sys, "argv", ["tubes", "export", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.onnx"], "how its frames were normalised: give either --preset, one of saliency-tubes, mfnet, kin"),
        (["net.onnx", "--mean", "0.5"], "or both --mean and --std"),
        (["net.onnx", "--preset", "i3d", "--mean", "0.5", "--std", "0.5"], "give either --preset"),
        (["net.onnx", "--mean", "123.675,116.28,103.53", "--std", "1"], "Then it is 0.485,0.456,0.406"),
        (["net.onnx", "--mean", "1,2", "--std", "1"], "--mean is '1,2': expected R,G,B, or one number for all three"),
        (["net.onnx", "--mean", "nan", "--std", "1"], "--mean is nan,nan,nan: expected R,G,B from 0 to 1"),
        (["net.onnx", "--mean", "0", "--std", "0"], "--std is 0,0,0: expected R,G,B from 0.001 to 1"),
        (
            ["net.onnx", "--preset", "i3d", "--resize", "30"],
            "--resize is 30x30, smaller than the network's input, 32x32",
        ),
        (["net.onnx", "--preset", "i3d", "--resize", "axb"], "--resize is 'axb': expected HEIGHTxWIDTH in pixels"),
        (["net.onnx", "--preset", "i3d", "--head", "0"], "--head is for weights, and this is an ONNX graph: leave it"),
        (["net.onnx", "--preset", "i3d", "--precision", "fp16"], "--precision is for weights, and this is an ONNX"),
        (["weights.pth", "--half-weights", "--precision", "fp16"], "--half-weights is for files that compute in fp32"),
        (
            ["weights.pth", "--input-layout", "NTHWC"],
            "--input-layout is for networks other than MFNet-3D: leave it out",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "net.onnx")

    assert tubes_export(monkeypatch, *arguments) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "tubes.onnx").exists()


def test_options_reach_the_file(tmp_path: Path) -> None:
    network = saved(tmp_path / "net.onnx", classifier(shape=("N", 3, "T", SIZE, SIZE)))
    pixels = Pixels(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 1.0), resize_hw=(40, 60))

    report: ParityReport = export_onnx(network, tmp_path / "tubes.onnx", pixels, hints=GraphHints(frames=2))

    preprocessing = load_model(tmp_path / "tubes.onnx", "cpu").spec.preprocessing
    assert report.passed
    assert (preprocessing.name, preprocessing.resize_hw) == ("given", (40, 60))
    assert (preprocessing.mean, preprocessing.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 1.0))


def test_a_wrong_number_of_labels_is_refused_before_the_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("one\n")

    with pytest.raises(CheckpointError, match="holds 1 names, and the classifier has 5 classes"):
        export_onnx(saved(tmp_path / "net.onnx"), tmp_path / "tubes.onnx", I3D, labels=tmp_path / "names.txt")
    with pytest.raises(OptionError, match="one of saliency-tubes, mfnet"):
        Pixels()


def test_files_with_bytes_changed_are_refused_or_equal(tmp_path: Path) -> None:
    """Whatever is wrong in a file, it is an error of ours, or the file that comes of it computes the same."""
    data = classifier().SerializeToString()
    rng = np.random.default_rng(3)
    refused = 0
    for position in rng.integers(0, 700, 60):  # before the weights
        changed = bytearray(data)
        changed[position] = rng.integers(256)
        (tmp_path / "net.onnx").write_bytes(changed)
        try:
            assert export_onnx(tmp_path / "net.onnx", tmp_path / "tubes.onnx", I3D).passed
        except ExportError:
            refused += 1
    assert 10 < refused < 60


def test_half_weights_of_a_graph_are_stored_and_measured(tmp_path: Path) -> None:
    wide = np.random.default_rng(12).normal(size=(C, 3, 7, 5, 5)).astype(np.float32) / 20
    stem = ("Conv", ["x", "kernel", "kernel_bias"], "conv", {"strides": [1, 4, 4], "pads": [3, 1, 1, 3, 1, 1]})
    network = saved(tmp_path / "net.onnx", classifier((stem, STEM[1], POOL, FLAT, GEMM), kernel=wide))

    report = export_onnx(network, tmp_path / "m.onnx", I3D, half_weights=True)

    model = onnx.load(tmp_path / "m.onnx")
    halves = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert [tuple(tensor.dims) for tensor in halves] == [wide.shape]
    assert load_model(tmp_path / "m.onnx", "cpu").spec.storage is Precision.FP16
    assert 1e-5 < report.parity.features_rel < 2e-2 == report.parity.tolerance


def test_the_command_asks_for_half_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "net.onnx")

    assert tubes_export(monkeypatch, "net.onnx", "--preset", "i3d", "--half-weights") == 0

    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.storage is Precision.FP16
