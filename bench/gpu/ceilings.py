"""What this GPU can do at most, as measured: copies by the driver, matrix products by torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from gpu.facts import busy_state
from gpu.part import Job, rounded
from gpu.peers import cuda_torch, timed

COPIES_MIB = (1, 6, 256)
"""Sizes of copies: a frame of 480x640 and one of 1024x2048 are about the first two."""
TURNS = 11
MATRIX = 8192
"""Side of the square products: 1.1e12 operations fill any chip."""
SHAPES = {"conv of PSPNet-50's layer4": (10800, 512, 4608), "its head, split": (10800, 512, 18432)}
"""Rows, columns and depth of PSPNet-50's convolutions at 720x960, as products."""


def copies(job: Job) -> dict[str, Any]:
    """Bandwidth of page-locked copies each way."""
    from rtpsp.engine.cuda import CudaDevice, Stream, open_device
    from rtpsp.engine.cuda_timing import LaunchTimer

    found: dict[str, Any] = {}

    def rate(device: CudaDevice, stream: Stream, nbytes: int, copy: Callable[[], None]) -> float:
        repeat = 1 if job.quick else max(4, (1 << 27) // nbytes)
        timer = LaunchTimer(device, stream)

        def copies() -> None:
            for _ in range(repeat):
                copy()

        job.warm_up(partial(timer.milliseconds, copies))  # links that rest are slower, as clocks are
        took = median(timer.milliseconds(copies) for _ in range(TURNS))
        return rounded(repeat * nbytes / max(took, 1e-6) / 1e6)

    with open_device() as device:
        stream = device.stream()
        for mib in COPIES_MIB:
            nbytes = mib << 20
            host, there = device.pinned((nbytes,), np.uint8), device.allocate(nbytes)
            host[:] = np.random.default_rng(mib).integers(0, 256, nbytes, np.uint8)
            up, down = partial(device.upload, there, host, stream), partial(device.download, host, there, stream)
            found[f"host_to_device_{mib}mib_gb_s"] = rate(device, stream, nbytes, up)
            found[f"device_to_host_{mib}mib_gb_s"] = rate(device, stream, nbytes, down)
            device.free(host)
            device.free(there)
            job.keep(**found)
    return found


def matrices(job: Job) -> dict[str, Any]:
    """Rates of large products on random data (2 operations a multiply-add), and a copy's bandwidth inside the device.

    The copy's bytes are those read plus those written.
    """
    torch = cuda_torch()
    side = 1024 if job.quick else MATRIX
    torch.backends.cuda.matmul.allow_tf32 = False
    generator = torch.Generator("cuda").manual_seed(1)
    found: dict[str, Any] = {"matrix_side": side}

    def normal(*shape: int, dtype: Any) -> Any:
        return torch.randn(*shape, device="cuda", generator=generator).to(dtype)

    def product(dtype: Any, m: int, n: int, k: int) -> float:
        if dtype == torch.int8:
            left, right = (
                torch.randint(-127, 128, shape, dtype=dtype, device="cuda", generator=generator)
                for shape in ((m, k), (n, k))
            )
            return seconds(lambda: torch._int_mm(left, right.t())) / (2 * m * n * k)
        first, second = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype)
        return seconds(lambda: first @ second) / (2 * m * n * k)

    def seconds(work: Callable[[], Any]) -> float:
        job.warm_up(partial(timed, work))
        return median(timed(work) for _ in range(TURNS)) / 1e3

    def copied() -> float:
        source = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device="cuda", generator=generator)
        target = torch.empty_like(source)
        return seconds(lambda: target.copy_(source)) / float(2 * source.numel())

    found["device_copy_gb_s"] = rounded(1 / copied() / 1e9)
    job.keep(**found)
    for name, dtype in {"fp16": torch.float16, "int8": torch.int8, "fp32": torch.float32}.items():
        found[f"{name}_tflop_s"] = rounded(1 / product(dtype, side, side, side) / 1e12)
        job.keep(**found)
    torch.backends.cuda.matmul.allow_tf32 = True
    found["tf32_tflop_s"] = rounded(1 / product(torch.float32, side, side, side) / 1e12)
    for what, (m, n, k) in SHAPES.items():
        found[f"fp16_{what}_tflop_s"] = rounded(1 / product(torch.float16, m, n, k) / 1e12)
        job.keep(**found)
    first, second = normal(side, side, dtype=torch.float16), normal(side, side, dtype=torch.float16)
    return {"state": busy_state(partial(timed, lambda: first @ second))}
