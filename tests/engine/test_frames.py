import json
import math
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import moving_square, write_folder, write_video
from saliency_tubes import decoding
from saliency_tubes.choices import Fit
from saliency_tubes.crops import read_crops
from saliency_tubes.errors import OptionError, OutputError, SourceError
from saliency_tubes.frames import centre_crop, extract_frames
from saliency_tubes.sampling import Sampling
from saliency_tubes.video import VideoFile, open_clip
from tiny import tiny_spec


@pytest.fixture
def mp4(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", moving_square(40))


@pytest.mark.parametrize(
    ("step", "max_frames", "expected"),
    [(6, 24, [5, 11, 17, 23, 29, 35]), (6, 3, [5, 11, 17]), (1, 4, [0, 1, 2, 3]), (40, 24, [39])],
)
def test_the_frames_of_the_published_extractor_are_taken(
    mp4: Path, tmp_path: Path, step: int, max_frames: int, expected: list[int]
) -> None:
    taken = extract_frames(mp4, tmp_path / "out", step=step, max_frames=max_frames, image_format="png")

    counted_from_one = [count - 1 for count in range(1, 41) if count % step == 0][:max_frames]
    assert list(taken.indices) == expected == counted_from_one
    assert taken.timestamps == pytest.approx([index / 10 for index in expected])
    for file, frame in zip(taken.files, open_clip(mp4).read(expected), strict=True):
        np.testing.assert_array_equal(cv2.imread(str(file))[..., ::-1], frame.rgb)


@pytest.mark.parametrize("size_hw", [(48, 64), (47, 63), (30, 64), (31, 31)])
@pytest.mark.parametrize("side", [30, 24, 7])
def test_the_crop_is_the_published_one(size_hw: tuple[int, int], side: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    y, x = size_hw
    half = side // 2

    cropped = centre_crop(frame, side)

    assert cropped.shape == (side, side, 3)
    np.testing.assert_array_equal(
        cropped, frame[y // 2 - half : y // 2 - half + side, x // 2 - half : x // 2 - half + side]
    )


def test_a_crop_is_cut_out_of_the_middle_of_the_frame(tmp_path: Path) -> None:
    frames = moving_square(6)

    taken = extract_frames(frames, tmp_path / "out", step=2, crop=24, image_format="png")

    np.testing.assert_array_equal(cv2.imread(str(taken.files[0]))[..., ::-1], frames[1, 12:36, 20:44])


def test_jpegs_look_like_the_frames(mp4: Path, tmp_path: Path) -> None:
    taken = extract_frames(mp4, tmp_path / "out")

    assert [file.name for file in taken.files] == [f"{index:03d}.jpg" for index in range(6)]
    (frame,) = open_clip(mp4).read([5])
    assert np.abs(cv2.imread(str(taken.files[0]))[..., ::-1].astype(int) - frame.rgb).mean() < 3


def test_the_folder_is_a_clip_in_order_and_says_where_it_is_from(tmp_path: Path) -> None:
    source = write_video(tmp_path / "long.mp4", moving_square(1010, 16, 48))
    out = tmp_path / "out"

    taken = extract_frames(source, out, step=1, max_frames=1005, image_format="png")

    clip = open_clip(out)
    assert (clip.length, clip.size_wh) == (1005, (48, 16))
    for frame in clip.read([2, 999, 1000, 1004]):
        np.testing.assert_array_equal(frame.rgb, next(open_clip(source).read([frame.index])).rgb)
    info = json.loads((out / "info.json").read_text())
    assert info["source"] == {"name": "long", "path": str(source.resolve())}
    assert (info["step"], info["max_frames"], info["crop"], info["size_wh"]) == (1, 1005, None, [48, 16])
    assert info["frames"][1004] == {"file": "1004.png", "index": 1004, "time_s": pytest.approx(100.4)}
    assert sorted(info["files"]) == sorted(file.name for file in out.iterdir())
    assert taken.notes == ()


def test_a_short_clip_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    taken = extract_frames(write_folder(tmp_path / "clip", moving_square(13)), tmp_path / "out")

    assert taken.indices == (5, 11)
    assert all(math.isnan(time) for time in taken.timestamps)
    assert json.loads((tmp_path / "out" / "info.json").read_text())["frames"][0]["time_s"] is None
    assert taken.notes == ("the clip has 13 frames: 2 were taken, where 24 are the most",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0}, "the step is 0: expected a whole number of at least 1"),
        ({"max_frames": 0}, "the max_frames is 0: expected"),
        ({"crop": 0}, "the crop is 0: expected"),
        ({"crop": 49}, "a crop of 49x49 does not fit into frames of 64x48: choose at most 48"),
        ({"step": 41}, "the clip has 40 frames, fewer than the step of 41: choose a smaller step"),
        ({"image_format": "gif"}, "there is no picture format 'gif': choose among jpg, png"),
    ],
)
def test_what_cannot_be_taken_is_an_error_and_leaves_nothing(
    mp4: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((OptionError, SourceError), match=message):
        extract_frames(mp4, tmp_path / "out", **options)

    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_its_own_folder_is_replaced_and_another_is_not(mp4: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract_frames(mp4, out, step=1, max_frames=8)
    extract_frames(mp4, out, step=10, max_frames=2)
    assert sorted(file.name for file in out.iterdir()) == ["000.jpg", "001.jpg", "info.json"]

    (out / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"files that this program did not write \(holiday\.jpg\)"):
        extract_frames(mp4, out)

    assert (out / "holiday.jpg").read_bytes() == b"mine"


def test_the_rest_of_a_video_is_not_decoded(mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda packet: decoded.append(packet) or decode(packet))

    extract_frames(VideoFile(mp4, threads=1), tmp_path / "out", step=1, max_frames=2)

    assert 2 <= len(decoded) < 20


def test_a_file_that_announces_too_few_frames_gives_all_that_are_asked_for(tmp_path: Path) -> None:
    """A fragmented MP4's header counts its first fragment only."""
    path = tmp_path / "fragments.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.gop_size = 5
        for frame in moving_square(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert open_clip(path).length == 5

    taken = extract_frames(path, tmp_path / "out")

    assert taken.indices == tuple(range(5, 40, 6))
    crops = read_crops(open_clip(path), tiny_spec(), Sampling.stepped(), Fit.WHOLE)
    assert crops.window.last == 35
