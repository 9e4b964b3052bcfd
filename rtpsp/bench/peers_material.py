"""What every peer of a race gets alike: frames, weights in the forms that libraries read, a video, and our engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.errors import DataError, UsageError
from rtpsp.fit import plan_fit
from rtpsp.spec import MAX_UINT8_CLASSES, ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

VIDEO_RATE = 30


@dataclass(frozen=True)
class Material:
    """The files of a race, in one folder.

    Attributes:
        folder: Where they lie.
        spec: Of the model.
        job: What all jobs have in common, by the fields of ``bench/peers/protocol/peer_job.py``'s `Job`.
        count: How many frames there are.
        small_frames: An ``.npy`` of the same frames, brought to the model's size.
        reference: The model's own answers to the first few frames in FP32, each [H, W] of the model's size.
        video_frames: How many frames the loops play.
        brings_ranges: Whether INT8 needs no frames, for the model's ranges come with rtpsp.
    """

    folder: Path
    spec: ModelSpec
    job: dict[str, Any]
    count: int
    small_frames: str
    reference: list[ClassMap]
    video_frames: int
    brings_ranges: bool

    def calibration_folder(self) -> Path:
        """The frames for a quantiser as a folder of PNG files, as our build takes them."""
        import cv2

        folder = self.folder / "calibration"
        if not folder.exists():
            folder.mkdir()
            for number, frame in enumerate(np.load(self.job["calibration"])):
                cv2.imwrite(str(folder / f"{number:04d}.png"), frame)
        return folder


def make_material(
    model: Path,
    folder: Path,
    frames: Sequence[Image],
    calibration: Sequence[Image],
    video: Path | None,
    video_frames: int,
    threads: int = 0,
) -> Material:
    """Write the files of a race.

    A frame of another shape than the model's is resized by each peer itself, within its time, if the model stretches
    it; letterboxing and cropping is not what these libraries offer, so such frames get the model's size before.
    The video that is drawn has the model's size, so that no loop resizes.

    Args:
        model: A model file with a spec.
        folder: Where; there is such a folder.
        frames: BGR frames, uint8 [height, width, 3], all of one size.
        calibration: Others for the quantisers, likewise.
        video: For the loops; None draws a street.
        video_frames: How much of it a loop plays at most.
        threads: For the reference.

    Raises:
        ModelError: The file is no model with a spec.
        UsageError: The model does not take BGR frames, or has more classes than a byte tells.
        DataError: The frames differ in size.
    """
    from rtpsp.bench.frames import to_batches
    from rtpsp.bench.truth import FRAMES, reference_answers
    from rtpsp.graph.fold import fold_casts
    from rtpsp.onnx_file import load_model, save_model

    graph, spec = load_model(model)
    if spec.planes != 3 or len(spec.labels) > MAX_UINT8_CLASSES:
        raise UsageError(
            f"{model.name} takes {spec.frame_words} frames and has {len(spec.labels)} classes, the peers are written "
            f"for BGR and {MAX_UINT8_CLASSES} classes at most: leave --peers out"
        )
    frames, calibration = list(frames), list(calibration)
    if len({frame.shape for frame in frames}) != 1 or len({frame.shape for frame in calibration}) != 1:
        raise DataError("the frames differ in size, expected one for all of a race: give frames of one video")
    if spec.fit != "stretch":
        frames = [plan_fit((image.shape[0], image.shape[1]), spec).to_model(image) for image in frames]
        calibration = [plan_fit((image.shape[0], image.shape[1]), spec).to_model(image) for image in calibration]
    plan = plan_fit((frames[0].shape[0], frames[0].shape[1]), spec)
    batches = to_batches(frames, spec)
    plain = fold_casts(graph)
    save_model(plain, spec, folder / "model.onnx")
    np.savez(folder / "weights.npz", **_state(plain))
    np.save(folder / "frames.npy", np.stack(frames))
    np.save(folder / "small-frames.npy", np.concatenate(batches))
    np.save(folder / "calibration.npy", np.stack(calibration))
    if video is None:
        video = folder / "street.mp4"
        _draw_video(video, video_frames, spec.size)
    job = {
        "model": str(folder / "model.onnx"),
        "weights": str(folder / "weights.npz"),
        "arch": spec.arch,
        "output_stride": spec.output_stride,
        "classes": len(spec.labels),
        "height": spec.height,
        "width": spec.width,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channels": spec.channels,
        "average": plan.averages,
        "palette": [[blue, green, red] for red, green, blue in spec.labels.palette],
        "frames": str(folder / "frames.npy"),
        "calibration": str(folder / "calibration.npy"),
        "video": str(video.resolve()),
        "engine": "",
        "threads": threads,
    }
    reference = reference_answers(model, batches[:FRAMES], threads)
    small = str(folder / "small-frames.npy")
    return Material(folder, spec, job, len(frames), small, reference, video_frames, _brings_ranges(graph, spec))


def _brings_ranges(graph: ir.Model, spec: ModelSpec) -> bool:
    from rtpsp.calibrate import cached

    try:
        cached(graph, spec)
    except (DataError, UsageError):
        return False
    return True


def _state(graph: ir.Model) -> dict[str, Any]:
    """The tensors of the checkpoint by its own names, which our export keeps; what the graph adds has others."""
    found = {}
    for name, value in graph.graph.initializers.items():
        if "/" in name or name.startswith("pools."):
            continue
        assert value.const_value is not None
        found[name] = value.const_value.numpy()
    return found


def _draw_video(path: Path, frames: int, size: tuple[int, int]) -> None:
    import av
    import cv2

    from rtpsp.bench.frames import FRAME_SIZE
    from rtpsp.sim.street import Street

    height, width = (side + side % 2 for side in size)  # H.264 in 4:2:0
    street = Street(*FRAME_SIZE, seed=5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_RATE)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(frames):
            picture = cv2.resize(street.draw(number), (width, height), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.asarray(picture, np.uint8), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
