"""Networks too large for one ONNX message: read, written as a pair of files, and loaded; the limit is lowered here."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLAT, GEMM, SIZE, STEM, C, K, Node, T, classifier
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data
from saliency_tubes import load_model
from saliency_tubes.choices import Norm, Precision
from saliency_tubes.errors import ExportError, ModelFileError, OutputError
from saliency_tubes.presets import Pixels
from saliency_tubes.session import open_session
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import export_onnx, foreign, weights, writing
from saliency_tubes_export.lookup import Lookup
from saliency_tubes_export.onnx_file import read_classifier
from saliency_tubes_export.randomised import randomise

I3D = Pixels(Norm.I3D)
WIDE = 128
LOWERED = weights._ROOM + 60_000  # bytes; the networks here have some 100,000 of weights
NODES: tuple[Node, ...] = (
    *STEM,
    ("Conv", ["relu", "to_wide"], "wide", {}),
    ("Relu", ["wide"], "wide_relu", {}),
    ("Conv", ["wide_relu", "within"], "within_conv", {}),
    ("Conv", ["within_conv", "from_wide"], "narrow", {}),
    ("Relu", ["narrow"], "last", {}),
    ("GlobalAveragePool", ["last"], "pool", {}),
    FLAT,
    GEMM,
)


def large(folder: Path, name: str = "net.onnx", opset: int = 18, **others: np.ndarray) -> Path:
    """A network with its weights in a file beside it, as exporters leave one that is too large."""
    rng = np.random.default_rng(8)
    shapes = {"to_wide": (WIDE, C, 1, 1, 1), "within": (WIDE, WIDE, 1, 1, 1), "from_wide": (C, WIDE, 1, 1, 1)}
    arrays = {one: rng.normal(size=shape).astype(np.float32) / 6 for one, shape in shapes.items()}
    model = classifier(NODES, opset=opset, **arrays | others)
    onnx.save_model(model, folder / name, save_as_external_data=True, location=f"{name}_weights", size_threshold=0)
    return folder / name


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGEST_MESSAGE", LOWERED)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def logits(path: Path, device: str = "cpu") -> np.ndarray:
    frames = np.stack([synthetic_clip((T, SIZE, SIZE, 3), seed) for seed in (1, 2)])
    return open_session(path, device).run(frames).logits


def external(path: Path) -> dict[str, bool]:
    """Which weights a file keeps elsewhere, by name."""
    model = onnx.load(path, load_external_data=False)
    return {tensor.name.removeprefix("network/"): uses_external_data(tensor) for tensor in model.graph.initializer}


def test_what_is_too_large_for_one_file_becomes_two_that_compute_the_same(tmp_path: Path) -> None:
    network = large(tmp_path)
    export_onnx(network, tmp_path / "whole.onnx", I3D)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "LARGEST_MESSAGE", LOWERED)
        report = export_onnx(network, tmp_path / "tubes.onnx", I3D)
    network.unlink()
    (tmp_path / "net.onnx_weights").unlink()

    assert report.passed
    assert "layout plain: weights that are too large for one ONNX file are not rewritten" in report.table()
    assert names(tmp_path) == ["tubes.onnx", "tubes.onnx.data", "whole.onnx"]
    assert external(tmp_path / "tubes.onnx") == {
        "to_wide": True, "within": True, "from_wide": True, "kernel": True,
        "kernel_bias": False, "w": False, "b": False, "preprocessing_mean": False,
    }  # fmt: skip
    assert not any(external(tmp_path / "whole.onnx").values())
    np.testing.assert_array_equal(logits(tmp_path / "tubes.onnx"), logits(tmp_path / "whole.onnx"))
    model = load_model(tmp_path / "tubes.onnx", "cpu")
    assert model.spec.parity == report.parity
    clip = synthetic_clip((T, SIZE, SIZE, 3), 1)
    assert model.explain(clip, 2).tube.map.shape == load_model(tmp_path / "whole.onnx", "cpu").spec.features_shape[1:]


def test_openvino_loads_the_pair(tmp_path: Path, lowered: None) -> None:
    pytest.importorskip("openvino")
    export_onnx(large(tmp_path), tmp_path / "tubes.onnx", I3D)

    np.testing.assert_allclose(logits(tmp_path / "tubes.onnx", "openvino"), logits(tmp_path / "tubes.onnx"), atol=1e-4)


def test_the_digest_covers_the_weights(tmp_path: Path, lowered: None) -> None:
    export_onnx(large(tmp_path), tmp_path / "tubes.onnx", I3D)
    before = load_model(tmp_path / "tubes.onnx", "cpu").sha256
    data = bytearray((tmp_path / "tubes.onnx.data").read_bytes())
    data[-1] ^= 1
    (tmp_path / "tubes.onnx.data").write_bytes(data)

    assert load_model(tmp_path / "tubes.onnx", "cpu").sha256 != before

    network = tmp_path / "net.onnx"
    digest = read_classifier(network)[1]
    (tmp_path / "net.onnx_weights").write_bytes((tmp_path / "net.onnx_weights").read_bytes() + b"more")
    assert read_classifier(network)[1] != digest


def test_weights_are_written_once(tmp_path: Path, lowered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = writing.weights._refer
    monkeypatch.setattr(weights, "_refer", lambda tensor, *rest: (written.append(rest[0]), real(tensor, *rest)))

    export_onnx(large(tmp_path), tmp_path / "tubes.onnx", I3D)

    moved = [place for place in written if place.endswith(".partial.data") and Path(place).is_absolute()]
    assert len(moved) == 4  # and not again with the parity


def test_large_weights_are_not_read_into_memory(tmp_path: Path, lowered: None) -> None:
    network = large(tmp_path)

    model, _ = read_classifier(network)

    kept = {tensor.name: weights.is_held(tensor) for tensor in model.graph.initializer}
    assert {name for name, held in kept.items() if held} == {"kernel", "to_wide", "within", "from_wide"}
    plain = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(network).graph.initializer}
    look = Lookup(model)
    for name, array in plain.items():
        np.testing.assert_array_equal(look.constant(name), array)
        assert look.constant(name).shape == array.shape
    assert look.shapes["y"] == (None, K)


def test_half_weights_of_large_networks_fit_one_file_again(tmp_path: Path, lowered: None) -> None:
    report = export_onnx(large(tmp_path), tmp_path / "tubes.onnx", I3D, half_weights=True)

    assert names(tmp_path) == ["net.onnx", "net.onnx_weights", "tubes.onnx"]
    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.storage is Precision.FP16
    assert 1e-6 < report.parity.features_rel < 2e-2


def test_an_old_opset_of_a_large_network_is_upgraded(tmp_path: Path, lowered: None) -> None:
    network = large(tmp_path, opset=11)

    report = export_onnx(network, tmp_path / "tubes.onnx", I3D)

    assert report.passed
    assert "opset 11 was upgraded to 18" in report.table()
    assert "tubes.onnx.data" in names(tmp_path)


def test_large_networks_in_half_precision_are_refused(tmp_path: Path, lowered: None) -> None:
    network = large(tmp_path, spare=np.ones(30_000, np.float16))
    model = onnx.load(network)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(30_000, np.float16), "spare"))
    onnx.save_model(model, network, save_as_external_data=True, location="net.onnx_weights", size_threshold=0)

    with pytest.raises(ExportError, match="is in float16, and larger than 2 GiB: export the float32 network"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)


@pytest.mark.parametrize("change", ["short", "offset", "negative", "length", "nonsense"])
def test_places_that_hold_no_weights_are_refused(tmp_path: Path, lowered: None, change: str) -> None:
    network = large(tmp_path)
    data = tmp_path / "net.onnx_weights"
    model = onnx.load(network, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "within")
    key, value = {"offset": ("offset", "999999"), "negative": ("offset", "-8"), "nonsense": ("offset", "first")}.get(
        change, ("length", "4")
    )
    if change == "short":
        data.write_bytes(data.read_bytes()[:-5])
    else:
        for entry in tensor.external_data:
            entry.value = value if entry.key == key else entry.value
        network.write_bytes(model.SerializeToString())

    with pytest.raises(ExportError, match=r"is damaged: it does not hold the \d+ bytes|do not load"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
    assert names(tmp_path) == ["net.onnx", "net.onnx_weights"]


def test_a_failed_export_leaves_the_old_pair(tmp_path: Path, lowered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    network = large(tmp_path)
    export_onnx(network, tmp_path / "tubes.onnx", I3D)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    monkeypatch.setattr(foreign, "absorb_scale", lambda *_: None)

    with pytest.raises(ExportError, match="differs from the original graph by more than the tolerance"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)

    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("old", ["pair", "one file", "nothing"])
@pytest.mark.parametrize("stuck", ["tubes.onnx", "tubes.onnx.data"])
def test_a_file_that_cannot_be_moved_leaves_what_was_there(tmp_path: Path, old: str, stuck: str) -> None:
    network = large(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        if old != "nothing":
            patch.setattr(weights, "LARGEST_MESSAGE", LOWERED if old == "pair" else 2**31)
            export_onnx(network, tmp_path / "tubes.onnx", I3D)
        before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
        real = Path.replace

        def stopped(self: Path, target: Path) -> Path:
            if Path(target).name == stuck and ".partial" in self.name:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, target)

        patch.setattr(weights, "LARGEST_MESSAGE", LOWERED)
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(OutputError, match=rf"cannot write {tmp_path}/{stuck}: Permission denied"):
            export_onnx(network, tmp_path / "tubes.onnx", Pixels(Norm.SLOWFAST))

    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_new_model_file_takes_the_old_ones_weights_away(tmp_path: Path) -> None:
    network = large(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "LARGEST_MESSAGE", LOWERED)
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
        first = logits(tmp_path / "tubes.onnx")
        export_onnx(network, tmp_path / "tubes.onnx", Pixels(Norm.SLOWFAST))
        assert not np.allclose(logits(tmp_path / "tubes.onnx"), first)
        assert names(tmp_path) == ["net.onnx", "net.onnx_weights", "tubes.onnx", "tubes.onnx.data"]

    export_onnx(network, tmp_path / "tubes.onnx", I3D)

    assert names(tmp_path) == ["net.onnx", "net.onnx_weights", "tubes.onnx"]
    np.testing.assert_array_equal(logits(tmp_path / "tubes.onnx"), first)


@pytest.mark.parametrize("beside", ["nothing", "a text", "a network", "a model file that needs none"])
def test_a_file_of_somebody_elses_in_the_place_of_the_weights_is_left(tmp_path: Path, beside: str) -> None:
    network = large(tmp_path)
    if beside == "a text":
        (tmp_path / "tubes.onnx").write_text("text")
    elif beside == "a network":
        place = {"save_as_external_data": True, "location": "tubes.onnx.data"}
        onnx.save_model(classifier(), tmp_path / "tubes.onnx", **place, size_threshold=0)
    elif beside != "nothing":
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
    (tmp_path / "tubes.onnx.data").write_text("mine")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "LARGEST_MESSAGE", LOWERED)
        with pytest.raises(
            OutputError, match=r"tubes\.onnx\.data is there, where the weights would go, and belongs to no"
        ):
            export_onnx(network, tmp_path / "tubes.onnx", I3D)
    export_onnx(network, tmp_path / "tubes.onnx", I3D)  # which needs no place for weights

    assert (tmp_path / "tubes.onnx.data").read_text() == "mine"
    assert names(tmp_path) == ["net.onnx", "net.onnx_weights", "tubes.onnx", "tubes.onnx.data"]


def test_the_networks_own_weights_are_not_written_over(tmp_path: Path, lowered: None) -> None:
    network = large(tmp_path)
    model = onnx.load(network)
    onnx.save_model(model, network, save_as_external_data=True, location="tubes.onnx.data", size_threshold=0)
    before = (tmp_path / "tubes.onnx.data").read_bytes()

    with pytest.raises(OutputError, match="belongs to no model file of `tubes export`"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)

    assert (tmp_path / "tubes.onnx.data").read_bytes() == before


def test_a_classifier_that_alone_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGEST_MESSAGE", 10_000)
    network = large(tmp_path, w=np.ones((400, C), np.float32), b=np.ones(400, np.float32))

    with pytest.raises(ExportError, match="the classifier alone, which the file's metadata has to hold, is larger"):
        export_onnx(network, tmp_path / "tubes.onnx", I3D)
    assert names(tmp_path) == ["net.onnx", "net.onnx_weights"]


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "net.onnx").open("wb") as file:
        file.truncate(2**31)

    with pytest.raises(
        ExportError, match=r"larger than 2 GiB, which no ONNX file is: .* weights are in files beside it"
    ):
        export_onnx(tmp_path / "net.onnx", tmp_path / "tubes.onnx", I3D)


def test_model_files_in_two_are_not_randomised(tmp_path: Path, lowered: None) -> None:
    export_onnx(large(tmp_path), tmp_path / "tubes.onnx", I3D)

    with pytest.raises(ModelFileError, match=r"keeps its weights in a file beside it: .*cannot be randomised"):
        randomise(tmp_path / "tubes.onnx", tmp_path / "other.onnx", 1)
