import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_folder
from planted import bright_square, clip_of, write_bright
from tiny import tiny_spec, write_tiny

MAIN = "from saliency_tubes.cli import entry; entry()"
# Each case takes its time, so that there is a middle to stop in; when one begins, a file says so.
SLOWLY = (
    "import time, pathlib; from saliency_tubes.faithfulness.measuring import Measurer; measure = Measurer.measure\n"
    "def slowly(*parts):\n"
    "    pathlib.Path(f'begun{parts[2]}').touch(); time.sleep(0.5); return measure(*parts)\n"
    "Measurer.measure = slowly\n" + MAIN
)
ENVIRONMENT = os.environ | {"COLUMNS": "80", "TERM": "xterm"}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, clips and `cases.csv`, which is also the current one."""
    write_bright(tmp_path / "tubes.onnx")
    for name, left, top in (("a", 8, 6), ("b", 27, 20), ("c", 14, 22)):
        mask = bright_square(left, top, 0, 3)
        write_folder(tmp_path / name, clip_of(mask))
        write_folder(tmp_path / f"{name}_mask", mask[..., None].repeat(3, axis=3) * np.uint8(255))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((9, 9), dtype=np.uint8))
    rows = [f"{name},archery,{name}_mask,0,3" for name in "abc"]
    (tmp_path / "cases.csv").write_text("\n".join(["path,label,mask,first,last", *rows]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str, script: str = MAIN) -> list[str]:
    return [sys.executable, "-c", script, "evaluate", *arguments, "--device", "cpu"]


def evaluate(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert result.returncode == expect, result.stderr
    return result


def test_a_table_json_and_pictures(workplace: Path) -> None:
    result = evaluate("cases.csv", "--out", "out", "--json", "all.json", "--steps", "3", "--align", "centers")

    assert "pointing game" in result.stdout
    assert "frame-difference" in result.stdout
    assert "3 cases measured\nwrote out/evaluation.json\nwrote out/evaluation-localisation.png\n" in result.stdout
    one, other = (json.loads(Path(name).read_bytes()) for name in ("all.json", "out/evaluation.json"))
    assert one == other
    means = {(row["method"], row["metric"]): row["mean"] for row in one["summary"]}
    assert means["tube", "pointing_game"] == means["tube", "temporal_pointing_game"] == 1
    assert means["tube", "deletion_mean"] < means["random", "deletion_mean"]
    assert one["options"]["align"] == "centers"
    assert [(case["name"], case["place"]) for case in one["cases"]] == [
        (name, f"cases.csv line {line}") for line, name in enumerate("abc", start=2)
    ]


def test_json_on_stdout(workplace: Path) -> None:
    result = evaluate("cases.csv", "--json", "-", "--no-perturbation", "--no-baselines", "--limit", "2", "--seed", "5")

    document = json.loads(result.stdout)
    assert {row["method"] for row in document["summary"]} == {"tube"}
    assert document["options"]["fills"] == []
    assert document["bootstrap"]["seed"] == 5
    assert len(document["cases"]) == 2
    assert "2 cases measured" in result.stderr
    assert not list(workplace.glob("evaluation*"))


def test_one_bad_case_does_not_stop_the_others(workplace: Path) -> None:
    with Path("cases.csv").open("a") as file:
        file.write("\nnowhere\x1b[31m,,,,\na,archery,small.png,,\na,9,,,\na,,,3,\n")

    result = evaluate("cases.csv", "--no-perturbation", "--json", "all.json", expect=1)

    assert "3 cases measured, 4 failed" in result.stdout
    assert "failed: cases.csv line 5: nowhere?[31m does not exist" in result.stderr
    assert "failed: cases.csv line 6: the mask small.png has frames of 9x9 pixels: expected 45x36" in result.stderr
    assert "failed: cases.csv line 7: label 9 is out of range" in result.stderr
    assert "failed: cases.csv line 8: there is a first frame or a last one alone" in result.stderr
    assert "Traceback" not in result.stderr
    assert [error["source"] for error in json.loads(Path("all.json").read_bytes())["errors"]] == [
        f"cases.csv line {line}" for line in (5, 6, 7, 8)
    ]


def test_what_is_true_of_several_cases_is_noted_once(workplace: Path) -> None:
    result = evaluate("cases.csv", "--sampling", "dense")

    assert result.stderr.count("note: a and 2 more: of a whole video, nothing is deleted or inserted") == 1
    assert "deletion" not in result.stdout


def test_approximate_maps_are_noted_once_and_on_record(workplace: Path) -> None:
    write_tiny(workplace / "tubes.onnx", tiny_spec(approximate="two layers are not linear"))

    result = evaluate("cases.csv", "--no-perturbation", "--out", "out")

    assert result.stderr.count("approximate") == 1
    assert "note: approximate: two layers are not linear; completeness says by how much\n" in result.stderr
    document = json.loads(Path("out/evaluation.json").read_bytes())
    assert document["approximate"] == "two layers are not linear"
    assert [case["notes"] for case in document["cases"]] == [[], [], []]


def test_weights_are_shuffled_for_a_sanity_check(workplace: Path) -> None:
    pytest.importorskip("onnx")

    result = evaluate("cases.csv", "--no-perturbation", "--no-baselines", "--sanity", "--json", "all.json")

    assert "shuffled weights" in result.stdout
    document = json.loads(Path("all.json").read_bytes())
    assert document["randomised_sha256"] not in (None, document["model"]["sha256"])
    assert {row["metric"] for row in document["summary"]} > {"randomised_correlation"}


def test_a_sanity_check_without_onnx_says_what_to_install(workplace: Path) -> None:
    script = "import sys; sys.modules['onnx'] = None\n" + MAIN
    result = subprocess.run(command("cases.csv", "--sanity", script=script), capture_output=True, text=True)

    assert result.returncode == 1
    assert (
        "`tubes evaluate --sanity` needs onnx, which is not installed: pip install 'saliency-tubes[onnx]'"
        in result.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.csv"], 1, "error: nowhere.csv cannot be read (No such file or directory)"),
        (["a"], 1, "error: a cannot be read"),
        (["cases.csv", "--model", "no.onnx"], 1, "no.onnx"),
        (["cases.csv", "--fill", "blur", "--no-perturbation"], 2, "without perturbation nothing is filled"),
        (["cases.csv", "--stride", "3"], 2, "error: stride is an option of dense sampling"),
        (["cases.csv", "--steps", "0"], 2, "0 is not in the range x>=1"),
        (["cases.csv", "--json", "a"], 1, "error: a is there and is no file"),
        (["cases.csv", "--json", "./cases.csv"], 2, "error: --json ./cases.csv is the list of cases, which it would"),
        (["cases.csv", "--json", "tubes.onnx"], 2, "error: --json tubes.onnx is the model, which it would replace"),
    ],
)
def test_what_cannot_begin_leaves_nothing_behind(
    workplace: Path, arguments: list[str], code: int, message: str
) -> None:
    before = sorted(workplace.rglob("*"))
    inputs = [Path(name).read_bytes() for name in ("cases.csv", "tubes.onnx")]

    result = evaluate(*arguments, "--out", "out", expect=code)

    assert message in " ".join(result.stderr.replace("│", "").split())
    assert result.stdout == ""
    assert [path for path in sorted(workplace.rglob("*")) if path not in before and path.name != "out"] == []
    assert [Path(name).read_bytes() for name in ("cases.csv", "tubes.onnx")] == inputs


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_what_is_done_is_written_when_it_is_stopped(workplace: Path, signum: signal.Signals) -> None:
    arguments = ("cases.csv", "--no-perturbation", "--out", "out", "--json", "all.json")
    with subprocess.Popen(
        command(*arguments, script=SLOWLY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not Path("begun2").exists():  # the third case
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signum)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 128 + signum
    assert "stopping; what was measured so far is written. Ctrl-C again stops at once" in stderr
    assert "stopped: what follows is of the cases that were measured until then" in stderr
    assert "Traceback" not in stderr
    assert "2 cases measured, stopped before the end" in stdout
    for name in ("all.json", "out/evaluation.json"):
        document = json.loads(Path(name).read_bytes())
        assert document["complete"] is False
        assert [case["name"] for case in document["cases"]] == ["a", "b"]
    assert not list(workplace.rglob(".*.partial"))
