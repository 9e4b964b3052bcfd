"""Memory and time of a calibration: does it grow with the number of frames?

    python bench/calibration.py --arch pspnet50 --size 720x960 --images 30
    python bench/calibration.py --data camvid --images 300

The first makes a network of random weights and feeds it a drawn street; the second calibrates the shipped model on
images. Resident memory is that of a process which does nothing else, read after each frame.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil  # type: ignore[import-untyped]

from rtpsp import zoo
from rtpsp.arrays import Image
from rtpsp.cli.console import Size
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.timing import now


def export(arch: str, size: tuple[int, int], path: Path) -> None:
    """A network of random weights with realistic batch norms as a model file."""
    from rtpsp.model.export import export
    from rtpsp.model.pspnet import build
    from rtpsp.model.synthetic import randomise_statistics

    network = build(arch, len(CAMVID))
    randomise_statistics(network)
    export(network, ModelSpec(arch, arch, *size, CAMVID), path)


def frames_of(data: str | None, spec: ModelSpec, count: int) -> Iterator[Image]:
    """Frames of the model's size, uint8 [1, H, W, 3] BGR: of a training split, evenly spaced, or of a drawn street."""
    from rtpsp.fit import plan_fit

    if data is None:
        from rtpsp.sim.street import Street

        street = Street(*spec.size, seed=5)
        for number in range(count):
            yield street.draw(10 * number)[None]
        return
    from rtpsp.data.dataset import open_dataset

    samples = open_dataset(data, "train")
    for number in range(min(count, len(samples))):
        image = samples[number * len(samples) // count].image
        yield plan_fit(image.shape[:2], spec).to_model(image)[None]


def calibrate(model: str, data: str | None, count: int, threads: int) -> dict[str, Any]:
    """Runs in a process of its own."""
    from rtpsp.graph.ranges import canonical, collect, to_ranges
    from rtpsp.onnx_file import load_model

    graph, spec = load_model(model)
    process = psutil.Process()
    megabytes: list[float] = []
    stamps = [now()]

    def note(done: int) -> None:
        megabytes.append(process.memory_info().rss / 2**20)
        stamps.append(now())

    histograms = collect(canonical(graph), spec, frames_of(data, spec, count), threads, note)
    begin = now()
    for method in ("minmax", "entropy", "percentile", "mse"):
        to_ranges(histograms, method)
    steady = np.diff(stamps[3:])
    at = {place: round(megabytes[place - 1]) for place in (1, 5, 10, 30, 100, 300) if place <= len(megabytes)}
    return {
        "images": len(megabytes), "tensors": len(histograms), "rss_mib_at_image": at,
        "rss_mib_most": round(max(megabytes)),
        "seconds_an_image": round(float(np.median(steady)), 3), "seconds_in_all": round(stamps[-1] - stamps[0], 1),
        "extrapolated_to_300_minutes": round(float(np.median(steady)) * 5, 1),
        "choosing_by_all_methods_seconds": round(now() - begin, 2),
    }  # fmt: skip


@click.command()
@click.option("--arch", default="pspnet50", show_default=True)
@click.option("--size", type=Size(), default="720x960", show_default=True)
@click.option("--data", help="Calibrate the shipped model on the train split of this data set instead.")
@click.option("--images", type=int, default=30, show_default=True)
@click.option("--threads", type=int, default=0)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(arch: str, size: tuple[int, int], data: str | None, images: int, threads: int, json_path: Path | None) -> None:
    """Calibrate, and watch the memory."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = zoo.model_path()
        if data is None:
            path = Path(folder) / "network.onnx"
            maker = context.Process(target=export, args=(arch, size, path))
            maker.start()
            maker.join()
        with context.Pool(1) as pool:
            found = pool.apply(calibrate, (str(path), data, images, threads))
    told = {"model": zoo.DEFAULT if data else f"{arch} {size[0]}x{size[1]}, random weights", **found}
    click.echo(json.dumps(told, indent=2))
    if json_path:
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
