"""Graphs of frames one by one, and of two inputs: as they came, and as graphs of one clip input, for any number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import SIZE, C, K, Node, T, classifier, saved
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes import load_model
from saliency_tubes.choices import ChannelOrder, InputLayout, Norm
from saliency_tubes.errors import ExportError
from saliency_tubes.presets import Pixels, preset
from saliency_tubes.session import open_session
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import export_onnx
from saliency_tubes_export.clip_input import ClipInput, SlowInput, find_clip_input
from saliency_tubes_export.graph import absorb_scale, add_prefix, take_rgb
from saliency_tubes_export.lookup import Lookup
from saliency_tubes_export.one_input import free_batch, set_input, take_clip, to_channels_first
from saliency_tubes_export.onnx_file import modernised

I3D = Pixels(Norm.I3D)
RNG = np.random.default_rng(21)
HALF = SIZE // 2  # height and width behind the first convolution
CONSTANTS: dict[str, np.ndarray] = {
    "kernel2d": RNG.normal(size=(C, 3, 3, 3)).astype(np.float32) / 5,
    "second2d": RNG.normal(size=(C, C, 3, 3)).astype(np.float32) / 9,
    "w": RNG.normal(size=(K, C)).astype(np.float32),
    "b": RNG.normal(size=K).astype(np.float32),
    "none": np.array([0]),
    "one": np.array([1]),
    "before_last": np.array([-1]),
    "end": np.array([2**31 - 1]),
    "fold": np.array([2]),
    "folds": np.array([4]),
    "channels": np.array([C]),
    "time_axis": np.array([1]),
    "channel_axis": np.array([2]),
    "places": np.array([2, 3]),
    "zeros": np.zeros((1, 1, 2, HALF, HALF), np.float32),
}


def part(source: str, start: str, stop: str, axis: str, name: str) -> Node:
    return "Slice", [source, start, stop, axis], name, {}


def shifted(clips: Sequence[int]) -> dict[str, np.ndarray]:
    """Where the shift goes to and comes back to: for one clip, or any number."""
    back = [-1] if clips[0] == -1 else [T]
    sides = {"to_clips": [*clips, C, HALF, HALF], "to_frames": [*back, C, HALF, HALF], "to_steps": [*clips, K]}
    return {name: np.array(side) for name, side in sides.items()}


# A temporal shift module (Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019): of
# each frame's channels, a quarter is the next frame's, and a quarter the last one's.
SHIFT: tuple[Node, ...] = (
    ("Reshape", ["relu", "to_clips"], "steps", {}),
    part("steps", "none", "fold", "channel_axis", "quarter"),
    part("quarter", "one", "end", "time_axis", "later"),
    ("Concat", ["later", "zeros"], "from_later", {"axis": 1}),
    part("steps", "fold", "folds", "channel_axis", "second_quarter"),
    part("second_quarter", "none", "before_last", "time_axis", "earlier"),
    ("Concat", ["zeros", "earlier"], "from_earlier", {"axis": -4}),
    part("steps", "folds", "channels", "channel_axis", "rest"),
    ("Concat", ["from_later", "from_earlier", "rest"], "mixed", {"axis": 2}),
    ("Reshape", ["mixed", "to_frames"], "shifted", {}),
)
CONV: Node = ("Conv", ["x", "kernel2d"], "conv", {"strides": [2, 2], "pads": [1] * 4})
BODY: tuple[Node, ...] = (
    ("Relu", ["conv"], "relu", {}),
    *SHIFT,
    ("Conv", ["shifted", "second2d"], "conv2", {"pads": [1] * 4}),
    ("Add", ["relu", "conv2"], "sum", {}),
    ("ReduceMean", ["sum", "places"], "pooled", {"keepdims": 0}),
    ("Gemm", ["pooled", "w", "b"], "scores", {"transB": 1}),
    ("Reshape", ["scores", "to_steps"], "by_time", {}),
    ("ReduceMean", ["by_time", "time_axis"], "y", {"keepdims": 0}),
)
FIRST: tuple[Node, ...] = (
    ("Transpose", ["x"], "x_first", {"perm": [0, 3, 1, 2]}),
    (CONV[0], ["x_first", "kernel2d"], *CONV[2:]),
)


def tsm(first: int | str = T, clips: Sequence[int] = (1, T), last: bool = False) -> onnx.ModelProto:
    """A tiny network of frames one by one; `clips` is how it tells the frames of a clip from another's."""
    shape = (first, SIZE, SIZE, 3) if last else (first, 3, SIZE, SIZE)
    used = CONSTANTS | shifted(clips)
    if first != T:  # zeros of any number of clips, as what was written for any number has them
        nodes = [
            (op, [{"zeros": "zeros_of_all"}.get(name, name) for name in names], out, more)
            for op, names, out, more in BODY
        ]
        at = next(i for i, node in enumerate(nodes) if node[2] == "later")
        nodes[at:at] = [
            part("quarter", "none", "one", "time_axis", "a_step"),
            ("Sub", ["a_step", "a_step"], "zeros_of_all", {}),
        ]
    else:
        nodes = list(BODY)
    return classifier([*(FIRST if last else (CONV,)), *nodes], shape, **used)


