import math
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import SHARED, moving_square, rotate_metadata, square_left, write_folder, write_video
from saliency_tubes.errors import SourceError
from saliency_tubes.video import FrameArray, FrameFolder, VideoFile, natural_key, open_clip


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "square.mp4", moving_square(40), faststart=True)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4")])
def test_the_frames_asked_for_are_the_ones_that_come(tmp_path: Path, suffix: str, codec: str) -> None:
    frames = moving_square(40)
    clip = open_clip(write_video(tmp_path / f"square.{suffix}", frames, codec))

    read = list(clip.read([0, 7, 8, 39]))

    assert clip.length == 40
    assert clip.notes == ()
    assert [frame.index for frame in read] == [0, 7, 8, 39]
    assert [frame.time for frame in read] == pytest.approx([0, 0.7, 0.8, 3.9], abs=1e-3)
    for frame in read:
        assert square_left(frame.rgb) == pytest.approx(square_left(frames[frame.index]), abs=1)
        assert np.abs(frame.rgb.astype(int) - frames[frame.index]).mean() < 6


def test_a_gif_is_a_video(tmp_path: Path) -> None:
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in moving_square(8)]
    animation.durations = [50] * 8
    cv2.imwriteanimation(str(tmp_path / "square.gif"), animation)

    clip = open_clip(tmp_path / "square.gif")

    assert (clip.name, clip.length) == ("square", 8)
    assert [frame.time for frame in clip.read([0, 4])] == pytest.approx([0, 0.2])


def test_repeated_indices_repeat_the_frame(mp4: Path) -> None:
    read = list(open_clip(mp4).read([3, 3, 3, 4]))

    assert [frame.index for frame in read] == [3, 3, 3, 4]
    np.testing.assert_array_equal(read[0].rgb, read[2].rgb)


def test_frames_that_are_not_asked_for_are_not_converted(mp4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    monkeypatch.setattr(
        "saliency_tubes.decoding.View.rgb", lambda _, picture: converted.append(picture.pts) or np.zeros((1, 1, 3))
    )

    list(open_clip(mp4).read([0, 20]))

    assert len(converted) == 2


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_metadata_is_applied(tmp_path: Path, turns: int) -> None:
    frames = moving_square(3)
    path = write_video(tmp_path / "phone.mp4", frames)
    rotate_metadata(path, turns)

    (frame,) = open_clip(path).read([1])

    upright = np.rot90(frames[1], -turns)
    assert frame.rgb.shape == upright.shape
    assert np.abs(frame.rgb.astype(int) - upright).mean() < 6


def test_a_truncated_video_is_read_as_far_as_it_goes_and_says_so(mp4: Path, tmp_path: Path) -> None:
    data = mp4.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * 0.6)])

    clip = open_clip(cut)
    announced = clip.length
    list(clip.read([0]))

    assert announced == 40
    assert 0 < clip.length < 40
    assert clip.notes[0] == (
        f"the video is damaged or cut short: it announces 40 frames, {clip.length} could be decoded"
    )


def test_a_truncated_matroska_announces_seconds_not_frames(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", moving_square(60))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])

    clip = open_clip(cut)
    list(clip.read([0]))

    assert 0 < clip.length < 60
    assert "cut short: it announces 6.0 s" in clip.notes[0]


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_video_cut_before_its_first_frame_is_an_error(tmp_path: Path, share: float) -> None:
    whole = write_video(tmp_path / "whole.mp4", moving_square(40))  # the index comes last
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])

    with pytest.raises(SourceError, match=r"cut\.mp4 cannot be opened as a video .*expected a complete video file"):
        open_clip(cut)


def test_an_index_without_frames_is_an_error(mp4: Path, tmp_path: Path) -> None:
    data = mp4.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: data.index(b"mdat") + 8])

    with pytest.raises(SourceError, match=r"no frame of .*cut\.mp4 can be decoded: the file is damaged"):
        list(open_clip(cut).read([0]))


def test_damage_in_the_middle_does_not_end_the_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hit.avi", moving_square(40), "mpeg4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = os.urandom(300)
    path.write_bytes(data)

    clip = open_clip(path)
    list(clip.read([0]))

    assert clip.length > 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fake.mp4", b"this is no video\n" * 100, r"cannot be opened as a video .*expected a complete video file"),
        ("empty.mp4", b"", r"cannot be opened as a video"),
        ("notes.txt", b"this is no video\n" * 100, r"is not a video \(Tele-typewriter\)"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile 'square.mp4'\n", r"is not a video \(Virtual concatenation"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nsquare.ts\n#EXT-X-ENDLIST\n", r"(is not|cannot be opened as) a video"),
    ],
)
def test_what_is_not_a_video_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_video(tmp_path / "square.mp4", moving_square(4))
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError, match=message):
        open_clip(tmp_path / name)


