"""What `tubes demo` shows: a network and a clip that come with the package, and where the clip's evidence is.

    import saliency_tubes as st
    from saliency_tubes import demo

    st.load_model(demo.model_path()).explain(demo.clip_path(), sampling=demo.sampling(), fit="whole").save("out")

The network was trained on scenes in which one thing's motion is the class; `MODEL_CARD.md` beside it says how, and what
it is not good for.
"""

import atexit
from contextlib import ExitStack
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelFileError, SaliencyTubesError, SourceError

if TYPE_CHECKING:
    from ..sampling import Sampling

__all__ = ["clip_path", "evidence_path", "model_path", "sampling"]

_STRIDE = 4  # 16 frames of the clip's 64 then show its motion at the speed that training did
_unpacked = ExitStack()  # files of a package that is imported from a zip; copies of them go when the process ends
atexit.register(_unpacked.close)


def model_path() -> Path:
    """The network: an ONNX file as `load_model` takes it.

    Raises:
        ModelFileError: it is missing from this installation.
    """
    return _packaged("planted.onnx", ModelFileError)


def clip_path() -> Path:
    """The clip: a video.

    Raises:
        SourceError: it is missing from this installation.
    """
    return _packaged("planted.mp4", SourceError)


def evidence_path() -> Path:
    """Where and when the clip's evidence is: JSON as `Planted.read` takes it.

    Raises:
        SourceError: it is missing from this installation.
    """
    return _packaged("planted.json", SourceError)


def sampling() -> "Sampling":
    """How the demo looks at clips: windows over the whole of them, at the speed that training showed."""
    from ..sampling import Sampling  # late: paths alone cost no NumPy

    return Sampling.dense(stride=_STRIDE)


@cache
def _packaged(name: str, missing: type[SaliencyTubesError]) -> Path:
    resource = files(__package__) / name
    if not resource.is_file():
        raise missing(
            f"{name} is missing from the installed package, which should hold it: install saliency-tubes again"
        )
    return _unpacked.enter_context(as_file(resource))