def of_clips(model: onnx.ModelProto, clip: ClipInput, name: str = "clip") -> onnx.ModelProto:
    """The graph with one input (N, 3, T, H, W), as the exporter makes it before it looks for anything else to change."""
    changed = modernised(Path("net.onnx"), model)
    take_clip(changed, clip)
    set_input(changed, clip, 1)
    look = Lookup(changed)
    set_input(changed, clip, "N")
    free_batch(changed, look)
    to_channels_first(changed, clip, name)
    return changed


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("model", "frames"),
    [
        (lambda: tsm(), None),
        (lambda: tsm(last=True), None),
        (lambda: tsm("NT", (-1, T)), T),
        (lambda: tsm("NT", (-1, T), last=True), T),
        (lambda: tsm(clips=(1, -1)), None),
        (lambda: tsm(clips=(-1, T)), None),
    ],
    ids=["one clip", "one clip, channels last", "any", "any, channels last", "time left open", "clips left open"],
)
def test_a_network_of_frames_takes_clips(model: Callable[[], onnx.ModelProto], frames: int | None) -> None:
    network = model()
    clip = find_clip_input(network, frames=frames)
    changed = of_clips(network, clip)

    assert (clip.frames, clip.size_hw) == (T, (SIZE, SIZE))
    last = network.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 3
    for count in (1, 2, 3):
        clips = np.random.default_rng(count).normal(size=(count, 3, T, SIZE, SIZE)).astype(np.float32)
        order = (0, 2, 3, 4, 1) if last else (0, 2, 1, 3, 4)
        expected = [run(network, {"x": one.transpose(order)[0]}) for one in np.split(clips, count)]
        np.testing.assert_allclose(run(changed, {"clip": clips}), np.concatenate(expected), atol=1e-5)
        assert np.ptp(np.concatenate(expected), axis=0).max() > 0.1 or count == 1


def test_a_network_of_frames_with_its_first_side_open_says_how_many_make_a_clip_with_frames_alone() -> None:
    assert find_clip_input(tsm("NT", (-1, T)), frames=T).layout is InputLayout.FRAMES
    assert find_clip_input(tsm(last=True)).layout is InputLayout.FRAMES_LAST
    with pytest.raises(ExportError, match=r"x \(\?x3x32x32\) takes frames one by one, any number: say with --frames"):
        find_clip_input(tsm("NT", (-1, T)))


