"""Models of Keras, in every form that Keras has written them in."""

import importlib
import importlib.util
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("keras") is None:  # importing it here would choose a backend
    pytest.skip("needs keras", allow_module_level=True)

import h5py  # noqa: E402
from saliency_tubes import load_model  # noqa: E402
from saliency_tubes.choices import Norm  # noqa: E402
from saliency_tubes.errors import ExportError, OptionError, SaliencyTubesError  # noqa: E402
from saliency_tubes.presets import Pixels  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import export_keras, keras_on_torch  # noqa: E402
from saliency_tubes_export.foreign import GraphHints  # noqa: E402
from saliency_tubes_export.keras_model import load_keras  # noqa: E402
from saliency_tubes_export.keras_on_torch import keras  # noqa: E402
from saliency_tubes_export.torch_graph import quiet  # noqa: E402

T, SIZE, K = 4, 32, 5
UNIT = Pixels(mean=(0, 0, 0), std=(1, 1, 1))


class Doubled(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def network(*more: Any, shape: tuple[int | None, ...] = (T, SIZE, SIZE, 3), policy: str = "float32") -> Any:
    layers = keras.layers
    clip = keras.Input(shape)
    x = layers.Conv3D(6, 3, strides=(1, 2, 2), padding="same", activation="relu", dtype=policy)(clip)
    x = layers.BatchNormalization(dtype=policy)(x)
    for layer in (layers.Dropout(0.9), *more):
        x = layer(x)
    x = layers.GlobalAveragePooling3D()(x)
    model = keras.Model(clip, layers.Dense(K, activation="softmax", name="classes")(x), name="tiny")
    rng = np.random.default_rng(9)
    model.set_weights([rng.uniform(0.2, 1, value.shape) - 0.3 * (value.ndim > 1) for value in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    with keras.device("cpu"), quiet():
        model = network()
        for name in ("m.keras", "m.h5"):
            model.save(folder / name)
        model.save_weights(folder / "m.weights.h5")
        (folder / "arch.json").write_text(model.to_json())
        network(shape=(None, None, None, 3), policy="mixed_float16").save(folder / "open.keras")
        network(keras.layers.Lambda(lambda x: x * 2)).save(folder / "lambda.keras")
        network(keras.layers.Lambda(lambda x: x * 2)).save(folder / "lambda.h5")
        (folder / "lambda.json").write_text(network(keras.layers.Lambda(lambda x: x * 2)).to_json())
        network(Doubled()).save(folder / "own.keras")
        network(Doubled()).save(folder / "own.h5")
        network(keras.layers.Conv3D(6, 1)).save_weights(folder / "more.weights.h5")
        keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]).save_weights(folder / "others.weights.h5")
        keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]).save(folder / "flat.keras")
    with h5py.File(folder / "m.h5") as whole, h5py.File(folder / "old.h5", "w") as weights:  # as Keras 2 wrote them
        for name in whole["model_weights"]:
            whole["model_weights"].copy(name, weights)
        weights.attrs.update(whole["model_weights"].attrs)
        config = whole.attrs["model_config"]
        (folder / "old.json").write_text(config if isinstance(config, str) else config.decode())
    with h5py.File(folder / "renamed.weights.h5", "w") as renamed, h5py.File(folder / "m.weights.h5") as right:
        for name in right["layers"]:
            right["layers"].copy(name, renamed.require_group("layers"), name=name.replace("conv3d", "conv"))
    damage(folder)
    return folder


def damage(folder: Path) -> None:
    whole, hdf5 = (folder / "m.keras").read_bytes(), (folder / "m.h5").read_bytes()
    (folder / "cut.keras").write_bytes(whole[:-400])
    (folder / "cut.h5").write_bytes(hdf5[:3000])
    (folder / "empty.h5").write_bytes(b"")
    (folder / "list.json").write_text("[1, 2]")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "not.json").write_bytes(b"\xff\xfe{")
    (folder / "strange.json").write_text('{"class_name": "Sequential", "config": {"layers": [{"class_name": 3}]}}')
    (folder / "folder.keras").mkdir()
    with zipfile.ZipFile(folder / "m.keras") as archive, zipfile.ZipFile(folder / "bare.keras", "w") as bare:
        for name in ("config.json", "metadata.json"):
            bare.writestr(name, archive.read(name))
    with zipfile.ZipFile(folder / "hollow.keras", "w") as hollow:
        hollow.writestr("metadata.json", "{}")


