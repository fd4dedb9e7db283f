"""Model files with permuted weights."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLAT, GEMM, LAST, POOL, STEM, C, Node, classifier, saved
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes import TubeModel, load_model
from saliency_tubes.choices import Layout, Norm
from saliency_tubes.errors import ModelFileError, OptionError, OutputError
from saliency_tubes.faithfulness import rank_correlation
from saliency_tubes.presets import Pixels
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export import export_onnx, randomise
from saliency_tubes_export.randomised import Layers
from tiny import CLASSES, FRAMES, SIZE, tiny_graph, tiny_spec, write_tiny

CLIP = synthetic_clip((FRAMES, SIZE, SIZE, 3), 4)

TAILS: dict[str, tuple[Node, ...]] = {
    "gemm": (*STEM, POOL, FLAT, GEMM),
    "1x1x1 convolution behind the pooling": (*STEM, POOL, ("Conv", ["pool", "pointwise", "b"], "y", {})),
    "channels last": (
        *STEM,
        LAST,
        ("ReduceMean", ["relu_last", "volume"], "flat", {"keepdims": 0}),
        ("MatMul", ["flat", "wt"], "m", {}),
        ("Add", ["m", "b"], "y", {}),
    ),
    "two layers": (
        *STEM,
        POOL,
        FLAT,
        ("Gemm", ["flat", "first", "first_b"], "hidden", {}),
        ("Gemm", ["hidden", "second", "b"], "y", {}),
    ),
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.onnx")


def arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def check_complete(model: TubeModel, clip: NDArray[np.uint8]) -> None:
    """Maps made of the metadata's weights add up to the graph's logits, which spread."""
    explanation = model.explain(clip, range(model.spec.num_classes))
    for tube in explanation.tubes:
        total = tube.map.mean(dtype=np.float64) + model.spec.head.bias[tube.label]
        assert total == pytest.approx(
            explanation.logits[tube.label], abs=1e-5 * float(np.abs(explanation.logits).max())
        )
    assert explanation.completeness < 1e-5
    assert np.ptp(explanation.logits) > 0.01


def same_values(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return one.dtype == other.dtype and np.array_equal(np.sort(one, axis=None), np.sort(other, axis=None))


def test_weights_are_permuted_within_their_tensors(tiny: Path, tmp_path: Path) -> None:
    randomise(tiny, tmp_path / "r.onnx", 3)

    before, after = arrays(tiny), arrays(tmp_path / "r.onnx")
    assert same_values(before["kernel"], after["kernel"])
    assert (before["kernel"] != after["kernel"]).mean() > 0.99
    for spared in ("scale", "shift"):
        np.testing.assert_array_equal(before[spared], after[spared])
    spec, old = (load_model(path, "cpu").spec for path in (tmp_path / "r.onnx", tiny))
    assert same_values(spec.head.weight, old.head.weight)
    assert (spec.head.weight != old.head.weight).mean() > 0.8
    np.testing.assert_array_equal(spec.head.bias, old.head.bias)
    np.testing.assert_array_equal(
        spec.head.weight, next(array for name, array in after.items() if name.startswith("randomised_weight"))
    )


@pytest.mark.parametrize("layers", Layers)
def test_the_file_loads_and_its_maps_add_up(tiny: Path, tmp_path: Path, layers: Layers) -> None:
    randomise(tiny, tmp_path / "r.onnx", 3, layers)

    model = load_model(tmp_path / "r.onnx", "cpu")

    check_complete(model, CLIP)
    assert model.spec.parity is None
    assert model.spec.checkpoint_name == f"tiny.pth ({layers} permuted, seed 3)"
    assert model.spec.labels == load_model(tiny, "cpu").spec.labels


def test_the_classifier_alone(tiny: Path, tmp_path: Path) -> None:
    randomise(tiny, tmp_path / "r.onnx", 3, "classifier")

    np.testing.assert_array_equal(arrays(tiny)["kernel"], arrays(tmp_path / "r.onnx")["kernel"])
    one, other = (load_model(path, "cpu") for path in (tiny, tmp_path / "r.onnx"))
    clips = CLIP[None]
    np.testing.assert_allclose(one.activations(clips).features, other.activations(clips).features, rtol=1e-5)
    assert np.abs(one.spec.head.weight - other.spec.head.weight).max() > 0.5
    assert "W" not in arrays(tmp_path / "r.onnx")  # what nothing is computed from is left out


def test_the_seed_and_the_name_decide(tiny: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        randomise(tiny, tmp_path / name, seed)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (arrays(tmp_path / "a")["kernel"] != arrays(tmp_path / "c")["kernel"]).any()

    model = onnx.load(tiny)  # two weights of one shape do not go the same way
    model.graph.initializer.append(numpy_helper.from_array(arrays(tiny)["kernel"], "other"))
    model.graph.node[4].input[1] = "other"
    onnx.save(model, tiny)
    randomise(tiny, tmp_path / "d", 1)
    assert (arrays(tmp_path / "d")["other"] != arrays(tmp_path / "a")["kernel"]).any()


def test_one_number_a_channel_is_spared_in_any_shape(tmp_path: Path) -> None:
    """The mean colour, (3, 1, 1, 1), and the scale of a batch norm, (C, 1, 1, 1, 1), are no matrices of weights."""
    model = tiny_graph(tiny_spec())
    scale = np.arange(1, 7, dtype=np.float32).reshape(6, 1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(scale, "norm"))
    model.graph.node[4].output[0] = "unscaled"
    model.graph.node.insert(5, helper.make_node("Mul", ["unscaled", "norm"], ["x4"]))
    helper.set_model_props(model, tiny_spec().to_metadata())
    onnx.save(model, tmp_path / "m.onnx")

    randomise(tmp_path / "m.onnx", tmp_path / "r.onnx", 0)

    np.testing.assert_array_equal(arrays(tmp_path / "r.onnx")["norm"], scale)


def test_halves_are_permuted_and_stay_halves(tiny: Path, tmp_path: Path) -> None:
    """Weights that are kept as float16 and cast where they are used, the classifier's among them."""
    model = onnx.load(tiny)
    for tensor in list(model.graph.initializer):
        if tensor.name in ("kernel", "W"):
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name + "_half")
            model.graph.initializer.remove(tensor)
            model.graph.initializer.append(half)
            cast = helper.make_node("Cast", [half.name], [half.name.removesuffix("_half")], to=TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    rounded = tiny_spec().head.weight.astype(np.float16).astype(np.float32)
    helper.set_model_props(model, tiny_spec(weight=rounded).to_metadata())
    onnx.save(model, tiny)

    randomise(tiny, tmp_path / "r.onnx", 3)

    before, after = arrays(tiny), arrays(tmp_path / "r.onnx")
    assert after["kernel_half"].dtype == np.float16
    assert same_values(before["kernel_half"], after["kernel_half"])
    assert (before["kernel_half"] != after["kernel_half"]).mean() > 0.99
    check_complete(load_model(tmp_path / "r.onnx", "cpu"), CLIP)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("tail", TAILS)
def test_whatever_the_classifier_was(tmp_path: Path, tail: str, layout: Layout) -> None:
    network = saved(tmp_path / "net.onnx", classifier(TAILS[tail]))
    export_onnx(network, tmp_path / "m.onnx", Pixels(Norm.I3D), layout=layout)

    randomise(tmp_path / "m.onnx", tmp_path / "r.onnx", 5)
    randomise(tmp_path / "r.onnx", tmp_path / "twice.onnx", 6)

    for name in ("r.onnx", "twice.onnx"):
        model = load_model(tmp_path / name, "cpu")
        assert model.spec.features_shape[0] == C
        check_complete(model, synthetic_clip(model.spec.input_shape, 2))


def test_an_exported_network_explains_otherwise(exported_model: Path, tmp_path: Path) -> None:
    """MFNet-3D in blocked layout, with fresh weights: neither its maps nor those of other weights are to agree."""
    randomise(exported_model, tmp_path / "r.onnx", 1)

    one, other = load_model(exported_model, "cpu"), load_model(tmp_path / "r.onnx", "cpu")
    clip = synthetic_clip(one.spec.input_shape, 3)
    check_complete(other, clip)
    pairs = [[model.explain(clip, label).tube.map for model in (one, other)] for label in range(7)]
    assert np.mean([rank_correlation(*pair) for pair in pairs]) < 0.3


def test_the_input_is_never_overwritten(tiny: Path, tmp_path: Path) -> None:
    before = tiny.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(tiny)

    for output in (tiny, link, tmp_path / "." / "tiny.onnx"):
        with pytest.raises(OutputError, match="is the file to randomise, which is kept"):
            randomise(tiny, output, 0)

    assert tiny.read_bytes() == before
    assert link.is_symlink()


def test_a_failure_leaves_what_was_there(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "r.onnx"
    output.write_text("mine")

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"cannot write .*r.onnx: No space left on device"):
        randomise(tiny, output, 0)

    assert output.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.onnx", "tiny.onnx"]


def damaged(path: Path) -> Iterable[tuple[str, bytes]]:
    """Files that are none, and what is said of each."""
    yield "not ONNX, or damaged", b"what is this"
    model = onnx.load(path)
    del model.metadata_props[:]
    yield "carries no saliency-tubes metadata", model.SerializeToString()
    model = onnx.load(path)
    del model.graph.output[1]
    yield "its outputs are not logits and features", model.SerializeToString()
    model = onnx.load(path)
    model.graph.node[4].input[0] = "nowhere"
    yield r"damaged \(.*nowhere", model.SerializeToString()
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"123"
    yield r"damaged \(", model.SerializeToString()
    model = onnx.load(path)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    yield "keeps its weights in a file beside it: what is too large for one file cannot", model.SerializeToString()
    model = onnx.load(path)
    model.graph.node[4].CopyFrom(helper.make_node("GlobalAveragePool", ["x3"], ["x4"]))
    yield "no weights before its features", model.SerializeToString()


def test_a_file_that_is_none_is_refused(tiny: Path, tmp_path: Path) -> None:
    for number, (problem, data) in enumerate(damaged(tiny)):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=problem):
            randomise(path, tmp_path / "r.onnx", 0)
    with pytest.raises(ModelFileError, match=r"nothing.onnx cannot be read \(No such file"):
        randomise(tmp_path / "nothing.onnx", tmp_path / "r.onnx", 0)

    assert not [path for path in tmp_path.iterdir() if "r.onnx" in path.name]


def test_options_that_mean_nothing_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seed is -1"):
        randomise(tiny, tmp_path / "r.onnx", -1)
    with pytest.raises(OptionError, match="no choice of layers 'some': choose among all, classifier"):
        randomise(tiny, tmp_path / "r.onnx", 0, "some")
    with pytest.raises(OutputError, match="is a folder"):
        randomise(tiny, tmp_path, 0)
    with pytest.raises(OutputError, match="does not exist"):
        randomise(tiny, tmp_path / "no" / "r.onnx", 0)


def test_it_needs_no_torch(tiny: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from saliency_tubes_export import randomise\n"
        f"randomise(Path({str(tiny)!r}), Path({str(tmp_path / 'r.onnx')!r}), 0)"
    )

    subprocess.run([sys.executable, "-c", script], check=True)

    assert load_model(tmp_path / "r.onnx", "cpu").spec.num_classes == CLASSES
