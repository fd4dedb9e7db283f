"""Lists of cases and boxes, and the evidence as the network sees it."""

import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_folder, write_video
from numpy.typing import NDArray
from saliency_tubes.choices import Fit
from saliency_tubes.errors import SourceError
from saliency_tubes.faithfulness.cases import Box, Case, CaseError, Evidence
from saliency_tubes.faithfulness.lists import read_boxes, read_cases
from saliency_tubes.faithfulness.regions import Frames, when, where
from saliency_tubes.preprocess import crop
from saliency_tubes.video import open_clip
from tiny import tiny_spec

PREPROCESSING = tiny_spec().preprocessing  # 36x36, of which the middle 32x32
WIDE = Frames(np.array([0, 2, 3]), 4, (36, 36), PREPROCESSING, Fit.SQUASH_CROP)
HEADER = "path,label,mask,boxes,first,last\n"


def write(text: str | bytes, path: Path) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def square(top: int = 10, left: int = 20, side: int = 8) -> NDArray[np.bool_]:
    """(4, 36, 36) bool: a square that goes down by a pixel each frame."""
    mask = np.zeros((4, 36, 36), dtype=np.bool_)
    for frame in range(4):
        mask[frame, top + frame : top + frame + side, left : left + side] = True
    return mask


def announce(avi: Path, frames: int) -> None:
    """Say in the headers of an AVI that it has so many frames, and drop its index."""
    data = bytearray(avi.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, frames)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, frames)
    avi.write_bytes(data)


def seen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What the network sees at `WIDE`'s frames of a mask of 36x36: two pixels are cut off on each side."""
    return mask[[0, 2, 3], 2:34, 2:34]


class TestLists:
    def test_every_column(self, tmp_path: Path) -> None:
        file = write(HEADER + "a.mp4,bowling,m/a.gif,,2,5\nb,,,b.csv,,\n\nc,3,,,,\n", tmp_path / "cases.csv")

        first, second, third = read_cases(file)

        assert isinstance(first, Case)
        assert (first.name, first.source, first.label) == ("a.mp4", tmp_path / "a.mp4", "bowling")
        assert first.place == f"{file} line 2"
        assert first.evidence is not None
        assert (first.evidence.mask, first.evidence.boxes, first.evidence.moving) == (
            tmp_path / "m/a.gif",
            None,
            (2, 5),
        )
        assert isinstance(second, Case)
        assert second.evidence is not None
        assert (second.label, second.evidence.boxes, second.evidence.moving) == (None, tmp_path / "b.csv", None)
        assert isinstance(third, Case)
        assert (third.label, third.evidence, third.place) == ("3", None, f"{file} line 5")

    def test_columns_in_any_order_and_separated_by_semicolons(self, tmp_path: Path) -> None:
        file = write("\ufeffLast;PATH;first\n7;a,b.mp4;0\n", tmp_path / "cases.csv")

        (case,) = read_cases(file)

        assert isinstance(case, Case)
        assert case.source == tmp_path / "a,b.mp4"
        assert case.evidence is not None
        assert case.evidence.moving == (0, 7)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (",1,,,,", "the path is empty: expected a video"),
            ("a,,m,b,,", "there are a mask and boxes: expected one of them"),
            ("a,,,,3,", "there is a first frame or a last one alone: expected both, or neither"),
            ("a,,,,-1,4", "first is '-1': expected a whole number, counted from 0"),
            ("a,,,,1,4.5", "last is '4.5': expected a whole number"),
            ("a,,,,1,99999999999999", "last is '99999999999999': expected"),
            ("a,,,,²,4", "first is '²': expected"),
            ("a,,,,1,2,3", "7 fields, where the header has 6"),
        ],
    )
    def test_a_bad_row_does_not_stop_the_others(self, tmp_path: Path, row: str, message: str) -> None:
        file = write(f"{HEADER}{row}\ngood,,,,,\n", tmp_path / "cases.csv")

        bad, good = read_cases(file)

        assert isinstance(bad, CaseError)
        assert (bad.source, bad.names_clip) == (f"{file} line 2", False)
        assert bad.error.startswith(message)
        assert isinstance(good, Case)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                "path,box\na,b\n",
                "has the columns 'path', 'box': expected a first line that names 'path' and, if wanted, ",
            ),
            ("", "has the columns nothing: expected"),
            (HEADER, "holds no cases: expected a row for each clip below the header"),
            (b"path\n\0", "is not a text file .* expected a list of cases in UTF-8"),
            ('path\n"a', r"line 2 is not CSV \(unexpected end of data\)"),
        ],
    )
    def test_lists_that_are_none(self, tmp_path: Path, content: str | bytes, message: str) -> None:
        with pytest.raises(SourceError, match=message):
            list(read_cases(write(content, tmp_path / "cases.csv")))

    @pytest.mark.parametrize("name", ["nowhere.csv", ".", "a\0b"])
    def test_a_list_that_cannot_be_read(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(SourceError, match=r"cannot be read .* expected a list of cases, a CSV file"):
            list(read_cases(tmp_path / name))

    def test_boxes(self, tmp_path: Path) -> None:
        file = write("frame,top,left,right,bottom\n3,1,2,4.5,6\n3,0,0,1,1\n", tmp_path / "boxes.csv")

        assert read_boxes(file) == (Box(3, 2, 1, 4.5, 6), Box(3, 0, 0, 1, 1))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("frame,left,top,right\n", "expected a first line that names 'frame', 'left', 'top', 'right' and 'bottom'"),
            ("frame,left,top,right,bottom\nx,1,1,2,2\n", "line 2: frame is 'x': expected a whole number"),
            ("frame,left,top,right,bottom\n0,1,1,2,\n", "line 2: bottom is '': expected a number of pixels"),
            ("frame,left,top,right,bottom\n0,nan,1,2,2\n", "line 2: left is 'nan': expected a number of pixels"),
            ("frame,left,top,right,bottom\n0,1,1,2,2,9\n", "line 2: 6 fields, where the header has 5"),
        ],
    )
    def test_boxes_that_are_none(self, tmp_path: Path, content: str, message: str) -> None:
        with pytest.raises(SourceError, match=message):
            read_boxes(write(content, tmp_path / "boxes.csv"))