def test_a_file_with_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))

    with pytest.raises(SourceError, match=r"sound\.wav holds no video"):
        open_clip(tmp_path / "sound.wav")


def test_a_name_that_looks_like_a_protocol_is_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "concat:a.mp4", moving_square(4))
    monkeypatch.chdir(tmp_path)

    assert open_clip("concat:a.mp4").length == 4


def test_a_missing_path_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.mp4 does not exist: expected a video file, a GIF, or a folder"):
        open_clip(tmp_path / "nowhere.mp4")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SourceError, match="is neither a file nor a folder"):
        open_clip(tmp_path / "pipe")


def test_a_folder_is_read_in_natural_order_and_other_files_are_ignored(tmp_path: Path) -> None:
    frames = moving_square(12)
    folder = write_folder(tmp_path / "bowling", frames)
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_bytes(b"no frame")
    (folder / "sub.png").mkdir()

    clip = open_clip(folder)

    assert isinstance(clip, FrameFolder)
    assert (clip.name, clip.length) == ("bowling", 12)
    for frame in clip.read([2, 10, 11]):
        np.testing.assert_array_equal(frame.rgb, frames[frame.index])
        assert math.isnan(frame.time)


def test_natural_order_puts_2_before_10() -> None:
    assert sorted(["f10.png", "f2.png", "F1.png", "a.png"], key=natural_key) == ["a.png", "F1.png", "f2.png", "f10.png"]


def test_a_folder_given_as_a_dot_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "bowling", moving_square(2))
    monkeypatch.chdir(folder)

    assert open_clip(".").name == "bowling"


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no frame")

    with pytest.raises(SourceError, match=r"holds no images: expected frames in one of \.bmp"):
        open_clip(tmp_path)


def test_frames_of_different_sizes_are_an_error_that_names_them(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mixed", moving_square(30))
    cv2.imwrite(str(folder / "frame17.png"), np.zeros((20, 30, 3), dtype=np.uint8))

    with pytest.raises(SourceError, match=r"different sizes: frame0\.png is 64x48, frame17\.png is 30x20"):
        open_clip(folder)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0garbage"])
def test_a_file_that_only_claims_to_be_an_image_is_an_error_wherever_it_stands(tmp_path: Path, content: bytes) -> None:
    folder = write_folder(tmp_path / "broken", moving_square(30), suffix=".jpg")
    (folder / "frame17.jpg").write_bytes(content)

    with pytest.raises(SourceError, match=r"frame17\.jpg cannot be decoded as an image: the file is damaged or empty"):
        open_clip(folder)


def test_a_truncated_image_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "broken", moving_square(3), suffix=".jpg")
    data = (folder / "frame1.jpg").read_bytes()
    (folder / "frame1.jpg").write_bytes(data[: len(data) // 2])

    with pytest.raises(SourceError, match=r"frame1\.jpg cannot be decoded as an image"):
        list(open_clip(folder).read([0, 1, 2]))


def test_an_array_is_a_clip() -> None:
    frames = moving_square(5)

    clip = open_clip(frames)

    assert isinstance(clip, FrameArray)
    assert (clip.length, clip.path) == (5, None)
    np.testing.assert_array_equal(next(clip.read([3])).rgb, frames[3])


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((4, 8, 8, 3), dtype=np.float32),
        np.zeros((8, 8, 3), dtype=np.uint8),
        np.zeros((4, 3, 8, 8), dtype=np.uint8),
        np.zeros((0, 8, 8, 3), dtype=np.uint8),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(frames: np.ndarray) -> None:
    with pytest.raises(SourceError, match=r"expected a clip as a uint8 RGB array of shape \(T, H, W, 3\)"):
        open_clip(frames)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real clips in ../shared are not here")
@pytest.mark.parametrize(
    ("name", "length", "seconds"),
    [
        ("arm_wrestling.mp4", 280, 9.964),
        ("cricket_shot.gif", 79, 3.12),
        ("mpeg4_with_audio.avi", 164, 6.52),
        ("hd_1080p.avi", 103, 3.4),
    ],
)
def test_real_clips_have_their_length_and_times(name: str, length: int, seconds: float) -> None:
    clip = VideoFile(SHARED / "clips" / name)

    frames = list(clip.read([0, length - 1]))

    assert clip.length == length
    assert clip.notes == ()
    assert frames[1].time == pytest.approx(seconds, abs=0.01)


def test_a_folder_is_read_in_the_order_asked_for_and_may_be_left_early(tmp_path: Path) -> None:
    clip = open_clip(write_folder(tmp_path / "frames", moving_square(6)))
    indices = [0, 0, 3, 5, 2, 2]

    assert [frame.index for frame in clip.read(indices)] == indices
    np.testing.assert_array_equal(
        np.stack([frame.rgb for frame in clip.read(indices)]),
        np.stack([next(iter(clip.read([index]))).rgb for index in indices]),
    )
