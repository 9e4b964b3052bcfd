"""Recording: the sink that hands pictures to an encoder in a thread of its own."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from rtpsp import files
from rtpsp.errors import MissingError, OutputError, UsageError
from rtpsp.spec import ModelSpec
from rtpsp.stream.backlog import Backlog
from rtpsp.stream.beat import Beat
from rtpsp.stream.codecs import Codec, why_no_nvenc
from rtpsp.stream.encoder import SUFFIXES
from rtpsp.stream.frame import Absent, Rendered, View
from rtpsp.stream.names import expanded, shown
from rtpsp.stream.recorder import Picture, Recorder, RecorderOptions
from rtpsp.stream.segments import Segment, SegmentNames
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Summary, now

NOMINAL_FPS = 30
STALLED_SECONDS = 10.0
"""From then on an encoder that is busy with one picture counts as stalled: it waits for its disk."""
HELD_SECONDS = 0.45
"""After so long without a picture a live source's last one is recorded again: it shows on, and goes to the disk.

Twice that is the most that a killed process has not left on the disk."""
ABSENT_SECONDS = 1.0
"""A picture of a source that gives no frame is recorded so often."""
_CLOSE_SECONDS = {True: 10.0, False: 60.0}
"""What finishing may take, by whether the source is live: a disk that hangs must not keep a run from ending."""


class VideoFile(Sink):
    """Records what is shown as H.264 in yuv420p, at the source's own times, counted from the first picture.

    Encoding has a thread of its own, so that the next picture is drawn while this one is encoded. For a file `write`
    waits when it falls two pictures behind; a live source never waits: when encoder or disk are a second behind,
    pictures are `dropped`. Each picture is on the disk when the next one is there, of a live source within a second, so
    that a recording plays up to there whatever ends the process. The size is that of the first picture, an odd one a
    row or column larger; later pictures of another size are scaled into it, between black bars where their shape
    differs, and a warning in the log says so; or they begin a new segment. A file of that name is written over when the
    first picture comes, and not before; a segment never takes a name that is there.

    When it cannot be written any more, what was recorded is kept, and `write` raises for a file. A live run goes on: it
    finds the reason in `failure`, and where there are segments a new one is tried every minute.

    An mp4 or mov that is being written needs about 110 bytes of memory a picture, for the index that it gets in the
    end: what runs for days is better recorded in segments, or as mkv.

    Args:
        path: ``.mp4``, ``.mkv`` or ``.mov``; a ``~`` is the home. With segments each has its time in the name, see
            `rtpsp.stream.segments.SegmentNames`.
        view: What to record.
        crf: x264's quality, 0 (lossless) to 51; 20 is hard to tell from the source.
        threads: Encoder threads.
        segment: Begin a new file after so long, or at such a size.
        keep: Remove the oldest segments, until all of them hold at most so many bytes.
        live: Whether to lose pictures rather than wait; None follows the source.
        codec: ``auto`` takes NVENC where the machine has one that works, else x264.

    Raises:
        UsageError: The name ends otherwise, or `keep` makes no sense.
    """

    def __init__(
        self,
        path: str | Path,
        view: View = "overlay",
        crf: int = 20,
        threads: int = 1,
        *,
        segment: Segment | None = None,
        keep: int | None = None,
        live: bool | None = None,
        codec: Codec = "auto",
    ) -> None:
        self._path = Path(expanded(path))
        self._name = shown(self._path)
        if self._path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"cannot record to {shown(repr(self._path.name))}: the name must end in {', '.join(SUFFIXES)}"
            )
        if keep is not None and segment is None:
            raise UsageError("--keep removes the oldest segments, and there are none: give --segment too")
        if keep is not None and segment is not None and keep < 2 * (segment.bytes or 1):
            raise UsageError(f"--keep of {keep} bytes is less than two segments of {segment.bytes or 1}: give more")
        self.view: View = view
        self._crf, self._threads, self._codec = crf, threads, codec
        self._segment, self._keep, self._live_asked = segment, keep, live
        self._pattern = SegmentNames(self._path).pattern if segment else None
        self._live = bool(live)
        self._beat = Beat("encode", STALLED_SECONDS)
        self._backlog = self._new_backlog()
        self._recorder: Recorder | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()
        self._raised: OutputError | None = None
        self._next_absent: float | None = None
        self._unqueued = 0

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Make sure that the file can be written.

        Raises:
            OutputError: It cannot.
            UsageError: It is the file that the frames come from, or a named pipe.
            MissingError: NVENC was asked for by name, and does not work.
        """
        del spec
        if self._codec == "nvenc" and (why_not := why_no_nvenc()) is not None:
            raise MissingError(f"NVENC does not work on this machine ({why_not}): leave the codec to auto")
        self._live = info.live if self._live_asked is None else self._live_asked
        # of several sources in one picture the URI is all of theirs, and no file
        source = Path(info.uri) if info.kind == "video" and os.path.exists(info.uri) else None
        options = RecorderOptions(
            self._crf,
            self._threads,
            self._codec,
            info.fps or NOMINAL_FPS,
            self._segment,
            self._keep,
            self._live,
            source,
        )
        self._recorder = self._new_recorder(options)
        self._backlog = self._new_backlog()
        self._thread = threading.Thread(target=self._run, args=(self._recorder,), name="rtpsp-encode", daemon=True)
        self._thread.start()

    def _new_recorder(self, options: RecorderOptions) -> Recorder:
        if self._pattern is not None:
            files.check_writable(self._pattern, hint="give another place with --output")
            return Recorder(self._path, options)
        try:
            there = self._path.exists()
            if there and options.source is not None and self._path.samefile(options.source):
                raise UsageError(f"{self._name} is the source itself and would be lost: give another place to --output")
            # to open it would wait for a reader, and no video can be written without going back
            if self._path.is_fifo():
                raise UsageError(f"{self._name} is a named pipe: give a file to --output")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab"):  # nothing is lost yet: the run may still fail before it has a picture
                pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no path can look like this"
            raise OutputError(f"{self._name}: {reason}; give another place with --output") from error
        return Recorder(self._path, options, new=not there)

    def _new_backlog(self) -> Backlog[Picture]:
        return Backlog(not self._live, lambda item: item.picture.nbytes)

    def write(self, item: Rendered) -> None:
        """Queue one picture.

        Raises:
            OutputError: The file cannot be written any more, and the source is not live.
        """
        if self._next_absent is None:
            self._next_absent = item.frame.pts
        moment = now()
        age = moment - item.frame.captured if self._live and item.frame.captured else 0.0
        self._put(Picture(item.frame.pts, item.pictures[self.view], moment, time.time() - age))

    def absent(self, item: Absent) -> None:
        """Queue the picture of a source that gives no frame, at most one a second, and none before its first frame."""
        if self._next_absent is not None and item.pts >= self._next_absent:
            self._next_absent = item.pts + ABSENT_SECONDS
            self._put(Picture(item.pts, item.picture, now(), time.time(), absent=True))

    def _put(self, item: Picture) -> None:
        if self._backlog.put(item):
            return
        if self._live:
            self._unqueued += not item.absent
        else:
            self._raise_failure()

    def close(self) -> None:
        """Encode what is queued and finish the file; does nothing the second time.

        Raises:
            OutputError: It could not be written, and nobody was told yet; or its disk hangs, which is not waited for.
        """
        with self._closing:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._backlog.end()
        while thread.is_alive():
            thread.join(0.2)
            if self._beat.seconds > _CLOSE_SECONDS[self._live]:
                raise OutputError(f"{self._name}: its disk takes nothing any more; what is on it by now is kept")
        self._raise_failure()

    def stages(self) -> dict[str, Summary]:
        """The time to encode one picture."""
        encode = self._recorder.encode.summary() if self._recorder else None
        return {"encode": encode} if encode else {}

    def beats(self) -> tuple[Beat, ...]:
        """The encoder's."""
        return (self._beat,)

    @property
    def dropped(self) -> int:
        """Pictures of a live source that encoder or disk were too slow for, or that came while it could not write."""
        return self._backlog.dropped + self._unqueued + (self._recorder.lost if self._recorder else 0)

    @property
    def failure(self) -> OutputError | None:
        """Why nothing is recorded; None once a new segment is."""
        return self._recorder.failure if self._recorder else None

    @property
    def retries(self) -> bool:
        """Whether a failure may pass: of segments another one is begun."""
        return self._segment is not None

    @property
    def failures(self) -> int:
        """How many times it could not be written."""
        return self._recorder.failures if self._recorder else 0

    @property
    def codec(self) -> str:
        """FFmpeg's name of what encodes; empty before the first picture."""
        return self._recorder.codec if self._recorder else ""

    @property
    def output(self) -> str | None:
        """The file, with ``*`` for the times of segments; None as long as nothing is in it."""
        holds = self._recorder is not None and self._recorder.holds_something
        return str(self._pattern or self._path) if holds else None

    def _raise_failure(self) -> None:
        failure = self.failure
        if failure is not None and failure is not self._raised:
            self._raised = failure
            raise failure

    def _run(self, recorder: Recorder) -> None:
        last: Picture | None = None
        try:
            while True:
                try:
                    item = self._backlog.get(HELD_SECONDS if self._live and last is not None else None)
                except TimeoutError:
                    assert last is not None
                    passed = now() - last.put
                    item = last._replace(pts=last.pts + passed, taken=last.taken + passed, absent=True)
                else:
                    if item is None:
                        break
                    last = item
                with self._beat.busy():
                    if not recorder.take(item):
                        return
            with self._beat.busy():
                recorder.finish()
        finally:
            self._backlog.close()
