import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import cv2
import numpy as np
import pytest
from clips import moving_square, write_video
from saliency_tubes import load_model
from saliency_tubes.batch.command import save_as
from saliency_tubes.batch.gallery import page, write_page, write_thumbnail
from saliency_tubes.batch.results import LabelRecord, Record, Written
from saliency_tubes.batch.run import Procedure, run_batch
from saliency_tubes.batch.sources import find_clips
from saliency_tubes.choices import Artifact
from saliency_tubes.explanation import Score
from saliency_tubes.statistics import TubeStatistics
from tiny import write_tiny

HOSTILE = "</script><script>alert(1)</script><!--\u2028&\u2029<b>\"'"
CLASSES = ("archery", "bowling", "crying")


def record(number: int, **changes: Any) -> Record:
    """The record of a clip whose numbers all come from `number`, in orders that differ."""
    index = number % 3
    score = Score(index, CLASSES[index], number * 7 % 50 - 20.5, number * 3 % 100 / 100)
    none = dict.fromkeys(TubeStatistics.__dataclass_fields__)
    statistics = TubeStatistics(
        **none | {"border_energy": number * 11 % 100 / 100, "peak_s": number * 13 % 70 / 10, "peak_frame": number}
    )  # type: ignore[arg-type]
    label = LabelRecord(
        score, statistics, Written(f"clip{number}/{index}", ("heatmap/", "info.json", "overlay.gif")), None
    )
    fields = {
        "source": f"/v/clip{number}.mp4",
        "name": f"clip{number}",
        "predicted": score,
        "labels": (label,),
        "together": None,
        "notes": (),
        "error": None,
        "seconds": 1.0,
        "fingerprint": "f",
    }
    return Record(**fields | changes)  # type: ignore[arg-type]


def failed(name: str, error: str) -> Record:
    return record(0, source=f"/v/{name}.mp4", name=name, predicted=None, labels=(), error=error)


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    document: dict[str, Any] = json.loads(found[1])
    return document


def test_what_came_from_outside_is_data_and_never_markup() -> None:
    score = Score(1, HOSTILE, 0.5, 0.5)
    (label,) = record(1).labels
    hostile = record(
        1,
        name=HOSTILE,
        source=f"/v/{HOSTILE}",
        predicted=score,
        labels=(replace(label, score=score, written=Written(HOSTILE, (HOSTILE,))),),
        notes=(HOSTILE,),
    )

    text = page([hostile, failed(HOSTILE, HOSTILE)])

    assert text.count("<script") == text.count("</script>") == 2
    assert "alert(1)<" not in text
    assert "<!--" not in text
    assert not set("\u2028\u2029") & set(text)
    rows = data_of(text)["rows"]
    assert rows[0]["name"] == rows[0]["predicted"][1] == rows[0]["notes"][0] == rows[1]["error"] == HOSTILE


def test_the_policy_allows_this_pages_script_and_style_alone() -> None:
    text = page([record(1)])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None

    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'; img-src 'self' file:; ")
    assert "unsafe" not in policy[1]


@pytest.mark.parametrize("name", ["a#1?x=%41", "javascript:alert(1)", "a b'\"&", "caf\udce9", "\u6f22", "..."])
def test_links_lead_to_the_files_whatever_they_are_called(name: str) -> None:
    (label,) = record(1).labels
    url = data_of(page([record(1, labels=(replace(label, written=Written(f"{name}/1", ())),))]))["rows"][0]["written"][
        "folder"
    ]

    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote_to_bytes(parts.path) == os.fsencode(f"{name}/1/")


def test_paths_are_shown_from_the_folder_of_all() -> None:
    document = data_of(
        page(
            [
                record(1, source="/v/a/x.mp4"),
                record(2, source="/v/b/c/y.mp4"),
                replace(failed("z", "bad"), source="list.csv line 2", fingerprint=None, name=None),
            ]
        )
    )

    assert document["root"] == "/v"
    assert [row["source"] for row in document["rows"]] == ["a/x.mp4", "b/c/y.mp4", ""]
    assert document["rows"][2]["name"] == "list.csv line 2"
    assert data_of(page([]))["rows"] == []


