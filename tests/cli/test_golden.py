"""The published reference's outputs, reproduced by `tubes export` and `tubes run`."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import SHARED
from numpy.typing import NDArray
from saliency_tubes import Explanation, cli, load_model

REFERENCE = SHARED / "reference"
LABELS = (5, 70)

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the golden files in ../shared are not here")


def command(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tubes", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    assert not stopped.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `tubes export` and `tubes run` wrote for the golden checkpoint and clip."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("golden")
    command("export", str(REFERENCE / "mfnet3d_101.pth"), "--output", str(folder / "tubes.onnx"))
    labels = [part for label in LABELS for part in ("--label", str(label))]
    command(
        "run", str(REFERENCE / "arm_wrestling"), *labels,
        "--model", str(folder / "tubes.onnx"), "--out", str(folder / "out"), "--device", "cpu", "--save", "heatmap,focusmap,npz", "--style", "reference",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def explanation(run: Path) -> Explanation:
    return load_model(run / "tubes.onnx", "cpu").explain(REFERENCE / "arm_wrestling", LABELS, align="corners")


def golden(label: int) -> Path:
    return REFERENCE / "expected" / "arm_wrestling" / str(label)


def images(folder: Path) -> NDArray[np.int16]:
    files = sorted(folder.glob("*.png"))
    assert [file.name for file in files] == [f"{index:03d}.png" for index in range(16)]
    return np.stack([cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]).astype(np.int16)


def test_logits_and_features(explanation: Explanation, run: Path) -> None:
    logits = np.load(golden(5) / "logits.npy")
    features = np.load(golden(5) / "features.npy")

    session = load_model(run / "tubes.onnx", "cpu")._session
    ours = session.run(explanation.frames[None])

    assert np.abs(explanation.logits - logits).max() <= 1e-4 * np.abs(logits).max()
    assert np.abs(ours.features[0] - features).max() <= 1e-4 * np.abs(features).max()
    assert explanation.predicted.index == 70
    assert explanation.completeness < 1e-5


@pytest.mark.parametrize("label", LABELS)
def test_tube(run: Path, label: int) -> None:
    with np.load(run / "out" / "arm_wrestling" / str(label) / "tube.npz") as arrays:
        assert np.abs(arrays["tube"] - np.load(golden(label) / "tube.npy")).max() <= 1e-4
        assert arrays["frame_indices"].tolist() == np.linspace(0, 39, 16).astype(int).tolist()


@pytest.mark.parametrize("label", LABELS)
def test_heatmaps(run: Path, label: int) -> None:
    ours = images(run / "out" / "arm_wrestling" / str(label) / "heatmap")
    theirs = images(golden(label) / "heatmap")

    difference = np.abs(ours - theirs)

    assert (difference.max(axis=-1) == 0).mean() >= 0.999
    assert difference.max() <= 3


@pytest.mark.parametrize("label", LABELS)
def test_focusmaps(run: Path, label: int) -> None:
    ours = images(run / "out" / "arm_wrestling" / str(label) / "focusmap")
    theirs = images(golden(label) / "focusmap")

    np.testing.assert_array_equal(ours[..., :3], theirs[..., :3])
    assert np.abs(ours[..., 3] - theirs[..., 3]).max() <= 1


@pytest.mark.parametrize("label", LABELS)
def test_info(run: Path, label: int) -> None:
    info = json.loads((run / "out" / "arm_wrestling" / str(label) / "info.json").read_text())

    assert info["label"]["index"] == label
    assert info["predicted"]["index"] == 70
    assert info["clip"]["length"] == 40


@pytest.mark.parametrize("layout", ["blocked", "plain"])
def test_a_tube_of_float16(layout: str, tmp_path: Path) -> None:
    """As the CPU computes it, and with the roundings of a device that has float16; the export compares the logits."""
    pytest.importorskip("torch")
    onnx = pytest.importorskip("onnx")
    from saliency_tubes_export.precision import with_rounding

    half, rounding = tmp_path / "half.onnx", tmp_path / "rounding.onnx"
    command(
        "export", str(REFERENCE / "mfnet3d_101.pth"),
        "--output", str(half), "--layout", layout, "--precision", "fp16",
    )  # fmt: skip
    onnx.save(with_rounding(onnx.load(half)), rounding)

    for path in (half, rounding):
        explanation = load_model(path, "cpu").explain(REFERENCE / "arm_wrestling", align="corners")

        assert explanation.predicted.index == 70
        assert explanation.completeness < 1e-5
        assert np.abs(explanation.tubes[0].values - np.load(golden(70) / "tube.npy")).max() <= 0.01
