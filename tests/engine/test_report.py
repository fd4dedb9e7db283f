import base64
import hashlib
import html
import json
import re
import zlib
from importlib import resources

import numpy as np
import pytest
import reports
from saliency_tubes.choices import Colormap
from saliency_tubes.report import inline_html, pack_maps, report_html
from saliency_tubes.upsample import upsample


def _data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.S)[1])


def _unpacked(packed: bytes, least: float, most: float, shape: tuple[int, int, int], bits: int = 16) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(bits // 8, *shape).astype(np.int64)
    codes = np.cumsum(sum(plane << 8 * i for i, plane in enumerate(planes)), axis=0) % 2**bits
    return np.where(codes == 0, np.nan, least + (codes - 1) / (2**bits - 2) * (most - least))


@pytest.mark.parametrize("bits", [16, 8])
def test_packed_maps_come_back_within_half_a_step(bits: int) -> None:
    maps = reports.following_maps(30)
    maps[7] = np.nan

    packed, least, most = pack_maps(maps, bits)
    back = _unpacked(packed, least, most, maps.shape, bits)

    assert np.array_equal(np.isnan(back), np.isnan(maps))
    assert np.nanmax(np.abs(back - maps)) <= (most - least) / (2**bits - 2) * 0.51
    assert (least, most) == (np.nanmin(maps), np.nanmax(maps))


def test_smooth_maps_take_less_than_their_sixteen_bits() -> None:
    maps = np.sin(np.linspace(0, 6, 300)[:, None, None] + np.arange(49).reshape(7, 7)).astype(np.float32)

    assert len(pack_maps(maps)[0]) < 0.7 * 2 * maps.size


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.5], ids=["nothing seen", "zero", "constant"])
def test_maps_without_a_range_are_packed_too(value: float) -> None:
    maps = np.full((3, 1, 1), value, np.float32)

    np.testing.assert_array_equal(_unpacked(*pack_maps(maps), maps.shape), maps)


def test_the_policy_lets_in_the_pages_own_script_and_style_alone() -> None:
    page = report_html(reports.report())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]

    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_no_text_from_outside_becomes_markup() -> None:
    page = report_html(reports.hostile_report())
    plain = report_html(reports.report())

    assert page.count("<script") == plain.count("<script")
    assert page.count("</script") == plain.count("</script")
    assert "<img" not in page
    assert "\u2028" not in page.replace(html.escape(reports.HOSTILE), "")
    assert _data(page)["labels"][0]["name"] == reports.HOSTILE
    page.encode("utf-8")  # a file name's lone surrogates do not keep the page from being written


def test_the_inline_viewer_is_the_page_in_a_frame_of_its_own() -> None:
    inline = inline_html(reports.hostile_report())
    sandbox, source = re.fullmatch(
        r'<iframe sandbox="([^"]*)" srcdoc="([^"]*)" title="[^"]*" style="[^"]*"></iframe>', inline
    ).groups()

    assert sandbox == "allow-scripts"
    assert html.unescape(source).startswith('<!doctype html>\n<html lang="en" data-layout="inline">')


def test_the_same_report_is_the_same_page() -> None:
    assert report_html(reports.report()) == report_html(reports.report())


def test_numbers_that_json_lacks_become_null() -> None:
    label = reports.label(0, np.full((20, 2, 2), np.nan, np.float32))
    label = type(label)(**{**vars(label), "logit": float("nan"), "probability": float("inf"), "low": float("nan")})

    document = _data(report_html(reports.report(labels=(label,))))["labels"][0]

    assert (document["logit"], document["probability"], document["low"]) == (None, None, 0.0)


def test_a_page_without_its_clip_is_small() -> None:
    maps = reports.following_maps(300, (7, 7))

    page = report_html(reports.report(300, labels=(reports.label(0, maps), reports.label(1, maps)), video=b""))

    assert len(page) < 400_000


def test_four_hundred_labels_of_ten_seconds_fit() -> None:
    steps = np.random.default_rng(0).normal(size=(400, 75, 7, 7)).astype(np.float32).cumsum(axis=1)
    labels = tuple(reports.label(i, upsample(raw, (300, 7, 7))) for i, raw in enumerate(steps))

    page = report_html(reports.report(300, labels=labels, video=b""))

    assert len(page) < 4_500_000
    assert _data(page)["bits"] == 8


def test_every_colour_map_has_its_256_colours() -> None:
    tables = _data(report_html(reports.report()))["colormaps"]

    assert list(tables) == list(Colormap)
    assert {len(base64.b64decode(table)) for table in tables.values()} == {256 * 3}
    jet = np.frombuffer(base64.b64decode(tables["jet"]), np.uint8).reshape(256, 3)
    assert jet[0].tolist() == [0, 0, 128]  # RGB, not BGR: blue is low
    assert jet[255].tolist() == [128, 0, 0]


def test_a_report_that_contradicts_itself_is_refused() -> None:
    good = reports.label(0, reports.following_maps(20))

    with pytest.raises(ValueError, match=r"for 20 pictures and 2 probabilities for every label, got \(19, 4, 5\)"):
        reports.report(labels=(good, reports.label(1, reports.following_maps(19))))
    with pytest.raises(ValueError, match=r"got \(20, 4, 5\) and \(3,\) for label 0"):
        reports.report(labels=(reports.label(0, reports.following_maps(20), windows=3),))
    with pytest.raises(ValueError, match=r"at least one label, got 20 and 0"):
        reports.report(labels=())


def test_the_vendored_library_comes_with_its_licence() -> None:
    vendor = resources.files("saliency_tubes") / "viewer" / "vendor"

    assert "public domain" in (vendor / "LICENSE.ogl.txt").read_text()
    assert "esbuild" in (vendor / "README.md").read_text()
    assert len((vendor / "ogl.min.js").read_bytes()) < 60_000
