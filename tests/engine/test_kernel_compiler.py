"""Every kernel compiles for every generation of GPUs, without one; what is compiled is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import rtpsp.engine.kernel_compiler as kernel_compiler
from rtpsp.engine.kernel_compiler import DEVICE_IO, compile_kernels, find_compiler, kernel_source
from rtpsp.errors import MissingError

KERNELS = ("resize", "resize_wide", "find_contenders", "finish_uint8", "finish_int32")


class Stub:
    """A compiler that compiles nothing."""

    def __init__(self, name: str = "stub 1.0", architectures: tuple[int, ...] = (75, 80, 90)) -> None:
        self.name, self.architectures = name, architectures
        self.compiled: list[tuple[str, str]] = []

    def compile(self, source: str, kind: str, architecture: str) -> bytes:
        self.compiled.append((kind, architecture))
        return f"{self.name} {kind} {architecture} {len(source)}".encode()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr(kernel_compiler, "find_compiler", lambda: stub)
    return stub


def no_nvrtc(monkeypatch: pytest.MonkeyPatch, nvcc: str | None = None) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(kernel_compiler, "which", lambda program, path=None: None if path else nvcc)


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "9.0", "12.0"])
def test_kernels_compile_for_every_generation_of_gpus(capability: str, tmp_path: Path) -> None:
    image = compile_kernels(capability, folder=tmp_path)
    assert image[:4] == b"\x7fELF"
    for name in KERNELS:
        assert b".text." + name.encode() + b"\0" in image
    (kept,) = tmp_path.iterdir()
    assert f"-sm_{capability.replace('.', '')}-NVRTC" in kept.name and kept.read_bytes() == image
    assert b".text.standin_wait\0" in compile_kernels(capability, ("standin",), tmp_path)


def test_sources_include_nothing_and_contract_nothing() -> None:
    names = [path.stem for path in Path(kernel_compiler.__file__).with_name("kernels").glob("*.cu")]
    assert {*DEVICE_IO} < {*names}
    assert "#include" not in kernel_source(names), "NVRTC comes without CUDA's headers"
    fused = 'extern "C" __global__ void f(float *x) { x[0] = x[0] * x[1] + x[2]; }'
    assert b"fma" not in find_compiler().compile(fused, "ptx", "compute_80")


def test_what_is_compiled_is_kept_by_source_gpu_and_compiler(stub: Stub, tmp_path: Path) -> None:
    first = compile_kernels("8.0", folder=tmp_path / "new")
    assert compile_kernels("8.0", folder=tmp_path / "new") == first
    assert stub.compiled == [("cubin", "sm_80")]
    compile_kernels("9.0", folder=tmp_path / "new")
    compile_kernels("8.0", ("resize",), folder=tmp_path / "new")
    stub.name = "stub 1.1"
    compile_kernels("8.0", folder=tmp_path / "new")
    assert len(stub.compiled) == 4 == len([*(tmp_path / "new").iterdir()])


def test_they_are_kept_beside_the_engines(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path))
    compile_kernels("8.0")
    assert [path.name for path in tmp_path.iterdir()] == ["kernels"]


def test_a_folder_that_cannot_be_written_costs_the_time_alone(stub: Stub, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert compile_kernels("8.0", folder=blocked) == compile_kernels("8.0", folder=blocked)
    assert len(stub.compiled) == 2


@pytest.mark.parametrize(
    ("capability", "kind", "architecture"),
    [
        ("7.5", "cubin", "sm_75"),
        ("8.9", "cubin", "sm_80"),  # a cubin serves higher minor versions
        ("9.0", "cubin", "sm_90"),
        ("10.0", "ptx", "compute_90"),  # and no other major one
        ("12.1", "ptx", "compute_90"),
    ],
)
def test_gpus_that_the_compiler_does_not_know(
    stub: Stub, tmp_path: Path, capability: str, kind: str, architecture: str
) -> None:
    compile_kernels(capability, folder=tmp_path)
    assert stub.compiled == [(kind, architecture)]


def test_a_gpu_older_than_the_compiler_is_refused(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"compiles for compute capability 7.5 and later.* has 6.1: install"):
        compile_kernels("6.1", folder=tmp_path)


def test_without_a_compiler_what_another_machine_compiled_will_do(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = compile_kernels("8.0", folder=tmp_path)
    compile_kernels("9.0", folder=tmp_path)
    monkeypatch.undo()
    no_nvrtc(monkeypatch)
    assert compile_kernels("8.0", folder=tmp_path) == image
    for capability, names in (("8.6", DEVICE_IO), ("8.0", ("resize",))):
        with pytest.raises(MissingError, match=r"need .* NVRTC, .*: pip install cuda-bindings nvidia-cuda-nvrtc"):
            compile_kernels(capability, names, folder=tmp_path)


def test_nvrtc_without_its_library_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import nvrtc

    def missing(*_: Any) -> Any:
        raise RuntimeError('Failure finding "libnvrtc.so": No such file\nand much more')

    monkeypatch.setattr(nvrtc, "nvrtcVersion", missing)
    monkeypatch.setattr(kernel_compiler, "which", lambda program, path=None: None)
    with pytest.raises(MissingError, match=r'not there \(Failure finding "libnvrtc.so": No such file\): pip install'):
        find_compiler()


def test_a_refusal_names_the_first_error() -> None:
    with pytest.raises(MissingError, match=r"for sm_90 \(kernels.cu\(1\): error: explicit type.*\): pip install"):
        find_compiler().compile("__global__ f() {}\nint g( {", "cubin", "sm_90")


def write_nvcc(path: Path, text: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport sys\narguments = sys.argv[1:]\n{text}")
    path.chmod(0o755)
    return str(path)


def test_nvcc_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "if '--version' in arguments: print('release 12.8, V12.8.93')\n"
        "elif '--list-gpu-code' in arguments: print('sm_80\\nsm_75\\nsm_90')\n"
        "else: open(arguments[arguments.index('-o') + 1], 'w').write(' '.join(arguments[:4]))\n"
    )
    no_nvrtc(monkeypatch, write_nvcc(tmp_path / "nvcc", text))
    assert compile_kernels("9.0", folder=tmp_path / "kept") == b"-cubin -arch=sm_90 -std=c++17 -fmad=false"
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.name.endswith("-sm_90-nvcc-12.8.93.cubin")
    assert compile_kernels("10.0", folder=tmp_path / "kept") == b"-ptx -arch=compute_90 -std=c++17 -fmad=false"


def test_an_nvcc_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "if '--version' in arguments or '--list-gpu-code' in arguments: print('sm_80 V13.0.1')\n"
        "else: sys.exit('warning: old\\nkernels.cu(3): error: no')\n"
    )
    no_nvrtc(monkeypatch, write_nvcc(tmp_path / "nvcc", text))
    with pytest.raises(MissingError, match=r"nvcc 13.0.1 does not compile .* sm_80 \(kernels.cu\(3\): error: no\)"):
        compile_kernels("8.0", folder=tmp_path / "kept")
    no_nvrtc(monkeypatch, str(tmp_path / "none"))
    with pytest.raises(MissingError, match=r"none cannot be run \(No such file or directory\): pip install"):
        compile_kernels("8.0", folder=tmp_path / "kept")


def test_the_real_nvcc_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = which("nvcc") or which("nvcc", path=kernel_compiler._TOOLKIT)
    if program is None or subprocess.run([program, "--version"], capture_output=True).returncode:
        pytest.skip("needs CUDA's toolkit")
    no_nvrtc(monkeypatch, program)
    assert compile_kernels("9.0", folder=tmp_path)[:4] == b"\x7fELF"
    assert os.listdir(tmp_path)[0].count("nvcc")
