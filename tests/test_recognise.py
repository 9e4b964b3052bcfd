"""Files of the wrong kind, and names that are nearly right."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtpsp.errors import InputError, ModelError
from rtpsp.inspection import inspect
from rtpsp.onnx_file import read_graph
from rtpsp.recognise import HEAD_BYTES, kind_of, near


def make(path: Path) -> None:
    """A real file of the kind that its suffix says."""
    if path.suffix in (".png", ".jpg"):
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    elif path.suffix == ".pth":
        import torch

        torch.save({"a": torch.zeros(1)}, path)
    else:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=10)
            stream.height = stream.width = 16
            stream.pix_fmt = "yuvj420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
            container.mux([*stream.encode(frame), *stream.encode()])


@pytest.mark.filterwarnings("ignore:.*deprecated pixel format")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.png", "a picture"),
        ("a.jpg", "a picture"),
        ("a.mp4", "a video"),
        ("a.mkv", "a video"),
        ("a.avi", "a video"),
        ("a.pth", "a PyTorch checkpoint"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / name
    make(path)
    kind = kind_of(path.read_bytes()[:HEAD_BYTES])
    assert kind is not None and kind.name.startswith(says)
    with pytest.raises(InputError, match=says):
        inspect(path)
    with pytest.raises(ModelError, match=says):
        read_graph(path)


def test_an_engine_is_told_from_a_model(colour_engine: Path, colour_model: Path) -> None:
    with pytest.raises(ModelError, match=r"is an rtpsp engine, an ONNX model was expected: run it with rtpsp run"):
        read_graph(colour_engine)
    assert kind_of(colour_model.read_bytes()[:HEAD_BYTES]) is None


def test_a_name_that_is_nearly_right(tmp_path: Path) -> None:
    (tmp_path / "street.engine").touch()
    assert near(tmp_path / "Stret.engine") == tmp_path / "street.engine"
    assert near(tmp_path / "other") is None and near(tmp_path / "none" / "x") is None and near(Path("\0")) is None
    with pytest.raises(InputError, match=r"did you mean .*street\.engine\?"):
        inspect(tmp_path / "stret.engine")
