"""The shape of the code base: what importing costs, which way arrows point, how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rtpsp

PACKAGE = Path(rtpsp.__file__).parent
HEAVY = ("torch", "matplotlib", "onnx", "onnx_ir", "openvino", "onnxruntime", "cv2", "av", "numpy", "rich", "click")
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 300
LOUD = {"print", "exit", "quit", "sys.exit", "os._exit", "os.abort", "sys.stdout.write", "sys.stderr.write"}
PROGRAMS = {"rtpsp.__main__", "rtpsp.doctor.child"}  # the second is what a probe's process runs

ROOMS = ("model", "data", "graph", "engine", "stream", "sim", "zoo", "cli")
MAY_IMPORT = {
    "model": set(),
    "data": {"sim"},  # labelled frames of the simulator
    "graph": set(),
    "engine": set(),
    "stream": {"engine", "sim"},  # the loop drives an engine; one source is the simulator
    "sim": set(),
    "zoo": set(),
}
"""What a room may import beside itself and the modules below all rooms; modules above them may import any room."""

LOW = {
    "arrays", "calibration_cache", "calibration_table", "class_mapper", "device_reference", "drawing", "errors",
    "files", "fit", "foreign_values", "header", "label_sets", "label_sets.meanings", "labels", "machine",
    "onnx_file", "places", "planes", "pooling", "recognise", "redaction", "runtimes", "smoothing", "spec", "timing",
    "upsampling",
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = [PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, at_load: bool = False) -> set[str]:
    """The modules of rtpsp that a module imports; with `at_load` only those that it imports when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner: set[ast.AST] = set()
    if at_load:
        for node in ast.walk(tree):
            lazy = isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))
            if lazy:
                inner |= set(ast.walk(node))
    known = {name_of(module) for module in MODULES}
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in inner:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & known) - {name_of(path)}


def is_low(module: str) -> bool:
    return module in {f"{PACKAGE.name}.{name}" for name in LOW}  # not by its last word: there is a data.files too


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def test_importing_rtpsp_is_light() -> None:
    program = f"import sys, rtpsp; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_a_run_starts_without_what_only_a_build_needs() -> None:
    """Half a second at each start, in which a camera's owner looks at nothing."""
    program = (
        "import sys, rtpsp.cli.working, rtpsp.stream.recording, rtpsp.engine.openvino_backend\n"
        "print([name for name in ('onnx', 'onnx_ir', 'torch', 'onnxruntime', 'pycocotools') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert all(getattr(rtpsp, name) is not None for name in rtpsp.__all__)
    assert set(rtpsp.__all__) <= set(dir(rtpsp))
    with pytest.raises(AttributeError, match="segmentify"):
        getattr(rtpsp, "segmentify")  # noqa: B009  # spelled so that mypy lets us try


def test_only_the_model_room_imports_torch() -> None:
    importers = set()
    for path in MODULES:
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if "torch" in names:
            importers.add(room_of(name_of(path)))
    assert importers == {"model"}


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_arrows_point_down(path: Path) -> None:
    module = name_of(path)
    room = room_of(module)
    for imported in imports_of(path):
        other = room_of(imported)
        if is_low(module):
            assert is_low(imported), f"{module} is below the rooms, imports {imported}"
        elif room not in (None, "cli"):
            assert room is not None
            below = imported == "rtpsp" or is_low(imported)
            assert below or other == room or other in MAY_IMPORT[room], f"{module} imports {imported}"


def test_only_the_command_line_stands_above_the_benchmarks() -> None:
    """They may import any room, so that none of these may import them, nor they what prints."""
    for path in MODULES:
        module, imported = name_of(path), imports_of(path)
        inside = module.split(".")[1:2] == ["bench"]
        if not inside and room_of(module) != "cli":
            assert not any(name.split(".")[1:2] == ["bench"] for name in imported), f"{module} imports {imported}"
        if inside:
            assert not any(room_of(name) == "cli" for name in imported), f"{module} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_nothing_below_the_command_line_prints_or_exits(path: Path) -> None:
    if room_of(name_of(path)) == "cli" or name_of(path) in PROGRAMS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in LOUD, f"{path}:{node.lineno}"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert not ast.unparse(node.exc).startswith(("SystemExit", "KeyboardInterrupt")), f"{path}:{node.lineno}"


def test_no_module_imports_itself_through_others() -> None:
    graph = {name_of(path): imports_of(path, at_load=True) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' > '.join([*trail[trail.index(module) :], module])}"
        if module not in done:
            for imported in graph[module]:
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_a_module_past_300_lines_is_two_modules(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
