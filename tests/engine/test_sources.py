import os
import subprocess
import time
from pathlib import Path

import pytest
from saliency_tubes.batch.lists import Refused
from saliency_tubes.batch.sources import Found, find_clips
from saliency_tubes.errors import SourceError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def found(*sources: str, out: str = "out") -> list[str]:
    return [clip.path.as_posix() for clip in find_clips(sources, Path(out)).clips]


def write_list(text: str | bytes, name: str = "clips.csv") -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def rows(result: Found) -> list[tuple[str, str | None]]:
    return [(clip.path.as_posix(), clip.label) for clip in result.clips]


def test_a_folder_holds_videos_however_deep_in_natural_order(place: Path) -> None:
    touch(
        "v/clip10.mp4",
        "v/clip2.MP4",
        "v/sub/deep/a.webm",
        "v/notes.pdf",
        "v/cover.jpg",
        "v/.hidden.mp4",
        "v/.git/b.mp4",
    )

    assert found("v") == ["v/clip2.MP4", "v/clip10.mp4", "v/sub/deep/a.webm"]


def test_a_folder_of_images_is_one_clip(place: Path) -> None:
    touch(
        "v/swim/1.jpg",
        "v/swim/2.jpg",
        "v/dive/1.png",
        "v/dive/2.png",
        "v/one/cover.png",
        "v/mixed/1.png",
        "v/mixed/2.png",
    )
    touch("v/mixed/a.avi", "v/swim/more/b.mkv")

    assert found("v") == ["v/dive", "v/mixed/a.avi", "v/swim", "v/swim/more/b.mkv"]
    assert found("v/swim") == ["v/swim", "v/swim/more/b.mkv"]


def test_the_output_folder_is_not_searched(place: Path) -> None:
    touch("v/a.mp4", "v/out/a/3/overlay.mp4")

    result = find_clips(["v", "**/*.mp4", "v/*"], place / "v" / "out")

    assert {clip.path.as_posix() for clip in result.clips} == {"v/a.mp4"}
    assert "v/out is the folder for the results and was passed over" in result.notes
    assert found("v", out=".") == ["v/a.mp4", "v/out/a/3/overlay.mp4"]
    with pytest.raises(
        SourceError, match=r"no clips in v/out: .* v/out is the folder for the results and was passed over"
    ):
        find_clips(["v/out"], Path("v/out"))


def test_links_in_circles_come_to_an_end(place: Path) -> None:
    touch("v/a.mp4", "elsewhere/b.mp4")
    for name in ("one", "two", "three"):
        Path("v", name).symlink_to("..", target_is_directory=True)
    Path("v/linked").symlink_to(place / "elsewhere", target_is_directory=True)
    Path("v/dead.mp4").symlink_to("nowhere.mp4")
    started = time.perf_counter()

    names = found("v", "**/*.mp4")

    assert time.perf_counter() - started < 5
    assert {Path(name).name for name in names} == {"a.mp4", "b.mp4"}


def test_folders_nested_deeper_than_pythons_calls(place: Path) -> None:
    deep = os.open(".", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=deep)
        deeper = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(os.open("a.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)

    try:
        assert [name[-8:] for name in found("d")] == ["/d/a.mp4"]
    finally:
        subprocess.run(["rm", "-rf", "d"], check=True)  # Python's own way is recursive


def test_a_pattern_that_the_shell_left_alone(place: Path) -> None:
    touch("v/a1.mp4", "v/a10.mp4", "v/a2.mp4", "v/a3.txt", "v/sub/b.mp4", "v/.x/c.mp4", "v/raw.h264", "v/no.png")

    assert found("v/a*") == ["v/a1.mp4", "v/a2.mp4", "v/a10.mp4"]
    assert found(str(place / "v" / "*.h264")) == [f"{place.as_posix()}/v/raw.h264"]
    assert sorted(found("v/**/*.mp4")) == ["v/a1.mp4", "v/a10.mp4", "v/a2.mp4", "v/sub/b.mp4"]
    assert set(found("v/**")) == set(found("v"))
    with pytest.raises(SourceError, match=r"no clips in v/\*\.png: expected videos .*v/\*\.png holds no clips"):
        find_clips(["v/*.png"], Path("out"))
    touch("v/[odd].mp4")
    assert found("v/[odd].mp4") == ["v/[odd].mp4"]


def test_a_file_may_be_called_anything(place: Path) -> None:
    touch("recording")

    assert found("recording") == ["recording"]


def test_what_is_not_there_is_an_error_and_what_is_empty_a_note(place: Path) -> None:
    touch("v/a.mp4", "empty/readme")

    with pytest.raises(SourceError, match=r"vv does not exist: expected a video, a folder, a glob"):
        find_clips(["v", "vv"], Path("out"))
    with pytest.raises(SourceError, match=r"no clips in empty: expected videos \(\.3g2 "):
        find_clips(["empty"], Path("out"))
    with pytest.raises(SourceError, match="cannot be read"):
        find_clips(["a" * 5000], Path("out"))
    with pytest.raises(SourceError, match=r"a\0b (cannot be read|does not exist)"):
        find_clips(["a\0b"], Path("out"))
    assert find_clips(["v", "empty"], Path("out")).notes == ("empty holds no clips",)


def test_a_text_file_lists_a_path_a_line(place: Path) -> None:
    touch("v/one.mp4", "v/frames/1.png", "v/frames/2.png")
    name = write_list("\ufeffone.mp4\r\n\n  frames \n/abs/a b#c.mp4\nmissing.avi", "v/list.txt")

    result = find_clips([name], Path("out"))

    assert rows(result) == [("v/one.mp4", None), ("v/frames", None), ("/abs/a b#c.mp4", None), ("v/missing.avi", None)]
    assert result.clips[3].origin == "v/list.txt line 5"


def test_a_name_that_is_no_utf8_survives_a_list(place: Path) -> None:
    result = find_clips([write_list(b"caf\xe9.mp4\n", "l.txt")], Path("out"))

    assert os.fsencode(result.clips[0].path) == b"caf\xe9.mp4"


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,3\nb c.mp4,bowling\n",
        "\ufeffPath,LABEL\r\na.mp4,3\r\n\r\nb c.mp4,bowling\r\n",
        '"label";"path"\n"3";"a.mp4"\nbowling;b c.mp4\n',
        "\n path \tlabel\na.mp4\t 3\nb c.mp4\tbowling",
        "path,label\ra.mp4,3\rb c.mp4,bowling\r",
    ],
)
def test_csv_as_programs_write_it(place: Path, text: str) -> None:
    assert rows(find_clips([write_list(text)], Path("out"))) == [("a.mp4", "3"), ("b c.mp4", "bowling")]


