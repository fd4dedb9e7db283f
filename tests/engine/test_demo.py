"""The network and the clip of the package's own, and what is made of what is known of that clip."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import saliency_tubes
from clips import moving_square, write_video
from saliency_tubes import demo, load_model
from saliency_tubes.choices import Layout, Precision
from saliency_tubes.demo import planted
from saliency_tubes.demo.command import demo_document, demo_text, run_demo
from saliency_tubes.demo.planted import Planted, Verdict, judge, verdict_rows
from saliency_tubes.errors import ModelFileError, OutputError, SourceError
from saliency_tubes.preprocess import CropBox
from saliency_tubes.statistics import TubeStatistics
from saliency_tubes.video import open_clip
from tiny import LABELS, write_tiny

FRAMES = 20
KNOWN = Planted("bowling", (5, 14), ((2, 3, 12, 13),) * FRAMES)


def silent(_: str) -> None:
    pass


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is taken for the package's: a tiny network, a short clip, its evidence."""
    folder = tmp_path / "package"
    folder.mkdir()
    write_tiny(folder / "planted.onnx")
    write_video(folder / "planted.mp4", moving_square(FRAMES))
    KNOWN.write(folder / "planted.json")
    demo._packaged.cache_clear()
    monkeypatch.setattr(demo, "files", lambda _: folder)
    yield folder
    demo._packaged.cache_clear()


def test_the_network_is_in_the_package_and_loads() -> None:
    path = demo.model_path()

    spec = load_model(path, "cpu").spec

    assert path.stat().st_size < 17e6
    assert spec.input_shape == (16, 224, 224, 3)
    assert spec.labels == (
        *("left", "right", "up", "down", "orbit clockwise", "orbit counter-clockwise", "grow", "shrink"),
    )
    assert (spec.layout, spec.precision, spec.storage) == (Layout.PLAIN, Precision.FP32, Precision.FP16)


def test_the_clip_is_in_the_package_with_its_evidence() -> None:
    clip, known = open_clip(demo.clip_path()), Planted.read(demo.evidence_path())

    frames = list(clip.read(range(clip.length)))

    assert demo.clip_path().stat().st_size < 300e3
    assert (clip.size_wh, len(frames), clip.notes) == ((224, 224), len(known.boxes), ())
    assert 3.9 < frames[-1].time < 5
    assert 0 < known.moving[0] < known.moving[1] < len(frames) - 1
    assert all(0 <= left < right <= 224 and 0 <= top < bottom <= 224 for left, top, right, bottom in known.boxes)
    first, last = known.moving
    assert (len(set(known.boxes[:first])), len(set(known.boxes[last + 1 :]))) == (1, 1)
    assert len(set(known.boxes[first : last + 1])) > (last - first) / 3


def test_the_networks_tube_points_at_what_moves() -> None:
    explanation = load_model(demo.model_path(), "cpu").explain(demo.clip_path(), sampling=demo.sampling(), fit="whole")

    verdict = judge(explanation, Planted.read(demo.evidence_path()))

    assert verdict.correct
    assert verdict.off_s == 0
    assert verdict.off_pixels is not None
    assert verdict.off_pixels <= verdict.half_cell == 16


