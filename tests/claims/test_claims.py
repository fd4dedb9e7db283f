"""What the benchmarks say and check, without measuring anything."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")
pytest.importorskip("scipy")

import torch
from saliency_tubes import backend_openvino
from saliency_tubes.bench.machine import describe
from saliency_tubes.bench.race import Clock
from saliency_tubes.choices import Precision

from benchmarks import cam_libraries, gpu, openvino_cpu
from benchmarks.agreement import compare_features, compare_maps
from benchmarks.checkout import checkout
from benchmarks.harness import Below, Result, Skipped, TimesFaster
from benchmarks.inputs import Inputs
from benchmarks.report import Where, document, print_table

INPUTS = Inputs("none", Path("w"), Path("f"), Path("m"), 5, Path("o"))
CLOCK = Clock(2, lambda _: None)
ROWS = [
    Result("a", "ours against theirs", "s", (1.0, 1.0), (3.0, 3.0), TimesFaster(2), (("fact", 1.5),)),
    Result("a", "ours against others", "s", (1.0, 1.0), (0.5, 0.5), Below()),
    Skipped("b", "ours against nobody", "nobody is not installed: pip install nobody"),
]


def test_race_takes_all_jobs_in_turn_and_drops_the_first_round():
    order = []
    samples = CLOCK.race("a", {name: lambda name=name: order.append(name) for name in "xyz"})
    assert "".join(order) == "xyz" * 3
    assert {name: len(taken) for name, taken in samples.items()} == {"x": 2, "y": 2, "z": 2}


def test_report_has_a_line_for_every_row():
    where = Where(describe(), checkout(Path(__file__).parent))
    out = io.StringIO()
    print_table(Console(file=out), ROWS, where, "none")
    text = out.getvalue()
    for expected in (
        "3.00",
        "at least 2 times faster",
        "below theirs",
        "met",
        "MISSED",
        "not measured",
        "a: fact: 1.5",
    ):
        assert expected in text
    assert "b: ours against nobody: nobody is not installed: pip install nobody" in text
    claims = document(ROWS, where, "none")["claims"]
    assert [claim["verdict"] for claim in claims] == ["met", "MISSED", "not measured"]
    assert claims[2]["why"].startswith("nobody")


def test_maps_agree_up_to_relu_and_scale():
    ours = np.random.default_rng(0).normal(size=(8, 7, 7)).astype(np.float32)
    assert compare_maps(ours, 3 * np.maximum(ours, 0)) > 0.999999


@pytest.mark.parametrize("theirs", [np.zeros((2, 3, 3)), np.arange(18.0).reshape(2, 3, 3)[::-1], np.ones((2, 3, 4))])
def test_other_maps_are_refused(theirs):
    ours = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    with pytest.raises(RuntimeError, match="no fair race"):
        compare_maps(ours, theirs.astype(np.float32))


def test_other_features_are_refused():
    features = np.ones((1, 2, 2, 2, 2), dtype=np.float32)
    with pytest.raises(RuntimeError, match="not one network"):
        compare_features(1.01 * features, features)


def test_without_a_gpu_the_row_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (row,) = gpu.measure(INPUTS, CLOCK)
    assert isinstance(row, Skipped)
    assert row.why == "no GPU here: not measured"


def test_without_openvino_every_row_names_the_command(monkeypatch):
    missing = "the package openvino is not installed: pip install 'saliency-tubes[openvino]'"
    monkeypatch.setattr(backend_openvino, "obstacle", lambda: missing)
    rows = openvino_cpu.measure(INPUTS, CLOCK)
    assert len(rows) == 2
    assert all(row.why.endswith(missing) for row in rows)


def test_without_bfloat16_no_number_is_given_for_it(monkeypatch):
    monkeypatch.setattr(backend_openvino, "obstacle", lambda: None)
    monkeypatch.setattr(backend_openvino, "has_bfloat16", lambda: False)
    assert openvino_cpu.obstacle(Precision.FP32) is None
    assert openvino_cpu.obstacle(Precision.BF16) == "not measured: this processor has no bfloat16"


def test_what_stands_in_for_torchvision_is_gone_after_the_import(monkeypatch):
    monkeypatch.setattr(cam_libraries, "find_spec", lambda _: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with cam_libraries._torchvision_to_import():
        from torchvision.transforms import Compose
        from torchvision.transforms.functional import resize
    assert Compose is None
    assert resize is None
    assert "torchvision" not in sys.modules