def test_csv_without_labels_and_with_separators_in_quotes(place: Path) -> None:
    result = find_clips([write_list('path,label\n"a,b ""c"".mp4",\nd.mp4\n')], Path("out"))

    assert rows(result) == [('a,b "c".mp4', None), ("d.mp4", None)]
    assert rows(find_clips([write_list("path\nx,y.mp4\nz.mp4\n", "one.csv")], Path("out"))) == [("z.mp4", None)]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("file,label", "'file', 'label'"),
        ("path,lable", "'path', 'lable'"),
        ("a.mp4", "'a.mp4'"),
        ("path;path", "'path', 'path'"),
        ("path,label,", "'path', 'label', ''"),
        (" ", "''"),
    ],
)
def test_a_wrong_column_is_an_error_that_names_both(place: Path, header: str, columns: str) -> None:
    with pytest.raises(
        SourceError, match=f"clips.csv has the columns {columns}: expected a first line that names 'path' "
    ):
        find_clips([write_list(header + "\nb.mp4,1\n")], Path("out"))


def test_a_row_that_names_nothing_is_reported_and_the_rest_go_on(place: Path) -> None:
    touch("empty/readme")
    long = "x" * 5000
    result = find_clips([write_list(f"path,label\n,3\na,b,c\n{long},1\nempty,2\ngood.mp4,4\n")], Path("out"))

    assert rows(result) == [("good.mp4", "4")]
    assert [(row.source, row.label) for row in result.refused] == [
        ("clips.csv line 2", "3"),
        ("clips.csv line 3", "b"),
        ("clips.csv line 4", "1"),
        ("clips.csv line 5", "2"),
    ]
    assert [row.error.split(":")[0] for row in result.refused] == [
        "the path is empty",
        "3 fields, where the header has 2",
        f"'{'x' * 60}'... has 5000 characters",
        "the folder empty holds no clips",
    ]


def test_lists_that_are_none(place: Path) -> None:
    with pytest.raises(SourceError, match=r"zeros\.txt is not a text file \(it holds zero bytes\): expected a list"):
        find_clips([write_list(b"\x89PNG\0\0", "zeros.txt")], Path("out"))
    with pytest.raises(SourceError, match="It looks like UTF-16: save it as UTF-8"):
        find_clips([write_list("path\na.mp4".encode("utf-16"))], Path("out"))
    with pytest.raises(SourceError, match=r"clips\.csv line 2 is not CSV \(field larger than field limit"):
        find_clips([write_list("path,label\n" + "y" * 200_000)], Path("out"))
    with pytest.raises(SourceError, match=r"clips\.csv line 3 is not CSV \(unexpected end of data"):
        find_clips([write_list('path,label\n"a.mp4,1\nb.mp4,2')], Path("out"))
    with pytest.raises(SourceError, match=r"no clips in void\.txt"):
        find_clips([write_list("\n\n", "void.txt")], Path("out"))
    with Path("huge.txt").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(SourceError, match=r"huge\.txt has 2048 MiB: expected a list of clips of at most 64 MiB"):
        find_clips(["huge.txt"], Path("out"))


def test_a_long_line_is_a_row_that_names_nothing(place: Path) -> None:
    result = find_clips([write_list("z" * 10_000_000 + "\na.mp4\n", "long.txt")], Path("out"))

    assert rows(result) == [("a.mp4", None)]
    assert result.refused == (
        Refused("long.txt line 1", None, f"'{'z' * 60}'... has 10000000 characters: expected a path of at most 4096"),
    )
