"""What a GPU does before the network and after it: a frame's own size comes in, and goes out again ready to be shown.

    frame ──▶ upload ──▶ resize ──▶ the network's input
    scores ──▶ finish (class map of the frame's size, palette, blend) ──▶ download ──▶ class map, picture

One definition with the host: `rtpsp.device_reference`. The kernels are in `rtpsp/engine/kernels`.
"""

from __future__ import annotations

from contextlib import ExitStack
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.device_reference import colour_table, map_dtype
from rtpsp.drawing import STRIPES, Drawing, stripe_width
from rtpsp.engine.cuda import Buffer, CudaDevice, Stream
from rtpsp.engine.kernel_compiler import compile_kernels
from rtpsp.errors import InputError
from rtpsp.fit import FitPlan, no_class, padding_bgr
from rtpsp.spec import ModelSpec
from rtpsp.upsampling import Axis

MAX_PIXELS = (1 << 31) - 4
"""Of a frame: the kernels count them in 32 bits."""

_Launch = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Blocks, and threads of a block."""

_RUN = np.dtype([("first", "i4"), ("count", "i4"), ("head", "u4"), ("tail", "u4")])  # Run in resize.cu
_PLACE = np.dtype([("gap", "i4"), ("weight", "f4")])  # Place in class_map.cu
_GAP_BYTES = 16  # Gap in class_map.cu
_BEYOND = 4  # entries of rows after the last, as class_map.cu wants them
_SLACK = 8  # bytes after the frame, as resize.cu wants them
_NO_PICTURE, _MASK, _OVERLAY = 0, 1, 2


class DeviceIO:
    """The kernels, loaded for one model on one device, which frees what this makes.

    Args:
        device: Open, in the thread that uses this.
        spec: The model.
        cells: (h, w) of the network's scores.

    Raises:
        MissingError: The kernels cannot be compiled (`rtpsp.engine.kernel_compiler`) or loaded.
    """

    def __init__(self, device: CudaDevice, spec: ModelSpec, cells: tuple[int, int]) -> None:
        self.device = device
        self.spec = spec
        self.cells = cells
        module = device.load_module(compile_kernels(device.compute_capability))
        self.resizes = module.kernel("resize"), module.kernel("resize_wide")
        self.find_contenders = module.kernel("find_contenders")
        self.finishes = {np.dtype(name): module.kernel(f"finish_{name}") for name in ("uint8", "int32")}
        self._setup = device.stream()
        self.palette = self.put(_packed(colour_table(spec.labels)))

    def lane(self, plan: FitPlan) -> Lane:
        """Memory for one frame in flight, of one size; to be made when a size is first seen, not for each frame.

        Raises:
            InputError: The frames are too large.
            MissingError: There is not enough memory.
        """
        return Lane(self, plan)

    def put(self, table: NDArray[np.generic]) -> Buffer:
        """A copy on the device; waits until it is there."""
        buffer = self.device.allocate(table.nbytes)
        self.device.upload(buffer, table, self._setup)
        self._setup.synchronize()
        return buffer


class Lane:
    """One frame in flight: page-locked memory of the host, memory of the device, and what depends on the size alone.

    The methods put work onto a stream and return; nothing here waits. The caller orders them, across streams by events:
    `upload`, `resize`, the network, `finish`, `download`.

    Attributes:
        frame: uint8 [height, width, 3] BGR, page-locked; the frame is written into it before `upload`.
        class_map: [height, width] class ids, page-locked; there once `download` has run, until its next call.
        picture: uint8 [height, width, 3] BGR, page-locked, in the same way; None if `finish` drew none.
    """

    def __init__(self, io: DeviceIO, plan: FitPlan) -> None:
        height, width = plan.source_size
        if height * width > MAX_PIXELS:
            raise InputError(f"frame is {height}x{width}, expected {MAX_PIXELS} pixels at most: use --device-io off")
        self.plan = plan
        self._io, device = io, io.device
        dtype = map_dtype(plan)
        shape = (height, width, 3)
        fours = -(-height * width // 4)
        rows, columns = io.cells
        with ExitStack() as held:  # what it has got, where there is no memory for the rest

            def pinned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
                array = device.pinned(shape, dtype)
                held.callback(device.free, array)
                return array

            def own(buffer: Buffer) -> Buffer:
                held.callback(device.free, buffer)
                return buffer

            self.frame: Image = pinned(shape, np.uint8)
            self.class_map: ClassMap = pinned(shape[:2], dtype)
            self._picture: Image = pinned(shape, np.uint8)
            self._frame = own(device.allocate(12 * fours + _SLACK))
            self._map = own(device.allocate(4 * dtype.itemsize * fours))
            self._drawing = own(device.allocate(12 * fours))
            self._gaps = own(device.allocate((rows + 1) * (columns + 1) * _GAP_BYTES))
            tables = [own(io.put(table)) for table in (*_runs(plan), *_places(plan, io.cells))]
            self._held = held.pop_all()
        self._drawn = False

        total, inner = _weights(plan)
        wide = 255 * total + total // 2 >= 1 << 32  # what resize.cu sums up
        self._resize = io.resizes[wide]
        self._resize_launch = _grid(plan.spec.width, plan.spec.height, (32, 8))
        self._resize_before = (
            self._frame, np.int32(width), tables[0], np.uint32(inner[0]), tables[1], np.uint32(inner[1]),
            np.uint64(total), _packed(padding_bgr(plan.spec)[np.newaxis])[0],
        )  # fmt: skip
        self._resize_after = (np.int32(plan.spec.height), np.int32(plan.spec.width))

        labels = plan.spec.labels
        self._cells = (np.int32(len(labels)), np.int32(rows), np.int32(columns), self._gaps)
        self._contenders_launch = _grid(columns + 1, rows + 1, (32, 4))
        self._finish = io.finishes[dtype]
        self._finish_launch = _grid(fours, 1, (128, 1))
        dark, light = (np.uint32(grey * 0x010101) for grey in STRIPES)
        self._finish_middle = (
            tables[2], tables[3], np.uint32(height), np.uint32(width), np.int32(no_class(len(labels))),
            self._map, io.palette, np.uint32(stripe_width(height)), dark, light,
        )  # fmt: skip

    @property
    def picture(self) -> Image | None:
        """See the class."""
        return self._picture if self._drawn else None

    def upload(self, stream: Stream) -> None:
        """`frame` to the device."""
        self._io.device.upload(self._frame, self.frame, stream)

    def resize(self, stream: Stream, to: Buffer) -> None:
        """The frame at the model's size, padded where the plan says so, into ``uint8 [1, H, W, 3]``."""
        self._resize.launch(stream, *self._resize_launch, *self._resize_before, to, *self._resize_after)

    def finish(self, stream: Stream, scores: Buffer, drawing: Drawing | None) -> None:
        """The class map from ``float32 [1, classes, h, w]``, and a picture if there is a drawing."""
        self._io.find_contenders.launch(stream, *self._contenders_launch, scores, *self._cells)
        view, alpha = _NO_PICTURE, 0.0
        if drawing is not None:
            view, alpha = _MASK if drawing.view == "mask" else _OVERLAY, drawing.alpha
        self._finish.launch(
            stream, *self._finish_launch, scores, *self._cells, *self._finish_middle, np.int32(view),
            np.float32(1 - alpha), np.float32(alpha), self._frame, self._drawing,
        )  # fmt: skip
        self._drawn = drawing is not None

    def download(self, stream: Stream) -> None:
        """The class map to the host, and the picture if the last `finish` drew one."""
        self._io.device.download(self.class_map, self._map, stream)
        if self._drawn:
            self._io.device.download(self._picture, self._drawing, stream)

    def free(self) -> None:
        """Give the memory back, of the host too, before the device closes; nothing of it may be in flight."""
        self._held.close()


