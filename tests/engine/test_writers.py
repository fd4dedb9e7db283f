import json
import os
import stat
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import moving_square
from saliency_tubes import writers
from saliency_tubes.errors import OutputError
from saliency_tubes.writers import replacing_folder


def fill(folder: Path, text: str) -> None:
    (folder / "part.txt").write_text(text)
    (folder / "info.json").write_text(json.dumps({"files": ["part.txt", "info.json"]}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out" / "clip" / "5"

    with replacing_folder(target) as staging:
        fill(staging, "new")
        assert not target.exists()

    assert (target / "part.txt").read_text() == "new"
    assert names(target.parent) == ["5"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("exchange", [True, False])
def test_our_own_folder_is_replaced(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(writers, "_exchange", lambda *_: False)
    for text in ("old", "new"):
        with replacing_folder(tmp_path / "5") as staging:
            fill(staging, text)

    assert (tmp_path / "5" / "part.txt").read_text() == "new"
    assert names(tmp_path) == ["5"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interruption_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with replacing_folder(tmp_path / "5") as staging:
        fill(staging, "old")

    with pytest.raises(error, match="stop"), replacing_folder(tmp_path / "5") as staging:
        fill(staging, "new")
        raise error("stop")

    assert (tmp_path / "5" / "part.txt").read_text() == "old"
    assert names(tmp_path) == ["5"]


def test_an_interruption_of_a_first_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out" / "clip" / "5") as staging:
        fill(staging, "new")
        raise KeyboardInterrupt

    assert names(tmp_path) == []


def test_a_failed_swap_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replacing_folder(tmp_path / "5") as staging:
        fill(staging, "old")
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(writers, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)

    with pytest.raises(OutputError, match="Input/output error"), replacing_folder(tmp_path / "5") as staging:
        fill(staging, "new")

    assert (tmp_path / "5" / "part.txt").read_text() == "old"
    assert names(tmp_path) == ["5"]


@pytest.mark.parametrize("with_info", [True, False])
def test_a_folder_with_somebody_elses_files_is_not_replaced(tmp_path: Path, with_info: bool) -> None:
    target = tmp_path / "5"
    if with_info:
        with replacing_folder(target) as staging:
            fill(staging, "old")
    target.mkdir(exist_ok=True)
    (target / "thesis.txt").write_text("years of work")

    with (
        pytest.raises(OutputError, match=r"files that this program did not write \(thesis\.txt\)"),
        replacing_folder(target),
    ):
        pytest.fail("must be refused before any work")

    assert (target / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("info", ["{", '{"files": 3}', "[]", "[" * 100_000, '{"files": ["../../etc", "info.json"]}'])
def test_a_strange_info_file_in_the_way_is_no_licence_to_delete(tmp_path: Path, info: str) -> None:
    target = tmp_path / "5"
    target.mkdir()
    (target / "info.json").write_text(info)
    (target / "mine").mkdir()

    with pytest.raises(OutputError, match="did not write"), replacing_folder(target):
        pytest.fail("must be refused before any work")

    assert names(target) == ["info.json", "mine"]


def test_a_file_or_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "5").write_text("a file")
    (tmp_path / "real").mkdir()
    (tmp_path / "6").symlink_to(tmp_path / "real")

    for name in ("5", "6"):
        with pytest.raises(OutputError, match="is in the way"), replacing_folder(tmp_path / name):
            pytest.fail("must be refused before any work")


def test_a_path_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(OutputError, match=r"cannot write to .*: Not a directory\. .*--out"),
        replacing_folder(tmp_path / "file" / "clip" / "5"),
    ):
        pytest.fail("must be refused before any work")


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"), replacing_folder(tmp_path / "x" / "5") as staging:
        fill(staging, "half")
        raise OSError(28, "No space left on device")

    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_os_error_from_the_encoder_too() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        writers.write_gif(Path("/dev/full"), moving_square(4), 0.1)


def test_pngs_hold_the_pixels_they_were_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb, rgba = (rng.integers(0, 256, (3, 9, 7, channels), dtype=np.uint8) for channels in (3, 4))

    paths = writers.write_all([*writers.png_jobs(tmp_path / "rgb", rgb), *writers.png_jobs(tmp_path / "rgba", rgba)])

    assert [path.name for path in paths] == ["000.png", "001.png", "002.png"] * 2
    for index in range(3):
        bgr = cv2.imread(str(paths[index]))
        bgra = cv2.imread(str(tmp_path / "rgba" / f"{index:03d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(bgr[..., ::-1], rgb[index])
        np.testing.assert_array_equal(bgra[..., [2, 1, 0, 3]], rgba[index])


def test_a_gif_has_the_frames_the_pace_and_loops(tmp_path: Path) -> None:
    frames = moving_square(10)

    path = writers.write_gif(tmp_path / "overlay.gif", frames, 0.25)

    assert b"NETSCAPE2.0\x03\x01\x00\x00" in path.read_bytes()
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
        assert [float(picture.time) for picture in pictures[:3]] == pytest.approx([0, 0.25, 0.5])
    assert len(pictures) == 10
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(picture.to_ndarray(format="rgb24").astype(int) - frame).mean() < 12


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        writers.write_json(tmp_path / "info.json", {"logit": float("nan")})


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path: Path) -> None:
    left = {age: tmp_path / f".5.{'a' * 11}{age}.partial" for age in (0, 1)}
    other, foreign = tmp_path / f".55.{'a' * 12}.partial", tmp_path / ".5.notes.partial"
    for folder in (*left.values(), other, foreign):
        folder.mkdir()
        (folder / "000.png").write_bytes(b"")
    for folder in (left[1], other, foreign):
        os.utime(folder, (1000, 1000))

    with replacing_folder(tmp_path / "5") as staging:
        (staging / "a").write_text("new")

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([left[0].name, other.name, foreign.name, "5"])
