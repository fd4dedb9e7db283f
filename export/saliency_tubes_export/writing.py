"""The model file that an export ends in."""

from pathlib import Path

import onnx
from onnx import helper
from saliency_tubes import __version__
from saliency_tubes.errors import OutputError
from saliency_tubes.spec import ModelSpec


def check_output(output: Path) -> None:
    """Ask before the work is done whether its result can be written.

    Raises:
        OutputError: `output` is a folder, or in none.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder: name a file in it, such as {output / 'tubes.onnx'}")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist: make it, or choose another --output")


def write_model(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Write a graph, once it is known to be valid, with what it says of itself."""
    model.producer_name, model.producer_version = "saliency-tubes", __version__
    helper.set_model_props(model, spec.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
