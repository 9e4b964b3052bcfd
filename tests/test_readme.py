"""The README's commands, one after the other in one folder, as a newcomer would give them.

Cameras are doubles, videos have four frames, runs end after three, the newcomer's own network is narrow and has a small
input, what a build times it times twice, and what measures or is built once more does so for the shipped network at a
third of its input; nothing else is changed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rtpsp
from rtpsp import zoo
from rtpsp.build import BuildOptions, build_engine
from rtpsp.cli import main
from rtpsp.files import sha256_of
from rtpsp.graph.resized import resized
from rtpsp.labels import CAMVID, to_label_list
from rtpsp.onnx_file import load_model, save_model
from rtpsp.sim import Street
from rtpsp.stream.cameras import CameraInfo
from tests import foreign_models
from tests.shapes import narrowed
from tests.stream.test_camera import Double, jpeg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

SHORTER = {
    "run": ["--max-frames", "3"],
    "export": ["--size", "96x128"],
    "bench": ["--quick", "--duration", "0.5", "--warmup", "0.1"],
    "compare": ["--frames", "2"],
    "doctor": ["--quick"],
    "--init": ["--epochs", "1", "--batch", "2", "--size", "64x96"],
    "--calib": ["--calib-images", "2", "--min-agreement", "0"],  # the newcomer's network has seen nothing yet
}
"""Appended to the options of a verb, or to those beside an option; of one that is given twice the last one counts."""

AT_A_THIRD = ("bench", "--min-confidence", "--target-fps")
"""What is run with `smaller`: the shipped network itself is built for the first run, and taken by those after it."""

MEANT = {"ENGINE": "colours.engine", "DIR": "labelled", "FILE": "colours.engine", "VERB": "run"}
"""What stands for the words in capitals."""

ELSEWHERE = {
    "make demo": "test_the_demo",
    "make test": "this test is part of it",
    "source .venv/bin/activate": "Python's own",
    "pip install .": "tests/test_packaging.py",
    ".venv/bin/pip install -e '.[train]' -c constraints.txt": "the Makefile's",
    ".venv/bin/pip install -e '.[tensorrt-rtx]' -c constraints.txt": "the Makefile's, all but the extra",
    ".venv/bin/pip install -e '.[tensorrt]' -c constraints.txt": "takes libraries from NVIDIA's own index",
    ".venv/bin/pip install -e '.[tensorrt-cu12]'": "takes libraries from NVIDIA's own index",
    ".venv/bin/pip install -e '.[tensorrt-rtx-cu12]'": "as tensorrt-rtx, for another CUDA",
    ".venv/bin/pip install -e '.[onnxruntime-gpu]' -c constraints.txt": "gigabytes of CUDA",
    "python bench/gpu_check.py": "tests/test_gpu_check.py",
    "apt-get install libgl1 libglib2.0-0": "the system's",
    ".venv/bin/python bench/picture.py": "test_the_picture",
    "python bench/shipped.py CHECKPOINT --data camvid": "needs CamVid, which is not ours to ship",
}
"""Commands that are not rtpsp's, and who runs them."""

CAMERAS = {
    "rtpsp run --source 'rtsp://USER:PASSWORD@camera/stream' --hud": "tests/stream/test_rtsp.py",
}
"""Commands that need a camera on the network, and who runs them against a server of their own."""

_FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_FIRST_WORDS = ("rtpsp", "make", "pip", ".venv/bin/pip", ".venv/bin/python", "python", "source", "apt-get", "eval")


def commands() -> list[str]:
    """Every command of the README in its order: lines behind a prompt, and code in running text and tables."""
    found: list[tuple[int, str]] = []
    for fence in _FENCE.finditer(README):
        if fence[1] == "console":
            found += [(fence.start(), line[2:]) for line in fence[3].splitlines() if line.startswith("$ ")]
    prose = _FENCE.sub(lambda fence: " " * len(fence[0]), README)
    for span in _SPAN.finditer(prose):
        if span[1].split()[0] in _FIRST_WORDS and len(span[1].split()) > 1:
            found.append((span.start(), span[1]))
        elif span[1].startswith("--camera "):  # "(or `--camera 1`, ...)"
            found.append((span.start(), f"rtpsp run {span[1]}"))
    return list(dict.fromkeys(command for _, command in sorted(found, key=lambda item: item[0])))


def block(language: str, name: str | None = None) -> str:
    """The text of the only code block of that language, or of the file that it is named after."""
    found = [fence[3] for fence in _FENCE.finditer(README) if fence[1] == language and fence[2] == name]
    assert len(found) == 1, (language, name, len(found))
    return found[0]


def camera(number: int) -> Double:
    assert number in (0, 1, 2)
    return Double(iter([jpeg(value, 96, 128) for value in range(40, 240, 10)]))


