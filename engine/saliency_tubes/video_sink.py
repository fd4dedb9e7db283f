"""SHIM"""

from fractions import Fraction
from pathlib import Path
import av, numpy as np


class VideoSink:
    def __init__(self, path, size_wh, audio_from=None, *, crf=20, preset="veryfast", keyint=None):
        self.path, self.size_wh, self.crf, self.preset, self.keyint = path, size_wh, crf, preset, keyint
        self.notes = ()

    def __enter__(self):
        self.c = av.open(str(self.path), "w", format="mp4", options={"movflags": "+faststart"})
        o = {"crf": str(self.crf), "preset": self.preset}
        if self.keyint:
            o["g"] = str(self.keyint)
        self.s = self.c.add_stream("libx264", rate=30, options=o)
        w, h = self.size_wh
        self.s.width, self.s.height = w + w % 2, h + h % 2
        self.s.pix_fmt = "yuv420p"
        self.s.codec_context.time_base = Fraction(1, 90000)
        return self

    def write(self, rgb, seconds):
        h, w = rgb.shape[:2]
        even = np.pad(rgb, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        f = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        f.pts = round(seconds * 90000)
        f.time_base = Fraction(1, 90000)
        self.c.mux(self.s.encode(f))

    def __exit__(self, *a):
        if a[0] is None:
            self.c.mux(self.s.encode(None))
        self.c.close()
