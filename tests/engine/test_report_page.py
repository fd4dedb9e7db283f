"""The report's page in a real Chromium, opened from disk."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import reports
from clips import square_left
from saliency_tubes import render
from saliency_tubes.cells import Cells
from saliency_tubes.report import Report, inline_html, report_html
from saliency_tubes.upsample import upsample

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on PATH")

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a graphics card
]
CROP = (slice(24, 72), slice(16, 112))  # rows and columns of the report's box in its 128x96 clip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        browser.new_context()  # which pages without options of their own share
        yield browser
        browser.close()


class Viewer:
    """One open page, with everything it complained about and asked the network for."""

    def __init__(self, browser: Any, path: Path, text: str, init: str = "", **options: Any) -> None:
        path.write_text(text, encoding="utf-8")
        self.page = browser.new_page(**options) if options else browser.contexts[0].new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._watch(request.url, path.as_uri()))
        self.page.add_init_script(init)
        self.page.goto(path.as_uri())

    def _hear(self, message: Any) -> None:
        # Advice about reading pixels back, which screenshots and `stage` below do.
        if not any(
            advice in message.text for advice in ("GPU stall due to ReadPixels", "Multiple readback operations")
        ):
            self.complaints.append(message.text)

    def _watch(self, url: str, own: str) -> None:
        if url != own and not url.startswith("blob:"):
            self.complaints.append(f"asked for {url}")

    def ready(self) -> "Viewer":
        self.page.wait_for_function(
            "() => document.getElementById('video').readyState >= 2 && document.querySelector('.playhead')"
        )
        return self.settle()

    def settle(self) -> "Viewer":
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self

    def slide(self, name: str, value: float) -> "Viewer":
        self.page.evaluate(
            "([id, value]) => { const s = document.getElementById(id); s.value = value; s.dispatchEvent(new Event('input')); }",
            [name, value],
        )
        return self.settle()

    def choose(self, name: str, value: str) -> "Viewer":
        self.page.select_option(f"#{name}", value)
        return self.settle()

    def check(self, name: str, value: str) -> "Viewer":
        self.page.check(f"input[name={name}][value={value}]")
        return self.settle()

    def press(self, key: str) -> "Viewer":
        self.page.keyboard.press(key)
        return self.settle()

    def at_picture(self, picture: int) -> "Viewer":
        """Wait until this picture is shown."""
        text = f"{picture / reports.RATE:.2f} / 2.00 s"
        self.page.wait_for_function(
            "text => document.getElementById('clock').textContent === text", arg=text, timeout=10_000
        )
        return self.settle()

    def stage(self) -> np.ndarray:
        """(H, W, 3) int: what the clip's canvas shows."""
        script = """() => {
            const canvas = document.getElementById("stage-canvas");
            const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
            copy.getContext("2d").drawImage(canvas, 0, 0);
            return copy.toDataURL("image/png").split(",")[1];
        }"""
        png = np.frombuffer(base64.b64decode(self.page.evaluate(script)), np.uint8)
        return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)

    def tube(self) -> bytes:
        """A picture of the 3-D view."""
        return self.page.locator(".tube-room").screenshot()


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Any]:
    opened: list[Viewer] = []

    def open_(report: Report | None = None, **options: Any) -> Viewer:
        viewer = Viewer(browser, tmp_path / "report.html", report_html(report or reports.report()), **options)
        opened.append(viewer)
        return viewer

    yield open_
    for viewer in opened:
        viewer.page.close()
        assert viewer.complaints == []


SHARES = ((0.3, 0.15), (0.05, 0.1))  # all cells within the crop's middle rows and left half


def _cells(report: Report, size_hw: tuple[int, int]) -> Cells | None:
    """The report's cells in pixels of a crop of that size."""
    if report.cells is None:
        return None
    ((y, dy), (x, dx)), (height, width) = report.cells, size_hw
    return Cells((0, y * height - 0.5, x * width - 0.5), (1, dy * height, dx * width))