def _weights(plan: FitPlan) -> tuple[int, tuple[int, int]]:
    """The sum of a pixel's weights, and that of an inner row and column of its runs."""
    sums, inner = zip(*(_run(plan, old, new)[1:] for old, new in _sides(plan)), strict=True)
    return int(sums[0]) * int(sums[1]), (inner[0], inner[1])


def _runs(plan: FitPlan) -> list[NDArray[np.void]]:
    """Which rows of the frame make a row of the model's input, and which columns a column: two tables of `Run`."""
    source, model = plan.source_box, plan.model_box
    tables = []
    for (old, new), begin, start, side in zip(
        _sides(plan), (source.top, source.left), (model.top, model.left), plan.spec.size, strict=True
    ):
        table = np.zeros(side, _RUN)  # of no pixels: padding
        runs = _run(plan, old, new)[0]
        runs["first"] += begin
        table[start : start + new] = runs
        tables.append(table)
    return tables


def _run(plan: FitPlan, old: int, new: int) -> tuple[NDArray[np.void], int, int]:
    """The runs of `new` pixels among `old` ones, the sum of each one's weights, and the weight of an inner pixel.

    Of an average a pixel weighs as much as of it is covered, in 1/new of a pixel; of a linear interpolation, in
    1/(2 new), two weigh what the other's distance is. Common factors are taken out: sums of 32 bits do for more frames.
    """
    index = np.arange(new, dtype=np.int64)
    if plan.averages:
        factor = gcd(old, new)
        total = inner = old // factor
        unit = new // factor
        begin = index * total
        first, last = begin // unit, (begin + total - 1) // unit
        head = np.minimum((first + 1) * unit, begin + total) - begin
        tail = begin + total - last * unit
        inner = unit
    else:
        centres = np.clip((2 * index + 1) * old - new, 0, 2 * new * (old - 1))
        first, rest = np.divmod(centres, 2 * new)
        factor = int(np.gcd.reduce(rest, initial=2 * new))
        total, inner = 2 * new // factor, 0
        tail = rest // factor
        head, last = total - tail, first + (tail > 0)
    runs = np.empty(new, _RUN)
    runs["first"], runs["count"], runs["head"], runs["tail"] = first, last - first + 1, head, tail
    return runs, total, inner


