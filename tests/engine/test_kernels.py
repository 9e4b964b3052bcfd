"""The kernels against their references: the source that a GPU gets, run on the host thread by thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpsp.engine.device_io as device_io
from rtpsp.arrays import ClassMap, Image
from rtpsp.device_reference import class_map, draw, map_dtype, resize
from rtpsp.drawing import Drawing
from rtpsp.engine.cuda import CudaDevice
from rtpsp.engine.device_io import DeviceIO, Lane
from rtpsp.errors import InputError
from rtpsp.fit import FitPlan, no_class, plan_fit
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.sim import Street
from rtpsp.spec import Fit, ModelSpec, Resize
from rtpsp.stream.render import Renderer, RenderOptions
from rtpsp.upsampling import Scores, upsample
from tests.engine.host_device import HostContext, compile_for_host
from tests.test_class_mapper import noise, regions

ROUNDING = 28 * 2.0**-24
"""Of the largest score: class_map.cu says why."""
FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")
RESIZES: tuple[Resize, ...] = ("area", "bilinear")


@pytest.fixture(scope="module")
def context(request: pytest.FixtureRequest) -> HostContext:
    return HostContext(compile_for_host(request.config.cache.mkdir("kernels")))


@pytest.fixture(scope="module")
def device(context: HostContext) -> Iterator[CudaDevice]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_io, "compile_kernels", lambda compute_capability: b"")
        device = CudaDevice("host", context)
        yield device
        device.close()
    assert context.held == 0, "everything was freed, and nothing was written beyond an end"


def make_spec(size: tuple[int, int], classes: int = 11, fit: Fit = "stretch", resize: Resize = "area") -> ModelSpec:
    labels = CAMVID if classes == 11 else LabelSet("many", tuple(map(str, range(classes))), distinct_palette(classes))
    return ModelSpec("test", "test", *size, labels, fit=fit, resize=resize)


def make_image(size: tuple[int, int], seed: int = 0) -> Image:
    image: Image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return image


class Run:
    """One frame through a lane, whose memory is given back."""

    def __init__(
        self,
        device: CudaDevice,
        plan: FitPlan,
        image: Image,
        scores: Scores | None = None,
        drawing: Drawing | None = None,
        wide: bool | None = None,
    ) -> None:
        cells = (1, 1) if scores is None else (scores.shape[1], scores.shape[2])
        io = DeviceIO(device, plan.spec, cells)
        lane = io.lane(plan)
        stream = device.stream()
        if wide is not None:
            lane._resize = io.resizes[wide]
        lane.frame[...] = image
        lane.upload(stream)
        made = np.empty((*plan.spec.size, 3), np.uint8)
        to = device.allocate(made.nbytes)
        lane.resize(stream, to)
        device.download(made, to, stream)
        device.free(to)
        self.input: Image = made
        self.wide = lane._resize is io.resizes[True]
        self.gaps = np.zeros((cells[0] + 1, cells[1] + 1, 8), np.uint16)
        if scores is not None:
            given = io.put(scores)
            lane.finish(stream, given, drawing)
            device.download(self.gaps, lane._gaps, stream)
            device.free(given)
            lane.download(stream)
        self.class_map: ClassMap = lane.class_map.copy()
        self.picture = None if lane.picture is None else lane.picture.copy()
        lane.free()


def assert_map(found: ClassMap, scores: Scores, plan: FitPlan) -> None:
    """Equal to the definition, or a tie but for rounding."""
    expected = class_map(scores, plan)
    assert found.dtype == expected.dtype and found.shape == expected.shape == plan.source_size
    box = plan.source_box.slices
    full = upsample(scores, plan.grid((scores.shape[1], scores.shape[2])))
    inside, wanted = found[box].astype(np.intp), expected[box].astype(np.intp)
    rows, columns = np.nonzero(inside != wanted)
    lost = full[wanted[rows, columns], rows, columns] - full[inside[rows, columns], rows, columns]
    assert lost.max(initial=0) <= ROUNDING * np.abs(scores).max()
    assert rows.size <= 0.001 * wanted.size + 1
    unseen = np.ones(plan.source_size, bool)
    unseen[box] = False
    assert (found[unseen] == no_class(len(plan.spec.labels))).all()


@pytest.mark.parametrize("mode", RESIZES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("source", "model"),
    [
        ((90, 120), (60, 80)),  # 3 : 2
        ((96, 128), (48, 64)),  # 2 : 1
        ((48, 64), (48, 64)),
        ((97, 131), (48, 65)),  # nothing in common
        ((97, 65), (48, 65)),  # one side stays
        ((30, 40), (48, 64)),  # smaller than the model
        ((30, 128), (48, 64)),  # one side shrinks, one grows
        ((1, 1), (5, 7)),
        ((1, 90), (9, 8)),
        ((83, 1), (9, 8)),
        ((37, 53), (1, 1)),
    ],
)
def test_frames_are_resized_to_the_bit(
    device: CudaDevice, source: tuple[int, int], model: tuple[int, int], fit: Fit, mode: Resize
) -> None:
    plan = plan_fit(source, make_spec(model, fit=fit, resize=mode))
    image = make_image(source)
    expected = resize(image, plan)
    for wide in (False, True):
        np.testing.assert_array_equal(Run(device, plan, image, wide=wide).input, expected)
    for level in (0, 255):  # no sum runs over, and nothing gets lost
        np.testing.assert_array_equal(
            Run(device, plan, np.full_like(image, level)).input, resize(image * 0 + level, plan)
        )


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(FITS),
    st.sampled_from(RESIZES),
    st.sampled_from([2, 5, 11]),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 1000),
)
def test_any_size(
    device: CudaDevice,
    source: tuple[int, int],
    model: tuple[int, int],
    fit: Fit,
    mode: Resize,
    classes: int,
    cells: tuple[int, int],
    seed: int,
) -> None:
    plan = plan_fit(source, make_spec(model, classes, fit, mode))
    image, scores = make_image(source, seed), (noise if seed % 2 else regions)(classes, cells, seed)
    drawing = Drawing("overlay", seed / 1000)
    run = Run(device, plan, image, scores, drawing)
    np.testing.assert_array_equal(run.input, resize(image, plan))
    assert_map(run.class_map, scores, plan)
    assert run.picture is not None
    np.testing.assert_array_equal(run.picture, draw(image, run.class_map, plan.spec.labels, drawing))


def test_sums_beyond_32_bits_are_taken_in_64(device: CudaDevice) -> None:
    plan = plan_fit((5, 7), make_spec((2054, 2054), resize="bilinear"))  # 255.5 * 4108**2 > 2**32
    run = Run(device, plan, np.full((5, 7, 3), 255, np.uint8))
    assert run.wide and (run.input == 255).all()
    assert not Run(device, plan_fit((108, 192), make_spec((72, 96))), make_image((108, 192))).wide


@pytest.mark.parametrize("make", [noise, regions])
@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("classes", [1, 2, 11, 150, 255, 256, 257, 300])
def test_any_number_of_classes(device: CudaDevice, classes: int, fit: Fit, make: Any) -> None:
    spec = make_spec((96, 120), classes, fit)
    plan = plan_fit((83, 205), spec)
    scores = make(classes, (12, 15))
    run = Run(device, plan, make_image(plan.source_size), scores)
    assert run.picture is None
    assert run.class_map.dtype == ("uint8" if classes <= 255 + (fit == "stretch") else "int32") == map_dtype(plan)
    assert_map(run.class_map, scores, plan)


@pytest.mark.parametrize("view", ["overlay", "mask"])
@pytest.mark.parametrize("classes", [2, 11, 255, 256, 300])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_picture_is_the_renderers(
    device: CudaDevice, view: Literal["overlay", "mask"], classes: int, alpha: float
) -> None:
    plan = plan_fit((101, 207), make_spec((64, 64), classes, "crop"))  # unseen to both sides: stripes
    image, scores = make_image(plan.source_size), regions(classes, (8, 8))
    run = Run(device, plan, image, scores, Drawing(view, alpha))
    assert run.picture is not None
    np.testing.assert_array_equal(run.picture, draw(image, run.class_map, plan.spec.labels, Drawing(view, alpha)))
    rendered = Renderer(plan.spec.labels, RenderOptions(alpha=alpha)).draw(view, image, run.class_map)
    apart = np.abs(run.picture.astype(int) - rendered)
    assert apart.max() <= (0 if view == "mask" or alpha == 0.5 else 1)


def test_a_street_from_camera_to_screen(device: CudaDevice) -> None:
    """With scores as a network would give them: the truth, blurred and coarse."""
    street = Street(270, 482, seed=4)
    image, truth = street.draw(30), street.truth(30)
    spec = make_spec((180, 240), fit="letterbox")
    plan = plan_fit((270, 482), spec)
    shown = truth[::3, ::2][:, :240]
    scores = np.zeros((11, 23, 30), np.float32)
    for label in range(11):
        one = np.zeros(spec.size, np.float32)
        box = plan.model_box
        one[box.slices] = (shown == label)[: box.height, : box.width].astype(np.float32).repeat(2, axis=0)[: box.height]
        scores[label] = np.add.reduceat(
            np.add.reduceat(one, np.arange(23) * 180 // 23, axis=0), np.arange(30) * 8, axis=1
        )
    run = Run(device, plan, image, scores, Drawing("overlay"))
    np.testing.assert_array_equal(run.input, resize(image, plan))
    assert_map(run.class_map, scores, plan)
    assert len(np.unique(run.class_map)) > 5
    assert run.picture is not None
    np.testing.assert_array_equal(run.picture, Renderer(CAMVID).draw("overlay", image, run.class_map))


def test_of_equal_scores_the_lower_id_wins(device: CudaDevice) -> None:
    plan = plan_fit((190, 190), make_spec((192, 192), 22))
    image, one = make_image((190, 190)), regions(11, (24, 24))
    run = Run(device, plan, image, np.concatenate([one, one]))  # every class has an equal of a higher id
    assert (run.gaps[..., 0] > 1).any(), "some are interpolated"
    assert run.class_map.max() < 11
    assert not Run(device, plan, image, np.zeros((22, 24, 24), np.float32)).class_map.any()


def test_only_classes_that_can_win_are_interpolated(device: CudaDevice) -> None:
    plan = plan_fit((6, 32), make_spec((8, 16), 5))
    scores = np.zeros((5, 1, 2), np.float32)
    scores[:, 0] = [[10, 4], [-5, 10], [9, 9], [3, 3], [3, 4]]  # the first has at least 4 everywhere
    run = Run(device, plan, make_image((6, 32)), scores)
    assert (run.class_map[:, 15:17] == 2).all(), "best between two cells, at none of them"
    assert run.gaps[0, 0].tolist()[:2] == [1, 0], "uniform: beyond the first cell"
    assert run.gaps[0, 1].tolist()[:5] == [4, 0, 1, 2, 4]
    assert run.gaps[1, 2].tolist()[:2] == [1, 1]


@pytest.mark.parametrize("count", [2, 7, 8, 40])
def test_any_number_of_contenders(device: CudaDevice, count: int) -> None:
    plan = plan_fit((40, 60), make_spec((16, 24), 60))
    scores = noise(60, (2, 3)) / np.float32(100)
    some = np.random.default_rng(1).permutation(60)[:count]
    scores[some] += 5
    scores[some, 0, 1] += 2  # between two of three columns of cells: in every gap they reach what the others have
    run = Run(device, plan, make_image((40, 60)), scores)
    mixed = run.gaps[1:-1, 1:-1, 0]
    assert (mixed == (count if count <= 7 else 0)).all()
    assert_map(run.class_map, scores, plan)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [5, 40])
def test_scores_that_are_no_numbers_give_ids_all_the_same(device: CudaDevice, value: float, classes: int) -> None:
    plan = plan_fit((192, 192), make_spec((192, 192), classes))
    image, clean = make_image((192, 192)), regions(classes, (24, 24))
    scores = clean.copy()
    scores[:, 2, 3] = value
    scores[1, 14, 14] = value
    found, expected = Run(device, plan, image, scores).class_map, Run(device, plan, image, clean).class_map
    assert found.max() < classes
    far = np.ones((192, 192), bool)
    far[8:32, 16:40] = far[104:128, 104:128] = False  # more than a cell away
    assert len(np.unique(expected[far])) > 2
    np.testing.assert_array_equal(found[far], expected[far])


def test_a_lane_serves_frame_after_frame_without_allocating(device: CudaDevice, context: HostContext) -> None:
    plan = plan_fit((60, 80), make_spec((48, 64)))
    io = DeviceIO(device, plan.spec, (6, 8))
    lane, stream = io.lane(plan), device.stream()
    scores = [regions(11, (6, 8), seed) for seed in range(3)]
    given = [io.put(one) for one in scores]
    to = device.allocate(48 * 64 * 3)
    held = context.held
    for number, drawing in enumerate([Drawing("mask"), None, Drawing("overlay", 0.25)]):
        context.launches.clear()
        image = make_image((60, 80), number)
        lane.frame[...] = image
        lane.upload(stream)
        lane.resize(stream, to)
        lane.finish(stream, given[number], drawing)
        lane.download(stream)
        assert context.launches == ["resize", "find_contenders", "finish_uint8"]
        assert_map(lane.class_map, scores[number], plan)
        assert (lane.picture is None) == (drawing is None)
        if drawing is not None:
            assert lane.picture is not None
            expected = draw(image, lane.class_map, CAMVID, drawing)
            np.testing.assert_array_equal(lane.picture, expected)
    assert context.held == held
    lane.free()


def test_frames_too_large_are_refused(device: CudaDevice) -> None:
    spec = make_spec((48, 64))
    plan = replace(plan_fit((48, 64), spec), source_size=(1 << 16, 1 << 15))
    with pytest.raises(InputError, match="frame is 65536x32768"):
        Lane(DeviceIO(device, spec, (6, 8)), plan)