def test_frames_are_fed_one_by_one_in_the_graphs_order_and_colours() -> None:
    clips = np.random.default_rng(1).normal(size=(2, 3, T, SIZE, SIZE)).astype(np.float32)

    ((name, frames),) = find_clip_input(tsm(last=True), channels=ChannelOrder.BGR).feeds(clips).items()

    assert name == "x"
    np.testing.assert_array_equal(frames[T + 1], clips[1, ::-1, 1].transpose(1, 2, 0))  # second clip, second frame


@pytest.mark.parametrize("channels", list(ChannelOrder))
def test_scale_and_colours_of_frames_go_into_the_first_kernels(channels: ChannelOrder) -> None:
    network = tsm()
    clip = find_clip_input(network, channels=channels)
    changed = of_clips(network, clip)
    given = preset(Norm.KINETICS_TORCHVISION, SIZE)
    pixels = np.stack([synthetic_clip((T, SIZE, SIZE, 3), seed) for seed in (1, 2)])
    normalised = ((pixels / 255 - given.mean) / given.std).astype(np.float32).transpose(0, 4, 1, 2, 3)

    if channels is ChannelOrder.BGR:
        take_rgb(changed)
    absorb_scale(changed, given)
    add_prefix(changed, T, given)

    operators = [node.op_type for node in changed.graph.node]
    assert operators[:5] == ["Transpose", "Cast", "Sub", "Reshape", "Conv"]
    expected = [run(network, clip.feeds(one)) for one in np.split(normalised, 2)]
    np.testing.assert_allclose(run(changed, {"frames": pixels}), np.concatenate(expected), atol=1e-4)


@pytest.mark.parametrize(
    ("target", "first"), [([-1, 3, SIZE * SIZE, 1], "Mul"), ([T, 3, SIZE, SIZE], "Mul"), ([-1, 3, SIZE, SIZE], "Sub")]
)
def test_kernels_take_the_scale_only_of_frames_that_are_the_clips_own(target: list[int], first: str) -> None:
    """What is reshaped to anything else may have mixed colours and places."""
    nodes: tuple[Node, ...] = (
        ("Transpose", ["x"], "by_time", {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", ["by_time", "to"], "by_frame", {}),
        ("Conv", ["by_frame", "kernel2d"], "y", {"pads": [1] * 4}),
    )
    model = classifier(nodes, (1, 3, T, SIZE, SIZE), to=np.array(target), kernel2d=CONSTANTS["kernel2d"])
    absorb_scale(model, preset(Norm.I3D, SIZE))
    add_prefix(model, T, preset(Norm.I3D, SIZE))

    operators = [node.op_type for node in model.graph.node]
    assert operators[operators.index("Reshape") - 1] == {"Mul": "Transpose", "Sub": "Sub"}[first]
    assert ("Mul" in operators) == (first == "Mul")


def test_answers_for_each_frame_are_refused() -> None:
    network = classifier(
        (
            CONV,
            ("GlobalAveragePool", ["conv"], "pool", {}),
            ("Flatten", ["pool"], "flat", {}),
            ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
        ),
        ("NT", 3, SIZE, SIZE),
        **{name: CONSTANTS[name] for name in ("kernel2d", "w", "b")},
    )

    with pytest.raises(ExportError, match="gives an answer for each of 8 frames, and none for the clip: let the netw"):
        take_clip(network, find_clip_input(network, frames=8))


def test_names_that_are_taken_are_left_alone() -> None:
    network = tsm()
    for node in network.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"relu": "x_by_clip", "to_clips": "x_by_frame"}.get(name, name) for name in names]
    for tensor in network.graph.initializer:
        tensor.name = {"to_clips": "x_by_frame"}.get(tensor.name, tensor.name)
    del network.graph.value_info[:]
    clips = np.random.default_rng(1).normal(size=(2, 3, T, SIZE, SIZE)).astype(np.float32)

    clip = find_clip_input(network)
    expected = np.concatenate([run(network, clip.feeds(one)) for one in np.split(clips, 2)])

    np.testing.assert_allclose(run(of_clips(network, clip), {"clip": clips}), expected, atol=1e-5)


