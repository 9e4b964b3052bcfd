"""The README's picture: one frame of the demo, smaller than it is recorded.

python bench/picture.py [OUT.jpg] [--frame N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import rtpsp
from rtpsp.stream.frame import Rendered, View

SOURCE = "sim://street?w=960&h=720&fps=30&frames=150&seed=1"  # the Makefile's
FRAME = 96
QUALITY = 50
HEIGHT, WIDTH = 540, 720  # of the file: the repository stays small


class Picture(rtpsp.Sink):
    """Writes one frame as a JPEG, then ends the run."""

    view: View | None = "overlay"

    def __init__(self, path: Path, frame: int) -> None:
        self._path = path
        self._frame = frame
        self._done = False

    def write(self, item: Rendered) -> None:
        if item.frame.index == self._frame:
            picture = cv2.resize(item.pictures["overlay"], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            if not cv2.imwrite(str(self._path), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
                raise SystemExit(f"{self._path} cannot be written")
            self._done = True

    @property
    def wants_to_stop(self) -> bool:
        return self._done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path(__file__).parent / "results" / "demo.jpg")
    parser.add_argument("--frame", type=int, default=FRAME, help="which one of the demo's 150")
    given = parser.parse_args()
    how = rtpsp.RunOptions(render=rtpsp.RenderOptions(legend=True, hud=True))
    rtpsp.run(SOURCE, rtpsp.default_engine(), [Picture(given.out, given.frame)], how)
    print(given.out)


if __name__ == "__main__":
    main()
