from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.bench.html import page_of, write_html
from rtpsp.bench.report import SECTIONS, problems
from rtpsp.errors import OutputError
from tests.bench.browser import measured, needs_chromium, screenshot
from tests.bench.sample_report import sample_report

VOID = {"meta", "br", "link", "img", "input", "hr"}
EVIL = "</script><img src=x onerror=alert(1)>\"'&<b>"


class Page(HTMLParser):
    """A page's elements, each closed where it was opened, or a failure."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.report = ""
        self._open: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == ("script", "report"):
            self.report += data
        elif self._open and self._open[-1][0] not in ("style", "script"):
            self.words.append(data)

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]

    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html() -> str:
    return page_of(sample_report())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_sample_is_a_report() -> None:
    assert problems(sample_report()) == []
    assert set(sample_report()) >= set(SECTIONS) - {"skipped"}


def test_every_section_is_on_the_page_once_and_has_what_it_needs(page: Page) -> None:
    ids = page.ids()
    assert len(ids) == len(set(ids))
    sections = ["engines", "ratios", "card", "loop", "baseline", "peers", "growth", "layers", "cameras", "machine"]
    assert [name for name in ids if name in sections] == sections
    labels = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    for figure in ("Distribution", "Medians of the windows", "Ratios", "Latency and accuracy", "Difference of each",
                   "Stages", "Age of the frames", "Latency over the size", "Peak memory", "Latency a frame",
                   "Speed over", "most expensive", "Age of frames over"):  # fmt: skip
        assert any(figure in label for label in labels), figure
    text = page.text()
    for words in ("the reference", "device: two CPU cores, there a Titan X (unchecked)", "99.59 %",
                  "3.91x (3.87 to 3.95)", "other programs used 12 % of the CPU", "no NVIDIA driver on this machine",
                  "Example CPU @ 2.00GHz", "avx512_vnni", "no: frames were dropped", "1080x1440",
                  "OpenCV dnn", "not stable"):  # fmt: skip
        assert words in text, words


def test_the_verdict_comes_first_and_the_command_is_there(page: Page) -> None:
    text = page.text()
    verdict = "pspnet18-camvid at 360x480 takes 56.0 ms a frame in openvino int8: 17.7 fps"
    assert text.startswith(verdict), "the page's title"
    assert text.index(verdict, 10) < text.index("Engines")
    assert sample_report()["command"] in text


@pytest.mark.parametrize(
    "name", ["engines", "ratios", "card", "loop", "baseline", "peers", "growth", "layers", "cameras"]
)
def test_a_section_stands_alone_and_absent_ones_leave_no_trace(name: str) -> None:
    report = {key: value for key, value in sample_report().items() if key not in SECTIONS or key == name}
    ids = Page(page_of(report)).ids()
    assert [section for section in SECTIONS if section in ids] == [name]


def test_a_report_of_next_to_nothing_makes_a_page() -> None:
    assert "Nothing was timed." in Page(page_of({"schema": 2})).text()
    bare = {"name": "a", "latency_ms": {"median": 3.0}}
    report = {"engines": [bare], "card": {"rows": []}, "growth": {}, "peers": {"rows": [bare]}, "loop": {"fps": None}}
    assert "3.00" in Page(page_of(report)).text()


def test_the_page_asks_for_nothing_outside_of_it(page: Page, html: str) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"), tag
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert [attributes.get("type") for tag, attributes in page.tags if tag == "script"] == ["application/json"]
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    ids = set(page.ids())
    used = re.findall(r"(?:url\(|href=\")#([^\")]+)", html)
    assert used and set(used) <= ids


def test_the_report_can_be_read_back_from_the_page(page: Page) -> None:
    assert json.loads(page.report) == sample_report()


def spoiled(value: Any) -> Any:
    """The same with something nasty behind every text, which a file's author may have chosen."""
    if isinstance(value, dict):
        return {key: spoiled(part) for key, part in value.items()}
    if isinstance(value, list):
        return [spoiled(part) for part in value]
    return value + EVIL if isinstance(value, str) else value


def test_names_from_files_stay_names() -> None:
    report = spoiled(sample_report())
    for row in report["card"]["rows"]:
        row["per_class_iou_difference"] = {
            name + EVIL: value for name, value in row["per_class_iou_difference"].items()
        }
    page = Page(page_of(report))
    assert {tag for tag, _ in page.tags} & {"img", "b"} == set()
    assert [attributes.get("id") for tag, attributes in page.tags if tag == "script"] == ["report"]
    assert json.loads(page.report) == report
    assert EVIL.replace(" ", "") in page.text().replace(" ", "")


def test_every_figure_is_xml_and_follows_the_theme(html: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(figures) >= 13
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img" and root.get("aria-label")
        assert root.get("width") is None, "its place on the page decides"
        assert root.findall(".//{http://www.w3.org/2000/svg}text"), "texts are texts"
        assert not re.search(r"(?:fill|stroke): #", figure), "a colour that dark pages cannot change"


def test_the_same_report_makes_the_same_file_whole_or_not_at_all(tmp_path: Path) -> None:
    report = {"engines": sample_report()["engines"]}
    write_html(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page_of(report)
    with pytest.raises(OutputError, match="name another file with --html"):
        write_html({}, tmp_path / "absent" / "report.html")


def seen(path: Path) -> Image:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)


def share(picture: Image, rgb: str) -> float:
    """Of pixels that have a colour, such as ``0072b2``."""
    return float((picture == np.array(list(bytes.fromhex(rgb))[::-1])).all(axis=2).mean())


@needs_chromium
def test_the_page_fits_every_screen(html: str, tmp_path: Path) -> None:
    """In chromium: nothing is wider than the window, cut off, or written over something else."""
    for found in measured(tmp_path, html, 1280, 760, 400, 340):
        assert found["wide"] <= found["width"], found
        assert not found["outside"], found["outside"]
        assert not found["clipped"], found["clipped"]
        assert not found["over"], found["over"]
        assert found["texts"] > 150


@needs_chromium
def test_a_browser_shows_it_light_and_dark(html: str, tmp_path: Path) -> None:
    both = seen(screenshot(tmp_path, html, (1280, "light"), (400, "dark"), height=2400))
    assert both.shape == (2400, 1680, 3)
    light, dark = both[:, :1280], both[:, 1280:]
    assert share(light, "fcfcfa") > 0.8 and 0.005 < share(light, "1c1d21") < 0.2
    assert share(dark, "15171b") > 0.75 and share(dark, "fcfcfa") == 0
    for picture, colours in ((light, ("0072b2", "d55e00", "009e73")), (dark, ("4aa9ec", "ff8a3d", "2fcf9f"))):
        assert all(share(picture, colour) > 2e-5 for colour in colours), "lines of the figures"
        bands = np.array_split(picture.std(axis=(1, 2)), 12)
        assert min(float(band.max()) for band in bands) > 5, "a stripe of the page is empty"