SLOW, FAST = 4, 16
TWO: tuple[Node, ...] = (
    ("Conv", ["x", "kernel", "kernel_bias"], "slow_conv", {"strides": [1, 4, 4], "pads": [1] * 6}),
    ("Conv", ["fast", "fast_kernel"], "fast_conv", {"strides": [4, 4, 4], "pads": [1, 1, 1, 1, 1, 1]}),
    ("Add", ["slow_conv", "fast_conv"], "both", {}),
    ("Relu", ["both"], "relu", {}),
    ("GlobalAveragePool", ["relu"], "pool", {}),
    ("Flatten", ["pool"], "flat", {}),
    ("Gemm", ["flat", "w", "b"], "y", {"transB": 1}),
)


def two_inputs(
    slow: Sequence[int | str] = ("N", 3, SLOW, SIZE, SIZE),
    fast: Sequence[int | str] = ("N", 3, FAST, SIZE, SIZE),
    *others: tuple[str, int, Sequence[int | str]],
    slow_first: bool = True,
    last: bool = False,
) -> onnx.ModelProto:
    """A tiny network of two pathways that meet before the pooling."""
    nodes: Sequence[Node] = TWO
    if last:
        turned: list[Node] = [
            ("Transpose", [name], f"{name}_first", {"perm": [0, 4, 1, 2, 3]}) for name in ("x", "fast")
        ]
        nodes = [*turned, *((op, [f"{names[0]}_first", *names[1:]], *more) for op, names, *more in TWO[:2]), *TWO[2:]]  # type: ignore[list-item]
    kernel = np.random.default_rng(5).normal(size=(C, 3, 3, 3, 3)).astype(np.float32) / 5
    model = classifier(nodes, ("N", 3, SLOW, SIZE, SIZE), fast_kernel=kernel)
    inputs = [helper.make_tensor_value_info("x", 1, slow), helper.make_tensor_value_info("fast", 1, fast)]
    del model.graph.input[:], model.graph.value_info[:]
    model.graph.input.extend(inputs if slow_first else inputs[::-1])
    model.graph.input.extend(helper.make_tensor_value_info(*other) for other in others)
    return model


LAST_OF_TWO = (("N", SLOW, SIZE, SIZE, 3), ("N", FAST, SIZE, SIZE, 3))


@pytest.mark.parametrize("slow_first", [True, False])
@pytest.mark.parametrize(
    ("shapes", "hints", "last"),
    [
        ((("N", 3, SLOW, SIZE, SIZE), ("N", 3, FAST, SIZE, SIZE)), {}, False),
        (((1, 3, SLOW, SIZE, SIZE), (1, 3, FAST, SIZE, SIZE)), {}, False),
        ((("N", 3, SLOW, "H", "W"), ("N", 3, "T", "H", SIZE)), {"frames": FAST, "size": SIZE}, False),
        (LAST_OF_TWO, {}, True),
    ],
    ids=["any number", "one clip", "left open", "channels last"],
)
def test_of_two_inputs_one_clip_is_made(
    tmp_path: Path, slow_first: bool, shapes: Any, hints: dict[str, int], last: bool
) -> None:
    network = two_inputs(*shapes, slow_first=slow_first, last=last)
    frames = np.stack([synthetic_clip((FAST, SIZE, SIZE, 3), seed) for seed in (5, 6)])
    clips = (frames / 127.5 - 1).astype(np.float32)
    clips = clips if last else clips.transpose(0, 4, 1, 2, 3)
    places = [0, 5, 10, 15]  # floor(linspace(0, 15, 4))
    expected = [
        run(network, {"x": one[:, places] if last else one[:, :, places], "fast": one}) for one in np.split(clips, 2)
    ]

    clip = find_clip_input(network, **hints)
    report = export_onnx(
        saved(tmp_path / "net.onnx", network), tmp_path / "tubes.onnx", I3D, hints=None if not hints else _hints(hints)
    )

    assert (clip.name, clip.frames, clip.slow) == ("fast", FAST, SlowInput("x", tuple(places)))
    assert clip.feeds(clips[:1].transpose(0, 4, 1, 2, 3) if last else clips[:1]).keys() == {"x", "fast"}
    assert "note: the input x gets the frames 0, 5, 10, 15 of the 16" in report.table()
    assert load_model(tmp_path / "tubes.onnx", "cpu").spec.input_shape == (FAST, SIZE, SIZE, 3)
    logits = open_session(tmp_path / "tubes.onnx", "cpu").run(frames).logits
    np.testing.assert_allclose(logits, np.concatenate(expected), atol=1e-5)