def _expected_heatmap(
    report: Report, which: int, picture: int, bare: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """The crop under the heatmap, by the engine's own splines and colours."""
    low, high = scale
    raw = upsample(report.labels[which].maps[picture : picture + 1], (1, 48, 96), cells=_cells(report, (48, 96)))[0]
    values = np.clip((raw - low) / (high - low), 0, 1)
    black = np.zeros((1, 48, 96, 3), np.uint8)
    colours = 2 * render.heatmap(values[None], black)[0].astype(float)  # halved there, to within one level
    return 0.5 * bare[CROP] + 0.5 * colours


def test_it_opens_quietly_and_says_what_it_shows(open_report: Any) -> None:
    page = open_report().ready().page

    assert page.title() == "clip.mp4: saliency tube"
    assert page.inner_text("h1") == "clip.mp4"
    assert page.inner_text("#verdict") == "Predicted: label 0, 75.0 %"
    assert " ".join(page.inner_text("#top").split()) == "0 label 0 75.0 % 5.00 1 class 1 20.0 % 4.00"
    assert " ".join(page.inner_text("#facts").split()) == "model tubes.onnx device cpu"
    assert page.is_visible("#unseen-note")
    assert not page.is_visible("#unplayable")
    assert not page.is_visible("#tube-unavailable")
    # Everything that can be operated has a name.
    nameless = "e => e.filter(c => !c.getAttribute('aria-label') && !c.labels?.length && !c.innerText?.trim()).map(c => c.outerHTML)"
    assert page.locator("button, input, select, [tabindex='0']").evaluate_all(nameless) == []


def test_the_heatmap_is_the_engines_in_the_crops_place(open_report: Any) -> None:
    report = reports.report()
    own = report.labels[0]
    narrow = (own.low + 0.3 * (own.high - own.low), own.low + 0.7 * (own.high - own.low))
    clipped = type(own)(**{**vars(own), "low": narrow[0], "high": narrow[1]})  # much of it lies beyond 0 and 1
    viewer = open_report(reports.report(labels=(clipped, report.labels[1]))).ready()
    viewer.slide("scrub", 12).at_picture(12)
    shown = viewer.stage()
    bare = viewer.check("mode", "frame").stage()

    difference = np.abs(shown[CROP] - _expected_heatmap(report, 0, 12, bare, narrow))
    assert np.median(difference) <= 1.5
    assert np.percentile(difference, 99) <= 5
    outside = np.ones(bare.shape[:2], bool)
    outside[CROP] = False
    assert np.abs(shown[outside] - 0.4 * bare[outside]).max() <= 2  # dimmed


def test_cells_are_drawn_where_the_report_says_that_they_lie(open_report: Any) -> None:
    report = reports.report(cells=SHARES)
    own = report.labels[0]
    viewer = open_report(report).ready().slide("scrub", 12).at_picture(12)
    shown = viewer.stage()
    bare = viewer.check("mode", "frame").stage()

    difference = np.abs(shown[CROP] - _expected_heatmap(report, 0, 12, bare, (own.low, own.high)))
    assert np.median(difference) <= 1.5
    assert np.percentile(difference, 99) <= 5
    corners = _expected_heatmap(reports.report(), 0, 12, bare, (own.low, own.high))
    assert np.median(np.abs(shown[CROP] - corners)) > 5


def test_the_focusmap_fades_as_the_engines_does(open_report: Any) -> None:
    report = reports.report()
    label = report.labels[0]
    viewer = open_report(report).ready().slide("scrub", 5).at_picture(5)
    shown = viewer.check("mode", "focusmap").stage()
    bare = viewer.check("mode", "frame").stage()
    values = np.clip((upsample(label.maps[5:6], (1, 48, 96)) - label.low) / (label.high - label.low), 0, 1)

    alpha = render.focusmap(values, np.zeros((1, 48, 96, 3), np.uint8))[0, ..., 3:] / 255

    assert np.abs(shown[CROP] - bare[CROP] * alpha).max() <= 3


def test_controls_change_what_they_say(open_report: Any) -> None:
    viewer = open_report().ready().slide("scrub", 10).at_picture(10)
    bare = viewer.check("mode", "frame").stage()[CROP]
    first = viewer.check("mode", "heatmap").stage()[CROP]

    assert np.array_equal(viewer.slide("opacity", 0).stage()[CROP], bare)
    assert not np.array_equal(viewer.slide("opacity", 1).stage()[CROP], first)
    viewer.slide("opacity", 0.5)
    blanked = viewer.slide("threshold", 0.6).stage()[CROP]
    assert 0.1 < (np.abs(blanked - bare).max(axis=-1) == 0).mean() < 0.99  # bare below the threshold
    assert (blanked == first).all(axis=-1).mean() > 0.01  # and as before above it
    viewer.slide("threshold", 0)
    assert not np.array_equal(viewer.choose("colormap", "viridis").stage()[CROP], first)
    assert np.array_equal(viewer.choose("colormap", "jet").stage()[CROP], first)
    viewer.choose("label", "1")
    viewer.page.wait_for_function("() => document.getElementById('label-words').textContent.includes('Class 1')")
    second = viewer.settle().stage()[CROP]
    assert not np.array_equal(second, first)


def test_one_scale_for_all_labels_is_said_and_drawn(open_report: Any) -> None:
    report = reports.report()
    low = min(label.low for label in report.labels)
    high = max(label.high for label in report.labels)
    viewer = open_report(report).ready()
    assert viewer.page.inner_text("#scale-words").startswith("This label on its own scale. 0 is ")
    shown = viewer.check("scale", "common").stage()
    words = viewer.page.inner_text("#scale-words")
    bare = viewer.check("mode", "frame").stage()

    scale = f"0 is {low:.2f} and 1 is {high:.2f}".replace("-", "\N{MINUS SIGN}")
    assert words.startswith(f"One common scale for all labels. {scale} in units of the logit: the least and the most ")
    assert "evidence for these classes in this clip" in words
    difference = np.abs(shown[CROP] - _expected_heatmap(report, 0, 0, bare, (low, high)))
    assert np.percentile(difference, 99) <= 5


def test_the_peak_is_where_the_tube_is_highest_not_where_it_has_the_most_energy(open_report: Any) -> None:
    maps = np.zeros((20, 4, 5), dtype=np.float32)
    maps[3] = 0.5  # the most energy
    maps[12, 1, 2] = 1  # the highest value
    viewer = open_report(reports.report(labels=(reports.label(0, maps),))).ready()

    viewer.page.click("#peak")
    viewer.at_picture(12)

    assert re.search(r"\((0.99|1.00) of 1\)", viewer.page.inner_text("#reading"))


def test_it_plays_and_stops(open_report: Any) -> None:
    viewer = open_report().ready()
    first = viewer.stage()
    viewer.choose("speed", "2")
    viewer.page.click("#play")
    viewer.page.wait_for_function(
        "() => parseFloat(document.getElementById('clock').textContent) >= 0.5", timeout=10_000
    )
    assert viewer.page.get_attribute("#play", "aria-label") == "Pause"
    assert viewer.page.evaluate("document.getElementById('video').playbackRate") == 2
    viewer.page.click("#play")
    viewer.page.wait_for_function(
        "() => document.getElementById('video').paused && !document.querySelector('.is-playing')"
    )

    assert not np.array_equal(viewer.settle().stage(), first)
    stopped = viewer.page.inner_text("#clock")
    viewer.page.wait_for_timeout(200)
    assert viewer.page.inner_text("#clock") == stopped


def test_seeking_shows_the_right_picture(open_report: Any) -> None:
    viewer = open_report().ready().check("mode", "frame")

    def square_at(picture: int) -> float:
        return 2 * int(np.linspace(0, 64 - 12, 20)[picture])

    for picture in (19, 3, 0, 11):
        viewer.slide("scrub", picture).at_picture(picture)
        assert square_left(viewer.stage()) == pytest.approx(square_at(picture), abs=2)

    box = viewer.page.locator("#timeline").bounding_box()
    plot = (box["x"] + 46, box["x"] + box["width"] - 14)
    viewer.page.mouse.click(plot[0] + 0.77 * (plot[1] - plot[0]), box["y"] + 60)  # 1.54 s of 2 s
    viewer.at_picture(15)
    assert square_left(viewer.stage()) == pytest.approx(square_at(15), abs=2)
    viewer.page.mouse.move(plot[0] + 0.77 * (plot[1] - plot[0]), box["y"] + 60)
    viewer.page.mouse.down()
    viewer.page.mouse.move(plot[0] + 0.5 * (plot[1] - plot[0]), box["y"] + 60, steps=4)
    viewer.page.mouse.move(plot[0] - 30, box["y"] + 60, steps=4)
    viewer.page.mouse.up()
    viewer.at_picture(0)
    assert square_left(viewer.stage()) == pytest.approx(0, abs=2)


def test_the_keyboard_does_it_all(open_report: Any) -> None:
    viewer = open_report().ready()
    viewer.press("ArrowRight").at_picture(1)
    viewer.press("Shift+ArrowRight").at_picture(11)
    viewer.press("ArrowLeft").at_picture(10)
    viewer.press("End").at_picture(19)
    viewer.press("Home").at_picture(0)
    viewer.page.focus("#scrub")
    viewer.press("ArrowRight").at_picture(1)  # a control keeps its own keys
    viewer.page.focus("#stage")
    viewer.press("2")
    viewer.page.wait_for_function("() => document.getElementById('label').value === '1'")
    viewer.press("Space")
    viewer.page.wait_for_selector(".is-playing")
    viewer.press("Space")
    viewer.page.wait_for_selector("#play:not(.is-playing)")
    viewer.page.focus("#tube-canvas")
    time, before = viewer.page.inner_text("#clock"), viewer.tube()
    viewer.press("ArrowRight").press("ArrowUp")
    assert viewer.tube() != before
    assert viewer.page.inner_text("#clock") == time
    assert viewer.press("Home").tube() == before
    # The focus can be seen.
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert viewer.page.evaluate(outline) == "solid"


def test_the_tube_turns_and_follows(open_report: Any) -> None:
    # The clip is always the same picture, shown without its heatmap: whatever changes is the view's own doing.
    still = reports.encoded(np.full((20, 96, 128, 3), 128, np.uint8))
    viewer = open_report(reports.report(video=still)).ready().check("mode", "frame")
    views = [viewer.tube()]
    box = viewer.page.locator("#tube-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    viewer.page.mouse.move(x, y)
    viewer.page.mouse.down()
    viewer.page.mouse.move(x + 60, y + 15, steps=3)
    viewer.page.mouse.up()
    views.append(viewer.settle().tube())
    views.append(viewer.slide("level", 0.8).tube())
    views.append(viewer.choose("colormap", "magma").tube())
    views.append(viewer.slide("scrub", 15).at_picture(15).tube())
    viewer.page.click("#reset-view")
    views.append(viewer.settle().tube())

    assert len(set(views)) == len(views)


def test_the_picture_in_the_tube_is_where_the_time_is(open_report: Any) -> None:
    # No surface, since the map is constant, and always the same picture: only its place can change.
    still = reports.encoded(np.full((20, 96, 128, 3), 128, np.uint8))
    label = reports.label(0, np.zeros((20, 2, 2), np.float32))
    viewer = open_report(reports.report(video=still, labels=(label,))).ready().check("mode", "frame")
    first = viewer.tube()

    assert viewer.slide("scrub", 15).at_picture(15).tube() != first
    assert viewer.slide("scrub", 0).at_picture(0).tube() == first


def test_the_time_and_the_strongest_place_are_in_words(open_report: Any) -> None:
    maps = np.zeros((20, 4, 5), np.float32)
    maps[:, 0, 0] = 1  # the crop's upper left corner, at (0.125, 0.25) of the frame
    maps[12:, 0, 0], maps[12:, 3, 4] = 0, 4
    maps[6] = np.nan
    viewer = open_report(reports.report(labels=(reports.label(0, maps),))).ready()

    assert viewer.page.inner_text("#reading").startswith("0.00 s: strongest at the upper left (0.25 of 1); energy 0.")
    viewer.slide("scrub", 12).at_picture(12)
    assert viewer.page.inner_text("#reading").startswith("1.20 s: strongest at the lower right (1.00 of 1); energy 0.")
    viewer.page.wait_for_function(
        "() => document.getElementById('live').textContent.startsWith('1.20 s')"
    )  # what is read aloud
    assert viewer.page.get_attribute("#scrub", "aria-valuetext") == "1.20 seconds, picture 13 of 20"
    assert viewer.page.locator("#scale-field").is_hidden()  # one label has one scale

    bare = viewer.slide("scrub", 6).at_picture(6).check("mode", "frame").stage()
    assert viewer.page.inner_text("#reading") == "0.60 s: the network saw nothing of this picture."
    assert np.abs(viewer.check("mode", "heatmap").stage() - 0.4 * bare).max() <= 2  # all of it dimmed


def test_the_energy_is_the_tubes_mean(open_report: Any) -> None:
    report = reports.report()
    label = report.labels[0]
    values = np.clip((upsample(label.maps[7:8], (1, 224, 224)) - label.low) / (label.high - label.low), 0, 1)
    viewer = open_report(report).ready().slide("scrub", 7).at_picture(7)

    energy = float(re.search(r"energy ([\d.]+)\.$", viewer.page.inner_text("#reading"))[1])

    assert energy == pytest.approx(values.mean(), abs=0.01)


def test_hostile_names_are_only_text(open_report: Any) -> None:
    viewer = open_report(reports.hostile_report(), viewport={"width": 360, "height": 740}).ready()
    page = viewer.page

    assert page.text_content("h1") == reports.HOSTILE + "\udcff"
    assert page.text_content("#facts dt") == reports.HOSTILE
    assert page.text_content("#notes li") == reports.HOSTILE
    assert page.text_content("#approximate") == reports.HOSTILE
    assert page.text_content("#top th bdi") == reports.HOSTILE
    assert page.locator("img").count() == 0
    assert page.title() != "owned"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#label option").nth(1).text_content() == "x" * 59 + "… (37.5 %)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_approximate_maps_are_warned_of_above_the_clip(open_report: Any, scheme: str) -> None:
    words = "Approximate: two layers are not linear; the maps miss the logit by 6.3 % of the largest one."
    page = open_report(reports.report(approximate=words), color_scheme=scheme).ready().page
    warning = page.locator("#approximate")

    assert warning.inner_text() == words
    assert warning.bounding_box()["y"] < page.locator("#stage").bounding_box()["y"]
    ground, ink = warning.evaluate("node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).color]")
    dark, bright = sorted(sum(map(int, re.findall(r"\d+", colour))) for colour in (ground, ink))
    assert bright - dark > 450  # of 765
    assert open_report().ready().page.locator("#approximate").is_hidden()


def test_on_a_phone_in_the_dark(open_report: Any) -> None:
    viewer = open_report(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True).ready()
    page = viewer.page
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.body).color")

    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#stage").bounding_box()["width"] == 360
    assert max(map(int, re.findall(r"\d+", background))) < 40
    assert min(map(int, re.findall(r"\d+", ink))) > 200


@pytest.mark.parametrize(
    ("rows", "columns", "cells", "place"),
    [
        ([1], [0], SHARES, "at the left ("),  # at (0.05, 0.45) of the crop; with the cells at the corners, further up
        ([0, 1, 2, 3], [0], (SHARES[0], (0, 0.3)), "at the "),  # from the left edge on less and less
    ],
)
def test_place_and_energy_are_those_of_cells_where_they_lie(
    open_report: Any, rows: list[int], columns: list[int], cells: Any, place: str
) -> None:
    maps = np.zeros((20, 4, 5), np.float32)
    maps[:, rows, columns] = 1
    report = reports.report(labels=(reports.label(0, maps),), cells=cells)
    values = np.clip(upsample(maps[:1], (1, 224, 224), cells=_cells(report, (224, 224))), 0, 1)

    reading = open_report(report).ready().page.inner_text("#reading")

    assert f"strongest {place}" in reading
    assert float(re.search(r"energy ([\d.]+)\.$", reading)[1]) == pytest.approx(values.mean(), abs=0.01)


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_smallest_clip_and_map(open_report: Any, pictures: int) -> None:
    label = reports.label(0, np.full((pictures, 1, 1), 2.5, np.float32))
    cells = [None, ((0.5, 1.0), (0.5, 1.0))][pictures - 1]
    viewer = open_report(reports.report(pictures, labels=(label,), cells=cells)).ready()

    assert viewer.page.inner_text("#scale-words") == "The map is 2.50 everywhere, and shown as 0."
    assert "points nowhere" in viewer.page.inner_text("#reading")
    assert viewer.page.is_visible("#tube-empty")
    viewer.press("End").press("ArrowRight")
    shown = viewer.stage()[CROP]
    assert shown[..., 2].mean() > shown[..., 0].mean()  # all of it blue


def test_a_long_clip_with_many_labels(open_report: Any) -> None:
    maps = reports.following_maps(1500)
    labels = tuple(reports.label(i, maps[:, :2, :2] if i else maps[:, 1:3, 1:3]) for i in range(400))
    report = reports.report(1500, labels=labels)
    viewer = open_report(report).ready()

    assert viewer.page.locator("#label option").count() == 400
    viewer.choose("label", "399")
    viewer.page.wait_for_function("() => document.getElementById('label-words').textContent.startsWith('Class 399')")
    shown = viewer.settle().stage()
    bare = viewer.check("mode", "frame").stage()
    label = labels[399]
    expected = _expected_heatmap(report, 399, 0, bare, (label.low, label.high))
    assert np.percentile(np.abs(shown[CROP] - expected), 99) <= 8  # so many labels travel in 8 bits a value


def test_without_webgl_everything_else_works(open_report: Any) -> None:
    init = "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = function (kind, ...rest) { return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); };"
    viewer = open_report(init=init).ready()

    assert "no WebGL" in viewer.page.inner_text("#tube-unavailable")
    assert not viewer.page.is_visible("#tube-canvas")
    viewer.slide("scrub", 4).at_picture(4)


def test_a_browser_that_cannot_unpack_says_so(open_report: Any) -> None:
    viewer = open_report(init="delete globalThis.DecompressionStream;")
    viewer.page.wait_for_selector("#trouble:visible")

    assert "DecompressionStream is not defined. A current one can." in viewer.page.inner_text("#trouble")


def test_a_clip_that_cannot_be_decoded_leaves_the_tube(open_report: Any) -> None:
    viewer = open_report(reports.report(video=b"not a video"))
    viewer.page.wait_for_selector("#unplayable:visible")
    first = viewer.settle().stage()

    viewer.slide("scrub", 15).at_picture(15)

    assert not np.array_equal(viewer.stage(), first)
    assert viewer.page.is_disabled("#play")


def test_in_a_notebook_it_lives_in_a_frame_of_its_own(browser: Any, tmp_path: Path) -> None:
    text = f"<!doctype html><title>notebook</title><h1 id='title'>mine</h1>{inline_html(reports.report(approximate='Not exact.'))}"
    viewer = Viewer(browser, tmp_path / "notebook.html", text, viewport={"width": 1000, "height": 800})
    frame = viewer.page.frame_locator("iframe")
    frame.locator(".playhead").wait_for()

    assert frame.locator("h1").inner_text() == "clip.mp4"
    assert frame.locator("#approximate").inner_text() == "Not exact."
    assert frame.locator("#approximate").is_visible()
    assert frame.locator(".details").is_hidden()
    assert viewer.page.inner_text("#title") == "mine"
    frame.locator("#play").click()
    frame.locator(".is-playing").wait_for()
    viewer.page.close()
    assert viewer.complaints == []