class TestWhere:
    def test_a_mask_in_memory(self) -> None:
        np.testing.assert_array_equal(where(Evidence(mask=square()), WIDE), seen(square()))
        np.testing.assert_array_equal(
            where(Evidence(mask=square()[1]), WIDE), seen(np.stack([square()[1]] * 4)), "one for all frames"
        )

    def test_nothing_known(self) -> None:
        assert where(Evidence(moving=(0, 1)), WIDE) is None

    @pytest.mark.parametrize("fit", Fit)
    @pytest.mark.parametrize("size_wh", [(61, 47), (36, 90), (201, 150)])
    def test_a_mask_is_cropped_as_its_frames_are(self, fit: Fit, size_wh: tuple[int, int]) -> None:
        width, height = size_wh
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[height // 5 : height // 2, width // 3 : width * 3 // 4] = True
        frames = Frames(np.array([0]), 1, size_wh, PREPROCESSING, fit)

        found = where(Evidence(mask=mask), frames)

        picture = crop(np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2), PREPROCESSING, fit)
        assert found is not None
        assert found.shape == (1, 32, 32)
        assert found.any()
        assert found[0][picture[..., 0] > 127].all()
        beside = cv2.dilate((picture[..., 0] > 0).astype(np.uint8), np.ones((3, 3), dtype=np.uint8)) > 0
        assert not found[0][~beside].any()

    def test_a_mask_as_video_folder_and_gif(self, tmp_path: Path) -> None:
        bright = (square()[..., None] * np.array([0, 255, 0], dtype=np.uint8)).astype(np.uint8)
        grey = square()[..., None].repeat(3, axis=3) * np.uint8(255)
        folder = write_folder(tmp_path / "mask", bright)
        video = write_video(tmp_path / "mask.mp4", grey)
        animation = cv2.Animation()
        animation.frames = list(grey)
        animation.durations = [100] * 4
        cv2.imwriteanimation(str(tmp_path / "mask.gif"), animation)

        for file in (folder, tmp_path / "mask.gif"):
            np.testing.assert_array_equal(where(Evidence(mask=file), WIDE), seen(square()))
        found = where(Evidence(mask=video), WIDE)
        assert found is not None
        assert (found != seen(square())).mean() < 0.01  # compression

    def test_a_mask_video_with_more_frames_than_it_announces(self, tmp_path: Path) -> None:
        grey = square()[..., None].repeat(3, axis=3) * np.uint8(255)
        video = write_video(tmp_path / "mask.avi", np.concatenate([grey, grey]), codec="mpeg4")
        announce(video, 2)
        eight = replace(WIDE, indices=np.array([0, 2, 7]), length=8)

        found = where(Evidence(mask=video), eight)

        assert open_clip(video).length == 2
        assert found is not None
        assert (found != square()[[0, 2, 3], 2:34, 2:34]).mean() < 0.02  # compression
        with pytest.raises(SourceError, match="has 8 frames, and its clip has 4 frames"):
            where(Evidence(mask=video), WIDE)
        with pytest.raises(SourceError, match="gives 2 frames of the 3 that the network sees"):
            where(Evidence(mask=video), replace(eight, indices=np.array([0, 2, 8])))

    def test_a_mask_that_is_transparent_in_places_is_refused(self, tmp_path: Path) -> None:
        """White everywhere, and to be seen only where the evidence is."""
        white = np.full((36, 36, 4), 255, dtype=np.uint8)
        folder = write_folder(tmp_path / "mask", white[None, ..., :3].repeat(4, axis=0))
        for file in (tmp_path / "mask.png", folder / "frame2.png"):
            cv2.imwrite(str(file), np.where(square()[0][..., None], white, white * np.array([1, 1, 1, 0], np.uint8)))

        for mask in (tmp_path / "mask.png", folder):
            with pytest.raises(SourceError, match=r"is transparent in places: save it without transparency"):
                where(Evidence(mask=mask), WIDE)
        cv2.imwrite(str(tmp_path / "opaque.png"), white)
        found = where(Evidence(mask=tmp_path / "opaque.png"), WIDE)
        assert found is not None
        assert found.all()

    def test_a_picture_holds_for_all_frames(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "mask.png"), np.where(square()[0], 128, 127).astype(np.uint8))

        found = where(Evidence(mask=tmp_path / "mask.png"), WIDE)

        np.testing.assert_array_equal(found, seen(np.stack([square()[0]] * 4)))

    def test_boxes_of_a_frame_add_up(self) -> None:
        boxes = (Box(2, 4, 6, 10, 8), Box(2, 20, 20, 21.4, 22.6), Box(0, -0.5, 0, 36.5, 36), Box(1, 0, 0, 5, 5))

        found = where(Evidence(boxes=boxes), WIDE)

        expected = np.zeros((4, 36, 36), dtype=np.bool_)
        expected[2, 6:8, 4:10] = True
        expected[2, 20:23, 20:21] = True  # pixels whose centres are inside
        expected[0] = True
        np.testing.assert_array_equal(found, seen(expected))

    def test_a_short_clip_repeats_frames(self) -> None:
        found = where(Evidence(mask=square()), replace(WIDE, indices=np.array([1, 1, 2])))

        np.testing.assert_array_equal(found, square()[[1, 1, 2], 2:34, 2:34])

    def test_what_does_not_fit_its_clip(self, tmp_path: Path) -> None:
        grey = square()[..., None].repeat(3, axis=3) * np.uint8(255)
        few = write_folder(tmp_path / "few", grey[:2])
        many = write_video(tmp_path / "many.mp4", np.concatenate([grey, grey]))
        small = write_folder(tmp_path / "small", grey[:, :30])
        cv2.imwrite(str(tmp_path / "small.png"), grey[0, :, :30])
        numbers = write_folder(tmp_path / "numbers", grey // 255)
        cases = [
            (Evidence(mask=few), "has 2 frames, and its clip has 4 frames: expected as many, or one picture for all"),
            (Evidence(mask=many), "has 8 frames, and its clip has 4 frames"),
            (Evidence(mask=small), "has frames of 36x30 pixels: expected 36x36, as its clip has"),
            (Evidence(mask=tmp_path / "small.png"), "has frames of 30x36 pixels: expected 36x36"),
            (Evidence(mask=numbers), "nowhere brighter than 1: expected evidence above 127 of 255"),
            (Evidence(mask=tmp_path / "no.mp4"), "does not exist"),
            (Evidence(mask=square()[:3]), r"the mask is bool \(3, 36, 36\): expected bool \(4, 36, 36\)"),
            (Evidence(mask=square().astype(np.uint8)), "the mask is uint8"),  # type: ignore[arg-type]
            (Evidence(mask=square(), boxes=(Box(0, 0, 0, 1, 1),)), "there are a mask and boxes"),
            (Evidence(boxes=(Box(4, 0, 0, 1, 1),)), "a box for frame 4: expected frames from 0 to 3"),
            (Evidence(boxes=(Box(0, 5, 0, 5, 1),)), "left 5, top 0, right 5 and bottom 1: expected left below right"),
            (Evidence(boxes=(Box(0, 0, 0, 9, 50),)), "in pixels of frames of 36x36"),
        ]
        for evidence, message in cases:
            with pytest.raises(SourceError, match=message):
                where(evidence, WIDE)

    def test_a_dark_mask_is_no_error(self, tmp_path: Path) -> None:
        found = where(Evidence(mask=write_folder(tmp_path / "dark", np.zeros((4, 36, 36, 3), dtype=np.uint8))), WIDE)

        assert found is not None
        assert not found.any()


class TestWhen:
    def test_frames_of_the_tube_are_looked_up(self) -> None:
        assert when(Evidence(mask=square()), WIDE) is None
        np.testing.assert_array_equal(when(Evidence(moving=(1, 2)), WIDE), [False, True, False])
        np.testing.assert_array_equal(
            when(Evidence(moving=np.array([True, False, False, True])), WIDE), [True, False, True]
        )

    @pytest.mark.parametrize(
        ("moving", "message"),
        [
            ((3, 2), "in frames 3 to 2: expected two frames from 0 to 3"),
            ((0, 4), "in frames 0 to 4: expected"),
            ((-1, 2), "in frames -1 to 2: expected"),
            (np.ones(3, dtype=np.bool_), r"`moving` has the shape \(3,\): expected \(4,\)"),
        ],
    )
    def test_what_does_not_fit_its_clip(self, moving: tuple[int, int], message: str) -> None:
        with pytest.raises(SourceError, match=message):
            when(Evidence(moving=moving), WIDE)
