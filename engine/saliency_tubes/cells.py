"""Where the cells of a feature map lie: which place of the network's input each of them stands for."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Cells:
    """Cell i of an axis lies at ``offset + stride * i``, in frames and in pixels of the network's crop.

    A frame or a pixel lies at its index, so that an axis of m of them reaches from -0.5 to m - 0.5.

    Attributes:
        offset: (t, y, x), the place of the first cell.
        stride: (t, y, x), the distance from one cell to the next, above 0.
    """

    offset: tuple[float, float, float]
    stride: tuple[float, float, float]

    @classmethod
    def of_equal_shares(cls, map_shape: tuple[int, int, int], shape: tuple[int, int, int]) -> Self:
        """Each of (t, h, w) cells in the middle of its equal share of (T, H, W): ``stride = m / n``."""
        t, y, x = (m / n for n, m in zip(map_shape, shape, strict=True))
        return cls(((t - 1) / 2, (y - 1) / 2, (x - 1) / 2), (t, y, x))

    @property
    def on_every_frame(self) -> Self:
        """The same places in space, of a map that has one step of time for each frame."""
        return replace(self, offset=(0.0, *self.offset[1:]), stride=(1.0, *self.stride[1:]))

    def at_spacing(self, spacing: float) -> Self:
        """The same cells, counted in frames of a clip of which the network took every `spacing`-th."""
        return replace(
            self,
            offset=(self.offset[0] * spacing, *self.offset[1:]),
            stride=(self.stride[0] * spacing, *self.stride[1:]),
        )

    def in_shares(self, size_hw: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
        """Offset and stride of y, and of x, as shares of a crop of that size: 0 is its one edge, 1 the other."""
        (_, y, x), (_, dy, dx), (height, width) = self.offset, self.stride, size_hw
        return ((y + 0.5) / height, dy / height), ((x + 0.5) / width, dx / width)

    def resized(self, size_hw: tuple[int, int], to_hw: tuple[int, int]) -> Self:
        """The same cells on a larger or smaller picture of the crop, where pixel p is ``(p + 0.5) * scale - 0.5``."""
        if size_hw == to_hw:
            return self
        scales = [to / size for size, to in zip(size_hw, to_hw, strict=True)]
        y, x = ((place + 0.5) * scale - 0.5 for place, scale in zip(self.offset[1:], scales, strict=True))
        dy, dx = (stride * scale for stride, scale in zip(self.stride[1:], scales, strict=True))
        return replace(self, offset=(self.offset[0], y, x), stride=(self.stride[0], dy, dx))