def test_a_thumbnail_is_small_and_keeps_its_shape(tmp_path: Path) -> None:
    (tmp_path / "gallery").mkdir()
    picture = np.zeros((720, 1280, 3), dtype=np.uint8)
    picture[..., 0] = 200

    first = write_thumbnail(tmp_path, "a/1", picture)
    again = write_thumbnail(tmp_path, "a/1", picture)
    other = write_thumbnail(tmp_path, "a/2", picture[:10, :7])

    assert first == again != other
    image = cv2.imread(str(tmp_path / first))
    assert image is not None
    assert image.shape == (126, 224, 3)
    assert np.abs(image.mean(axis=(0, 1)) - [0, 0, 200]).max() < 4  # BGR
    assert len(list((tmp_path / "gallery").iterdir())) == 2


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the gallery is not looked at")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: the gallery is not looked at")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=options.split())
        yield opened
        opened.close()


class Gallery:
    """A gallery in a browser, which minds what it asks for and what it complains of."""

    def __init__(self, browser: Any, file: Path, fragment: str = "", **options: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri() + fragment)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found

    def names(self) -> list[str]:
        return self.texts("#rows .name")

    def sorted_by(self) -> list[tuple[str, str]]:
        headers = self.page.locator("th[aria-sort]")
        return [(header.inner_text(), header.get_attribute("aria-sort")) for header in headers.all()]


RECORDS = [record(number) for number in range(1, 121)]
FAILED = [failed("broken", "cannot be opened as a video <i>"), failed("another", "holds no frames")]