def predicted(model: Any, clips: np.ndarray) -> np.ndarray:
    with keras.device("cpu"), quiet():
        return model.predict(clips, verbose=0)


def clips(frames: int = T, size: int = SIZE) -> np.ndarray:
    return np.stack([synthetic_clip((frames, size, size, 3), seed) for seed in (3, 4)])


def probabilities(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("file", "weights"),
    [
        ("m.keras", None),
        ("m.h5", None),
        ("arch.json", "m.weights.h5"),
        ("arch.json", "old.h5"),
        ("arch.json", "m.h5"),
        ("old.json", "old.h5"),
        ("old.json", "m.weights.h5"),
    ],
)
def test_every_form_gives_the_same_predictions(files: Path, file: str, weights: str | None) -> None:
    model = load_keras(files / file, files / weights if weights else None)

    with quiet():
        expected = predicted(network(), clips() / 255)
    np.testing.assert_allclose(predicted(model, clips() / 255), expected, atol=1e-6)
    assert expected.std() > 0.02


def test_a_model_becomes_a_file_that_computes_what_it_predicts(files: Path, tmp_path: Path) -> None:
    report = export_keras(files / "arch.json", tmp_path / "m.onnx", UNIT, weights=files / "m.weights.h5")

    spec = load_model(tmp_path / "m.onnx", "cpu").spec
    ours = open_session(tmp_path / "m.onnx", "cpu").run(clips())
    expected = predicted(load_keras(files / "m.keras"), clips() / 255)
    np.testing.assert_allclose(probabilities(ours.logits), expected, atol=1e-6)
    assert (spec.architecture, spec.checkpoint_name, spec.input_shape) == ("tiny", "m.weights.h5", (T, SIZE, SIZE, 3))
    assert {"Keras", "torch"} < dict(spec.versions).keys()
    assert report.parity.reference.startswith(f"Keras {keras.__version__} on PyTorch")
    assert "Softmax at the end is left out" in report.table()
    assert max(report.parity.logits_rel, report.parity.features_rel, report.parity.completeness) < 1e-5


