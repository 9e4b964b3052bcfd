"""One loop over a live stream, as a process of `live_peers`: ``python live_loops.py LOOP URI WORK SECONDS FOLDER...``

Each loop is as its own guide writes it; none is tuned. It reads, segments, blends the classes' colours over the frame,
and instead of a window it prints when the picture would be shown and the time code that stands in it, both in seconds.

FOLDER are where rtpsp and its packages lie. They come behind everything: NumPy and OpenCV are the peer's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path += sys.argv[5:]

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.timecode import read_timecode

Image = NDArray[np.uint8]


class Work:
    """What each loop does to a frame; the engine opens in the thread that calls it first.

    Args:
        name: ``fake:8``, or an engine file.
    """

    def __init__(self, name: str) -> None:
        self._sleep = 1 / float(name.removeprefix("fake:")) if name.startswith("fake:") else 0.0
        self._file = "" if self._sleep else name
        self._engine: Any = None
        self._palette: Image = np.zeros((256, 3), np.uint8)

    def __call__(self, frame: Any) -> Image:
        """The frame with the classes' colours over it."""
        if self._sleep:
            time.sleep(self._sleep)
            ids: Any = np.zeros(frame.shape[:2], np.uint8)
        else:
            from rtpsp.engine import load_engine
            from rtpsp.fit import plan_fit

            if self._engine is None:
                self._engine = load_engine(Path(self._file)).__enter__()
                self._palette[: len(self._engine.spec.labels)] = self._engine.spec.labels.palette
            spec = self._engine.spec
            plan = plan_fit((frame.shape[0], frame.shape[1]), spec)
            ids = plan.to_source(self._engine.infer(plan.to_model(frame)[None]).class_map[0])
        return np.asarray(cv2.addWeighted(frame, 0.5, self._palette[ids], 0.5, 0), np.uint8)


def show(frame: Any) -> None:
    """Where ``imshow`` would stand."""
    code = read_timecode(frame)
    if code is not None:
        print(f"{time.monotonic():.6f} {code / 1e6:.6f}", flush=True)


def opencv(uri: str, work: Work, over: Callable[[], bool]) -> None:
    """The script that everybody writes first."""
    video = cv2.VideoCapture(uri)
    while not over():
        found, frame = video.read()
        if not found:
            break
        work(frame)
        show(frame)
    video.release()


def supervision(uri: str, work: Work, over: Callable[[], bool]) -> None:
    """Its documented loop over a video's frames."""
    import supervision as sv  # type: ignore[import-not-found]

    for frame in sv.get_video_frames_generator(uri):
        if over():
            break
        work(frame)
        show(frame)


def inference(uri: str, work: Work, over: Callable[[], bool]) -> None:
    """roboflow inference's pipeline, with logic of one's own as its guide shows."""
    from streamvision.stream.pipeline import InferencePipeline  # type: ignore[import-not-found]

    def on_video_frame(frames: list[Any]) -> list[Image]:
        return [work(frame.image) for frame in frames]

    def on_prediction(prediction: Any, frame: Any) -> None:
        show(frame.image)
        if over():
            pipeline.terminate()

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=uri, on_video_frame=on_video_frame, on_prediction=on_prediction
    )
    pipeline.start()
    pipeline.join()


def rtpsp(uri: str, work: str, over: Callable[[], bool]) -> None:
    """Ours, with the overlay drawn."""
    import rtpsp
    from rtpsp.stream.frame import Rendered

    class Codes(rtpsp.Sink):
        view = "frame"

        def write(self, item: Rendered) -> None:
            show(item.pictures["frame"])

        @property
        def wants_to_stop(self) -> bool:
            return over()

    class Overlay(rtpsp.NullSink):
        view = "overlay"

    fake = work.startswith("fake:")
    engine = rtpsp.FakeEngine(latency=1 / float(work.removeprefix("fake:"))) if fake else Path(work)
    rtpsp.run(uri, engine, [Overlay(), Codes()])


def main() -> None:
    """Run one loop for so many seconds."""
    loop, uri, work, seconds = sys.argv[1:5]
    end = time.monotonic() + float(seconds)

    def over() -> bool:
        return time.monotonic() > end

    if loop == "rtpsp":
        rtpsp(uri, work, over)
    else:
        {"opencv": opencv, "supervision": supervision, "inference": inference}[loop](uri, Work(work), over)


if __name__ == "__main__":
    main()
