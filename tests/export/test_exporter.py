import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CLASSES, FRAMES, SIZE, published

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from saliency_tubes import graph_cache, load_model  # noqa: E402
from saliency_tubes.backend_ort import RUNTIME  # noqa: E402
from saliency_tubes.choices import Norm  # noqa: E402
from saliency_tubes.errors import CheckpointError, ExportError, OutputError, ParityError  # noqa: E402
from saliency_tubes.graph_cache import GraphCache  # noqa: E402
from saliency_tubes.presets import preset  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.spec import ModelSpec, Parity  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import ParityReport, export_checkpoint, exporter  # noqa: E402
from saliency_tubes_export.checkpoint import load_checkpoint  # noqa: E402
from saliency_tubes_export.mfnet3d import MFNet3D, fresh  # noqa: E402


def spec_of(path: Path) -> ModelSpec:
    return ModelSpec.from_metadata(open_session(path, "cpu").metadata)


def test_the_graph_has_the_promised_interface(exported_model: Path) -> None:
    session = open_session(exported_model, "cpu")

    assert session.inputs == {"frames": ("N", FRAMES, SIZE, SIZE, 3)}
    assert session.outputs == {"logits": ("N", CLASSES), "features": ("N", 768, FRAMES // 2, SIZE // 32, SIZE // 32)}


def test_the_file_is_valid_onnx_and_self_sufficient(exported_model: Path) -> None:
    model = onnx.load(exported_model, load_external_data=False)

    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_the_file_tells_nothing_of_the_machine_it_was_made_on(exported_model: Path) -> None:
    data = exported_model.read_bytes()

    for private in (str(Path(exporter.__file__).parent), torch.__path__[0], str(exported_model.parent)):
        assert private.encode() not in data


def test_frames_give_what_pytorch_gives_for_the_normalised_clip(exported_model: Path, checkpoint_path: Path) -> None:
    network = load_checkpoint(checkpoint_path).network
    clips = np.stack([synthetic_clip((FRAMES, SIZE, SIZE, 3), seed) for seed in (5, 6, 7)])
    mean = np.array([124, 117, 104]) / 255
    scaled = (clips / 255 - mean) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        features = network.features(torch.tensor(scaled.transpose(0, 4, 1, 2, 3), dtype=torch.float32))
        logits = network(torch.tensor(scaled.transpose(0, 4, 1, 2, 3), dtype=torch.float32))

    ours = open_session(exported_model, "cpu").run(clips)

    np.testing.assert_allclose(ours.features, features, atol=1e-4 * float(features.abs().max()))
    np.testing.assert_allclose(ours.logits, logits, atol=1e-4 * float(logits.abs().max()))


def test_metadata_carries_the_classifier_the_origin_and_the_parity(exported_model: Path, checkpoint_path: Path) -> None:
    spec = spec_of(exported_model)
    classifier = load_checkpoint(checkpoint_path).network.classifier

    np.testing.assert_array_equal(spec.head.weight, classifier.weight.detach())
    np.testing.assert_array_equal(spec.head.bias, classifier.bias.detach())
    assert spec.checkpoint_name == "weights.pth"
    assert spec.preprocessing == preset(Norm.SALIENCY_TUBES, SIZE)
    assert spec.parity is not None
    assert 0 < spec.parity.features_rel < spec.parity.tolerance == 1e-4
    assert 0 <= spec.parity.completeness < 1e-4
    assert dict(spec.versions)["torch"] == torch.__version__


def test_maps_of_all_classes_add_up_to_the_logits(exported_model: Path) -> None:
    clip = synthetic_clip((FRAMES, 71, 93, 3), 3)

    explanation = load_model(exported_model, "cpu").explain(clip, range(CLASSES))

    for tube in explanation.tubes:
        total = tube.map.mean(dtype=np.float64) + explanation.spec.head.bias[tube.label]
        assert total == pytest.approx(explanation.logits[tube.label], abs=1e-5)


def test_labels_size_and_norm_reach_the_file(checkpoint_path: Path, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(CLASSES)]
    (tmp_path / "names.txt").write_text("\n".join(names))

    report = export_checkpoint(
        checkpoint_path,
        tmp_path / "m.onnx",
        labels=tmp_path / "names.txt",
        frames=4,
        size=96,
        norm=Norm.MFNET,
        opset=20,
    )

    spec = spec_of(tmp_path / "m.onnx")
    assert report.passed
    assert spec.labels == tuple(names)
    assert spec.input_shape == (4, 96, 96, 3)
    assert spec.preprocessing.resize_hw == (110, 110)
    assert spec.preprocessing.std == pytest.approx((1 / (0.0167 * 255),) * 3)
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 20


def test_the_report_is_a_table_with_every_number(checkpoint_path: Path, tmp_path: Path) -> None:
    table = export_checkpoint(checkpoint_path, tmp_path / "m.onnx", frames=2, size=32).table()

    for expected in (
        "frames (N, 2, 32, 32, 3)",
        "logits (N, 7)",
        "features (N, 768, 1, 1, 1)",
        "completeness",
        "passed",
    ):
        assert expected in table


@pytest.mark.parametrize(
    ("logits", "features", "completeness", "passed"),
    [
        (0.04, 0.04, 1e-5, True),
        (0.06, 0.04, 1e-5, False),
        (0.04, 0.06, 1e-5, False),
        (0.04, 0.04, 2e-4, False),  # its own, whatever the tolerance of the rest
        (0.04, np.nan, 1e-5, False),
    ],
)
def test_a_report_passes_within_its_tolerances(
    logits: float, features: float, completeness: float, passed: bool
) -> None:
    parity = Parity("nothing", 0.05, 0.0, logits, 0.0, features, completeness)

    assert ParityReport((), (), parity).passed == passed


def test_exporting_says_nothing_and_warns_of_nothing(
    checkpoint_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_checkpoint(checkpoint_path, tmp_path / "m.onnx", frames=2, size=32)

    assert capfd.readouterr() == ("", "")


def test_a_file_that_differs_from_the_network_is_not_kept(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_text("the old file")
    real = exporter.plain_classifier

    def slightly_wrong(network: MFNet3D, *arguments: Any) -> onnx.ModelProto:
        with torch.no_grad():
            network.classifier.bias += 0.01
        try:
            return real(network, *arguments)
        finally:
            with torch.no_grad():
                network.classifier.bias -= 0.01

    monkeypatch.setattr(exporter, "plain_classifier", slightly_wrong)

    with pytest.raises(ParityError, match=r"differs from the network by more than the tolerance(.|\n)*FAILED"):
        export_checkpoint(checkpoint_path, tmp_path / "m.onnx", frames=2, size=32)

    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_export_that_stops_half_way_leaves_nothing(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(exporter, "measure", stop)

    with pytest.raises((KeyboardInterrupt, OutputError), match=r"^$|No space left on device\. Check the folder"):
        export_checkpoint(checkpoint_path, tmp_path / "m.onnx", frames=2, size=32)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames is 0: expected at least 1"),
        ({"size": 31}, "size is 31: MFNet-3D needs crops of at least 32 pixels"),
        ({"opset": 12}, "opset is 12: expected 18 to 23"),
        ({"opset": 99}, "opset is 99: expected 18 to 23"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_checkpoint(tmp_path / "weights.pth", tmp_path / "m.onnx", **arguments)  # type: ignore[arg-type]


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*gone does not exist: make it"):
        export_checkpoint(tmp_path / "weights.pth", tmp_path / "gone" / "m.onnx")
    with pytest.raises(OutputError, match=r"is a folder: name a file in it"):
        export_checkpoint(tmp_path / "weights.pth", tmp_path)


def test_a_bad_checkpoint_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"nothing")

    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        export_checkpoint(tmp_path / "weights.pth", tmp_path / "m.onnx")

    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_the_network_has_the_published_size_and_shapes() -> None:
    network = fresh(101)

    assert sum(parameter.numel() for parameter in network.parameters()) == 7_766_437
    with torch.inference_mode():
        assert network.features(torch.zeros(1, 3, 16, 112, 112)).shape == (1, 768, 8, 4, 4)
        assert network(torch.zeros(2, 3, 16, 64, 64)).shape == (2, 101)


def test_a_fresh_network_is_seeded_and_alive() -> None:
    a, b, other = fresh(5, seed=1), fresh(5, seed=1), fresh(5, seed=2)
    clip = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        assert torch.equal(a(clip), b(clip))
        assert not torch.equal(a(clip), other(clip))
        assert a.features(clip).std() > 0.1


def test_odd_clips_are_exported_too_and_load_from_a_kept_graph(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_cache, "_SETTLED_SECONDS", 0.0)  # the file is new
    path, cache = tmp_path / "odd.onnx", GraphCache(tmp_path / "graphs")
    report = export_checkpoint(checkpoint_path, path, frames=5, size=33)
    clip = synthetic_clip((5, 33, 33, 3), 1)[None]

    first = open_session(path, "cpu", cache=cache).run(clip)
    published()
    entry = cache.entry(path, RUNTIME)
    assert entry is not None
    assert entry.model_sha256() is not None
    kept = open_session(path, "cpu", cache=cache).run(clip)

    assert report.passed
    np.testing.assert_array_equal(first.features, kept.features)
