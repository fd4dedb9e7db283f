from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import moving_square
from numpy.typing import NDArray
from odd_videos import click_time, write_sound
from saliency_tubes import video_sink
from saliency_tubes.video import open_clip
from saliency_tubes.video_sink import VideoSink

SIZE_WH = (64, 48)


def write(path: Path, frames: NDArray[np.uint8], times: list[float], **options: Any) -> VideoSink:
    with VideoSink(path, (frames.shape[2], frames.shape[1]), **options) as sink:
        for frame, time in zip(frames, times, strict=True):
            sink.write(frame, time)
    return sink


def with_the_sound_of(source: Path, out: Path) -> VideoSink:
    clip = open_clip(source)
    with VideoSink(out, clip.size_wh, audio_from=source) as sink:
        for frame in clip.read(range(clip.length)):
            sink.write(frame.rgb, frame.time)
    return sink


def sound_codec(path: Path) -> str:
    with av.open(str(path)) as container:
        return str(container.streams.audio[0].codec_context.codec.canonical_name)


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast"])
@pytest.mark.parametrize(
    "times",
    [
        [index * 1001 / 30000 for index in range(20)],
        np.cumsum(np.random.default_rng(0).uniform(0.001, 0.5, 20)).tolist(),
        [0.0, *(1000.0 + index / 240 for index in range(19))],
    ],
)
def test_the_times_given_are_the_times_kept(tmp_path: Path, preset: str, times: list[float]) -> None:
    write(tmp_path / "out.mp4", moving_square(20), times, preset=preset)

    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        kept = [picture.time for picture in container.decode(stream)]
        assert stream.duration is not None
        length = float(stream.duration * stream.time_base)
    assert kept == pytest.approx(times, abs=1 / 90000)
    assert length == pytest.approx(times[-1] - times[0] + (times[-1] - times[-2]), abs=1e-3)
    clip = open_clip(tmp_path / "out.mp4")
    assert clip.length == 20
    assert [frame.time + times[0] for frame in clip.read(range(20))] == pytest.approx(times, abs=1 / 45000)
    assert clip.notes == ()


def test_a_single_frame_is_a_video(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", moving_square(1), [0.0])

    assert [frame.time for frame in open_clip(tmp_path / "out.mp4").read([0])] == [0]


@pytest.mark.parametrize("rgb", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (31, 119, 180)])
@pytest.mark.parametrize("size_hw", [(48, 64), (720, 1280)])
def test_colours_come_back(tmp_path: Path, rgb: tuple[int, int, int], size_hw: tuple[int, int]) -> None:
    write(tmp_path / "out.mp4", np.full((2, *size_hw, 3), rgb, dtype=np.uint8), [0.0, 0.1])

    (frame,) = open_clip(tmp_path / "out.mp4").read([1])

    assert np.abs(frame.rgb.astype(int) - rgb).max() <= 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries) == (5, 1, 1)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
