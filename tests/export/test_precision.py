from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import CLASSES, FRAMES, SIZE, published
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from saliency_tubes import graph_cache, load_model  # noqa: E402
from saliency_tubes.backend_openvino import obstacle  # noqa: E402
from saliency_tubes.backend_ort import RUNTIME  # noqa: E402
from saliency_tubes.choices import Layout, Norm, Precision  # noqa: E402
from saliency_tubes.errors import ExportError, OptionError, ParityError  # noqa: E402
from saliency_tubes.graph_cache import GraphCache  # noqa: E402
from saliency_tubes.presets import preset  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import export_checkpoint  # noqa: E402
from saliency_tubes_export.graph import HALF_UNIT, absorb_scale, add_prefix  # noqa: E402
from saliency_tubes_export.mfnet3d import fresh  # noqa: E402
from saliency_tubes_export.precision import store_half, to_half, with_rounding  # noqa: E402

CHANNELS, CLIP = 16, (4, 8, 8)


def classifier(body: list[onnx.NodeProto], channels: int = 3, **arrays: NDArray[np.float64]) -> onnx.ModelProto:
    """A classifier of two classes on what `body` makes of `x`: the tensor `features`."""
    rng = np.random.default_rng(5)
    arrays = {"W": rng.normal(size=(2, channels)), "b": rng.normal(size=2)} | arrays
    nodes = [
        *body,
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *CLIP])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", channels, *CLIP]),
        ],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def offset_and_relu() -> list[onnx.NodeProto]:
    return [helper.make_node("Add", ["x", "offset"], ["sum"]), helper.make_node("Relu", ["sum"], ["features"])]


def features(model: onnx.ModelProto, x: NDArray[np.generic]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(["features"], {session.get_inputs()[0].name: x})[0]
    return found


def elem_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    infos = {i.name: i.type.tensor_type.elem_type for i in (*graph.input, *graph.value_info, *graph.output)}
    return infos | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_everything_up_to_the_features_is_float16_and_nothing_behind() -> None:
    model = classifier(offset_and_relu(), offset=np.ones((3, 1, 1, 1)))

    to_half(model)

    onnx.checker.check_model(model, full_check=True)
    types = elem_types(model)
    assert {name for name, kind in types.items() if kind == TensorProto.FLOAT16} == {
        "x",
        "offset",
        "sum",
        "features_half",
    }
    assert {types[name] for name in ("features", "pooled", "W", "b", "logits")} == {TensorProto.FLOAT}


def test_a_constant_that_the_classifier_uses_too_stays_float32_there() -> None:
    model = classifier(offset_and_relu(), offset=np.array(1 / 3))
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("Add", ["scores", "offset"], ["logits"]))

    to_half(model)

    onnx.checker.check_model(model, full_check=True)
    assert elem_types(model)["offset"] == TensorProto.FLOAT
    assert elem_types(model)["offset_half"] == TensorProto.FLOAT16


def test_with_rounding_gives_what_float16_arithmetic_gives() -> None:
    rng = np.random.default_rng(6)
    offset = rng.normal(size=(3, 1, 1, 1))
    x = rng.normal(size=(2, 3, *CLIP)).astype(np.float16)
    model = classifier(offset_and_relu(), offset=offset)
    to_half(model)

    twin = with_rounding(model)
    twin.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

    expected = np.maximum(x + offset.astype(np.float16), np.float16(0))
    assert expected.dtype == np.float16
    np.testing.assert_array_equal(features(twin, x.astype(np.float32)), expected)


@pytest.mark.parametrize("weight", [70_000.0, -1e30])
def test_a_weight_that_float16_cannot_hold_is_refused(weight: float) -> None:
    model = classifier(offset_and_relu(), offset=np.array([1, weight, 2]).reshape(3, 1, 1, 1))

    with pytest.raises(ExportError, match=r"offset holds (7e\+04|-1e\+30), and the largest number of float16 is 65504"):
        to_half(model)