def test_the_command_fixes_open_sides_and_computes_mixed_precision_in_float32(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m.onnx"

    assert (
        export(monkeypatch, files / "open.keras", "--mean=0", "--std=1", "--frames=3", "--size=40", f"-o{output}") == 0
    )

    ours = open_session(output, "cpu").run(clips(3, 40))
    expected = predicted(load_keras(files / "open.keras"), clips(3, 40) / 255)
    np.testing.assert_allclose(probabilities(ours.logits), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "weights", "error", "message"),
    [
        ("lambda.keras", None, ExportError, r"lambda\.keras has a layer Lambda, which runs code .*; none was run"),
        ("lambda.h5", None, ExportError, r"lambda\.h5 has a layer Lambda"),
        ("lambda.json", "m.weights.h5", ExportError, r"lambda\.json has a layer Lambda"),
        ("own.keras", None, ExportError, r"own\.keras has Doubled, which is not Keras' own: load the model in Python"),
        ("own.h5", None, ExportError, r"own\.h5 has Doubled, which is not Keras' own"),
        ("m.weights.h5", None, ExportError, r"holds weights alone: export the architecture with them, as in `tubes ex"),
        (
            "arch.json",
            None,
            OptionError,
            r"arch\.json is an architecture: name the file with its weights with --weights",
        ),
        ("m.keras", "m.h5", OptionError, r"--weights is for architectures \(\.json\), and .* has weights of its own"),
        ("arch.json", "others.weights.h5", ExportError, r"has 2 arrays of weights, and the architecture takes 8"),
        ("arch.json", "more.weights.h5", ExportError, r"has 10 arrays of weights, and the architecture takes 8"),
        (
            "arch.json",
            "renamed.weights.h5",
            ExportError,
            r"cannot load .*arch\.json with .*renamed\.weights",
        ),
        ("arch.json", "cut.h5", ExportError, r"cannot load .*cut\.h5: .*truncated file"),
        ("arch.json", "gone.h5", ExportError, r"gone\.h5 does not exist: expected a \.keras file"),
        ("gone.keras", None, ExportError, r"gone\.keras does not exist: expected a \.keras file"),
        ("folder.keras", None, ExportError, r"folder\.keras is a folder: expected a \.keras file"),
        ("cut.keras", None, ExportError, r"cut\.keras cannot be read as a Keras model \(File is not a zip file\)"),
        ("cut.h5", None, ExportError, r"cut\.h5 cannot be read as a Keras model \(.*truncated file"),
        ("empty.h5", None, ExportError, r"empty\.h5 cannot be read as a Keras model .*Is the file complete\?"),
        ("bare.keras", None, ExportError, r"Keras .* cannot load .*bare\.keras: Expected a model\.weights\.h5"),
        ("hollow.keras", None, ExportError, r"hollow\.keras cannot be read as a Keras model .*config\.json"),
        ("list.json", "m.h5", ExportError, r"list\.json is no architecture of Keras: expected a JSON object"),
        ("deep.json", "m.h5", ExportError, r"deep\.json cannot be read as a Keras model"),
        ("not.json", "m.h5", ExportError, r"not\.json cannot be read as a Keras model"),
        ("strange.json", "m.h5", ExportError, r"Keras .* cannot load .*strange\.json"),
    ],
)
def test_what_is_no_model_or_holds_code_is_refused(
    files: Path, file: str, weights: str | None, error: type[SaliencyTubesError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_keras(files / file, files / weights if weights else None)


def test_a_function_from_elsewhere_is_refused_before_keras_looks_for_it(files: Path, tmp_path: Path) -> None:
    config = json.loads((files / "arch.json").read_text())
    config["config"]["layers"][1]["config"]["activation"] = {
        "module": "os", "class_name": "function", "config": "getcwd", "registered_name": "getcwd",
    }  # fmt: skip
    (tmp_path / "arch.json").write_text(json.dumps(config))

    with pytest.raises(ExportError, match=r"has getcwd, which is not Keras' own"):
        load_keras(tmp_path / "arch.json", files / "m.weights.h5")


def test_inputs_that_are_no_clip_and_open_sides_are_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the model takes \?x8: expected one clip of five axes"):
        export_keras(files / "flat.keras", tmp_path / "m.onnx", UNIT)
    with pytest.raises(OptionError, match=r"clips of any length or size: say which to export for with --frames and"):
        export_keras(files / "open.keras", tmp_path / "m.onnx", UNIT, hints=GraphHints(frames=3))


def test_another_backend_is_refused(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")

    with pytest.raises(ExportError, match="Keras runs on tensorflow in this process already: expected its PyTorch"):
        export_keras(files / "m.keras", tmp_path / "m.onnx", Pixels(Norm.I3D))


@pytest.mark.parametrize("before", [None, "jax"])
def test_the_environment_is_left_as_it_was(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if before is not None:
        monkeypatch.setenv("KERAS_BACKEND", before)

    importlib.reload(keras_on_torch)

    assert os.environ.get("KERAS_BACKEND") == before
    assert keras.backend.backend() == "torch"


def export(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    from saliency_tubes import cli

    monkeypatch.setattr(sys, "argv", ["tubes", "export", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset=i3d", "--arch=a:b"], "--arch is for weights of PyTorch, and this is a Keras model: leave it out"),
        (["--preset=i3d", "--precision=fp16"], "--precision is for weights of PyTorch, and this is a Keras model"),
        ([], "how its frames were normalised: give either --preset"),
    ],
)
def test_options_that_do_not_go_with_keras_are_refused(
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert export(monkeypatch, files / "m.keras", *arguments) == 2

    assert message in capsys.readouterr().err


@pytest.mark.parametrize("package", ["keras", "h5py"])
def test_without_keras_the_command_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("keras_model", "keras_on_torch"):
        monkeypatch.delitem(sys.modules, f"saliency_tubes_export.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)

    assert export(monkeypatch, "model.keras", "--preset=i3d") == 1

    assert capsys.readouterr().err == (
        f"error: `tubes export` needs {package}, which is not installed: pip install 'saliency-tubes[keras]'\n"
    )
