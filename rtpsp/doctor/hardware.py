"""Checks of the processor, the memory and the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rtpsp import machine
from rtpsp.doctor.check import Context
from rtpsp.doctor.finding import Finding

GIB = 1 << 30
LOW_MEMORY = GIB
"""Bytes; a first run of the shipped model, which builds its engine, takes three quarters of it."""
LOW_DISK = {"engines": GIB // 2, "current folder": GIB}
"""Bytes; an engine of the shipped model takes 55 MB, and the next ones are of larger models."""


class _Units(NamedTuple):
    """Instructions for one kind of arithmetic: any of the names will do."""

    title: str
    names: frozenset[str]
    purpose: str = ""


_X86 = (
    _Units("AVX2", frozenset({"avx2"})),
    _Units("AVX-512", frozenset({"avx512f"})),
    _Units("VNNI", frozenset({"avx512_vnni", "avx_vnni"}), "INT8"),
    _Units("AMX", frozenset({"amx_int8"}), "INT8"),
    _Units("bf16", frozenset({"avx512_bf16", "amx_bf16"}), "FP16"),
    _Units("f16", frozenset({"avx512_fp16", "amx_fp16"}), "FP16"),
)
_ARM = (
    _Units("NEON", frozenset({"asimd", "neon"})),
    _Units("dot product", frozenset({"asimddp"}), "INT8"),
    _Units("i8mm", frozenset({"i8mm"}), "INT8"),
    _Units("bf16", frozenset({"bf16"}), "FP16"),
    _Units("f16", frozenset({"asimdhp"}), "FP16"),
)


def processor(context: Context) -> Iterator[Finding]:
    """Cores and instruction sets, and what they mean for each precision."""
    del context
    cpu = machine.cpu()
    cores = f"{cpu.cores} cores, " if cpu.cores else ""
    found, fix = f"{cpu.model}: {cores}{cpu.threads} threads", ""
    if cpu.allowed < cpu.threads:
        found += f", {cpu.allowed} of them for this process"
    if cpu.quota is not None and cpu.quota < cpu.allowed:
        # OpenVINO counts cores, not quotas (openvino#37838): too many threads are started, and then held up.
        found += f", but CPU time for {cpu.quota:.3g} only (a container's limit)"
        fix = f"rtpsp run --threads {cpu.usable}, or give the container more"
    details = asdict(cpu) | {"features": sorted(cpu.features), "usable": cpu.usable}
    yield Finding("processor", "cores", "warning" if fix else "ok", found, fix, details)
    yield _instructions(cpu)


def _instructions(cpu: machine.Cpu) -> Finding:
    if not cpu.features:
        return Finding("processor", "instructions", "ok", f"they cannot be read on this system ({cpu.architecture})")
    architecture = cpu.architecture.lower()
    known = _ARM if architecture.startswith(("arm", "aarch")) else _X86
    units = [units for units in known if units.names & cpu.features]
    purposes = {units.purpose for units in units}
    found = ", ".join(f"{units.title} for {units.purpose}" if units.purpose else units.title for units in units)
    absent = [purpose for purpose in ("INT8", "FP16") if purpose not in purposes]
    if absent:
        found += f"{'; ' if found else ''}no units for {' or '.join(absent)}"
    details = {"units": [units.title for units in units]}
    if architecture in ("x86_64", "amd64") and "AVX2" not in details["units"]:
        fix = "use a processor from 2013 or later, or let the virtual machine pass its features on (CPU type 'host')"
        return Finding("processor", "instructions", "warning", f"no AVX2: slow; {found}", fix, details)
    return Finding("processor", "instructions", "ok", found, details=details)


def memory(context: Context) -> Iterator[Finding]:
    """Memory in all and to be had."""
    del context
    memory = machine.memory()
    found = f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB available"
    if memory.limit is not None and memory.limit < memory.total:
        found += f", limited to {memory.limit / GIB:.1f} GiB (a container's limit)"
    low = memory.available < LOW_MEMORY
    fix = f"close other programs: a run needs {LOW_MEMORY / GIB:.0f} GiB" if low else ""
    yield Finding("processor", "memory", "warning" if low else "ok", found, fix, asdict(memory))


def disk(context: Context) -> Iterator[Finding]:
    """Room for engines and for recordings, and whether they may be written."""
    from rtpsp import build

    del context
    engines = build.engines_folder()
    # A run has a stand-in for the cache, none for a folder that a person named, and needs neither with an engine there.
    needed = bool(os.environ.get(build.ENGINES_VARIABLE)) and not any(engines.glob("*.engine"))
    yield _folder("engines", engines, f"change its owner, or let {build.ENGINES_VARIABLE} name another folder", needed)
    yield _folder("current folder", Path.cwd(), "cd to a folder of yours, or give paths to --output")


def _folder(name: str, folder: Path, fix: str, needed: bool = False) -> Finding:
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    free = shutil.disk_usage(there).free
    shown = str(folder) if name == "engines" else "."
    details = {"free": free, "writable": _is_writable(there)}
    if not details["writable"]:
        return Finding("disk", name, "error" if needed else "warning", f"{shown} cannot be written", fix, details)
    low = free < LOW_DISK[name]
    advice = f"free some: {LOW_DISK[name] / GIB:.1f} GiB are soon used" if low else ""
    return Finding("disk", name, "warning" if low else "ok", f"{free / GIB:.1f} GiB free in {shown}", advice, details)


def _is_writable(folder: Path) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    try:
        with tempfile.TemporaryFile(dir=folder):  # a read-only file system is known by trying only
            return True
    except OSError:
        return False
