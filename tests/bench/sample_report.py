"""A report with every section, for tests of what shows reports. Its figures are made up: nobody measured them."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtpsp.labels import CAMVID
from rtpsp.timing import Summary, summarise

MODEL = "pspnet18-camvid"
SAMPLES = 400


def _latencies(median: float, seed: int, count: int = SAMPLES) -> list[float]:
    """Milliseconds that a shared machine might give: most are near the median, a few far above."""
    random = np.random.default_rng(seed)
    values = median * (0.97 + random.gamma(2.0, 0.02, count)) + (random.random(count) < 0.02) * median * 0.4
    return [round(float(value), 3) for value in values]


def _summary(samples: list[float]) -> dict[str, Any]:
    summary = summarise(value / 1e3 for value in samples)
    assert isinstance(summary, Summary)
    return summary.to_dict()


def _ratio(median: float, spread: float = 0.02) -> dict[str, Any]:
    return {
        "count": 120,
        "median": median,
        "p10": round(median * (1 - 2 * spread), 3),
        "p25": round(median * (1 - spread), 3),
        "p75": round(median * (1 + spread), 3),
        "p90": round(median * (1 + 2.4 * spread), 3),
        "interval": [round(median * (1 - spread / 2), 3), round(median * (1 + spread / 2), 3)],
    }


def _engine(backend: str, precision: str, ran: str, median: float, agreement: float, seed: int) -> dict[str, Any]:
    samples = _latencies(median, seed)
    return {
        "name": f"{backend} {precision}",
        "model": MODEL,
        "model_digest": "5f" * 32,
        "height": 360,
        "width": 480,
        "backend": backend,
        "precision": precision,
        "ran": ran,
        "threads": 2,
        "batch": 1,
        "file_bytes": 13_900_000 if precision == "int8" else 55_400_000,
        "latency_ms": _summary(samples),
        "fps": round(1e3 / float(np.mean(samples)), 2),
        "windows_ms": [round(float(np.median(samples[start : start + 40])), 3) for start in range(0, SAMPLES, 40)],
        "stable": seed != 3,
        "parts_ms": {"transfers": 0.1 * median, "compute": 0.9 * median} if backend == "tensorrt" else None,
        "peak_memory_bytes": 310_000_000 + 10_000_000 * seed,
        "agreement_percent": agreement,
        "agreement_with": "the model's own graph in FP32",
        "samples_ms": samples,
    }


def _card_row(engine: dict[str, Any], miou: float, ratio: float, verdict: str, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    wobble = 0.0 if engine["precision"] == "fp32" else 0.6
    differences = {name: round(float(random.normal(0, wobble)), 3) for name in CAMVID.names}
    same = {
        key: engine[key]
        for key in ("name", "backend", "precision", "latency_ms", "fps", "file_bytes", "agreement_percent")
    }
    return {
        **same,
        "miou": miou,
        "miou_difference": round(miou - 64.28, 2),
        "per_class_iou_difference": differences,
        "ratio": _ratio(ratio),
        "verdict": verdict,
    }


def _growth() -> dict[str, Any]:
    sizes = ((240, 320), (360, 480), (480, 640), (720, 960), (1080, 1440))
    pixels = []
    for seed, (height, width) in enumerate(sizes):
        millions = height * width / 1e6
        samples = _latencies(2 + 330 * millions, seed, 60)
        pixels.append(
            {
                "height": height,
                "width": width,
                "latency_ms": _summary(samples),
                "ms_per_megapixel": round(float(np.median(samples)) / millions, 1),
                "peak_memory_bytes": int(2.2e8 + 4.2e8 * millions),
            }
        )
    batch = [
        {
            "batch": size,
            "latency_ms": _summary(_latencies(57 * size - 3, size, 60)),
            "ms_per_frame": 57 - 3 / size,
            "fps": 1000 / (57 - 3 / size),
            "peak_memory_bytes": int(3e8 + 4e7 * size),
        }
        for size in (1, 2, 4, 8)
    ]
    threads = [
        {
            "threads": count,
            "latency_ms": _summary(_latencies(108 / count**0.93, count, 60)),
            "fps": count**0.93 * 9.26,
            "peak_memory_bytes": 310_000_000,
        }
        for count in (1, 2)
    ]
    return {
        "network": "pspnet18 with random weights, int8 in openvino",
        "pixels": pixels,
        "batch": batch,
        "threads": threads,
        "linear": {
            "words": "latency is linear in pixels: 330 ms a megapixel and 2 ms more, R² 0.9998",
            "slope_ms": 330.0,
            "intercept_ms": 2.0,
            "r2": 0.9998,
        },
    }


def _layers() -> dict[str, Any]:
    names = (
        "3x3 convolution, 512 to 256 channels",
        "3x3 convolution, 256 to 256 channels",
        "7x7 convolution, 3 to 64 channels",
        "3x3 convolution, 128 to 128 channels",
        "1x1 convolution, 512 to 128 channels",
        "sum, ReLU and rounding",
        "3x3 convolution, 64 to 64 channels",
        "product with a constant, 36 to 2700 cells",
        "argmax of 11 classes",
        "copy of the frame to channels",
    )
    parts = ("head", "layer3", "stem", "layer2", "pyramid", "layer4", "layer1", "head", "tail", "input")
    rows = []
    for place, (what, part) in enumerate(zip(names, parts, strict=True)):
        gmac = None if place in (5, 8, 9) else round(7.0 / (place + 1), 2)
        took = round(13.4 / (place + 1) ** 0.7, 2)
        rate = None if gmac is None else round(gmac / took * 1e3, 1)
        rows.append(
            {
                "name": f"/{part}/conv_{place}/Conv",
                "part": part,
                "what": f"{what} at 45x60",
                "kind": "Convolution",
                "format": "f32" if place in (7, 8) else "i8",
                "gmac": gmac,
                "ms": took,
                "share_percent": round(100 * took / 55.8, 1),
                "gmac_s": rate,
                "of_peak_percent": None if rate is None else round(rate / 9.2, 1),
                "bytes": 4_100_000,
                "intensity": None if gmac is None else 170.0,
                "bound": None if gmac is None else "arithmetic",
            }
        )
    shares = {
        "stem": 6.0,
        "layer1": 9.5,
        "layer2": 12.0,
        "layer3": 24.0,
        "layer4": 19.5,
        "pyramid": 4.0,
        "head": 22.5,
        "tail": 2.5,
    }
    return {
        "peak": {"f32": 240.0, "bf16": 410.0, "i8": 920.0},
        "peak_shapes": {"f32": "3x3 convolution, 256 to 256 channels at 64x64"},
        "bandwidth_gb_s": 21.3,
        "engine": {
            "file": "shipped.engine",
            "model": MODEL,
            "height": 360,
            "width": 480,
            "backend": "openvino",
            "precision": "int8",
            "ran": "u8",
            "threads": 2,
        },
        "rounds": 10,
        "latency_ms": 55.8,
        "wall_ms": 57.0,
        "profiling_percent": 2.1,
        "total_ms": 55.9,
        "gmac": 35.0,
        "gmac_s": 627.0,
        "of_peak_percent": 68.2,
        "peak_format": "i8",
        "parts": [
            {
                "part": part,
                "layers": 4,
                "gmac": round(0.35 * share, 2),
                "ms": round(0.558 * share, 2),
                "share_percent": share,
                "gmac_s": 627.0,
                "of_peak_percent": round(40 + share, 1),
            }
            for part, share in shares.items()
        ],
        "rows": rows,
        "rest": {"layers": 61, "gmac": 11.0, "ms": 9.3, "share_percent": 16.6},
        "dots": [
            {
                "name": row["name"],
                "part": row["part"],
                "format": row["format"],
                "gmac_s": row["gmac_s"],
                "intensity": 20.0 * (place + 1),
                "ms": row["ms"],
            }
            for place, row in enumerate(rows)
            if row["gmac_s"]
        ],
        "losses": [
            {"words": "layer3's convolutions reach 61 % of the peak", "ms": 5.1, "share_percent": 9.1},
            {"words": "sums and rounding between convolutions do no products", "ms": 3.9, "share_percent": 7.0},
        ],
        "ideal_ms": 38.0,
        "words": "The head's 3x3 convolution takes 24 % of the time. The engine reaches 68 % of the int8 peak.",
    }


def _loop() -> dict[str, Any]:
    random = np.random.default_rng(9)
    ages = 78 + 6 * random.standard_normal(300) + (random.random(300) < 0.03) * 70
    medians = {"capture": 1.1, "preprocess": 3.4, "infer": 56.1, "render": 0.1, "sink": 0.05, "encode": 4.2}
    return {
        "source": {"uri": "drive.mp4", "width": 960, "height": 720, "fps": 30.0, "live": False, "description": "video"},
        "engine": {"model": MODEL, "backend": "openvino", "precision": "int8"},
        "policy": "every",
        "threads": {"budget": 2, "engine": 2, "decoder": 1, "encoder": 1, "opencv": 1},
        "frames": {"received": 300, "shown": 300, "dropped": {}, "discarded": 0, "missed": 0, "skipped": 0},
        "seconds": 18.1,
        "fps": 16.52,
        "stages_ms": {name: _summary(_latencies(value, 11, 300)) for name, value in medians.items()},
        "age_ms": _summary([float(age) for age in ages]),
        "outputs": [],
        "ended": "end of source",
        "versions": {},
        "cost_ms": 4.1,
        "cost_percent": 7.3,
        "cost_interval_ms": [3.6, 4.7],
        "age_series": [[round(place * 0.0605, 4), round(float(age), 2)] for place, age in enumerate(ages)],
    }


def sample_report() -> dict[str, Any]:
    """Every section of schema 2, as plain JSON values; made anew at each call, so that a test may change it."""
    engines = [
        _engine("openvino", "int8", "u8", 55.8, 99.587, 1),
        _engine("openvino", "fp32", "f32", 218.0, 100.0, 2),
        _engine("openvino", "fp16", "bf16", 394.0, 99.913, 3),
        _engine("onnxruntime", "int8", "i8", 301.0, 99.592, 4),
    ]
    int8, fp32, bf16, other = engines
    card = [
        _card_row(fp32, 64.28, 1.0, "the reference", 20),
        _card_row(int8, 64.26, 3.91, "INT8 is 3.91x as fast as FP32 and loses 0.02 mIoU: use it", 21),
        _card_row(bf16, 64.29, 0.553, "FP16 is not worth it on this device: 0.55x as fast as FP32", 22),
        _card_row(
            other, 64.27, 0.724, "INT8 in ONNX Runtime is not worth it on this device: 0.72x as fast as FP32", 23
        ),
    ]
    peers = (
        ("PyTorch, eager", "torch 2.13.0", "fp32", 6.9, 1.76, 100.0),
        ("PyTorch, compiled", "torch 2.13.0", "fp32", 5.8, 1.48, 100.0),
        ("ONNX Runtime", "onnxruntime 1.27.1", "int8", 5.4, 5.4, 97.1),
        ("OpenVINO", "openvino 2026.4.0", "default", 7.06, 1.0, 99.913),
        ("OpenCV dnn", "opencv-python 4.13.0", "fp32", 9.4, 2.4, 99.998),
    )
    return {
        "schema": 2,
        "command": "rtpsp bench --precisions fp32,fp16,int8 --backends all --data camvid --html report.html",
        "rtpsp": "0.1.0",
        "versions": {"openvino": "2026.4.0", "onnxruntime": "1.27.1", "numpy": "2.4.1", "python": "3.11.13"},
        "when": "2026-11-26T10:02:03Z",
        "machine": {
            "cpu": "Example CPU @ 2.00GHz",
            "cores": 2,
            "threads": 2,
            "features": ["avx512f", "avx512_vnni", "avx512_bf16"],
            "memory_bytes": 25_769_803_776,
            "gpus": [],
        },
        "noise": {
            "seconds": 91.2,
            "load": [1.9, 2.3],
            "frequency_mhz": [2000, 2000],
            "others_percent": 12.0,
            "steal_percent": 0.0,
            "quiet": False,
            "words": "other programs used 12 % of the CPU; steal 0 %",
        },
        "frames": "8 frames of a drawn street, 480x640",
        "engines": engines,
        "ratios": [
            {"first": fp32["name"], "second": int8["name"], **_ratio(3.91)},
            {"first": bf16["name"], "second": int8["name"], **_ratio(7.06, 0.03)},
            {"first": other["name"], "second": int8["name"], **_ratio(5.4, 0.05)},
        ],
        "loop": _loop(),
        "card": {
            "reference": fp32["name"],
            "rows": card,
            "data": "CamVid val, 101 images, 11 classes, void left out",
            "skipped": [{"name": "tensorrt", "reason": "no NVIDIA driver on this machine"}],
        },
        "baseline": {
            "rows": [
                {
                    "key": "camvid",
                    "title": "PSPNet-50 on CamVid, 720x960",
                    "published_ms": 185.0,
                    "published_fps": 5.4,
                    "engine": "int8 openvino",
                    "unchecked": ["that it ran under Caffe"],
                    "measured_ms": 1210.0,
                    "ratio": 6.54,
                    "differs": [
                        "device: two CPU cores, there a Titan X (unchecked)",
                        "runtime: OpenVINO, there Caffe (unchecked)",
                        "precision: int8, there fp32",
                        "inside the time: normalisation, upsampling and argmax",
                    ],
                    "source": "Papers with Code, Real-Time Semantic Segmentation, CamVid",
                },
                {
                    "key": "nyudv2-18",
                    "title": "PSPNet-18 on NYU Depth v2, 480x640",
                    "published_ms": 19.0,
                    "published_fps": None,
                    "measured_ms": 102.0,
                    "ratio": 5.37,
                    "differs": ["device: two CPU cores, there a Titan Xp (unchecked)"],
                    "source": "Papers with Code, Real-Time Semantic Segmentation, NYU Depth v2",
                },
            ]
        },
        "growth": _growth(),
        "layers": _layers(),
        "peers": {
            "rows": [
                {
                    "name": f"{name} {precision}",
                    "peer": name.lower(),
                    "precision": precision,
                    "ran": "f32",
                    "default": precision != "int8",
                    "version": version,
                    "threads": 2,
                    "guide": "its guide",
                    "latency_ms": _summary(_latencies(55.8 * default, place, 120)),
                    "agreement_percent": agreement,
                    "idle_cpu_percent": 0.0,
                    "against": f"rtpsp {'int8' if precision == 'int8' else 'fp32'}",
                    "ratio": _ratio(alike),
                    "default_against": "rtpsp int8" if precision != "int8" else None,
                    "default_ratio": _ratio(default) if precision != "int8" else None,
                    "ours_ms": {"int8": 55.8},
                }
                for place, (name, version, precision, default, alike, agreement) in enumerate(peers)
            ],
            "loops": [
                {
                    "name": "read, infer, draw fp32",
                    "fps": 2.4,
                    "frame_ms": 416.7,
                    "version": "openvino 2026.4.0",
                    "threads": 2,
                    "against": None,
                    "ratio": None,
                    "default_ratio": _ratio(6.8),
                },
                {
                    "name": "OpenVINO model_api fp32",
                    "fps": 2.3,
                    "frame_ms": 434.8,
                    "version": "openvino-model-api 0.4",
                    "threads": 2,
                    "against": "rtpsp fp32",
                    "ratio": _ratio(1.9),
                    "default_ratio": _ratio(7.1),
                },
            ],
            "skipped": [{"name": "PyTorch, compiled bf16", "reason": "no C++ compiler on this machine"}],
            "running": 5,
            "enough": True,
            "words": "rtpsp is ahead of all five peers on the same weights",
        },
        "cameras": {
            "estimate": 2,
            "confirmed": 1,
            "fps": 15.0,
            "bound_ms": 200.0,
            "p95_age_ms": 131.0,
            "bottleneck": "inference",
            "capacity_fps": 17.9,
            "one_fps": None,
            "shares_percent": {"inference": 91.0, "preprocessing": 7.0, "rendering": 2.0},
            "words": "1 camera at 15 fps with 95 % of its frames younger than 200 ms; inference is the bottleneck",
            "measured": "streams of frames drawn beforehand share one engine, newest frame first",
            "tried": [
                {
                    "streams": 2,
                    "fps": 15.0,
                    "processed_fps": 8.6,
                    "processed_percent": 57.3,
                    "p95_age_ms": 241.0,
                    "max_age_ms": 302.0,
                    "held": False,
                    "why": "frames were dropped",
                },
                {
                    "streams": 1,
                    "fps": 15.0,
                    "processed_fps": 15.0,
                    "processed_percent": 100.0,
                    "p95_age_ms": 131.0,
                    "max_age_ms": 160.0,
                    "held": True,
                    "why": "",
                },
            ],
        },
    }
