import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import moving_square, rotate_metadata, square_left, write_folder, write_video
from numpy.typing import NDArray
from odd_videos import write_pixels, write_sound, write_times
from saliency_tubes import decoding
from saliency_tubes.errors import SourceError
from saliency_tubes.video import Frame, VideoFile, open_clip


def read_all(path: Path) -> tuple[VideoFile, list[Frame]]:
    """Every frame; each has the size that the clip told when it was opened, and times only go forward."""
    clip = open_clip(path)
    assert isinstance(clip, VideoFile)
    size_wh = clip.size_wh
    frames = list(clip.read(range(clip.length)))
    assert all(frame.rgb.shape == (*size_wh[::-1], 3) for frame in frames)
    times = [frame.time for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
    return clip, frames


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("aspect", "size_wh"),
    [
        (Fraction(2), (128, 48)),
        (Fraction(1, 2), (64, 96)),
        (Fraction(64, 45), (91, 48)),
        (Fraction(10, 11), (64, 53)),
        (Fraction(100), (64, 48)),
        (Fraction(1, 100), (64, 48)),
    ],
)
def test_pixels_become_square(tmp_path: Path, suffix: str, aspect: Fraction, size_wh: tuple[int, int]) -> None:
    source = moving_square(4)
    path = write_pixels(tmp_path / f"anamorphic.{suffix}", source, "libx264", "yuv420p", aspect)

    clip, frames = read_all(path)

    assert clip.size_wh == size_wh
    stretched = cv2.resize(source[2], size_wh, interpolation=cv2.INTER_LINEAR)
    assert np.abs(frames[2].rgb.astype(int) - stretched).mean() < 6


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_pixels_are_made_square_before_the_frame_is_turned(tmp_path: Path, turns: int) -> None:
    path = write_pixels(tmp_path / "phone.mp4", moving_square(3), "libx264", "yuv420p", Fraction(2))
    rotate_metadata(path, turns)

    clip, frames = read_all(path)

    assert clip.size_wh == ((48, 128) if turns % 2 else (128, 48))
    upright = np.rot90(cv2.resize(moving_square(3)[1], (128, 48)), -turns)
    assert np.abs(frames[1].rgb.astype(int) - upright).mean() < 6


@pytest.mark.parametrize(
    ("matrix", "show"),
    [
        ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
        ((1, 0, 0, -1), lambda rgb: rgb[::-1]),
        ((0, 1, 1, 0), lambda rgb: rgb.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda rgb: rgb.transpose(1, 0, 2)[::-1, ::-1]),
        ((0.9, 0.4, -0.4, 0.9), lambda rgb: rgb),
        ((-0.4, 0.9, -0.9, -0.4), lambda rgb: np.rot90(rgb, -1)),
        ((0, 0, 0, 0), lambda rgb: rgb),
    ],
)
def test_mirrors_and_odd_angles_of_the_display_matrix(tmp_path: Path, matrix: tuple[float, ...], show) -> None:  # type: ignore[no-untyped-def]
    path = write_video(tmp_path / "selfie.mp4", moving_square(3))
    data = bytearray(path.read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)

    _, frames = read_all(path)

    assert np.abs(frames[1].rgb.astype(int) - show(moving_square(3)[1])).mean() < 6


