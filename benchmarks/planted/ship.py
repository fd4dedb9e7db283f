"""Put the trained network and a clip for it into the package: ``python -m benchmarks.planted.ship WEIGHTS``.

What `tubes demo` shows: ``planted.onnx``, ``planted.mp4`` and ``planted.json``, where and when that clip's evidence is.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from saliency_tubes import demo
from saliency_tubes.choices import Layout, Norm
from saliency_tubes.demo.planted import Planted
from saliency_tubes.replacing import replacing_file
from saliency_tubes.video_sink import VideoSink
from saliency_tubes_export import export_checkpoint

from .scenes import CLASSES, FRAMES, HELD_OUT, SEED, SIZE, Scene, Split, make_scene

PACKAGE = Path(demo.__file__).parent
LABEL, CANDIDATE = "left", 0
CLIP_FRAMES, CLIP_RATE = 64, 16
_STILL_BEFORE_AND_AFTER = 3  # frames of `FRAMES`, so that it is seen when the motion begins and ends
_LARGEST = {"planted.onnx": 17_000_000, "planted.mp4": 300_000}  # bytes; both are in everybody's installation


def main() -> None:
    """Parse, and write the three files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted.ship", description=__doc__)
    parser.add_argument("weights", type=Path, help="what benchmarks.planted.train wrote")
    parser.add_argument("--label", choices=CLASSES, default=LABEL, help="the class of the clip")
    parser.add_argument("--candidate", type=int, default=CANDIDATE, help="which of the scenes of that class, from 0")
    parser.add_argument("--folder", type=Path, default=PACKAGE, help="where to write, instead of into the package")
    arguments = parser.parse_args()
    ship_clip(demo_scene(arguments.label, arguments.candidate), arguments.folder)
    ship_network(arguments.weights, arguments.folder)
    for name, most in _LARGEST.items():
        size = (arguments.folder / name).stat().st_size
        if size > most:
            raise SystemExit(f"{name} has {size} bytes, and {most} is the most that a package should carry")
        print(f"wrote {arguments.folder / name}, {size / 1e6:.2f} MB")


def demo_scene(label: str, candidate: int) -> Scene:
    """A scene for the demo: the actor moves in one class's way, and rests long enough before and after.

    Args:
        label: one of `CLASSES`.
        candidate: which of the scenes that are fit, from 0.
    """
    found = 0
    for number in range(100_000):
        seed = (SEED, Split.DEMO, number)
        if make_scene(seed, frames=2).label != CLASSES.index(label):  # of two frames, because that is quick
            continue
        moving = np.flatnonzero(make_scene(seed).moving)
        if moving[0] >= _STILL_BEFORE_AND_AFTER and moving[-1] < FRAMES - _STILL_BEFORE_AND_AFTER:
            found += 1
            if found > candidate:
                return make_scene(seed, SIZE, CLIP_FRAMES, HELD_OUT)
    raise ValueError(f"there are {found} scenes of the class {label}: choose a candidate below that")


def ship_clip(scene: Scene, folder: Path) -> None:
    """Write a scene as a video, and what is known of it."""
    moving = np.flatnonzero(scene.moving).tolist()
    boxes = tuple((left, top, right, bottom) for left, top, right, bottom in scene.boxes.tolist())
    with (
        replacing_file(folder / "planted.mp4", "--folder") as staging,
        VideoSink(staging, (SIZE, SIZE), crf=25, preset="slow", threads=1) as sink,
    ):
        for index, frame in enumerate(scene.frames):
            sink.write(frame, index / CLIP_RATE)
    Planted(CLASSES[scene.label], (moving[0], moving[-1]), boxes).write(folder / "planted.json")


def ship_network(weights: Path, folder: Path) -> None:
    """Export the network as it is in the package."""
    with tempfile.TemporaryDirectory() as name:
        labels = Path(name) / "labels.txt"
        labels.write_text("\n".join(CLASSES), encoding="utf-8")
        report = export_checkpoint(
            weights,
            folder / "planted.onnx",
            labels=labels,
            frames=FRAMES,
            size=SIZE,
            norm=Norm.SALIENCY_TUBES,
            layout=Layout.PLAIN,
            half_weights=True,
        )
    print(report.table())


if __name__ == "__main__":
    main()
