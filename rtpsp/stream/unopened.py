"""A source that could not be opened, among others that could."""

from __future__ import annotations

from rtpsp.errors import RtpspError
from rtpsp.spec import Planes
from rtpsp.stream.frame import Frame
from rtpsp.stream.source import Source, SourceInfo, kind_of


class Unopened(Source):
    """Fails at its first read of what it could not be opened for: the others of its run go on.

    Args:
        uri: As a report may show it.
        error: Why it could not be opened.
        planes: Those of the others.
    """

    def __init__(self, uri: str, error: RtpspError, planes: Planes = 3) -> None:
        self.info = SourceInfo(uri, kind_of(uri), 0, 0, detail="could not be opened", planes=planes)
        self._error = error
        self.health.fault(getattr(error, "kind", "") or "lost", str(error))
        self.health.lose()

    def read(self) -> Frame | None:
        """Raises what it could not be opened for.

        Raises:
            RtpspError: That.
        """
        raise self._error

    def close(self) -> None:
        """Nothing was opened."""
