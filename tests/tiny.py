"""A tiny 3-D CNN in the format that `tubes export` writes, made with onnx alone so that no test of the runtime needs
PyTorch: convolution, ReLU, global average pool, linear classifier, with seeded random weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.choices import Layout, Precision
from saliency_tubes.head import Head
from saliency_tubes.spec import ModelSpec, Parity, Preprocessing

FRAMES, SIZE, CHANNELS, CLASSES = 4, 32, 6, 5
FEATURES = (CHANNELS, 2, 4, 4)
LABELS = ("archery", "bowling", "crying", "dancing", "eating")


def tiny_head(**changes: object) -> Head:
    rng = np.random.default_rng(7)
    fields: dict[str, object] = {
        "weight": rng.standard_normal((CLASSES, CHANNELS)).astype(np.float32),
        "bias": rng.standard_normal(CLASSES).astype(np.float32),
    }
    return Head(**(fields | changes))  # type: ignore[arg-type]


def tiny_spec(**changes: object) -> ModelSpec:
    fields: dict[str, object] = {
        "architecture": "tiny",
        "frames": FRAMES,
        "sampling": "uniform",
        "preprocessing": Preprocessing(
            "saliency-tubes", (36, 36), (SIZE, SIZE), (0.5, 0.45, 0.4), (0.229, 0.224, 0.225)
        ),
        "features_shape": FEATURES,
        "layout": Layout.PLAIN,
        "precision": Precision.FP32,
        "head": tiny_head(**{name: changes.pop(name) for name in ("weight", "bias") if name in changes}),
        "labels": LABELS,
        "checkpoint_name": "tiny.pth",
        "checkpoint_sha256": "0" * 64,
        "versions": (("onnx", onnx.__version__),),
        "parity": Parity("nothing", 1e-4, 0.0, 0.0, 0.0, 0.0, 0.0),
    }
    return ModelSpec(**(fields | changes))  # type: ignore[arg-type]


def tiny_graph(spec: ModelSpec) -> onnx.ModelProto:
    rng = np.random.default_rng(8)
    kernel = rng.standard_normal((CHANNELS, 3, 2, 8, 8)).astype(np.float32) / 20
    scale = (1 / (255 * np.array(spec.preprocessing.std))).astype(np.float32)
    shift = -(np.array(spec.preprocessing.mean) / np.array(spec.preprocessing.std)).astype(np.float32)
    arrays = {"kernel": kernel, "scale": scale, "shift": shift, "W": spec.head.weight, "b": spec.head.bias}
    nodes = [
        helper.make_node("Cast", ["frames"], ["x0"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x0", "scale"], ["x1"]),
        helper.make_node("Add", ["x1", "shift"], ["x2"]),
        helper.make_node("Transpose", ["x2"], ["x3"], perm=[0, 4, 1, 2, 3]),
        helper.make_node("Conv", ["x3", "kernel"], ["x4"], strides=[2, 8, 8]),
        helper.make_node("Relu", ["x4"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *spec.input_shape])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", spec.num_classes]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", *spec.features_shape]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_tiny(path: Path, spec: ModelSpec | None = None, metadata: dict[str, str] | None = None) -> Path:
    spec = spec or tiny_spec()
    model = tiny_graph(spec)
    helper.set_model_props(model, spec.to_metadata() if metadata is None else metadata)
    onnx.save(model, path)
    return path
