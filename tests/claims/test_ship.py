"""What is put into the package for `tubes demo`, without a trained network."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from saliency_tubes.choices import Layout, Norm
from saliency_tubes.demo.planted import Planted
from saliency_tubes.video import open_clip

from benchmarks.planted import ship
from benchmarks.planted.scenes import CLASSES


@pytest.fixture(scope="module")
def scene():
    return ship.demo_scene("right", 1)


def test_the_actor_of_the_demo_rests_before_and_after(scene):
    assert CLASSES[scene.label] == "right"
    assert len(scene.frames) == ship.CLIP_FRAMES
    first, *_, last = np.flatnonzero(scene.moving)
    assert ship.CLIP_RATE / 2 < first < last < ship.CLIP_FRAMES - ship.CLIP_RATE / 2
    middles = scene.boxes[:, [0, 2]].mean(axis=1)
    assert middles[last] > middles[first] + 10
    assert np.ptp(middles[:first]) == np.ptp(middles[last + 1 :]) == 0


def test_another_candidate_is_another_scene(scene):
    assert not np.array_equal(ship.demo_scene("right", 0).boxes, scene.boxes)


def test_the_clip_shows_the_scene_and_the_evidence_is_the_scenes(scene, tmp_path):
    ship.ship_clip(scene, tmp_path)

    clip, known = open_clip(tmp_path / "planted.mp4"), Planted.read(tmp_path / "planted.json")
    frames = list(clip.read(range(clip.length)))
    assert (tmp_path / "planted.mp4").stat().st_size < 300_000
    assert [frame.time for frame in frames] == pytest.approx(np.arange(64) / 16, abs=1e-4)
    shown = np.stack([frame.rgb for frame in frames]).astype(float)
    assert np.abs(shown - scene.frames).mean() < 8
    np.testing.assert_array_equal(known.boxes, scene.boxes)
    np.testing.assert_array_equal(np.flatnonzero(scene.moving)[[0, -1]], known.moving)
    assert known.label == "right"


def test_the_network_is_exported_small_with_the_names_of_its_classes(tmp_path, monkeypatch):
    asked = {}

    class Report:
        def table(self):
            return "measured"

    def export(weights, output, *, labels, **options):
        asked.update(options, weights=weights, output=output, names=labels.read_text().splitlines())
        return Report()

    monkeypatch.setattr(ship, "export_checkpoint", export)
    ship.ship_network(Path("w.pth"), tmp_path)

    assert asked == {
        "weights": Path("w.pth"),
        "output": tmp_path / "planted.onnx",
        "names": list(CLASSES),
        "frames": 16,
        "size": 224,
        "norm": Norm.SALIENCY_TUBES,
        "layout": Layout.PLAIN,
        "half_weights": True,
    }