def _hints(given: dict[str, int]) -> Any:
    from saliency_tubes_export.foreign import GraphHints

    return GraphHints(**given)


def test_the_slow_inputs_frames_are_what_linspace_gives() -> None:
    for whole in (8, 32, 64, 100):
        for length in (1, 2, 4, whole // 2):
            expected = np.floor(np.linspace(0, whole - 1, length)).astype(int).tolist()
            assert list(SlowInput.of_length("x", length, whole).frames) == expected


SCALAR = ("step", TensorProto.INT64, [])
WHOLE = ("N", 3, FAST, SIZE, SIZE)


@pytest.mark.parametrize(
    ("arguments", "frames", "problem"),
    [
        ((), 8, r"--frames is 8, and is the longer one's: leave it out"),
        ((WHOLE,), None, "16 frames are no multiple, by two or more, of 16"),
        ((("N", 3, 5, SIZE, SIZE),), None, "16 frames are no multiple, by two or more, of 5"),
        ((("N", 3, "T", SIZE, SIZE),), None, "how many frames each takes is not fixed: .* the shorter fixed, and say"),
        ((("N", 3, "T", SIZE, SIZE),), 16, "how many frames each takes is not fixed"),
        ((("N", 3, "S", SIZE, SIZE), ("N", 3, "T", SIZE, SIZE)), 16, "how many frames each takes is not fixed"),
        ((("N", 3, SLOW, SIZE, 16),), None, "they differ in W"),
        ((("N", 3, SLOW, 16, 16),), None, "they differ in H"),
        ((("N", SLOW, SIZE, SIZE, 3),), None, "the axes of one lie in NTHWC, of the other in NCTHW"),
        (((4, 3, SLOW, SIZE, SIZE),), None, "they take several clips at a time"),
        (
            ((SLOW, 3, SIZE, SIZE),),
            None,
            r"it has 2\n  x  float 4x3x32x32\n  fast  float \?x3x16x32x32\nAccepted is one",
        ),
        ((("N", 3, SLOW, SIZE, SIZE), WHOLE, ("audio", 1, ["N", 3, 8, SIZE, SIZE])), None, r"it has 3(.|\n)*audio"),
        ((("N", 3, SLOW, SIZE, SIZE), WHOLE, SCALAR), None, r"it has 3(.|\n)*step  int64 scalar(.|\n)*step: export"),
    ],
)
def test_two_inputs_that_do_not_fit_and_more_are_refused(
    arguments: tuple[Any, ...], frames: int | None, problem: str
) -> None:
    with pytest.raises(ExportError, match=rf"one input, a clip, or with two; {problem}"):
        find_clip_input(two_inputs(*arguments), frames=frames)


def test_a_clip_beside_an_index_is_refused_and_defaults_are_no_inputs() -> None:
    network = classifier()
    network.graph.input.append(helper.make_tensor_value_info("step", TensorProto.INT64, []))
    with pytest.raises(
        ExportError, match=r"it has 2\n  x .*\n  step  int64 scalar\n(.|\n)*step: export the network wi"
    ):
        find_clip_input(network)

    network.graph.initializer.append(numpy_helper.from_array(np.array(1), "step"))
    assert find_clip_input(network).name == "x"
