"""Where cells lie, against what they really see: every frame, row and column of a clip is lit once by itself."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import POOL, Node
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.cells import Cells
from saliency_tubes.choices import InputLayout
from saliency_tubes_export.receptive_field import find_cells
from saliency_tubes_export.tail import find_tail

T, H, W, C = 8, 64, 48, 8  # as many channels as frames


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


# With weights of ones, a cell is above zero where it sees light.
CONSTANTS = {
    "k3": ones(C, 3, 3, 3, 3),
    "k1": ones(C, 3, 1, 1, 1),
    "c3": ones(C, C, 3, 3, 3),
    "c5": ones(C, C, 1, 5, 5),
    "d2": ones(C, 3, 3, 3),
    "d1": ones(C, C, 3, 1, 1),
    "gate": 0 * ones(C, C, 1, 1, 1),
    "w": ones(5, C),
    "channel": ones(C),
    "nothing": 0 * ones(C),
    "pads": np.array([0, 0, 1, 0, 0, 0, 0, 0, 1, 1]),
    "pads_yx": np.array([1, 0, 0, 1]),
    "yx": np.array([-2, -1]),
    "groups": np.array([0, 2, C // 2, T, H // 2, W // 2]),
    "together": np.array([0, C, T, H // 2, W // 2]),
    "by_frame": np.array([-1, 3, H, W]),
    "by_clip": np.array([-1, T, C, H // 2, W // 2]),
    "one": np.array([1]),
    "end": np.array([2**62] * 3),
    "starts": np.array([1, -H, 2]),
    "steps": np.array([1, 2, 2]),
    "tyx": np.array([2, 3, 4]),
}
SAME = {"pads": [1] * 6}
DOWN = {"strides": [1, 2, 2], **SAME}
CONV: Node = ("Conv", ["x", "k3"], "a", DOWN)
RELU: Node = ("Relu", ["a"], "relu", {})
HALF = Cells((0, 0, 0), (1, 2, 2))

# What each network's cells are, worked out by hand.
NETWORKS: dict[str, tuple[InputLayout, Sequence[Node], Cells]] = {
    "a convolution": (InputLayout.NCTHW, [CONV, RELU], HALF),
    "without padding, dilated": (
        InputLayout.NCTHW,
        [("Conv", ["x", "k3"], "a", {"strides": [1, 2, 3], "dilations": [1, 2, 3]}), RELU],
        Cells((1, 2, 3), (1, 2, 3)),
    ),
    "padded as TensorFlow does": (
        InputLayout.NCTHW,
        [("Conv", ["x", "k3"], "a", {"strides": [2, 2, 3], "auto_pad": "SAME_UPPER"}), RELU],
        Cells((1, 1, 1), (2, 2, 3)),  # 8 and 64: one after; 48 by 3: none
    ),
    "padded at the front": (
        InputLayout.NCTHW,
        [("Conv", ["x", "k3"], "a", {"strides": [2, 2, 3], "auto_pad": "SAME_LOWER"}), RELU],
        Cells((0, 0, 1), (2, 2, 3)),
    ),
    "pooled": (
        InputLayout.NCTHW,
        [
            CONV,
            ("MaxPool", ["a"], "m", {"kernel_shape": [1, 3, 3], "strides": [1, 2, 2], "pads": [0, 1, 1, 0, 1, 1]}),
            ("AveragePool", ["m"], "relu", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
        ],
        Cells((0.5, 2, 2), (2, 8, 8)),
    ),
    "a shortcut around": (
        InputLayout.NCTHW,
        [
            CONV,
            ("BatchNormalization", ["a", "channel", "nothing", "nothing", "channel"], "n", {}),
            ("Conv", ["n", "c3"], "b", SAME),
            ("Conv", ["x", "k1"], "s", {"strides": [1, 2, 2]}),
            ("Add", ["s", "b"], "sum", {}),
            ("Clip", ["sum"], "relu", {}),
        ],
        HALF,
    ),
    "a shortcut that looks elsewhere": (  # [0, 2] joined with [0, 0]
        InputLayout.NCTHW,
        [
            ("Conv", ["x", "k3"], "a", {"strides": [1, 2, 2], "auto_pad": "SAME_UPPER"}),
            ("Conv", ["x", "k1"], "s", {"strides": [1, 2, 2]}),
            ("Add", ["s", "a"], "relu", {}),
        ],
        Cells((0, 1, 1), (1, 2, 2)),
    ),
    "branches side by side": (
        InputLayout.NCTHW,
        [
            CONV,
            ("Conv", ["a", "c5"], "b", {"pads": [0, 2, 2, 0, 2, 2]}),
            ("MaxPool", ["a"], "p", {"kernel_shape": [3, 1, 1], "pads": [1, 0, 0, 1, 0, 0]}),
            ("Concat", ["a", "b", "p"], "c", {"axis": 1}),
            ("Conv", ["c", "mixed"], "relu", {}),
        ],
        HALF,
    ),
    "channels last": (
        InputLayout.NTHWC,
        [
            ("Transpose", ["x"], "f", {"perm": [0, 4, 1, 2, 3]}),
            ("Pad", ["f", "pads"], "p", {}),
            ("Conv", ["p", "k3"], "a", {"strides": [2, 2, 2]}),
            ("Transpose", ["a"], "last", {"perm": [0, 2, 3, 4, 1]}),
            ("Mul", ["last", "channel"], "relu", {}),
        ],
        Cells((0, 1, 1), (2, 2, 2)),
    ),
    "padded on named axes": (
        InputLayout.NCTHW,
        [("Pad", ["x", "pads_yx", "", "yx"], "p", {}), ("Conv", ["p", "k3"], "a", {"strides": [1, 3, 3]}), RELU],
        Cells((1, 0, 1), (1, 3, 3)),
    ),
    "channels shuffled": (
        InputLayout.NCTHW,
        [
            CONV,
            ("Reshape", ["a", "groups"], "g", {}),
            ("Transpose", ["g"], "s", {"perm": [0, 2, 1, 3, 4, 5]}),
            ("Reshape", ["s", "together"], "relu", {}),
        ],
        HALF,
    ),
    "frame by frame, then over time": (
        InputLayout.NTCHW,
        [
            ("Reshape", ["x", "by_frame"], "f", {}),
            ("Conv", ["f", "d2"], "p", {"strides": [2, 2], "pads": [1] * 4}),
            ("Reshape", ["p", "by_clip"], "c", {}),
            ("Transpose", ["c"], "v", {"perm": [0, 2, 1, 3, 4]}),
            ("Conv", ["v", "d1_5"], "relu", {}),
        ],
        Cells((1, 0, 0), (1, 2, 2)),
    ),
    "gated by all of it": (
        InputLayout.NCTHW,
        [
            CONV,
            ("GlobalAveragePool", ["a"], "s", {}),
            ("Conv", ["s", "gate"], "e", {}),
            ("Sigmoid", ["e"], "g", {}),
            ("Mul", ["a", "g"], "m", {}),
            ("ReduceMean", ["m", "tyx"], "r", {}),
            ("Mul", ["r", "nil"], "z", {}),
            ("Add", ["z", "m"], "relu", {}),
        ],
        HALF,
    ),
    "gated by the mean over a window as large": (
        InputLayout.NCTHW,
        [
            CONV,
            ("AveragePool", ["a"], "s", {"kernel_shape": [T, H // 2, W // 2]}),
            ("Mul", ["s", "nil"], "z", {}),
            ("Add", ["z", "a"], "relu", {}),
        ],
        HALF,
    ),
    "sliced": (
        InputLayout.NCTHW,
        [("Slice", ["x", "starts", "end", "tyx", "steps"], "s", {}), ("Conv", ["s", "k3"], "a", {}), RELU],
        Cells((2, 2, 4), (1, 2, 2)),
    ),
}


def network(layout: InputLayout, nodes: Sequence[Node]) -> onnx.ModelProto:
    used = {name for _, inputs, _, _ in nodes for name in inputs} | {"w"}
    more = {"mixed": ones(C, 3 * C, 1, 1, 1), "d1_5": ones(C, C, 3, 1, 1), "nil": np.float32(0)}
    arrays = {name: np.asarray(array) for name, array in (CONSTANTS | more).items() if name in used}
    sides = {"N": 1, "C": 3, "T": T, "H": H, "W": W}
    last = layout is InputLayout.NTHWC
    pool: Node = ("ReduceMean", ["relu", "thw"], "pool", {"keepdims": 0}) if last else POOL
    arrays |= {"thw": np.array([1, 2, 3])} if last else {}
    tail: list[Node] = [pool, ("Flatten", ["pool"], "flat", {}), ("Gemm", ["flat", "w"], "y", {"transB": 1})]
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), [output], **attrs) for op, inputs, output, attrs in [*nodes, *tail]],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [sides[letter] for letter in layout.value])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "relu")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def seen(model: onnx.ModelProto, layout: InputLayout, axis: str) -> np.ndarray:
    """(side, n) bool: which cells along an axis light up for each frame, row or column."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for place in range({"T": T, "H": H, "W": W}[axis]):
        clip = np.zeros([{"N": 1, "C": 3, "T": T, "H": H, "W": W}[letter] for letter in layout.value], np.float32)
        clip[(*[slice(None)] * layout.value.index(axis), place)] = 1
        features = session.run(["relu"], {"x": clip})[0]
        features = features.transpose(0, 4, 1, 2, 3) if layout is InputLayout.NTHWC else features
        found.append(features.max(axis=tuple(i for i in range(5) if i != 2 + "THW".index(axis))) > 0)
    return np.stack(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_lie_in_the_middle_of_what_they_see(name: str) -> None:
    layout, nodes, expected = NETWORKS[name]
    model = network(layout, nodes)

    found = find_cells(model, layout, find_tail(model))

    assert found == expected
    for axis, offset, stride in zip("THW", found.offset, found.stride, strict=True):
        lit = seen(model, layout, axis)
        inner = [cell for cell in range(lit.shape[1]) if lit[:, cell].any() and not (lit[0, cell] or lit[-1, cell])]
        assert inner  # at the edges, what cells see is cut off
        for cell in inner:
            first, *_, last = np.flatnonzero(lit[:, cell]).tolist() * 2
            assert (first + last) / 2 == offset + stride * cell


UNKNOWN: dict[str, Sequence[Node]] = {
    "attention over places": [
        CONV,
        ("Reshape", ["a", "flat_places"], "p", {}),
        ("Softmax", ["p"], "s", {"axis": -1}),
        ("Reshape", ["s", "together"], "relu", {}),
    ],
    "an operator on the way": [("Conv", ["x", "k3"], "a", SAME), ("Softmax", ["a"], "relu", {"axis": 2})],
    "strides that disagree": [
        ("Conv", ["x", "k3"], "a", {"strides": [2, 1, 1], **SAME}),
        ("Conv", ["x", "long"], "b", {"pads": [0, 1, 1, 0, 1, 1]}),
        ("Add", ["a", "b"], "relu", {}),
    ],
    "a first cell outside the clip": [("Conv", ["x", "k3"], "a", {"pads": [3] * 6}), RELU],
    "frames in another order": [
        CONV,
        ("Slice", ["a", "zero", "half", "one_axis"], "early", {}),
        ("Slice", ["a", "half", "end_of_one", "one_axis"], "late", {}),
        ("Concat", ["late", "early"], "swapped", {"axis": 2}),
        ("Add", ["a", "swapped"], "relu", {}),
    ],
    "the highest of all frames": [CONV, ("ReduceMax", ["a", "one_axis"], "relu", {})],
    "backwards": [("Slice", ["x", "last", "before", "one_axis", "minus"], "s", {}), ("Conv", ["s", "k3"], "relu", {})],
    "x and y exchanged": [CONV, ("Transpose", ["a"], "relu", {"perm": [0, 1, 2, 4, 3]})],
    "one value for all places": [
        CONV,
        ("ReduceMax", ["a", "tyx"], "m", {}),
        ("Expand", ["m", "to"], "relu", {}),
    ],
    "a branch that only some clips take": [
        CONV,
        ("If", ["yes"], "b", {}),
        ("Add", ["a", "b"], "relu", {}),
    ],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_followed_has_no_cells(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {
        "flat_places": np.array([0, C, T * (H // 2) * (W // 2)]),
        "long": ones(C, 3, 5, 3, 3),
        "last": np.array([-1]),
        "before": np.array([-1000]),
        "one_axis": np.array([2]),
        "zero": np.array([0]),
        "half": np.array([T // 2]),
        "end_of_one": np.array([T]),
        "minus": np.array([-1]),
        "to": np.array([1, C, T, 2, 2]),
        "yes": np.array(True),
    }
    for key, value in more.items():
        monkeypatch.setitem(CONSTANTS, key, value)
    nodes = [
        (op, inputs, output, attrs | (_branches() if op == "If" else {})) for op, inputs, output, attrs in UNKNOWN[name]
    ]
    model = network(InputLayout.NCTHW, nodes)
    assert ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])  # all of them run

    assert find_cells(model, InputLayout.NCTHW, find_tail(model)) is None


def _branches() -> dict[str, onnx.GraphProto]:
    sides = [1, C, T, H // 2, W // 2]
    return {
        f"{which}_branch": helper.make_graph(
            [helper.make_node(op, ["a"], [which])], which, [], [helper.make_tensor_value_info(which, 1, sides)]
        )
        for which, op in (("then", "Relu"), ("else", "Abs"))
    }