@pytest.fixture(scope="module")
def narrow() -> Iterator[None]:
    """To write 14 million weights for each of the graphs that are tried is all that a wider network would add."""
    from rtpsp.model.pspnet import ARCHS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHS, "pspnet18", narrowed())
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, colour_model: Path, narrow: None) -> Path:
    """What the README's newcomer has: a video, images, labelled images, a checkpoint; engines stay in it."""
    import torch

    from rtpsp.model.pspnet import build

    folder = tmp_path_factory.mktemp("newcomer")
    street = Street(120, 160)
    for part in ("frames", *(f"labelled/{split}{kind}" for split in ("train", "val") for kind in ("", "annot"))):
        (folder / part).mkdir(parents=True)
    report = rtpsp.run(
        "sim://street?w=160&h=120&frames=4",
        rtpsp.FakeEngine(rtpsp.ModelSpec("fake", "fake", 48, 64, CAMVID)),
        [rtpsp.VideoFile(folder / "drive.mp4")],
    )
    assert report.frames.shown == 4
    for number in range(2):
        image, truth = street.draw(number), street.truth(number)
        cv2.imwrite(str(folder / "frames" / f"{number}.png"), image)
        for split in ("train", "val"):
            cv2.imwrite(str(folder / "labelled" / split / f"{number}.png"), image)
            cv2.imwrite(str(folder / "labelled" / f"{split}annot" / f"{number}.png"), truth)
    for name, language in (("my.txt", "text"), ("rtpsp.toml", "toml")):
        (folder / name).write_text(block(language, name), encoding="utf-8")
    (folder / "cameras.txt").write_text("gate = sim://street?live=1\nyard = sim://street?live=1&seed=2\n")
    torch.manual_seed(1)
    model = build("pspnet18", 3)
    torch.save(model.state_dict(), folder / "my.pth")
    torch.save(model.backbone.state_dict(), folder / "resnet18.pth")
    (folder / "classes.txt").write_text(f"# ignore: {CAMVID.ignore}\n{to_label_list(CAMVID)}", encoding="utf-8")
    scores = (1, len(CAMVID), *(side // 2 for side in foreign_models.SIZE))
    foreign_models.save(folder / "other.onnx", foreign_models.as_it_is, scores, classes=len(CAMVID))
    build_engine(colour_model, folder / "colours.engine", BuildOptions("fp32"))
    return folder


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network for frames of 180x240, under its name: a ninth of the work."""
    model, spec = resized(*load_model(zoo.model_path()), (180, 240))
    path = tmp_path_factory.mktemp("smaller") / f"{zoo.DEFAULT}.onnx"
    save_model(model, spec, path)
    return path


@pytest.fixture(autouse=True)
def newcomer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RTPSP_ENGINES", str(folder / "engines"))
    monkeypatch.setenv("RTPSP_CALIB", str(folder / "calib"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("rtpsp.maker.RACE_ROUNDS", 2)
    monkeypatch.setattr("rtpsp.stream.camera.OpenCVDevice", camera)
    found = (CameraInfo("/dev/video0", "HD Pro Webcam C920", (), None),)
    monkeypatch.setattr("rtpsp.stream.cameras.list_cameras", lambda: found)
    monkeypatch.setattr("rtpsp.cli.cameras.list_cameras", lambda: found)
    monkeypatch.setattr("os.path.realpath", lambda path, **more: path)


def test_every_command_is_known() -> None:
    assert len(commands()) > 25
    strangers = {command for command in commands() if command.split()[0] not in ("rtpsp", "eval")}
    assert strangers == set(ELSEWHERE)
    assert set(CAMERAS) <= set(commands())


@pytest.mark.parametrize("command", [command for command in commands() if command not in {**ELSEWHERE, **CAMERAS}])
def test_a_command_runs(
    command: str, folder: Path, smaller: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(word in command.split() for word in AT_A_THIRD):
        spec, digest = load_model(smaller)[1], sha256_of(smaller)
        for name, value in {"model_path": smaller, "model_digest": digest, "model_spec": spec}.items():
            monkeypatch.setattr(zoo, name, lambda name=zoo.DEFAULT, value=value: value)
    words = shlex.split(command.removeprefix('eval "$(').removesuffix(')"'))
    words = [MEANT.get(word, word) for word in words][1:]
    if "--help" not in words:
        words += [word for given in list(words) for word in SHORTER.get(given, [])]
    if "my.engine" in words and "-o" not in words and not (folder / "my.engine").exists():
        pytest.fail("the command before it did not build the engine")
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capfd.readouterr()
    assert ended.value.code == 0, told.err
    assert "Traceback" not in told.err
    for option in {"--output", "--rle", "--stats", "--save-masks", "--confusion", "-o"} & set(words):
        path = words[words.index(option) + 1]
        segments = Path().glob(re.sub(r"\{source\}(\.\w+)", r"gate-*\1", path))
        assert Path(path).exists() or ("--segment" in words and any(segments)), option


def test_the_python_example(capfd: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(block("python"), "README.md", "exec"), names)  # the README's own code
    assert names["report"].frames.shown >= 3 and Path("out.mp4").exists()
    assert names["ids"].shape == (540, 960)
    assert names["class_maps"].shape == (1, 540, 720) and names["class_maps"].dtype == np.uint8


def test_the_demo(capfd: pytest.CaptureFixture[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    line = re.search(r"^\t\$\(BIN\)/rtpsp (.*)$", makefile, re.MULTILINE)
    assert line is not None
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(line[1]), "--max-frames", "3"])
    assert ended.value.code == 0, capfd.readouterr().err
    assert Path("demo.mp4").exists() and Path("demo.json").exists()


def test_the_picture(folder: Path) -> None:
    words = [sys.executable, str(ROOT / "bench" / "picture.py"), "x.jpg", "--frame", "2"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made, shown = cv2.imread(str(folder / "x.jpg")), cv2.imread(str(ROOT / "bench" / "results" / "demo.jpg"))
    assert made is not None and shown is not None and made.shape == shown.shape == (540, 720, 3)


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 8
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_every_exit_code_is_in_the_table() -> None:
    from rtpsp import errors
    from rtpsp.cli import _signals

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RtpspError)]
    codes = {kind.exit_code for kind in kinds} | set(_signals.EXIT_OF.values()) | {0, errors.EXIT_BUG}
    table = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")}
    assert table == codes