def test_a_package_in_a_zip_gives_files_all_the_same(tmp_path: Path) -> None:
    root = Path(saliency_tubes.__file__).parent
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for name in ("__init__.py", "_version.py", "errors.py", "demo/__init__.py"):
            archive.write(root / name, f"saliency_tubes/{name}")
        archive.writestr("saliency_tubes/demo/planted.mp4", "a clip")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r})\n"
        "from saliency_tubes import demo\n"
        "print(demo.clip_path(), demo.clip_path().read_text(), 'numpy' in sys.modules, sep='|')"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    path, content, has_numpy = result.stdout.strip().split("|")
    assert (content, has_numpy) == ("a clip", "False")
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("name", "error"), [("planted.onnx", ModelFileError), ("planted.mp4", SourceError), ("planted.json", SourceError)]
)
def test_a_file_that_the_package_lacks_is_named(
    package: Path, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    (package / name).unlink()

    with pytest.raises(error, match=f"{name} is missing from the installed package.*: install saliency-tubes again"):
        run_demo(None, tmp_path / "out", silent)

    assert not (tmp_path / "out").exists()


def test_a_damaged_network_is_the_packages_fault(package: Path, tmp_path: Path) -> None:
    (package / "planted.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1")

    with pytest.raises(
        ModelFileError, match=r"the demo's own network cannot be used; install .* again \(.*planted.onnx"
    ):
        run_demo(None, tmp_path / "out", silent)


def test_a_damaged_clip_is_named(package: Path, tmp_path: Path) -> None:
    (package / "planted.mp4").write_bytes(b"no video")

    with pytest.raises(SourceError, match=r"planted.mp4 cannot be opened as a video"):
        run_demo(None, tmp_path / "out", silent)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"label": "left", "moving": [0, 1]}',
        '{"label": "left", "moving": [0], "boxes": [[0, 0, 1, 1]]}',
        '{"label": "left", "moving": [1, 0], "boxes": [[0, 0, 1, 1], [0, 0, 1, 1]]}',
        '{"label": "left", "moving": [0, 1], "boxes": [[0, 0, 1, 1]]}',
        '{"label": "left", "moving": [0, 0], "boxes": [[0, 0, 1]]}',
        '{"label": "left", "moving": [0, 0], "boxes": [[0, 0, 1, 1e999]]}',
        "\udcff",
    ],
)
def test_damaged_evidence_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "planted.json"
    path.write_bytes(content.encode(errors="surrogateescape"))

    with pytest.raises(SourceError, match=r"planted.json is damaged \(.*\): install saliency-tubes again"):
        Planted.read(path)


def test_evidence_of_another_clip_is_refused(package: Path, tmp_path: Path) -> None:
    replace(KNOWN, boxes=KNOWN.boxes[:-1]).write(package / "planted.json")

    with pytest.raises(
        SourceError, match="planted has 20 frames, and evidence is there for 19: install saliency-tubes"
    ):
        run_demo(None, tmp_path / "out", silent)


def test_evidence_is_read_as_it_was_written(tmp_path: Path) -> None:
    KNOWN.write(tmp_path / "planted.json")

    assert Planted.read(tmp_path / "planted.json") == KNOWN


def test_the_demo_writes_what_a_run_writes_and_says_where(package: Path, tmp_path: Path) -> None:
    (planted,) = run_demo(None, tmp_path / "out", silent)

    (folder,) = (tmp_path / "out" / "planted").iterdir()
    assert planted.folders == (folder,)
    names = {path.name for path in folder.iterdir()}
    assert names == {"info.json", "overlay.mp4", "report.html", "sheet.png", "timeline.png"}
    sampling = json.loads((folder / "info.json").read_text())["sampling"]
    assert (sampling["method"], sampling["stride"], sampling["fit"]) == ("dense", 4, "whole")
    lines = demo_text((planted,)).splitlines()
    known = "the demo's own: one thing moves from 0.5 s to 1.4 s, and how it moves is the class: bowling"
    assert lines[0] == f"clip       {known}"
    assert lines[1].startswith(f"network    says {planted.explanation.predicted.name}, which is ")
    assert lines[2].startswith("tube       peaks at ")
    assert lines[-1] == f"open       {folder / 'report.html'}"


def test_a_clip_of_the_users_is_explained_too_and_told_what_the_network_knows(package: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_square(9))

    shown = run_demo(clip, tmp_path / "out", silent)

    assert [one.explanation.clip.name for one in shown] == ["planted", "clip"]
    assert shown[1].verdict is None
    lines = demo_text(shown).splitlines()
    assert (
        f"network    knows 5 ways in which one thing moves over textures, and not the world: {', '.join(LABELS)}"
        in lines
    )
    assert lines[-1] == f"open       {shown[1].folders[0] / 'report.html'}"
    document = json.loads(json.dumps(demo_document(shown), allow_nan=False))
    assert document["planted"]["verdict"]["truth"] == "bowling"
    assert document["clip"]["report"] == str(shown[1].folders[0] / "report.html")
    assert "verdict" not in document["clip"]


