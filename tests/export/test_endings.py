"""Every ending of the gallery: export, run, parity, completeness, and the maps that autograd says are the right ones."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from endings import ACCEPTED, BAR, REFUSED, SIDE, Entry, T, assert_exact, export, normalised  # noqa: E402
from saliency_tubes.choices import InputLayout, Norm  # noqa: E402
from saliency_tubes.errors import TailError  # noqa: E402
from saliency_tubes.presets import Pixels  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import export_onnx  # noqa: E402
from saliency_tubes_export.foreign import GraphHints  # noqa: E402


def hints(entry: Entry) -> GraphHints:
    return GraphHints() if entry.layout is None else GraphHints(layout=InputLayout[entry.layout], frames=T)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_an_ending_is_explained_exactly(name: str, dynamo: bool, tmp_path: Path) -> None:
    entry = ACCEPTED[name]
    network = export(entry, tmp_path / "net.onnx", dynamo)

    report = export_onnx(network, tmp_path / "tubes.onnx", Pixels(Norm.SLOWFAST), hints=hints(entry))

    assert max(report.parity.logits_rel, report.parity.features_rel, report.parity.completeness) <= BAR
    frames = synthetic_clip((T, SIDE, SIDE, 3), 3)
    assert_exact(tmp_path / "tubes.onnx", frames, *entry.network.evidence(*entry.inputs(normalised(frames))))


@pytest.mark.parametrize("name", REFUSED)
def test_an_ending_without_exact_maps_is_refused(name: str, tmp_path: Path) -> None:
    entry, reason = REFUSED[name]
    network = export(entry, tmp_path / "net.onnx", dynamo=False)
    with pytest.raises(TailError, match=f"(?s)({reason}).*The graph ends in:"):
        export_onnx(network, tmp_path / "tubes.onnx", Pixels(Norm.SLOWFAST), hints=hints(entry))
    assert not (tmp_path / "tubes.onnx").exists()
