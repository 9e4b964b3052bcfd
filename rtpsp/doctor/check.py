"""A check: asks something, and says what it found; one that fails is a finding too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rtpsp.doctor.child import Ask
from rtpsp.doctor.finding import Finding, Group, without_names
from rtpsp.errors import RtpspError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What a check may use.

    Attributes:
        ask: Runs a probe in a child process.
        quick: Leave out what opens devices.
    """

    ask: Ask
    quick: bool = False


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        group: Where its findings stand.
        title: What is looked at, for the progress line.
        look: Gives the findings.
        essential: rtpsp cannot do its main job where this cannot even be looked at.
    """

    group: Group
    title: str
    look: Callable[[Context], Iterable[Finding]]
    essential: bool = False

    def findings(self, context: Context) -> list[Finding]:
        """Run the check; what it raises becomes a finding."""
        try:
            found = list(self.look(context))
        except Exception as error:
            _log.debug("the check of %s failed", self.title, exc_info=True)
            reason = str(error) if isinstance(error, RtpspError) else f"{type(error).__name__}: {error}"
            found = [
                Finding(
                    self.group,
                    self.title,
                    "error" if self.essential else "warning",
                    f"cannot be looked at: {reason.strip().splitlines()[0]}",
                    "" if isinstance(error, RtpspError) else "report it, with what 'rtpsp -vv doctor' prints",
                )
            ]
        return [without_names(finding) for finding in found]
