"""What a check found, and what all of it together means."""

from __future__ import annotations

import getpass
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "warning", "missing", "error"]
Group = Literal["rtpsp", "processor", "GPU", "video", "window and cameras", "disk"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        group: Where it stands in the report.
        name: Of what was looked at.
        state: ``ok``; ``warning``: works, but will be felt; ``missing``: optional, and not there; ``error``: without
            it rtpsp cannot do its main job, which is to run a model on the CPU from video to video.
        found: What is there, for people.
        fix: What to do about it, a command where there is one; empty where nothing is to be done.
        details: The same for programs, as plain JSON values.
    """

    group: Group
    name: str
    state: State
    found: str
    fix: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Diagnosis:
    """What this machine can do for rtpsp.

    Attributes:
        findings: In the order of the report.
        verdict: In a few sentences.
    """

    findings: tuple[Finding, ...]
    verdict: str

    @property
    def ready(self) -> bool:
        """Whether rtpsp can do its main job here."""
        return all(finding.state != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "ready": self.ready,
            "verdict": self.verdict,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def without_names(finding: Finding) -> Finding:
    """The same without the person's home folder and login name: reports are pasted into public issues."""
    return replace(
        finding, found=_nameless(finding.found), fix=_nameless(finding.fix), details=_nameless(finding.details)
    )


def _nameless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nameless(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nameless(inner) for inner in value]
    if not isinstance(value, str):
        return value
    for pattern, instead in _names():
        value = pattern.sub(instead, value)
    return value


def _names() -> list[tuple[re.Pattern[str], str]]:
    """What to look for, and what to write instead."""
    edge = r"(?=[/\\'\":,;)\s]|$)"
    names = []
    try:
        home = str(Path.home()).rstrip("/\\")
        names.append((re.compile(re.escape(home) + edge), "~"))
    except RuntimeError:  # neither $HOME nor an entry in the password file
        home = ""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = ""
    if user and home:
        names.append((re.compile(r"(?<=[/\\])" + re.escape(user) + edge), "USER"))
    return names if home else []