def test_the_file_is_what_browsers_play(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving_square(10)[:, : size[0], : size[1]]

    write(tmp_path / "out.mp4", frames, [index / 4 for index in range(10)])

    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        decoded = [picture.to_ndarray(format="rgb24") for picture in container.decode(stream)]
    assert decoded[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    for frame, picture in zip(frames, decoded, strict=True):
        assert np.abs(picture[: size[0], : size[1]].astype(int) - frame).mean() < 6


def test_a_frame_may_be_changed_once_it_is_written(tmp_path: Path) -> None:
    canvas = np.full((48, 64, 3), 200, dtype=np.uint8)
    with VideoSink(tmp_path / "out.mp4", SIZE_WH) as sink:
        for index in range(4):
            canvas[:] = 40 * index
            sink.write(canvas, index / 10)

    means = [frame.rgb.mean() for frame in open_clip(tmp_path / "out.mp4").read(range(4))]

    assert means == pytest.approx([0, 40, 80, 120], abs=3)


def test_a_short_interval_between_key_frames_and_few_bits_can_be_had(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    times = [index / 10 for index in range(24)]

    write(tmp_path / "good.mp4", noise, times)
    write(tmp_path / "small.mp4", noise, times, crf=40, preset="veryfast", keyint=6)

    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "good.mp4").stat().st_size / 2
    with av.open(str(tmp_path / "small.mp4")) as container:
        keys = [index for index, picture in enumerate(container.decode(video=0)) if picture.key_frame]
    assert np.diff([*keys, 24]).max() <= 6


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("clip.mp4", "aac", "aac"),
        ("clip.ts", "aac", "aac"),
        ("clip.mkv", "libmp3lame", "mp3"),
        ("clip.mkv", "libopus", "opus"),
        ("clip.mkv", "flac", "flac"),
        ("clip.mkv", "ac3", "aac"),
        ("clip.avi", "pcm_s16le", "aac"),
        ("clip.mkv", "mp2", "aac"),
    ],
)
def test_the_sound_goes_along_in_step(tmp_path: Path, name: str, codec: str, kept: str) -> None:
    video_codec = "libx264" if name.endswith("ts") else "mpeg4"
    source = write_sound(tmp_path / name, moving_square(30), codec, click=1.0, video_codec=video_codec)

    sink = with_the_sound_of(source, tmp_path / "out.mp4")

    assert sink.notes == ()
    assert sound_codec(tmp_path / "out.mp4") == kept
    assert click_time(tmp_path / "out.mp4") == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("codec", ["aac", "ac3"])
@pytest.mark.parametrize(("video_start", "audio_start"), [(0.7, 0.0), (0.0, 0.5), (2.0, 1.5)])
def test_sound_and_pictures_that_start_apart_stay_so(
    tmp_path: Path, codec: str, video_start: float, audio_start: float
) -> None:
    source = write_sound(
        tmp_path / "clip.mkv", moving_square(30), codec, click=2.4, video_start=video_start, audio_start=audio_start
    )

    with_the_sound_of(source, tmp_path / "out.mp4")

    assert click_time(tmp_path / "out.mp4") == pytest.approx(2.4 - video_start, abs=0.005)
    with av.open(str(tmp_path / "out.mp4")) as container:
        seconds_kept = container.streams.audio[0].frames * 1024 / 48000
    assert seconds_kept == pytest.approx(3.0 - abs(video_start - audio_start), abs=0.15)


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    source = write_sound(tmp_path / "clip.mkv", moving_square(30), "aac", click=0.5)

    write(tmp_path / "out.mp4", moving_square(10), [index / 10 for index in range(10)], audio_from=source)

    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.duration is not None
        assert float(sound.duration * sound.time_base) == pytest.approx(1.0, abs=0.05)


def test_sound_and_pictures_are_interleaved(tmp_path: Path) -> None:
    source = write_sound(tmp_path / "clip.mkv", moving_square(300), "aac", click=0.5)
    with_the_sound_of(source, tmp_path / "out.mp4")

    with av.open(str(tmp_path / "out.mp4")) as container:
        places = sorted(
            (packet.pos, packet.stream.type, float(packet.dts * packet.time_base))
            for packet in container.demux()
            if packet.size and packet.pos is not None
        )
    furthest = {"video": 0.0, "audio": 0.0}
    for _, kind, time in places:
        furthest[kind] = time
        assert abs(furthest["video"] - furthest["audio"]) < 1.5


def test_a_source_without_sound_gives_a_silent_video(tmp_path: Path) -> None:
    write(tmp_path / "silent.mp4", moving_square(4), [0, 0.1, 0.2, 0.3])

    sink = with_the_sound_of(tmp_path / "silent.mp4", tmp_path / "out.mp4")

    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert sink.notes == ()


