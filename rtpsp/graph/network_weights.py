"""Random weights for the PSPNets of `rtpsp.graph.network`, of the spread that training would have given them.

Weights are drawn as He et al. do ("Delving Deep into Rectifiers", ICCV 2015), and every convolution but the classifier
has a batch norm with drawn scale and shift, whose statistics are measured: a small twin of the network, in which each
norm takes mean and variance of what comes in (Ioffe and Szegedy, "Batch Normalization", 2015), is run once. Folded in,
they keep activations neither vanishing nor exploding through a hundred layers, half of every ReLU's inputs negative,
and scores level enough that no class wins everywhere: FP16, INT8 and the comparison of class maps meet what they would
meet in a trained network. The same recipe with torch is `rtpsp.model.synthetic`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import typed
from rtpsp.graph.network import Architecture, Writer, shape_of, to_graph, write_scores
from rtpsp.graph.verify import open_session, sample_frames, to_image
from rtpsp.onnx_file import INPUT
from rtpsp.spec import ModelSpec

FloatArray = npt.NDArray[np.float32]

TWIN_SIZE = (97, 129)  # 13x17 cells at stride 8, 7x9 at 16: more than the largest bins
TWIN_FRAMES = 4
CORRECTION = 0.3  # training leaves a block a correction of its skip, no more
LEAST_VARIANCE = 0.1
"""Of the mean square of what a norm takes in: four frames' values under one bin may lie so close together that dividing
by their spread would make a storm of the next frame's."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Constants of all convolutions of one architecture, whatever the input's size.

    Attributes:
        arch: Of which.
        arrays: float32 by name, as `rtpsp.graph.network.to_graph` asks for them.
    """

    arch: Architecture
    arrays: dict[str, FloatArray]

    def graph(self, spec: ModelSpec) -> ir.Model:
        """The network at the size of a spec with as many planes and classes and the same output stride."""
        return to_graph(self.arch, spec, self._array)

    def _array(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        array = self.arrays[name]
        if array.shape != shape:
            raise ModelError(
                f"{name} was drawn as {list(array.shape)}, and {list(shape)} is asked for: draw weights for this spec"
            )
        return array


def draw_weights(arch: Architecture, spec: ModelSpec, seed: int = 0, threads: int = 0) -> Weights:
    """Draws the weights of a network.

    Args:
        arch: The architecture, in rtpsp's own form.
        spec: Gives planes, classes, normalisation and output stride; its size does not matter.
        seed: The same seed gives the same weights, up to rounding of the measured statistics.
        threads: For ONNX Runtime; 0 leaves it the choice.

    Raises:
        MissingError: onnxruntime is not installed.
    """
    small = replace(spec, height=TWIN_SIZE[0], width=TWIN_SIZE[1])
    twin = _Twin(arch, seed)
    image = typed(INPUT, ir.DataType.FLOAT, TWIN_FRAMES, small.planes, *small.size)
    scores = write_scores(twin, arch, small, image)
    model = twin.model(image, [*twin.measured, scores])
    frames = to_image(sample_frames(small, TWIN_FRAMES, seed), small)
    *measured, found = open_session(model, threads).run(None, {INPUT: frames})
    arrays = twin.folded(measured)
    arrays["head.classifier.bias"] -= found.mean(axis=(0, 2, 3))
    return Weights(arch, arrays)


class _Twin(Writer):
    """A network of drawn weights whose norms take the statistics of what comes in, and give them as outputs."""

    def __init__(self, arch: Architecture, seed: int) -> None:
        super().__init__(self._draw)
        last = 2 if arch.block == "basic" else 3
        self._ends_block = re.compile(rf"backbone\.layer\d\.\d+\.conv{last}").fullmatch
        self._random = np.random.default_rng(seed)
        self._drawn: dict[str, FloatArray] = {}
        self._norms: dict[str, tuple[FloatArray, FloatArray]] = {}
        self._axes = self.constant("axes", np.array([0, 2, 3], np.int64))
        self._least = self.constant("least", np.array(LEAST_VARIANCE, np.float32))
        self.measured: list[ir.Value] = []

    def conv(
        self, name: str, value: ir.Value, channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1,
        norm: str | None = None,
    ) -> ir.Value:  # fmt: skip
        """See `Writer.conv`; where there is a norm, normalised."""
        result = super().conv(name, value, channels, kernel, stride, dilation, norm)
        return result if norm is None else self._normalised(name, result)

    def folded(self, measured: Sequence[FloatArray]) -> dict[str, FloatArray]:
        """All constants, once the values of `measured` are known."""
        for (name, (scale, shift)), mean, deviation in zip(
            self._norms.items(), measured[::2], measured[1::2], strict=True
        ):
            factor = scale / deviation.ravel()
            self._drawn[f"{name}.weight"] *= factor[:, None, None, None]
            self._drawn[f"{name}.weight/bias"] = shift - mean.ravel() * factor
        return self._drawn

    def _draw(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        if len(shape) == 1:  # until it is measured
            array = np.zeros(shape, np.float32)
        else:
            spread = np.float32(np.sqrt(2.0 / np.prod(shape[1:])))
            array = self._random.standard_normal(shape, np.float32) * spread
        self._drawn[name] = array
        return array

    def _normalised(self, name: str, value: ir.Value) -> ir.Value:
        shape = shape_of(value)
        channels = (1, shape[1], 1, 1)
        scale = self._random.uniform(0.5, 1.5, shape[1]).astype(np.float32)
        if self._ends_block(name):
            scale *= np.float32(CORRECTION)
        shift = self._random.normal(0, 0.2, shape[1]).astype(np.float32)
        self._norms[name] = scale, shift
        mean = self.add("ReduceMean", f"{name}/mean", [value, self._axes], channels)
        centred = self.add("Sub", f"{name}/centred", [value, mean], shape)
        variance = self._mean_square(f"{name}/variance", centred, [self._axes], channels)
        power = self._mean_square(f"{name}/power", value, [], (1, 1, 1, 1))
        least = self.add("Mul", f"{name}/least", [power, self._least], (1, 1, 1, 1))
        bounded = self.add("Max", f"{name}/bounded", [variance, least], channels)
        deviation = self.add("Sqrt", f"{name}/deviation", [bounded], channels)
        self.measured += [mean, deviation]
        level = self.add("Div", f"{name}/level", [centred, deviation], shape)
        factor = self.constant(f"{name}/scale", scale.reshape(channels))
        scaled = self.add("Mul", f"{name}/scaled", [level, factor], shape)
        offset = self.constant(f"{name}/shift", shift.reshape(channels))
        return self.add("Add", f"{name}/normalised", [scaled, offset], shape)

    def _mean_square(self, name: str, value: ir.Value, axes: list[ir.Value], shape: tuple[int, ...]) -> ir.Value:
        squares = self.add("Mul", f"{name}/squares", [value, value], shape_of(value))
        return self.add("ReduceMean", name, [squares, *axes], shape)
