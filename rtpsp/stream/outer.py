"""Sinks before other sinks."""

from __future__ import annotations

from collections.abc import Sequence

from rtpsp.errors import OutputError
from rtpsp.spec import ModelSpec
from rtpsp.stream.beat import Beat
from rtpsp.stream.frame import Absent, Rendered, View
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Summary


class Outer(Sink):
    """Stands before another sink, and is to the run what that one is.

    Args:
        inner: Opened, written to and closed through this one only.
    """

    def __init__(self, inner: Sink) -> None:
        self.inner = inner

    @property
    def view(self) -> View | None:  # type: ignore[override]  # read only here: the inner sink's is the one to change
        """What the inner sink wants."""
        return self.inner.view

    def poll(self) -> None:
        """As the inner sink."""
        self.inner.poll()

    @property
    def wants_to_stop(self) -> bool:
        """As the inner sink."""
        return self.inner.wants_to_stop

    def close(self) -> None:
        """Close the inner sink."""
        self.inner.close()

    def stages(self) -> dict[str, Summary]:
        """As the inner sink."""
        return self.inner.stages()

    def beats(self) -> Sequence[Beat]:
        """As the inner sink."""
        return self.inner.beats()

    @property
    def dropped(self) -> int:
        """As the inner sink."""
        return self.inner.dropped

    @property
    def failure(self) -> OutputError | None:
        """As the inner sink."""
        return self.inner.failure

    @property
    def retries(self) -> bool:
        """As the inner sink."""
        return self.inner.retries

    @property
    def output(self) -> str | None:
        """As the inner sink."""
        return self.inner.output


class Only(Outer):
    """Gives a sink one source of a run alone.

    Args:
        index: Number of the source, from 0.
        inner: Where its frames go.
    """

    def __init__(self, index: int, inner: Sink) -> None:
        super().__init__(inner)
        self._index = index

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Open the inner sink."""
        self.inner.open(info, spec)

    def open_all(self, infos: Sequence[SourceInfo], spec: ModelSpec) -> None:
        """Open the inner sink for its source."""
        self.inner.open(infos[self._index], spec)

    def write(self, item: Rendered) -> None:
        """Pass on what is of the source."""
        if item.frame.source == self._index:
            self.inner.write(item)

    def absent(self, item: Absent) -> None:
        """Pass on what is of the source."""
        if item.source == self._index:
            self.inner.absent(item)