def test_frames_that_change_their_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    small, large = moving_square(5), moving_square(5, 96, 128)
    for name, frames in (("a.ts", small), ("b.ts", large)):
        write_times(tmp_path / name, frames, range(0, 500, 100))
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())

    clip, frames = read_all(joined)

    assert clip.size_wh == (64, 48)
    assert square_left(frames[-1].rgb) == pytest.approx(square_left(large[4]) / 2, abs=2)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("ffv1", "gray16le", "mkv"),
        ("ffv1", "gray", "mkv"),
        ("ffv1", "yuva420p", "mkv"),
        ("ffv1", "gbrp12le", "mkv"),
        ("png", "rgb48be", "mov"),
        ("png", "rgba", "mov"),
        ("libx264", "yuv420p10le", "mp4"),
        ("mjpeg", "yuvj444p", "avi"),
    ],
)
def test_deep_grey_and_transparent_pixels_become_rgb(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    source = moving_square(3)
    clip, frames = read_all(write_pixels(tmp_path / f"odd.{suffix}", source, codec, pix_fmt))

    expected = source[1]
    if pix_fmt.startswith("gray"):
        expected = np.repeat(cv2.cvtColor(source[1], cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert clip.notes == ()
    assert np.abs(frames[1].rgb.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (3, 5)])
def test_a_clip_may_be_tiny(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    source = np.full((3, *size_hw, 3), (200, 30, 90), dtype=np.uint8)
    clip, frames = read_all(write_pixels(tmp_path / "tiny.mov", source, "png", "rgb24"))

    assert clip.size_wh == size_hw[::-1]
    np.testing.assert_array_equal(frames[2].rgb, source[2])


@pytest.mark.parametrize(
    ("milliseconds", "seconds", "notes"),
    [
        ([0, 10, 50, 200, 5000], [0, 0.01, 0.05, 0.2, 5], 0),
        ([5000, 5100, 5200, 5300, 5400], [0, 0.1, 0.2, 0.3, 0.4], 0),
        ([0, 100, 100, 200, 300], [0, 0.1, 0.15, 0.2, 0.3], 1),
        ([0, 100, 200, 10**9, 10**9 + 100], [0, 0.1, 0.2, 0.3, 0.4], 1),
    ],
)
def test_broken_times_are_mended_and_said(
    tmp_path: Path, milliseconds: list[int], seconds: list[float], notes: int
) -> None:
    clip, frames = read_all(write_times(tmp_path / "times.mkv", moving_square(5), milliseconds))

    assert [frame.time for frame in frames] == pytest.approx(seconds, abs=2e-3)
    said = "the times of 1 of 5 frames were missing or out of order and were mended"
    assert clip.notes == (said,) * notes


def test_a_clock_that_starts_anew_in_the_middle_goes_on(tmp_path: Path) -> None:
    parts = [
        write_times(tmp_path / f"{start}.ts", moving_square(5), range(start, start + 500, 100)) for start in (50000, 0)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))

    clip, frames = read_all(joined)

    assert [frame.time for frame in frames] == pytest.approx(np.arange(len(frames)) / 10, abs=1e-3)
    assert clip.notes[-1] == f"the times of 1 of {len(frames)} frames were missing or out of order and were mended"


def test_a_stream_without_times_has_those_of_its_rate(tmp_path: Path) -> None:
    clip, frames = read_all(write_pixels(tmp_path / "bare.h264", moving_square(6), "libx264", "yuv420p"))

    assert clip.length == 6
    assert np.isfinite([frame.time for frame in frames]).all()


def test_garbage_in_the_middle_of_a_transport_stream_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hit.ts", moving_square(60))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 1500] = np.random.default_rng(0).bytes(1500)
    path.write_bytes(data)

    clip, _ = read_all(path)

    assert 40 < clip.length <= 60
    assert "damaged" in clip.notes[0]


def test_a_stream_that_starts_in_the_middle_begins_at_its_first_whole_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "joined_late.ts", moving_square(60))  # a whole frame every five
    data = path.read_bytes()
    path.write_bytes(data[: 188 * 2] + data[188 * 30 :])

    clip, frames = read_all(path)

    assert 10 < clip.length < 60
    assert frames[0].time == 0


def song_with_cover(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100, layout="mono")
        picture = container.add_stream("mjpeg", rate=1)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuvj420p"
        picture.disposition = 1 << 10  # attached picture
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        packets = [*sound.encode(silence), *sound.encode(None)]
        frame = av.VideoFrame.from_ndarray(moving_square(1)[0], format="rgb24")
        for packet in [*picture.encode(frame), *picture.encode(None), *packets]:
            container.mux(packet)
    return path


def test_the_cover_of_a_song_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"song\.mp3 holds no video, only still pictures: expected a video file"):
        open_clip(song_with_cover(tmp_path / "song.mp3"))


def test_a_format_without_a_decoder_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "future.mkv", moving_square(4))
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_XXXXX/ISO/AVC"))

    with pytest.raises(SourceError, match=r"future\.mkv holds a video in a format for which there is no decoder"):
        open_clip(path)


def test_a_stream_without_a_packet_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        container.start_encoding()

    with pytest.raises(SourceError, match=r"empty\.avi holds no frames: expected a video with at least one"):
        open_clip(path)


def test_the_first_of_several_videos_is_read_and_other_streams_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as container:
        videos = [container.add_stream("mjpeg", rate=10) for _ in range(2)]
        sizes = [(48, 64), (96, 128)]
        text = container.add_stream("subrip")
        for video, (height, width) in zip(videos, sizes, strict=True):
            video.height, video.width, video.pix_fmt = height, width, "yuvj420p"
        text.codec_context.subtitle_header = b""
        for index in range(5):
            for video, size in zip(videos, sizes, strict=True):
                frame = av.VideoFrame.from_ndarray(moving_square(5, *size)[index], format="rgb24")
                container.mux(video.encode(frame))
        for video in videos:
            container.mux(video.encode(None))

    clip, frames = read_all(path)

    assert (clip.size_wh, clip.length) == ((64, 48), 5)
    assert square_left(frames[4].rgb) == pytest.approx(square_left(moving_square(5)[4]), abs=2)


