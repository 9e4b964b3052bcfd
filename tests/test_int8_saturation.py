"""The builder's INT8 on a CPU whose products saturate, with the shipped model and a frame that it understands."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import json
from dataclasses import replace

import numpy as np

from rtpsp import zoo
from rtpsp.build import BuildOptions, to_header
from rtpsp.graph.verify import open_session
from rtpsp.int8 import Int8Options, quantise_model
from rtpsp.maker import Form, Maker
from rtpsp.onnx_file import load_model
from rtpsp.sim.street import Street

graph, spec = load_model(zoo.model_path())
frames = Street(*spec.size, seed=2).draw(40)[None].copy()
maker = Maker(graph, spec, to_header(spec, BuildOptions("int8")), frames, "host", 1)
found = quantise_model(maker, Int8Options(), "plain", lambda *told: None)
chosen = maker.integers.weight_bits
errors = {}
for bits, form in ((chosen, found.form), (8, Form("int8", "plain"))):
    maker.integers = replace(maker.integers, weight_bits=bits)
    exact = open_session(maker.graph_of(form), 1).run(None, {"frames": frames})[0]  # Q/DQ as they stand, in float
    with maker.engine(form) as engine:
        scores = engine.infer(frames).scores
    errors[bits] = float(np.abs(scores - exact).max() / np.abs(exact).max())
print(json.dumps({"chosen": chosen, "notes": found.notes, "errors": errors}))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors have no AVX2")
def test_what_the_builder_chooses_is_right_where_full_range_weights_are_not() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["chosen"] == 7 and any(note.startswith("7-bit weights: openvino adds INT8") for note in told["notes"])
    assert told["errors"]["8"] > 0.05, "full-range weights saturate"
    assert told["errors"]["7"] < 0.01
