"""Debian's chromium without a window: pictures of pages, and what a page measures of itself."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(
    not os.environ.get("CI") and CHROMIUM is None,  # CI has it, or fails
    reason="needs chromium (apt-get install chromium)",
)

_MEASURE = """
const found = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, width = page.documentElement.clientWidth;
  const told = {width, wide: page.documentElement.scrollWidth, outside: [], clipped: [], over: [], texts: 0};
  for (const element of page.body.querySelectorAll("*:not(svg *)")) {
    const box = element.getBoundingClientRect();
    const start = element.outerHTML.slice(0, 80);
    if (box.width && (box.right > width + 1 || box.left < -1)) told.outside.push(start);
    if (element.clientWidth && element.scrollWidth > element.clientWidth + 1) told.clipped.push(start);
  }
  for (const svg of page.querySelectorAll("svg")) {
    const name = svg.getAttribute("aria-label").slice(0, 30), whole = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    told.texts += texts.length;
    texts.forEach(([text, box], place) => {
      if (box.left < whole.left - 1 || box.right > whole.right + 1 ||
          box.top < whole.top - 1 || box.bottom > whole.bottom + 1)
        told.clipped.push(name + ": " + text);
      for (const [other, beside] of texts.slice(place + 1)) {
        const across = Math.min(box.right, beside.right) - Math.max(box.left, beside.left);
        const down = Math.min(box.bottom, beside.bottom) - Math.max(box.top, beside.top);
        if (across > 1.5 && down > 0.45 * Math.min(box.height, beside.height))
          told.over.push(name + ": " + text + " / " + other);
      }
    });
  }
  found.push(told);
}
document.body.textContent = JSON.stringify(found);
"""


def _run(folder: Path, *options: str) -> str:
    assert CHROMIUM is not None, "chromium is not installed: apt-get install chromium"
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}", *options,
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout


def _framed(folder: Path, page: str, *frames: tuple[int, str], height: int, script: str = "") -> str:
    """The address of a page with `page` in frames: a window of chromium is never narrower than 500 pixels, a frame is.

    A page in a frame sees the colour scheme of the frame as what its reader prefers (CSS Color Adjustment, level 1).
    """
    inside = html.escape(page, quote=True)
    looks = [f"border:0;flex:none;width:{width}px;height:{height}px;color-scheme:{scheme}" for width, scheme in frames]
    made = "".join(f'<iframe srcdoc="{inside}" style="{look}"></iframe>' for look in looks)
    then = f"<script>addEventListener('load', () => {{ {script} }})</script>" if script else ""
    path = folder / "framed.html"
    style = "margin:0;display:flex"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body style='{style}'>{made}{then}", encoding="utf-8")
    return path.as_uri()


def screenshot(folder: Path, page: str, *frames: tuple[int, str], height: int) -> Path:
    """A picture of the tops of a page, side by side.

    Args:
        folder: For what is written; the picture too.
        page: HTML.
        frames: Widths in CSS pixels, which may be a telephone's, each with ``light`` or ``dark``.
        height: Likewise.
    """
    path = folder / "screenshot.png"
    window = f"--window-size={sum(width for width, _ in frames)},{height}"
    _run(folder, window, f"--screenshot={path}", _framed(folder, page, *frames, height=height))
    return path


def measured(folder: Path, page: str, *widths: int) -> list[dict[str, Any]]:
    """What is wrong with a page at each width of a window.

    Returns:
        For each width: ``wide``, the pixels that the page needs, ``outside``, elements that stand out of the window,
        ``clipped``, elements and texts of figures that are cut off, ``over``, texts of a figure that lie over each
        other, ``texts``, how many texts its figures have.
    """
    frames = [(width, "light") for width in widths]
    address = _framed(folder, page, *frames, height=900, script=_MEASURE)
    said = _run(folder, "--window-size=1600,1200", "--dump-dom", address)
    body = said[said.index("<body") :]
    found: list[dict[str, Any]] = json.loads(html.unescape(body[body.index(">") + 1 : body.index("</body>")]))
    return found
