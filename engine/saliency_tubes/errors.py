"""Everything this package raises on purpose.

    SaliencyTubesError
    ├── SourceError       a clip that cannot be read: missing, not a video, empty, frames of different sizes
    ├── LabelError        a label out of range, or a name the model does not know
    ├── ModelFileError    a model file that is not ONNX, lacks our metadata, or contradicts it
    ├── DeviceError       a device asked for by name that did not load, or a precision it does not have
    │   └── NotLoadedError    why a device does not load, before it is known who asked for it
    ├── DependencyError   a package that this one needs and that does not load; an ImportError, too
    ├── OutputError       outputs that could not be written
    ├── OptionError       an option that is unknown or out of its range
    ├── BenchmarkError    a measurement that cannot be made, or that missed its bar
    ├── CheckpointError   weights that cannot be exported: unreadable, unsafe, of another network, NaN
    └── ExportError       an export that failed
        ├── TailError     no pooling + linear tail was found in the graph
        └── ParityError   the exported file does not compute what the original network does

Each message says what was expected, what came, and what to do next.
"""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none: other libraries' texts run to pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class SaliencyTubesError(Exception):
    """Root of the tree: catch this to catch every deliberate error of the package."""


class SourceError(SaliencyTubesError):
    """A clip could not be read."""


class LabelError(SaliencyTubesError):
    """A label is out of range, or a name is unknown or ambiguous."""


class ModelFileError(SaliencyTubesError):
    """A model file is not ONNX, was not made by `tubes export`, or contradicts its own metadata."""


class DeviceError(SaliencyTubesError):
    """A device that was asked for by name did not load, or does not compute in the precision that was asked for."""


class NotLoadedError(DeviceError):
    """Why a device does not load here; the message is the reason alone."""


class DependencyError(SaliencyTubesError, ImportError):
    """A package that this one needs does not load."""


class OutputError(SaliencyTubesError):
    """Outputs could not be written."""


class OptionError(SaliencyTubesError):
    """An option is unknown or out of its range."""


class BenchmarkError(SaliencyTubesError):
    """A measurement cannot be made, or missed the bar that was set for it."""


class CheckpointError(SaliencyTubesError):
    """A checkpoint or label file cannot be exported."""


class ExportError(SaliencyTubesError):
    """An export failed."""


class TailError(ExportError):
    """The graph does not end in global average pooling and a linear classifier."""


class ParityError(ExportError):
    """The exported file does not compute what the original network computes."""
