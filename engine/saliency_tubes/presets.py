"""Named preprocessing, and what is asked of any other."""

from dataclasses import dataclass

from .choices import Norm
from .errors import OptionError
from .spec import Preprocessing

Three = tuple[float, float, float]

_IMAGENET_STD = (0.229, 0.224, 0.225)
_MFNET_MEAN = (124 / 255, 117 / 255, 104 / 255)
_SMALLEST_STD = 1e-3  # 1/255 is what a network of pixels from 0 to 255 has


@dataclass(frozen=True)
class _Published:
    """What was published: mean and standard deviation of R, G, B after /255, and a frame's size before a crop's."""

    mean: Three
    std: Three
    resize_hw: tuple[int, int]
    crop: int


_PUBLISHED = {
    # The published visualisation script: frames squashed to 256x256, the centre 224x224.
    Norm.SALIENCY_TUBES: _Published(_MFNET_MEAN, _IMAGENET_STD, (256, 256), 224),
    # github.com/cypw/PyTorch-MFNet: what the weights published there were trained with.
    Norm.MFNET: _Published(_MFNET_MEAN, (1 / (0.0167 * 255),) * 3, (256, 256), 224),
    # torchvision, the transforms of R3D_18_Weights, MC3_18_Weights and R2Plus1D_18_Weights (KINETICS400_V1).
    Norm.KINETICS_TORCHVISION: _Published((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989), (128, 171), 112),
    # github.com/facebookresearch/SlowFast, DATA.MEAN and DATA.STD; tests resize the short side to the crop's.
    Norm.SLOWFAST: _Published((0.45,) * 3, (0.225,) * 3, (256, 256), 256),
    # github.com/open-mmlab/mmaction2, data_preprocessor of the 3-D recognisers; short side 256, centre crop 224.
    Norm.MMACTION: _Published(
        (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255), (256, 256), 224
    ),
    # github.com/google-deepmind/kinetics-i3d: short side 256, centre crop 224, pixels from -1 to 1.
    Norm.I3D: _Published((0.5,) * 3, (0.5,) * 3, (256, 256), 224),
}


def preset(norm: Norm, size: int | tuple[int, int]) -> Preprocessing:
    """The preprocessing of a preset.

    Args:
        norm: which.
        size: (H, W) of the crop in pixels, or its side where it is a square. The frame around it keeps the published
            proportion to the published crop.
    """
    published = _PUBLISHED[norm]
    crop_hw = (size, size) if isinstance(size, int) else size
    h, w = (round(side * whole / published.crop) for side, whole in zip(crop_hw, published.resize_hw, strict=True))
    return Preprocessing(norm.value, (h, w), crop_hw, published.mean, published.std)


@dataclass(frozen=True)
class Pixels:
    """What somebody says of how a network's frames were prepared.

    Attributes:
        preset: a published way.
        mean: of R, G, B after /255.
        std: of R, G, B after /255.
        resize_hw: what a frame is resized to, before its centre is cut out. Without it: the preset's proportion to the
            crop, or the first preset's.

    Raises:
        OptionError: neither, or both, of a preset and mean and std are given, or these are out of range.
    """

    preset: Norm | None = None
    mean: Three | None = None
    std: Three | None = None
    resize_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = self.mean is not None and self.std is not None
        if (self.preset is not None) == given or (self.mean is None) != (self.std is None):
            raise OptionError(
                "a graph does not say how its frames were normalised: give either --preset, one of "
                f"{', '.join(Norm)}, or both --mean and --std (of R,G,B in [0, 1], such as --mean 0.45 --std 0.225; "
                "for pixels from 0 to 1, --mean 0 --std 1)"
            )
        for option, values, lowest in (("--mean", self.mean, 0.0), ("--std", self.std, _SMALLEST_STD)):
            if values is not None and not all(lowest <= value <= 1 for value in values):
                hint = ""
                if all(1 <= value <= 255 for value in values):
                    hint = f". In units of 0 to 255? Then it is {','.join(f'{value / 255:.6g}' for value in values)}"
                found = ",".join(f"{value:g}" for value in values)
                raise OptionError(f"{option} is {found}: expected R,G,B from {lowest:g} to 1, after /255{hint}")

    def preprocessing(self, crop_hw: tuple[int, int]) -> Preprocessing:
        """The same for a crop.

        Raises:
            OptionError: the frame is smaller than the crop.
        """
        known = preset(self.preset or Norm.SALIENCY_TUBES, crop_hw)
        resize_hw = self.resize_hw or known.resize_hw
        if resize_hw[0] < crop_hw[0] or resize_hw[1] < crop_hw[1]:
            raise OptionError(
                f"--resize is {resize_hw[0]}x{resize_hw[1]}, smaller than the network's input, "
                f"{crop_hw[0]}x{crop_hw[1]} (height x width), which is cut out of it"
            )
        if self.mean is None or self.std is None:
            return Preprocessing(known.name, resize_hw, crop_hw, known.mean, known.std)
        return Preprocessing("given", resize_hw, crop_hw, self.mean, self.std)
