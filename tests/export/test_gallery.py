"""Every ending of the gallery: export, run, parity, completeness, and the maps that autograd says are the right ones."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gallery import ACCEPTED, REFUSED, SIDE, Entry, T, contributions, export  # noqa: E402
from saliency_tubes import load_model  # noqa: E402
from saliency_tubes.activation import completeness_error  # noqa: E402
from saliency_tubes.choices import InputLayout, Norm  # noqa: E402
from saliency_tubes.errors import TailError  # noqa: E402
from saliency_tubes.presets import Pixels  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import export_onnx  # noqa: E402
from saliency_tubes_export.foreign import GraphHints  # noqa: E402

BAR = 1e-4
MEAN, STD = 0.45, 0.225  # of the preset `slowfast`


def hints(entry: Entry) -> GraphHints:
    return GraphHints() if entry.layout is None else GraphHints(layout=InputLayout[entry.layout], frames=T)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_an_ending_is_explained_exactly(name: str, dynamo: bool, tmp_path: Path) -> None:
    entry = ACCEPTED[name]
    tubes = tmp_path / "tubes.onnx"

    network = export(entry, tmp_path / "net.onnx", dynamo)
    report = export_onnx(network, tubes, Pixels(Norm.SLOWFAST), hints=hints(entry))

    assert max(report.parity.logits_rel, report.parity.features_rel, report.parity.completeness) <= BAR
    frames = synthetic_clip((T, SIDE, SIDE, 3), 3)
    model = load_model(tubes, "cpu")
    explanation = model.explain(frames, range(model.spec.num_classes))
    clip = torch.from_numpy(((frames / 255 - MEAN) / STD).astype(np.float32)).permute(3, 0, 1, 2)[None]
    logits, expected = (array.numpy() for array in contributions(entry.network, entry.inputs(clip)))
    scale = np.abs(logits).max()
    np.testing.assert_allclose(explanation.logits, logits, rtol=0, atol=BAR * scale)
    maps = np.stack([tube.map for tube in explanation.tubes])
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps / maps[0].size, expected, rtol=0, atol=BAR * np.abs(expected).max())
    assert_complete(tubes, frames, scale)


def assert_complete(tubes: Path, frames: np.ndarray, scale: float) -> None:
    """The maps of all classes add up to the logits, one clip by itself and in a batch with another."""
    ours = open_session(tubes, "cpu").run(np.stack([synthetic_clip(frames.shape, 9), frames]))
    head = load_model(tubes, "cpu").spec.head
    for features, logits in zip(ours.features, ours.logits, strict=True):
        found = head.maps(features, np.arange(head.num_classes))
        assert completeness_error(found.maps, found.bias, logits).max() <= BAR * scale


@pytest.mark.parametrize("name", REFUSED)
def test_an_ending_without_exact_maps_is_refused(name: str, tmp_path: Path) -> None:
    entry, reason = REFUSED[name]
    network = export(entry, tmp_path / "net.onnx", dynamo=False)
    with pytest.raises(TailError, match=f"(?s){reason}.*The graph ends in:"):
        export_onnx(network, tmp_path / "tubes.onnx", Pixels(Norm.SLOWFAST), hints=hints(entry))
    assert not (tmp_path / "tubes.onnx").exists()
