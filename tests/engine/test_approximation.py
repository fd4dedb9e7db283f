"""Maps that do not add up to the logits: everything that is made of them says so, and by how much."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from clips import moving_square, write_video
from numpy.typing import NDArray
from onnx import helper
from saliency_tubes import comparison, lettering, load_model
from saliency_tubes.approximation import Approximation
from saliency_tubes.choices import Artifact
from saliency_tubes.explanation import Explanation
from saliency_tubes.model import TubeModel
from saliency_tubes.report_page import report_of
from saliency_tubes.style import Style
from tiny import tiny_graph, tiny_head, tiny_spec, write_tiny

WHY = "two layers between the features and the pool are not linear"
OFF = 0.5  # by so much the file's bias, and with it every map, misses the logit


def write_approximate(path: Path) -> Path:
    spec = tiny_spec(approximate=WHY)
    graph = tiny_graph(spec)
    wrong = replace(spec, head=tiny_head(bias=spec.head.bias + np.float32(OFF)))
    helper.set_model_props(graph, wrong.to_metadata())
    onnx.save(graph, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_approximate(tmp_path_factory.mktemp("model") / "tubes.onnx"), "cpu")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("exact") / "tubes.onnx"), "cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "square.mp4", moving_square(20))


def percent(explanation: Explanation) -> str:
    """By the definition, in whole per cent."""
    return f"{100 * OFF / float(np.abs(explanation.window_logits).max()):.0f} %"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (1.234, "123 %"),
        (0.123, "12 %"),
        (0.0996, "10 %"),
        (0.0994, "9.9 %"),
        (0.00996, "1.0 %"),
        (0.0031, "0.31 %"),
        (0.0001, "0.01 %"),
        (3e-7, "less than 0.01 %"),
    ],
)
def test_the_error_has_two_digits(error: float, text: str) -> None:
    found = Approximation.of("why", error)

    assert found is not None
    assert found.note == f"approximate: why; the maps miss the logit by {text} of the largest one"
    assert found.mark == f"approximate: {text} off the logits"


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_the_first_note_says_why_and_by_how_much(model: TubeModel, video: Path, sampling: str) -> None:
    explanation = model.explain(video, [1, 3], sampling=sampling)

    assert explanation.notes == (
        f"approximate: {WHY}; the maps miss the logit by {percent(explanation)} of the largest one",
    )
    assert all(tube.approximate for tube in explanation.tubes)


def test_it_stands_before_what_else_there_is_to_note(model: TubeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    noting = replace(model._session, note="running on the CPU: why")
    monkeypatch.setattr(model._explainer, "_session", noting)

    notes = model.explain(moving_square(2), 1).notes

    assert [note.split(":")[0] for note in notes] == [
        "approximate",
        "running on the CPU",
        "the clip has 2 frames and the network takes 4",
    ]


def test_a_constant_tube_of_a_whole_video_is_marked_too(tmp_path: Path) -> None:
    spec = tiny_spec(approximate=WHY, weight=np.zeros((5, 6), np.float32))
    model = load_model(write_tiny(tmp_path / "tubes.onnx", spec), "cpu")

    (tube,) = model.explain(moving_square(20), 1, sampling="dense").tubes

    assert tube.is_constant
    assert tube.approximate


def test_info_and_arrays_say_why(model: TubeModel, exact: TubeModel, video: Path, tmp_path: Path) -> None:
    chosen = [Artifact.NPZ, Artifact.TIMELINE]
    one, other, together = model.explain(video, [1, 3]).save(tmp_path / "approximate", artifacts=chosen)
    (plain,) = exact.explain(video, 1).save(tmp_path / "exact", artifacts=chosen)

    for folder in (one, other, together):
        info = json.loads((folder / "info.json").read_text())
        assert info["approximate"] == WHY
        assert info["notes"][0].startswith(f"approximate: {WHY}")
    assert json.loads((one / "info.json").read_text())["tube"]["completeness_error"] > 0.1
    with np.load(one / "tube.npz") as arrays:
        assert str(arrays["approximate"]) == WHY
    info = json.loads((plain / "info.json").read_text())
    assert (info["approximate"], info["notes"]) == (None, [])
    with np.load(plain / "tube.npz") as arrays:
        assert "approximate" not in arrays


def test_every_picture_with_text_is_marked(
    model: TubeModel, exact: TubeModel, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    draw = lettering.draw

    def spy(image: NDArray[np.uint8], text: str, *where: object, **how: object) -> None:
        written.append(text)
        draw(image, text, *where, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(lettering, "draw", spy)
    assert comparison.lettering is lettering
    mark = f"approximate: {percent(model.explain(video, [1, 3]))} off the logits"
    for artifact, times in ((Artifact.SHEET, 2), (Artifact.TIMELINE, 3), (Artifact.COMPARISON, 1)):
        written.clear()
        model.explain(video, [1, 3]).save(tmp_path, artifacts=[artifact])
        assert sum(text.startswith(mark) for text in written) == times, artifact
    written.clear()
    exact.explain(video, [1, 3]).save(tmp_path, artifacts=list(Artifact))
    assert written
    assert not any("approximate" in text for text in written)


def test_a_report_warns_at_its_top_and_on_its_card(model: TubeModel, exact: TubeModel, video: Path) -> None:
    explanation = model.explain(video, 1)
    report = report_of(explanation, Style())

    assert report.approximate == (
        f"Approximate: {WHY}; the maps miss the logit by {percent(explanation)} of the largest one."
    )
    assert dict(report.facts)["approximate"] == WHY
    assert report.notes == ()  # it is said once, where it is seen
    assert f"Approximate: {WHY}" in explanation._repr_html_()
    plain = report_of(exact.explain(video, 1), Style())
    assert plain.approximate == ""
    assert "approximate" not in dict(plain.facts)
    assert dict(plain.facts)["head"] == "average pooling, linear"


def test_a_plots_title_begins_with_it(model: TubeModel, exact: TubeModel) -> None:
    pytest.importorskip("matplotlib")
    (tube,) = model.explain(moving_square(20), 1).tubes

    titles = [tube.plot(title).get_suptitle() for title in (None, "bowling", "x" * 500, "")]

    assert titles[:2] == ["approximate: class 1", "approximate: bowling"]
    assert titles[2].startswith("approximate: xxx")
    assert titles[3] == "approximate"
    assert exact.explain(moving_square(20), 1).tube.plot().get_suptitle() == "class 1"