def _sides(plan: FitPlan) -> tuple[tuple[int, int], tuple[int, int]]:
    source, model = plan.source_box, plan.model_box
    return (source.height, model.height), (source.width, model.width)


def _places(plan: FitPlan, cells: tuple[int, int]) -> list[NDArray[np.void]]:
    """Where rows and columns of the frame lie among the cells of the scores: two tables of `Place`."""
    grid, box = plan.grid(cells), plan.source_box
    height, width = plan.source_size
    return [_place(grid.rows, box.top, height + _BEYOND), _place(grid.columns, box.left, width)]


def _place(axis: Axis, begin: int, length: int) -> NDArray[np.void]:
    """In double precision, as the reference has it: no pixel gets into another gap by rounding."""
    table = np.zeros(length, _PLACE)
    table["gap"] = -1
    seen = table[begin : begin + axis.pixels]
    gaps = np.floor(axis.positions)
    seen["gap"], seen["weight"] = gaps + 1, axis.positions - gaps
    return table


def _packed(colours: Image) -> NDArray[np.uint32]:
    """uint8 [n, 3] BGR, one number each, blue in the lowest byte."""
    blue, green, red = colours.astype(np.uint32).T
    packed: NDArray[np.uint32] = np.ascontiguousarray(blue | green << 8 | red << 16)
    return packed


def _grid(width: int, height: int, block: tuple[int, int]) -> _Launch:
    """As many blocks as cover so many threads."""
    return (-(-width // block[0]), -(-height // block[1]), 1), (*block, 1)
