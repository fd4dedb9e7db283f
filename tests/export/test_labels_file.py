from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from saliency_tubes.errors import CheckpointError
from saliency_tubes_export.labels import class_names, read_labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "walk\nrun\nhigh jump\n"),
        ("labels.txt", "\ufeffwalk\r\nrun\r\nhigh jump\r\n\r\n\r\n"),
        ("labels", "  walk \nrun\nhigh jump"),
        ("labels.json", '["walk", "run", "high jump"]'),
        ("labels.json", '{"1": "run", "0": "walk", "2": "high jump"}'),
    ],
)
def test_names_come_from_text_or_json(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")

    assert read_labels(tmp_path / name, 3) == ("walk", "run", "high jump")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", b"walk\nrun\n", r"holds 2 names, and the classifier has 3 classes"),
        ("labels.txt", b"walk\n\nrun\n", r"the name of class 1 is '', expected printable text"),
        ("labels.txt", b"walk\nrun\n\x1b[2Jjump\n", r"the name of class 2 is '\\x1b\[2Jjump'"),
        ("labels.txt", b"walk\nrun\n\xff\xfe\n", r"cannot be read .*expected UTF-8 text"),
        ("labels.json", b"[", r"is not a JSON list of names"),
        ("labels.json", b"[" * 100_000, r"is not a JSON list of names.*RecursionError"),
        ("labels.json", b'{"0": "a", "2": "b", "3": "c"}', r"keys \"0\", \"1\", .*KeyError"),
        ("labels.json", b'{"walk": "a"}', r"is not a JSON list of names"),
        ("labels.json", b"[1, 2, 3]", r"neither a list of names nor an object"),
        ("labels.json", b"3", r"neither a list of names nor an object"),
    ],
)
def test_a_file_that_does_not_name_every_class_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=message):
        read_labels(tmp_path / name, 3)


def test_a_missing_labels_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.txt cannot be read \(No such file or directory\)"):
        read_labels(tmp_path / "gone.txt", 3)


NAMES = ["walk", "run", "jump", "sit", "stand"]


def test_names_may_come_as_they_are() -> None:
    assert class_names((*NAMES[:-1], " stand\n"), 5) == tuple(NAMES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (NAMES[1:], "labels holds 4 names, and the classifier has 5 classes"),
        ([*NAMES[1:], 3], "labels holds 3: expected a path, or one name for each class"),
        ([*NAMES[1:], "a\0b"], r"labels: the name of class 4 is 'a\\x00b', expected printable text"),
        ("gone.txt", r"the labels file gone\.txt cannot be read"),
    ],
)
def test_names_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        class_names(labels, len(NAMES))