@pytest.mark.parametrize("codec", ["aac", "ac3"])
def test_broken_sound_costs_no_pictures(tmp_path: Path, codec: str) -> None:
    source = write_sound(tmp_path / "clip.mkv", moving_square(30), codec, click=0.5)
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    data = source.read_bytes()
    for packet in packets:
        data = data.replace(packet, bytes([0xFF]) * len(packet))
    source.write_bytes(data)

    sink = with_the_sound_of(source, tmp_path / "out.mp4")

    assert open_clip(tmp_path / "out.mp4").length == 30
    assert codec == "aac" or sink.notes == ("the sound of the video could not be read and is left out",)


def test_some_broken_sound_is_left_out_and_said(tmp_path: Path) -> None:
    source = write_sound(tmp_path / "clip.mkv", moving_square(30), "ac3", click=2.0)
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    data = source.read_bytes()
    assert data.count(packets[30]) == 1 or len(set(packets)) < len(packets)
    at = data.index(packets[20], len(data) // 10)
    source.write_bytes(data[:at] + bytes([0xFF]) * len(packets[20]) + data[at + len(packets[20]) :])

    sink = with_the_sound_of(source, tmp_path / "out.mp4")

    assert sink.notes == ("the sound of the video is damaged (broken packets: 1, which are left out)",)
    assert click_time(tmp_path / "out.mp4") == pytest.approx(2.0, abs=0.04)


def test_sound_that_mp4_cannot_hold_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_sound(tmp_path / "clip.mkv", moving_square(10), "aac", click=0.5)

    def refuse(*_: object) -> None:
        raise av.error.ArgumentError(22, "codec not currently supported in container")

    monkeypatch.setattr(video_sink.Soundtrack, "add_to", refuse)

    sink = with_the_sound_of(source, tmp_path / "out.mp4")

    assert sink.notes == ("the sound of the video does not fit into an MP4 and is left out",)
    assert open_clip(tmp_path / "out.mp4").length == 10


@pytest.mark.parametrize(
    ("shape", "time", "message"),
    [
        ((48, 62, 3), 0.2, r"expected a frame of \(64, 48\), got \(62, 48\)"),
        ((48, 64, 3), 0.1, r"expected a time after 0\.1 s, got 0\.1"),
        ((48, 64, 3), 0.05, r"expected a time after 0\.1 s, got 0\.05"),
        ((48, 64, 3), float("nan"), r"expected a time after 0\.1 s, got nan"),
    ],
)
def test_a_wrong_frame_is_an_error_and_leaves_no_file(
    tmp_path: Path, shape: tuple[int, ...], time: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message), VideoSink(tmp_path / "out.mp4", SIZE_WH) as sink:
        sink.write(moving_square(1)[0], 0.1)
        sink.write(np.zeros(shape, dtype=np.uint8), time)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("written", [0, 3])
def test_an_interruption_leaves_no_file(tmp_path: Path, written: int) -> None:
    with pytest.raises(KeyboardInterrupt), VideoSink(tmp_path / "out.mp4", SIZE_WH) as sink:
        for index in range(written):
            sink.write(moving_square(1)[0], index / 10)
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one frame"), VideoSink(tmp_path / "out.mp4", SIZE_WH):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"), VideoSink(tmp_path / "no" / "out.mp4", SIZE_WH):
        pytest.fail("must be refused before any frame is drawn")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    with pytest.raises(OSError, match="No space left on device"):
        write(Path("/dev/full"), noise, [float(Fraction(index, 10)) for index in range(40)])

    assert Path("/dev/full").exists()


def test_times_closer_than_a_tick_are_kept_apart(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "v.mp4", (16, 16)) as sink:
        for seconds in (0.0, 3e-6, 5e-6, 0.5):
            sink.write(np.zeros((16, 16, 3), dtype=np.uint8), seconds)

    with av.open(str(tmp_path / "v.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == 4
    assert times == sorted(set(times))
    assert times == pytest.approx([0, 0, 0, 0.5], abs=1e-3)
