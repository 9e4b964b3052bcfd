"""What this machine can do for rtpsp, and the fix for each thing that it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rtpsp.doctor import gpu, hardware, media, software
from rtpsp.doctor.check import Check, Context
from rtpsp.doctor.child import ask
from rtpsp.doctor.finding import Diagnosis as Diagnosis
from rtpsp.doctor.finding import Finding as Finding

Progress = Callable[[str, int, int], None]
"""Told what is looked at next, how many checks are done, and how many there are."""

CHECKS = (
    Check("rtpsp", "rtpsp", software.rtpsp),
    Check("rtpsp", "packages", software.requirements),
    Check("rtpsp", "shipped model", software.model, essential=True),
    Check("rtpsp", software.OPENVINO, software.openvino, essential=True),
    Check("rtpsp", "ONNX Runtime", software.onnxruntime, essential=True),
    Check("rtpsp", "PyTorch", software.torch),
    Check("processor", "cores", hardware.processor),
    Check("processor", "memory", hardware.memory),
    Check("GPU", gpu.NVIDIA_GPU, gpu.look),
    Check("video", "recording", media.video, essential=True),
    Check("window and cameras", "OpenCV", media.opencv, essential=True),
    Check("window and cameras", media.WINDOW, media.window),
    Check("window and cameras", media.CAMERA, media.cameras),
    Check("disk", "disk", hardware.disk),
)


def diagnose(
    quick: bool = False,
    progress: Progress | None = None,
    checks: Sequence[Check] = CHECKS,
    context: Context | None = None,
) -> Diagnosis:
    """Look at everything; nothing is built, changed or sent, and no failure ends it.

    Args:
        quick: Do not open cameras.
        progress: Called before each check.
        checks: What to look at.
        context: What the checks use; probes in child processes by default.
    """
    context = context or Context(ask, quick)
    findings: list[Finding] = []
    for number, check in enumerate(checks):
        if progress:
            progress(check.title, number, len(checks))
        findings += check.findings(context)
    return Diagnosis(tuple(findings), _verdict(findings))


def _verdict(findings: Sequence[Finding]) -> str:
    broken = list(dict.fromkeys(finding.name for finding in findings if finding.state == "error"))
    if broken:
        return f"rtpsp cannot do its work on this machine yet. First mend: {', '.join(broken)}."
    half = next((finding.details.get("half") for finding in findings if finding.name == software.OPENVINO), None)
    by = next((finding.details.get("backend") for finding in findings if finding.name == gpu.CHOICE), None)
    where = f"on its GPU by {by}, on its CPU in" if by else "on its CPU in"
    text = f"This machine can run the shipped model {where} {half or 'FP32'}, and read and record video."
    lacks = [
        word
        for word, name in (("GPU", gpu.NVIDIA_GPU), ("camera", media.CAMERA), ("window", media.WINDOW))
        if all(finding.state != "ok" for finding in findings if finding.name == name)
    ]
    if lacks:
        text += f" No {', no '.join(lacks)}."
    warnings = sum(finding.state == "warning" for finding in findings)
    if warnings:
        text += f" {warnings} warning{'s' if warnings > 1 else ''} above."
    return text