def test_small_first_kernels_keep_their_digits() -> None:
    """Kernels that the scale of the pixels would push below 6e-5, where float16 has fewer digits."""
    rng = np.random.default_rng(8)
    preprocessing = preset(Norm.MFNET, CLIP[1])
    frames = rng.integers(0, 256, (1, CLIP[0], *CLIP[1:], 3), dtype=np.uint8)
    kernel = rng.normal(size=(CHANNELS, 3, 1, 1, 1)) / 2000
    results = []
    for half in (False, True):
        model = classifier([helper.make_node("Conv", ["x", "kernel"], ["features"])], CHANNELS, kernel=kernel)
        absorb_scale(model, preprocessing, HALF_UNIT if half else 1.0)
        if half:
            to_half(model)
        add_prefix(model, CLIP[0], preprocessing)
        onnx.checker.check_model(model, full_check=True)
        results.append(features(with_rounding(model), frames))

    assert np.abs(results[1] - results[0]).max() < 5e-4 * np.abs(results[0]).max()


@pytest.fixture(scope="module", params=list(Layout))
def half_model(request: pytest.FixtureRequest, checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / f"{request.param}.onnx"
    export_checkpoint(checkpoint_path, path, frames=FRAMES, size=SIZE, layout=request.param, precision=Precision.FP16)
    return path


@pytest.fixture(scope="module")
def half_models(half_model: Path) -> list[Path]:
    """The file, and the same with the roundings that this processor leaves out."""
    rounding = half_model.with_suffix(".rounding.onnx")
    onnx.save(with_rounding(onnx.load(half_model)), rounding)
    return [half_model, rounding]


def test_the_file_says_its_precision_and_what_was_measured(half_model: Path) -> None:
    spec = load_model(half_model, "cpu").spec

    assert spec.precision is Precision.FP16
    assert spec.parity is not None
    assert spec.parity.tolerance == 5e-2
    assert 1e-4 < spec.parity.features_rel < spec.parity.tolerance  # the roundings were in it
    assert spec.parity.completeness < 1e-5


def test_the_file_is_half_as_large(half_model: Path, exported_model: Path) -> None:
    parameters = sum(parameter.numel() for parameter in fresh(CLASSES).parameters())
    whole = {"blocked": exported_model.stat().st_size, "plain": 4 * parameters}[half_model.stem]

    assert half_model.stat().st_size == pytest.approx(whole / 2, rel=0.05)


def test_weights_and_values_inside_are_float16(half_model: Path) -> None:
    model = onnx.load(half_model)

    types = elem_types(model)
    assert types["frames"] == TensorProto.UINT8
    assert types["logits"] == types["features"] == TensorProto.FLOAT
    floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
    kinds = {tensor.name for tensor in model.graph.initializer} & floats
    assert kinds == {"classifier.weight", "classifier.bias", "preprocessing_mean", "preprocessing_unit"}
    assert all(types[node.output[0]] == TensorProto.FLOAT16 for node in model.graph.node if node.op_type == "Conv")


def test_tubes_are_nearly_those_of_float32(half_models: list[Path], exported_model: Path) -> None:
    clip = synthetic_clip((FRAMES, 71, 93, 3), 4)
    expected = load_model(exported_model, "cpu").explain(clip)

    for path in half_models:
        explanation = load_model(path, "cpu").explain(clip, expected.predicted.index)

        assert explanation.predicted.index == expected.predicted.index
        assert np.abs(explanation.tubes[0].values - expected.tubes[0].values).max() < 0.02  # of maps of 4x2x2 places


def test_maps_add_up_to_the_logits_as_in_float32(half_models: list[Path]) -> None:
    for path in half_models:
        explanation = load_model(path, "cpu").explain(synthetic_clip((FRAMES, 71, 93, 3), 3), range(CLASSES))

        assert explanation.logits.dtype == np.float32
        assert explanation.completeness < 1e-6


def test_pytorch_in_float16_is_as_far_from_float32(half_models: list[Path], checkpoint_path: Path) -> None:
    """The rounded graph stands for a device with float16: another implementation of it must not be far better."""
    network = fresh(CLASSES)
    frames = synthetic_clip((FRAMES, SIZE, SIZE, 3), 5)[None]
    preprocessing = preset(Norm.SALIENCY_TUBES, SIZE)
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    clip = torch.tensor(((frames / 255 - mean) / std).transpose(0, 4, 1, 2, 3), dtype=torch.float32)
    with torch.inference_mode():
        exact = network.features(clip).numpy()
        theirs = network.half().features(clip.half()).float().numpy()

    on_cpu, rounded = (open_session(path, "cpu").run(frames).features for path in half_models)

    errors = [float(np.sqrt(np.mean((values - exact) ** 2)) / exact.std()) for values in (on_cpu, rounded, theirs)]
    assert errors[0] < errors[1]
    assert errors[1] / 2 < errors[2] < errors[1] * 2


def test_values_that_overflow_float16_are_found_on_a_processor_that_lets_them_pass(tmp_path: Path) -> None:
    network = fresh(CLASSES)
    with torch.no_grad():
        network.conv1.bn.weight.mul_(1e5)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    arguments = {"frames": 2, "size": 32, "layout": Layout.PLAIN}

    export_checkpoint(tmp_path / "weights.pth", tmp_path / "m.onnx", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ParityError, match=r"differs from the network by more than the tolerance(.|\n)*(nan|inf)"):
        export_checkpoint(tmp_path / "weights.pth", tmp_path / "h.onnx", precision=Precision.FP16, **arguments)  # type: ignore[arg-type]

    assert {path.name for path in tmp_path.iterdir()} == {"weights.pth", "m.onnx"}


@pytest.mark.parametrize("precision", [Precision.TF32, Precision.BF16])
def test_precisions_of_the_run_are_refused(tmp_path: Path, precision: Precision) -> None:
    with pytest.raises(
        ExportError, match=rf"exported in fp32 or fp16, and {precision} .*`tubes run --precision {precision}`"
    ):
        export_checkpoint(tmp_path / "weights.pth", tmp_path / "m.onnx", precision=precision)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint_path: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_checkpoint(checkpoint_path, tmp_path / name, frames=2, size=32, precision=Precision.FP16)

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def stored(body: list[onnx.NodeProto], **arrays: NDArray[np.float64]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A classifier of 16 channels, and the same with its weights stored as halves."""
    plain, halved = (classifier(body, CHANNELS, **arrays) for _ in range(2))
    store_half(halved)
    onnx.checker.check_model(halved, full_check=True)
    return plain, halved


def wide_conv() -> tuple[list[onnx.NodeProto], dict[str, NDArray[np.float64]]]:
    rng = np.random.default_rng(9)
    conv = helper.make_node("Conv", ["x", "kernel", "bias"], ["features"], pads=[2] * 6)
    return [conv], {"kernel": rng.normal(size=(CHANNELS, 3, 5, 5, 5)), "bias": rng.normal(size=CHANNELS)}


def test_stored_halves_compute_in_float32_what_rounded_weights_compute() -> None:
    body, arrays = wide_conv()
    x = np.random.default_rng(10).normal(size=(2, 3, *CLIP)).astype(np.float32)

    plain, halved = stored(body, **arrays)

    arrays["kernel"] = arrays["kernel"].astype(np.float32).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(features(halved, x), features(classifier(body, CHANNELS, **arrays), x))
    assert 1e-4 < np.abs(features(halved, x) - features(plain, x)).max() < 0.1
    assert {name for name, kind in elem_types(halved).items() if kind == TensorProto.FLOAT16} == {"kernel_half"}


def test_a_weight_that_the_classifier_uses_too_is_stored_as_it_is() -> None:
    rng = np.random.default_rng(11)
    body = [helper.make_node("Conv", ["x", "kernel"], ["y"]), helper.make_node("Add", ["y", "large"], ["features"])]
    kernel, large = rng.normal(size=(CHANNELS, 3, 1, 1, 1)), rng.normal(size=(CHANNELS, *CLIP))
    model = classifier(body, CHANNELS, kernel=kernel, large=large)
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("ReduceMean", ["large"], ["offset"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["scores", "offset"], ["logits"]))
    before = model.SerializeToString()

    store_half(model)

    assert model.SerializeToString() == before


def test_a_large_weight_that_float16_cannot_hold_is_refused() -> None:
    body, arrays = wide_conv()
    arrays["kernel"][3, 1, 2, 2, 2] = 70_000

    with pytest.raises(ExportError, match=r"kernel holds 7e\+04, .*in float32, without --half-weights"):
        stored(body, **arrays)


@pytest.fixture(scope="module", params=list(Layout))
def stored_model(
    request: pytest.FixtureRequest, checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("stored") / f"{request.param}.onnx"
    export_checkpoint(checkpoint_path, path, frames=FRAMES, size=SIZE, layout=request.param, half_weights=True)
    return path


def test_a_file_of_stored_halves_is_half_as_large_and_says_so(stored_model: Path, exported_model: Path) -> None:
    parameters = sum(parameter.numel() for parameter in fresh(CLASSES).parameters())
    whole = {"blocked": exported_model.stat().st_size, "plain": 4 * parameters}[stored_model.stem]

    spec = load_model(stored_model, "cpu").spec

    assert stored_model.stat().st_size == pytest.approx(whole / 2, rel=0.05)
    assert (spec.precision, spec.storage) == (Precision.FP32, Precision.FP16)
    assert spec.parity is not None
    assert spec.parity.tolerance == 2e-2
    assert 1e-4 < spec.parity.features_rel < spec.parity.tolerance  # the stored file was measured
    assert spec.parity.completeness < 1e-6


def test_the_classifier_of_a_file_of_stored_halves_is_the_checkpoints(stored_model: Path) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(stored_model).graph.initializer}

    classifiers = weights.pop("classifier.weight")
    assert classifiers.dtype == np.float32
    np.testing.assert_array_equal(classifiers, load_model(stored_model, "cpu").spec.head.weight)
    assert {array.dtype for array in weights.values() if array.size >= 4096} == {np.dtype(np.float16)}


def test_tubes_of_stored_halves_are_nearly_those_of_float32(stored_model: Path, exported_model: Path) -> None:
    clip = synthetic_clip((FRAMES, 71, 93, 3), 4)
    expected = load_model(exported_model, "cpu").explain(clip)

    explanation = load_model(stored_model, "cpu").explain(clip)

    assert explanation.predicted.index == expected.predicted.index
    assert explanation.model.precision is Precision.FP32
    assert np.abs(explanation.tube.values - expected.tube.values).max() < 0.02


def test_stored_halves_come_out_of_the_graph_cache_as_they_went_in(
    stored_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_cache, "_SETTLED_SECONDS", 0.0)  # the file is new
    cache, clip = GraphCache(tmp_path / "graphs"), synthetic_clip((FRAMES, SIZE, SIZE, 3), 5)[None]

    first = open_session(stored_model, "cpu", cache=cache).run(clip)
    published()
    entry = cache.entry(stored_model, RUNTIME)
    assert entry is not None
    assert entry.model_sha256() is not None
    kept = open_session(stored_model, "cpu", cache=cache).run(clip)

    np.testing.assert_array_equal(kept.features, first.features)


@pytest.mark.skipif(obstacle() is not None, reason="OpenVINO does not load here")
def test_openvino_computes_stored_halves_in_float32(stored_model: Path) -> None:
    clip = synthetic_clip((FRAMES, SIZE, SIZE, 3), 5)[None]
    expected = open_session(stored_model, "cpu").run(clip).features

    found = open_session(stored_model, "openvino").run(clip).features

    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_half_weights_of_what_is_all_halves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--half-weights is for files that compute in fp32: .* leave it out"):
        export_checkpoint(tmp_path / "w.pth", tmp_path / "m.onnx", precision=Precision.FP16, half_weights=True)

    assert not list(tmp_path.iterdir())
