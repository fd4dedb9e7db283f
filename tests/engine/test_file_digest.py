"""The digest of a model file, and of the weights that it keeps in files of their own."""

import hashlib
from pathlib import Path

import pytest
from saliency_tubes.file_digest import FileDigest, external_files


def place(name: bytes) -> bytes:
    """An entry of ONNX's `TensorProto.external_data` as it stands in a file, inside something longer."""
    size = len(name)
    length = bytes([size]) if size < 128 else bytes([size % 128 | 128, size // 128])
    return b"\x08\x08before\x0a\x08location\x12" + length + name + b"\x0a\x06offset\x12\x010"


def digest(path: Path) -> str:
    one = FileDigest(path)
    one.start()
    return one.result()


def test_a_file_that_stands_alone_has_the_digest_of_its_content(tmp_path: Path) -> None:
    for content in (b"", b"model", bytes(3_000_000)):
        (tmp_path / "m.onnx").write_bytes(content)
        assert digest(tmp_path / "m.onnx") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["m.onnx.data", "größe.data", "n" * 127, "n" * 128, "n" * 200])
def test_weights_in_another_file_are_part_of_it(tmp_path: Path, name: str) -> None:
    content = place(name.encode()) * 2
    (tmp_path / "m.onnx").write_bytes(content)
    (tmp_path / name).write_bytes(b"weights")

    assert external_files(tmp_path / "m.onnx") == [tmp_path / name]
    assert digest(tmp_path / "m.onnx") == hashlib.sha256(content + b"weights").hexdigest()


def test_several_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text(name)
    content = place(b"c") + place(b"a") + place(b"b") + place(b"a")
    (tmp_path / "m.onnx").write_bytes(content)

    assert digest(tmp_path / "m.onnx") == hashlib.sha256(content + b"abc").hexdigest()


def test_other_folders_missing_files_and_nonsense_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "outside").write_text("secret")
    model = tmp_path / "in" / "m.onnx"
    names = (b"../outside", bytes(tmp_path / "outside"), b"missing", b"", b"..", b"a\0b", b"..\\outside")
    model.write_bytes(b"".join(map(place, names)) + b"\x0a\x08location\x12" + b"\xff" * 9)

    assert external_files(model) == []
    assert digest(model) == hashlib.sha256(model.read_bytes()).hexdigest()


def test_a_file_that_is_gone_is_an_error_where_the_digest_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"m\.onnx"):
        digest(tmp_path / "m.onnx")