def gif_bomb(path: Path) -> Path:
    """A GIF of a few hundred bytes that announces frames of 400 megapixels."""
    write_pixels(path, np.zeros((2, 48, 64, 3), dtype=np.uint8), "gif", "gray")
    data = bytearray(path.read_bytes())
    struct.pack_into("<HH", data, 6, 20000, 20000)
    path.write_bytes(data)
    return path


def png_bomb(path: Path) -> Path:
    """Frames that really are of 108 megapixels, with one bit each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = 9000, 12000, "monob"
        container.mux(stream.encode(av.VideoFrame(12000, 9000, "monob")))
        container.mux(stream.encode(None))
    return path


def stretched_bomb(path: Path) -> Path:
    """Frames of 25 megapixels whose pixels are to be shown eight times as long as high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = 5000, 5000, "monob"
        stream.codec_context.sample_aspect_ratio = Fraction(8)
        container.mux(stream.encode(av.VideoFrame(5000, 5000, "monob")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (gif_bomb, "bomb.gif", "or its frames have more than 100 million pixels"),
        (png_bomb, "bomb.mov", "or its frames have more than 100 million pixels"),
        (stretched_bomb, "bomb.mov", r"bomb\.mov announces frames of 40000x5000 pixels: expected at most 100 million"),
    ],
)
def test_absurd_dimensions_are_an_error(tmp_path: Path, make: Callable[[Path], Path], name: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_clip(make(tmp_path / name))


def test_an_edit_list_that_leaves_frames_out_is_no_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "trimmed.mp4", moving_square(40))
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # segment duration, then the media time it starts at
    duration, media_time = struct.unpack_from(">Ii", data, entry)
    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base
    struct.pack_into(">Ii", data, entry, duration - 700, media_time + round(0.7 / tick))
    path.write_bytes(data)

    clip, frames = read_all(path)

    assert clip.length == 33
    assert clip.notes == ()
    assert square_left(frames[0].rgb) == pytest.approx(square_left(moving_square(40)[7]), abs=1)


def test_leaving_early_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = open_clip(write_video(tmp_path / "long.mp4", moving_square(40)))
    opened = []
    open_container = decoding.open_container
    monkeypatch.setattr(
        "saliency_tubes.video.open_container", lambda path: opened.append(open_container(path)) or opened[-1]
    )

    frames = clip.read(range(10**9))
    next(frames)
    frames.close()  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="Container is not open"):
        opened[0].seek(0)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_sound_that_outlasts_the_pictures_is_no_damage(tmp_path: Path, tagged: bool) -> None:
    path = write_sound(tmp_path / "long_sound.mkv", moving_square(10), "aac", click=0.5, audio_seconds=5)
    if not tagged:  # as browsers record
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIOX"))

    clip, _ = read_all(path)

    assert clip.notes == ()


def test_frames_that_cannot_be_decoded_are_left_out_and_said(tmp_path: Path) -> None:
    path = write_times(tmp_path / "hit.mkv", moving_square(8), range(0, 800, 100))
    with av.open(str(path)) as container:
        packet = bytes([packet for packet in container.demux(video=0) if packet.size][3])
    path.write_bytes(path.read_bytes().replace(packet, bytes(len(packet))))

    clip, frames = read_all(path)

    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7])
    assert clip.notes == ("the video is damaged (broken packets: 1), and frames may be missing there",)


def exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an Exif segment that says how a camera was held."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def test_photographs_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", moving_square(3), suffix=".jpg")
    for file in folder.iterdir():
        file.write_bytes(exif_orientation(file.read_bytes(), 6))

    clip = open_clip(folder)

    assert clip.size_wh == (48, 64)
    assert next(clip.read([1])).rgb.shape == (64, 48, 3)


def test_photographs_turned_differently_are_frames_of_different_sizes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", moving_square(3), suffix=".jpg")
    (folder / "frame2.jpg").write_bytes(exif_orientation((folder / "frame2.jpg").read_bytes(), 6))

    with pytest.raises(SourceError, match=r"different sizes: frame0\.jpg is 64x48, frame2\.jpg is 48x64"):
        list(open_clip(folder).read([0, 1, 2]))


def test_an_image_that_announces_absurd_dimensions_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bomb", moving_square(1))
    data = bytearray((folder / "frame0.png").read_bytes())
    struct.pack_into(">II", data, 16, 65535, 65535)
    (folder / "frame0.png").write_bytes(data)

    with pytest.raises(SourceError, match=r"frame0\.png announces frames of 65535x65535 pixels"):
        open_clip(folder)


def test_arrays_and_folders_know_their_size_too(tmp_path: Path) -> None:
    frames: NDArray[np.uint8] = moving_square(2)

    assert open_clip(frames).size_wh == (64, 48)
    assert open_clip(write_folder(tmp_path / "frames", frames)).size_wh == (64, 48)
