"""Graphs run in ONNX Runtime as they are, by the exporter, to see what they compute."""

from pathlib import Path

import onnx
import onnxruntime as ort

_LOG_NOTHING = 4


def cpu_session(model: onnx.ModelProto, folder: Path | None = None) -> ort.InferenceSession:
    """A session on the CPU that keeps its warnings to itself; it raises what ONNX Runtime raises.

    Args:
        model: the graph.
        folder: where weights are that the graph keeps in files; None where it keeps none.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_NOTHING
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
