import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from saliency_tubes.errors import CheckpointError  # noqa: E402
from saliency_tubes_export.checkpoint import load_checkpoint  # noqa: E402
from saliency_tubes_export.mfnet3d import fresh  # noqa: E402

CLASSES = 7
State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> State:
    return dict(fresh(CLASSES).state_dict())


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return write


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"epoch": 3, "state_dict": s},
        lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}, "param_groups": []}},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
        lambda s: {"state_dict": s, "best_acc": np.float64(0.5), "count": np.int64(3)},
        lambda s: s | {"coord_layers.0.weight": torch.zeros(3)},
    ],
)
def test_every_form_of_checkpoint_gives_the_same_network(
    state: State, save: Callable[[object], Path], wrap: Callable[[State], object]
) -> None:
    checkpoint = load_checkpoint(save(wrap(state)))

    assert not checkpoint.network.training
    assert checkpoint.name == "weights.pth"
    assert len(checkpoint.sha256) == 64
    for key, value in checkpoint.network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth.tar", "weights"])
def test_the_suffix_does_not_matter_to_torch_files(state: State, tmp_path: Path, name: str) -> None:
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=name != "weights.pth.tar")

    assert load_checkpoint(tmp_path / name).network.classifier.out_features == CLASSES


def test_safetensors_are_read(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "weights.safetensors")

    loaded = load_checkpoint(tmp_path / "weights.safetensors").network.state_dict()

    assert torch.equal(loaded["tail.bn.weight"], state["tail.bn.weight"])


def test_half_precision_weights_become_float32(state: State, save: Callable[[object], Path]) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}

    loaded = load_checkpoint(save(halves)).network.state_dict()

    assert loaded["classifier.weight"].dtype == torch.float32
    assert torch.equal(loaded["classifier.weight"], state["classifier.weight"].half().float())


def heads(state: State, *names: str) -> State:
    trunk = {k: v for k, v in state.items() if not k.startswith("classifier.")}
    for number, name in enumerate(names, start=2):
        trunk |= {f"{name}.weight": torch.full((number, 768), float(number)), f"{name}.bias": torch.zeros(number)}
    return trunk


LIST = "classifier_list.classifier_list"


@pytest.mark.parametrize("names", [(f"{LIST}.0", f"{LIST}.1"), ("classifier1", "classifier2")])
def test_several_heads_are_listed_and_one_is_chosen(
    state: State, save: Callable[[object], Path], names: tuple[str, str]
) -> None:
    path = save(heads(state, *names))

    with pytest.raises(CheckpointError, match=rf"several heads: choose one with --head.*{names[1]} \(3 classes\)"):
        load_checkpoint(path)
    assert load_checkpoint(path, names[1]).network.classifier.out_features == 3
    with pytest.raises(CheckpointError, match=rf"no single head 'verb': choose one of {names[0]} \(2 classes\)"):
        load_checkpoint(path, "verb")


def test_a_head_may_be_named_by_its_end(state: State, save: Callable[[object], Path]) -> None:
    path = save(heads(state, f"{LIST}.0", f"{LIST}.1"))

    assert load_checkpoint(path, "1").network.classifier.out_features == 3


def test_a_single_head_of_a_fork_is_taken(state: State, save: Callable[[object], Path]) -> None:
    assert load_checkpoint(save(heads(state, f"{LIST}.0"))).network.classifier.out_features == 2


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(state: State, tmp_path: Path, plain_pickle: bool) -> None:
    marker, path = tmp_path / "was_run", tmp_path / "weights.pth"
    content = {"state_dict": state, "extra": Malicious(marker)}
    if plain_pickle:
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, path)

    with pytest.raises(CheckpointError, match=r"weights\.pth is (refused: besides weights|not a checkpoint that)"):
        load_checkpoint(path)

    assert not marker.exists()


def test_a_checkpoint_with_training_arguments_says_how_to_convert_it(
    state: State, save: Callable[[object], Path]
) -> None:
    with pytest.raises(
        CheckpointError, match=r"holds Python objects \(argparse\.Namespace\).*none was run\..*torch\.save\("
    ):
        load_checkpoint(save({"state_dict": state, "args": argparse.Namespace(lr=1)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("tail.bn.weight"), r"lacks 1 of MFNet-3D's keys: tail\.bn\.weight"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("conv4.B02.")], r"lacks 20 of .* and 14 more"),
        (lambda s: s.update(extra=torch.zeros(1)), r"has unexpected 1 of MFNet-3D's keys: extra"),
        (
            lambda s: s.update({"tail.bn.bias": torch.zeros(3)}),
            r"wrong shapes in 1 .*tail\.bn\.bias is \(3,\), expected \(768,\)",
        ),
        (
            lambda s: s.update({"classifier.weight": torch.zeros(7, 512)}),
            r"shape \(7, 512\), expected \(classes, 768\)",
        ),
        (lambda s: [s.pop("classifier.weight"), s.pop("classifier.bias")], r"has no classifier"),
        (lambda s: s["conv3.B01.conv_m1.bn.running_var"].fill_(float("nan")), r"conv3\.B01.*holds NaN or infinity"),
        (lambda s: s["classifier.bias"].fill_(float("inf")), r"classifier\.bias holds NaN or infinity"),
        (
            lambda s: s.update({"conv1.conv.weight": torch.zeros(16, 3, 5, 5)}),
            r"is the 2-D MFNet that was trained on ImageNet.*needs the 3-D network",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_the_keys(
    state: State, save: Callable[[object], Path], change: Callable[[State], object], message: str
) -> None:
    broken = {key: value.clone() for key, value in state.items()}
    change(broken)

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(save(broken))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"layer1.0.weight": torch.zeros(3)}, r"is not an MFNet-3D: expected keys such as .*found layer1\.0\.weight"),
        ({"state_dict": {}}, r"holds dict, not weights"),
        ([torch.zeros(3)], r"holds list, not weights"),
        ({"epoch": 3, "model": {"a": torch.zeros(1)}}, r"holds entries that are no weights \(epoch, model\)"),
    ],
)
def test_another_networks_checkpoint_is_refused(save: Callable[[object], Path], content: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(save(content))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04" + b"\0" * 99, b"\x80\x04K\x01."])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=r"weights\.\w+ (cannot be read as|is not|holds) .*expected an MFNet-3D"):
        load_checkpoint(tmp_path / name)


def test_a_truncated_checkpoint_is_refused(state: State, save: Callable[[object], Path]) -> None:
    path = save(state)
    path.write_bytes(path.read_bytes()[:-5000])

    with pytest.raises(CheckpointError, match=r"cannot be read as a checkpoint .*Is the file complete\?"):
        load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist: expected an MFNet-3D checkpoint"):
        load_checkpoint(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="is a folder: expected an MFNet-3D checkpoint"):
        load_checkpoint(tmp_path)
