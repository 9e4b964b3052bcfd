"""The rendering stage, in the thread that called `run`: answered frames become pictures and go to the sinks.

Where a source gives no frame, a picture that says so takes the frame's place, about twice a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rtpsp.arrays import ClassMap, Image
from rtpsp.drawing import Drawing
from rtpsp.stream.absence import darkened, words_of, write_on
from rtpsp.stream.beat import Beat
from rtpsp.stream.channel import Channel, Last
from rtpsp.stream.frame import Absent, Rendered, Segmented, Stamps, View
from rtpsp.stream.render import Renderer
from rtpsp.stream.sinks import Sinks
from rtpsp.timing import Rate, Series, now

ABSENT_SECONDS = 0.5
"""Between two pictures of a source without a signal."""


@dataclass
class _Away:
    """What is told of a source without a signal."""

    due: float = 0.0
    ground: Image | None = None
    told_end: bool = False


@dataclass
class Rendering:
    """Draws and hands over; for one thread.

    Args:
        renderer: Draws.
        sinks: Get it, open.
        channels: The sources.
        dropped_of: How many frames of a source were dropped so far, by its number.
        to_class_map: An answer's class map at the frame's own size.
        series: ``render`` and ``sink`` get the seconds of each frame.
        beat: Its pulse while it draws.

    Attributes:
        drawing: What a device had best draw of the next frame; read by the inference thread.
        rate: Of frames handed over.
        age: Of them, in seconds from captured to handed over.
    """

    renderer: Renderer
    sinks: Sinks
    channels: Sequence[Channel]
    dropped_of: Callable[[int], int]
    to_class_map: Callable[[Segmented], ClassMap]
    series: Mapping[str, Series]
    beat: Beat
    drawing: Drawing | None = None
    rate: Rate = field(default_factory=Rate)
    age: Series = field(default_factory=Series)

    def __post_init__(self) -> None:
        self._away = [_Away() for _ in self.channels]

    def look_at_views(self) -> list[View]:
        """What the sinks want now; from the next frame on a device draws what helps with it."""
        views = self.sinks.views
        self.drawing = self.renderer.to_drawing(views)
        return views

    def show(self, item: Segmented) -> None:
        """Draw a frame and hand it over.

        Raises:
            OutputError: A sink cannot be written any more.
        """
        channel = self.channels[item.frame.source]
        with self.series["render"].timed(), self.beat.busy():
            class_map = self.to_class_map(item)
            views = self.look_at_views()
            status = self._status(channel, item.stamps) if views else ""
            pictures = self.renderer.draw_all(views, item.image, class_map, status, item.drawn)
        rendered = replace(item.stamps, rendered=now())
        with self.series["sink"].timed():
            self.sinks.write(Rendered(item.frame, pictures, class_map, rendered))
        handed_over = now()
        self.age.add(handed_over - item.stamps.captured)
        self.rate.add(handed_over)
        channel.count(Last(item.image, class_map, item.frame.pts, item.stamps.captured), handed_over)
        self._away[channel.number] = _Away()

    def show_absent(self) -> None:
        """A picture for each source that has none of its own now, where one is due.

        Raises:
            OutputError: A sink cannot be written any more.
        """
        at = now()
        for channel, away in zip(self.channels, self._away, strict=True):
            # The last one to fail ends the run: what is recorded ends with its frames, whichever thread is first.
            goes_on = any(not other.ended for other in self.channels if other is not channel)
            failed = channel.error is not None and not away.told_end and goes_on
            if (failed or channel.is_absent) and at >= away.due and not self._under_way(channel):
                away.told_end = channel.error is not None
                away.due = at + ABSENT_SECONDS
                self._show_absent(channel, away, at)

    def _under_way(self, channel: Channel) -> bool:
        """Whether frames of it are still to be shown, after which it would be taken for back."""
        return channel.received > channel.shown + channel.unshowable + self.dropped_of(channel.number)

    def _show_absent(self, channel: Channel, away: _Away, at: float) -> None:
        last = channel.last
        captured = None if last is None else last.captured
        ended = "" if channel.error is None else str(channel.error)
        with self.beat.busy():
            if away.ground is None:
                away.ground = darkened(None if last is None else self._plain(last))
            words = words_of(channel.source.health, at, captured, ended)
            picture = write_on(away.ground, words)
        pts = 0.0 if last is None else last.pts + at - last.captured
        self.sinks.absent(Absent(channel.number, pts, picture, "; ".join(words)))

    def _plain(self, last: Last) -> Image:
        """The picture again, without a status that would be out of date."""
        view: View = next(iter(self.sinks.views), "frame")
        return self.renderer.draw(view, last.image, last.class_map)

    def _status(self, channel: Channel, stamps: Stamps) -> str:
        fps = channel.fps
        rate = f"{fps:.1f} fps" if fps else "-- fps"
        dropped = self.dropped_of(channel.number)
        return f"{rate}   age {(now() - stamps.captured) * 1e3:.0f} ms   dropped {dropped}"