@pytest.fixture
def gallery(browser: Any, tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(browser, write_page(tmp_path, RECORDS + FAILED).resolve())
    yield opened
    assert opened.complaints == []
    assert len(opened.requests) == 1  # the page itself
    opened.page.context.close()


def test_it_shows_a_page_of_rows_at_a_time_in_natural_order(gallery: Gallery) -> None:
    assert gallery.texts("#summary") == ["122 clips in /v, 2 failed"]
    assert gallery.texts("#count") == ["122 results"]
    assert gallery.names() == ["another", "broken", *(f"clip{n}" for n in range(1, 49))]
    assert gallery.sorted_by() == [("Clip", "ascending")]

    gallery.page.get_by_role("button", name="Next").click()
    gallery.page.get_by_role("button", name="Next").click()

    assert gallery.names() == [f"clip{n}" for n in range(99, 121)]
    assert gallery.texts("#page") == ["Page 3 of 3"]
    assert gallery.page.get_by_role("button", name="Next").is_disabled()
    assert gallery.page.evaluate("document.querySelectorAll('#rows tr').length") == 22


@pytest.mark.parametrize(
    ("column", "first", "key"),
    [
        ("Probability", "descending", lambda one: one.labels[0].score.probability),
        ("Logit", "descending", lambda one: one.labels[0].score.logit),
        ("At the border", "descending", lambda one: one.labels[0].statistics.border_energy),
        ("Peak", "ascending", lambda one: one.labels[0].statistics.peak_s),
    ],
)
def test_a_header_sorts_and_turns_the_order_round(gallery: Gallery, column: str, first: str, key: Any) -> None:
    button = gallery.page.get_by_role("columnheader").get_by_role("button", name=column)
    button.focus()
    for direction in (first, "ascending" if first == "descending" else "descending"):
        gallery.page.keyboard.press("Enter")
        sign = 1 if direction == "ascending" else -1
        expected = sorted(RECORDS, key=lambda one: (sign * key(one), int(str(one.name)[4:])))

        assert gallery.names() == [one.name for one in expected[:50]]
        assert [state for _, state in gallery.sorted_by()] == [direction]
        assert gallery.page.locator("#direction").inner_text().lower().startswith(direction)
        gallery.page.get_by_role("button", name="Next").click()
        gallery.page.get_by_role("button", name="Next").click()
        assert gallery.names()[-2:] == ["another", "broken"]  # what failed has no number: last
        button.focus()


def test_the_filters_do_what_they_say(gallery: Gallery) -> None:
    page = gallery.page
    page.get_by_label("Show").select_option("failed")
    assert gallery.names() == ["another", "broken"]
    assert gallery.texts("#rows .error") == ["holds no frames", "cannot be opened as a video <i>"]
    assert gallery.texts("#count") == ["2 of 122 results"]

    page.get_by_label("Show").select_option("done")
    page.get_by_label("Predicted").select_option(label="bowling")
    assert gallery.texts("#count") == ["40 of 122 results"]
    assert set(gallery.texts("#rows .predicted .class")) == {"bowling"}
    page.get_by_label("Explained").select_option(label="crying")
    assert gallery.names() == []
    assert page.get_by_text("No clip matches.").is_visible()
    page.get_by_role("button", name="Show all clips").click()
    assert gallery.texts("#count") == ["122 results"]

    page.get_by_label("Search").fill("CLIP11 crying")
    assert gallery.names() == ["clip11", "clip110", "clip113", "clip116", "clip119"]
    page.get_by_label("Search").fill("opened as a video")
    assert gallery.names() == ["broken"]
    page.get_by_role("button", name="Reset").click()
    assert page.get_by_label("Search").input_value() == ""


def test_it_finds_clips_that_were_predicted_to_be_something_else(browser: Any, tmp_path: Path) -> None:
    other = record(4, predicted=Score(2, "crying", 1.0, 0.6))
    gallery = Gallery(browser, write_page(tmp_path, [*RECORDS[:3], other]).resolve())

    gallery.page.get_by_label("Show").select_option("other")

    assert gallery.names() == ["clip4"]
    assert gallery.texts("#rows .predicted")[0].startswith("crying")
    assert gallery.texts("#rows .label") == ["bowling"]


def test_a_link_to_a_view_shows_that_view_and_nonsense_shows_all(browser: Any, tmp_path: Path) -> None:
    file = write_page(tmp_path, RECORDS).resolve()
    first = Gallery(browser, file)
    first.page.get_by_label("Predicted").select_option(label="crying")
    first.page.get_by_label("Sort by").select_option("logit")

    again = Gallery(browser, file, "#" + first.page.url.partition("#")[2])

    assert again.names() == first.names() != []
    assert again.page.get_by_label("Predicted").input_value() == "2"
    nonsense = Gallery(browser, file, "#sort=constructor&page=-3&show=x&label=77&__proto__=1")
    assert len(nonsense.names()) == 50
    assert nonsense.sorted_by() == [("Clip", "ascending")]
    assert nonsense.complaints == []


def test_what_shows_all_labels_is_linked_from_each(browser: Any, tmp_path: Path) -> None:
    both = record(1, together=Written("clip1/1+2", ("info.json", "report.html")))
    gallery = Gallery(browser, write_page(tmp_path, [replace(both, labels=both.labels * 2)]).resolve())

    links = gallery.page.get_by_role("link", name="report.html of clip1, all labels")

    assert [link.get_attribute("href") for link in links.all()] == ["clip1/1%2B2/report.html"] * 2
    assert gallery.page.evaluate("best(data.rows[0])") == "clip1/1%2B2/report.html"


def test_approximate_maps_are_marked_above_all_and_in_their_rows(browser: Any, tmp_path: Path) -> None:
    inexact = record(2, approximate=f"why {HOSTILE}", notes=("approximate: 6.3 %",))
    records = [record(1), inexact, record(3, approximate="another reason"), *FAILED]
    gallery = Gallery(browser, write_page(tmp_path, records).resolve())

    assert gallery.texts("#rows tr .mark") == ["approximate", "approximate"]
    assert gallery.page.locator("#rows tr", has_text="clip1").locator(".mark").count() == 0
    warning = gallery.page.locator("#approximate").text_content()
    assert (
        warning
        == f"The maps of 2 results are approximate: why {HOSTILE}; another reason. Each result says by how much."
    )
    assert gallery.complaints == []
    all_of_them = Gallery(browser, write_page(tmp_path, records[1:2] + FAILED).resolve())
    assert all_of_them.texts("#approximate")[0].startswith("These maps are approximate: why <")
    plain = Gallery(browser, write_page(tmp_path, [record(1), *FAILED]).resolve())
    assert not plain.page.locator("#approximate").is_visible()
    assert plain.texts("#rows .mark") == []


def test_it_is_a_table_to_a_screen_reader_and_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    file = write_page(tmp_path, [record(1, name="x" * 200, source=f"/v/{'y' * 200}"), *RECORDS[1:4], *FAILED]).resolve()
    for width in (1280, 390):
        gallery = Gallery(browser, file, viewport={"width": width, "height": 800})
        assert gallery.page.evaluate("document.documentElement.scrollWidth") <= width
        assert gallery.page.get_by_role("table", name="Explained clips").count() == 1
        assert gallery.page.get_by_role("row").count() >= 6
        assert gallery.page.get_by_role("link", name="overlay.gif of clip2").count() == 1


def _luminance(colour: str) -> float:
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, tmp_path: Path, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5."""
    gallery = Gallery(
        browser,
        write_page(tmp_path, [*RECORDS[:3], record(4, approximate="why"), *FAILED]).resolve(),
        color_scheme=scheme,
    )
    pairs = gallery.page.evaluate(
        """() => ["#summary", ".name", ".source", "#rows a", ".error", "th button", "#legend", "#reset", "label", "#approximate", ".mark"].map((selector) => {
          const text = document.querySelector(selector);
          let ground = text;
          while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
          return [selector, getComputedStyle(text).color, getComputedStyle(ground).backgroundColor];
        })"""
    )
    for selector, text, ground in pairs:
        low, high = sorted([_luminance(text), _luminance(ground)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (selector, text, ground)


def test_pictures_and_links_of_a_real_batch_with_odd_names(browser: Any, tmp_path: Path) -> None:
    folder, out = tmp_path / "v #1", tmp_path / "o ut?#%41"
    folder.mkdir()
    for name in (b"plain", b"a#1?x=%41 b", b"q'\"&<b>", b"caf\xe9", "\u6f22\u2028".encode()):
        write_video(folder / "clip.mp4", moving_square(8))
        (folder / "clip.mp4").rename(folder / os.fsdecode(name + b".mp4"))
    model = load_model(write_tiny(tmp_path / "tubes.onnx"), "cpu")
    procedure = Procedure(partial(model.explain_jobs, top_k=2), partial(save_as, artifacts=[Artifact.GIF]), {})
    summary = run_batch(find_clips([folder], out), out, model.spec, procedure)
    gallery = Gallery(browser, summary.gallery.resolve(), viewport={"width": 1280, "height": 4000})

    gallery.page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")

    assert summary.explained == 5
    sizes = gallery.page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) == 10
    assert all(size == 32 for size in sizes)
    assert all(url.startswith("file:///") for url in gallery.requests)
    assert gallery.page.locator("#rows b").count() == 0
    links = gallery.page.evaluate("[...document.querySelectorAll('#rows a')].map((link) => link.href)")
    assert len(links) == 10 * 3
    for link in links:
        assert Path(os.fsdecode(unquote_to_bytes(urlsplit(link).path))).is_file(), link
    gallery.page.goto(next(link for link in links if "%E9" in link and link.endswith(".gif")))
    assert gallery.complaints == []