def test_a_clip_of_the_users_that_cannot_be_read_is_told_before_anything_is_written(
    package: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.mp4 does not exist: expected a video file"):
        run_demo(tmp_path / "nowhere.mp4", tmp_path / "out", silent)

    assert not (tmp_path / "out").exists()


def test_a_clip_of_the_demos_name_would_replace_its_results(package: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "Planted.mp4", moving_square(9))

    with pytest.raises(OutputError, match=r"is called as the demo's own clip, .*: rename it, or .* `tubes run .*onnx`"):
        run_demo(clip, tmp_path / "out", silent)


def verdict_on(monkeypatch: pytest.MonkeyPatch, frame: int | None, x: float, y: float) -> Verdict:
    """The verdict on a tube of a clip of 20x10 pixels, ten frames a second, of which the right half is looked at."""
    seconds = None if frame is None else frame / 10
    place = (None, None) if frame is None else (x, y)
    found = TubeStatistics(frame, seconds, *place, *[None] * 9, mean_energy=0, volume_above_half=0)
    monkeypatch.setattr(planted, "tube_statistics", lambda *_: found)
    explanation = SimpleNamespace(
        clip=SimpleNamespace(size_wh=(20, 10), name="clip"),
        box=CropBox(0.5, 0, 1, 1),
        spec=SimpleNamespace(features_shape=(3, 2, 5, 2)),
        tube=None,
        frame_indices=np.arange(FRAMES),
        timestamps=np.arange(FRAMES) / 10,
        predicted=SimpleNamespace(title="bowling"),
    )
    boxes = tuple((10 + (index >= 8), 2, 15, 6) for index in range(FRAMES))
    return judge(explanation, replace(KNOWN, boxes=boxes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "x", "y", "off_s", "off_pixels", "words"),
    [
        (9, 0.3, 0.4, 0, 0, "peaks at 0.9 s, while that moves, on it"),
        (5, 0.5, 0.6, 0, 0, "peaks at 0.5 s, while that moves, on it"),
        (2, 0.8, 1.0, -0.3, 5, "peaks at 0.2 s, 0.30 s before that moves, 5 pixels away from it"),
        (
            18,
            0.0,
            0.4,
            0.4,
            1,
            "peaks at 1.8 s, 0.40 s after that has moved, 1 pixel beside it, which is within half a",
        ),
    ],
)
def test_the_verdict_is_how_far_the_peak_is_from_the_evidence(
    monkeypatch: pytest.MonkeyPatch, frame: int, x: float, y: float, off_s: float, off_pixels: float, words: str
) -> None:
    verdict = verdict_on(monkeypatch, frame, x, y)

    assert verdict.correct
    assert (verdict.moves_from_s, verdict.moves_to_s, verdict.half_cell) == (0.5, 1.4, 2.5)
    assert verdict.off_s == pytest.approx(off_s)
    assert verdict.off_pixels == pytest.approx(off_pixels)
    assert dict(verdict_rows(verdict, "bowling"))["tube"].startswith(words)


def test_a_tube_without_a_peak_points_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = verdict_on(monkeypatch, None, 0, 0)

    assert (verdict.peak_s, verdict.off_s, verdict.off_pixels) == (None, None, None)
    assert dict(verdict_rows(verdict, "bowling"))["tube"] == "constant: it points nowhere"


def test_another_class_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = replace(verdict_on(monkeypatch, 9, 0.3, 0.4), correct=False)

    assert dict(verdict_rows(verdict, "eating"))["network"] == "says eating, which is wrong"
