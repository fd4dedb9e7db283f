"""The sound of one file, muxed into another as its pictures go."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Discard

from .clock import Clock
from .decoding import Decoding, may_restart, open_container, own_time, video_stream
from .errors import SourceError

# What browsers play in an MP4. They do not play AC-3, PCM, Vorbis and the rest there: these become AAC.
_COPIED = frozenset({"aac", "mp3", "opus", "flac"})
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_AAC_SAMPLES, _AAC_BITS_PER_CHANNEL = 1024, 80_000
_TICKS = 1_000_000  # a second: what packets are timed in before the output rounds to its own
_RUN_UP_SECONDS = 0.08  # decoders want a little of what came before; an MP4's edit list keeps it from being heard

SoundPacket = tuple[float, "Packet[AudioStream]"]  # seconds after the first picture, packet


class Soundtrack:
    """The first sound stream of a video, on the clock of its first picture.

    What MP4 and browsers know is copied, packet by packet; the rest is encoded to AAC. Only what is due is read, so
    that memory does not grow with the length.

    Attributes:
        notes: what went wrong with the sound, once `finish` has run.
    """

    def __init__(self, source: Path) -> None:
        self.notes: tuple[str, ...] = ()
        self._broken = self._muxed = 0
        self._ahead: SoundPacket | None = None
        self._start = _first_picture_time(source)
        self._input = open_container(source)
        self._stream: AudioStream = self._input.streams.audio[0]
        for stream in self._input.streams:
            stream.discard = Discard.none if stream is self._stream else Discard.all

    @classmethod
    def of(cls, source: Path) -> "Soundtrack | None":
        """The sound of a file; None where it has none.

        Raises:
            SourceError: it has some, which no decoder knows, or the file cannot be opened any more.
        """
        with open_container(source) as container:
            if not container.streams.audio:
                return None
            if container.streams.audio[0].codec_context is None:
                raise SourceError(f"the sound of {source} is of a kind that FFmpeg does not know")
        return cls(source)

    def add_to(self, output: "av.container.OutputContainer") -> None:
        """Give the output a stream for the sound; before its header is written."""
        self._output = output
        if self._stream.codec_context.codec.canonical_name in _COPIED:
            self._out = output.add_stream_from_template(self._stream)
            self._packets = self._copied()
        else:
            rate = self._stream.rate if self._stream.rate in _AAC_RATES else max(_AAC_RATES)
            self._out = output.add_stream("aac", rate=rate)
            self._out.layout = "mono" if self._stream.channels == 1 else "stereo"
            self._out.bit_rate = _AAC_BITS_PER_CHANNEL * self._out.layout.nb_channels
            self._packets = self._encoded()

    def mux_until(self, seconds: float) -> None:
        """Mux what begins before this time of the pictures' clock."""
        while True:
            if self._ahead is None:
                self._ahead = next(self._packets, None)
            if self._ahead is None or self._ahead[0] >= seconds:
                return
            packet, self._ahead = self._ahead[1], None
            packet.stream = self._out
            try:
                self._output.mux(packet)
                self._muxed += 1
            except (av.error.InvalidDataError, av.error.ArgumentError):  # the packet's fault, not the disk's
                self._broken += 1

    def finish(self, seconds: float) -> None:
        """Mux what is left before this time, and close the source."""
        self.mux_until(seconds)
        self.close()
        if not self._muxed:
            self.notes = ("the sound of the video could not be read and is left out",)
        elif self._broken:
            self.notes = (f"the sound of the video is damaged (broken packets: {self._broken}, which are left out)",)

    def close(self) -> None:
        """Close the source."""
        self._input.close()

    def _copied(self) -> Iterator[SoundPacket]:
        """The source's packets on the pictures' clock, from a little before it begins."""
        tick = self._stream.time_base
        samples = self._stream.codec_context.frame_size or _AAC_SAMPLES
        clock = self._clock(Fraction(self._stream.rate or 1, samples))
        for packet in self._demuxed():
            seconds = clock(None if packet.pts is None or tick is None else float(packet.pts * tick))
            if seconds > -_RUN_UP_SECONDS:
                packet.pts = packet.dts = round(seconds * _TICKS)
                packet.duration = round((packet.duration or 0) * (tick or 0) * _TICKS)
                packet.time_base = Fraction(1, _TICKS)
                yield seconds, packet

    def _encoded(self) -> Iterator[SoundPacket]:
        """The source's sound as AAC packets on the pictures' clock."""
        encoder = self._out.codec_context
        rate = encoder.sample_rate
        resampler = av.AudioResampler("fltp", encoder.layout, rate, frame_size=_AAC_SAMPLES)
        clock = self._clock(Fraction(rate, _AAC_SAMPLES))
        for packet in self._demuxed():
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._broken += 1
                continue
            for frame in frames:
                seconds = clock(own_time(frame))
                if seconds + frame.samples / frame.sample_rate <= 0:
                    continue
                frame.pts, frame.time_base = round(seconds * frame.sample_rate), Fraction(1, frame.sample_rate)
                try:
                    resampled = resampler.resample(frame)
                except (av.error.FFmpegError, ValueError):  # it has become another kind of sound
                    self._broken += 1
                    continue
                for piece in resampled:
                    yield from self._timed(encoder.encode(piece))
        for piece in resampler.resample(None):
            yield from self._timed(encoder.encode(piece))
        yield from self._timed(encoder.encode(None))

    def _timed(self, packets: "list[Packet[AudioStream]]") -> Iterator[SoundPacket]:
        for packet in packets:
            yield float((packet.pts or 0) * packet.time_base), packet

    def _demuxed(self) -> "Iterator[Packet[AudioStream]]":
        with contextlib.suppress(av.error.FFmpegError):  # where the file breaks off, the sound ends
            for packet in self._input.demux(self._stream):
                if packet.size:
                    yield packet

    def _clock(self, rate: Fraction) -> Callable[[float | None], float]:
        """What turns the source's times into seconds after its first picture."""
        clock = Clock(rate, restarts=may_restart(self._input))
        first = None

        def seconds(time: float | None) -> float:
            nonlocal first
            if first is None:
                first = 0.0 if time is None else time - self._start
            return first + clock.seconds(time)

        return seconds


def _first_picture_time(source: Path) -> float:
    """When the first picture is shown, in seconds on the container's own clock."""
    with open_container(source) as container:
        stream = video_stream(container, source)
        picture = next((picture for _, picture in Decoding(container, stream).pictures()), None)
        time = None if picture is None or container.format.name == "avi" else own_time(picture)
        return float((stream.start_time or 0) * (stream.time_base or 0)) if time is None else time
