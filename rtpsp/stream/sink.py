"""Where pictures and masks go: the base of every sink, and the two that need nothing but a folder."""

from __future__ import annotations

import contextlib
import glob
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from rtpsp.errors import OutputError, UsageError
from rtpsp.files import write_atomically
from rtpsp.labels import to_label_list
from rtpsp.spec import ModelSpec
from rtpsp.stream.beat import Beat
from rtpsp.stream.frame import Absent, Rendered, View
from rtpsp.stream.names import expanded, shown
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Summary

_log = logging.getLogger(__name__)


class Sink(ABC):
    """Takes what was rendered. All calls come from one thread, the one that called `rtpsp.run`."""

    view: View | None = None
    """The picture it wants; None when class maps are enough. It may change between frames."""

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Called once, before the first frame; fails before anything was recorded if it has to fail.

        Raises:
            OutputError: The output cannot be written.
        """
        del info, spec

    def open_all(self, infos: Sequence[SourceInfo], spec: ModelSpec) -> None:
        """`open` for a run of several sources; a sink that tells them apart has its own.

        Args:
            infos: Of each source, in the order of `Frame.source`; height and width are 0 where it is not there yet.
            spec: Of the model.

        Raises:
            OutputError: As `open`.
        """
        self.open(infos[0], spec)

    @abstractmethod
    def write(self, item: Rendered) -> None:
        """Take one frame; the arrays may be kept but not written into: the other sinks of the run have the same.

        Raises:
            OutputError: The output cannot be written any more; a live run goes on without it.
        """

    def poll(self) -> None:
        """Called often, also while no frame comes: a window answers its keys here."""
        return None

    def absent(self, item: Absent) -> None:
        """Take the picture of a source that gives no frame; by default it is of no use."""
        del item

    @property
    def wants_to_stop(self) -> bool:
        """True when a person asked, through this sink, for the run to end."""
        return False

    def close(self) -> None:
        """Finish what was begun; called once, whatever happened before.

        By the watchdog's thread where the one of all other calls hangs in another sink.
        """
        return None

    def stages(self) -> dict[str, Summary]:
        """Durations of work that the sink does in a thread of its own, by stage name."""
        return {}

    def beats(self) -> Sequence[Beat]:
        """Pulses of the threads that the sink has, for the watchdog."""
        return ()

    @property
    def dropped(self) -> int:
        """Pictures that it was too slow to take; the run went on without them."""
        return 0

    @property
    def failure(self) -> OutputError | None:
        """Why it takes no more, where the run went on without it: a full disk. The run ends with it when it is over."""
        return None

    @property
    def retries(self) -> bool:
        """Whether it tries again by itself after a `failure`, so that the run goes on even where it is its only use."""
        return False

    @property
    def output(self) -> str | None:
        """The path that it writes to, for the report."""
        return None

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class NullSink(Sink):
    """Takes everything and does nothing: what is left is the cost of the loop."""

    def write(self, item: Rendered) -> None:
        """Nothing to do."""


class MaskFolder(Sink):
    """Class ids as single-channel PNG files at the source's size, ``000042.png`` or after the image's own name.

    8 bits a pixel up to 256 classes, 16 above. A pixel that no class was found for is 255 (65535 in 16 bits). They look
    black to the eye: ``classes.txt`` beside them lists names and colours in id order, in the form of `rtpsp.labels`.

    Args:
        folder: Made if it is not there; a ``~`` is the home.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(expanded(folder))
        self._made: list[Path] = []

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Make the folder.

        Raises:
            OutputError: It cannot be made.
            UsageError: The images to segment lie in it, or a ``classes.txt`` of other classes, or a PNG cannot hold so
                many classes.
        """
        if len(spec.labels) > np.iinfo(np.uint16).max:
            raise UsageError(f"a PNG holds 65535 classes, the model has {len(spec.labels)}")
        name = shown(self._folder)
        try:
            if self._folder.exists() and any(self._folder.samefile(folder) for folder in _image_folders(info)):
                raise UsageError(
                    f"{name} holds the images themselves, and masks have their names: give another folder to "
                    "--save-masks"
                )
            new = not self._folder.exists()
            self._warn_of_others(name)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._made = [self._folder] if new else []
            self._write_classes(to_label_list(spec.labels))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no path can look like this"
            raise OutputError(f"{name}: {reason}; give another folder to --save-masks") from error

    def _warn_of_others(self, name: str) -> None:
        others = sum(path.suffix == ".png" for path in self._folder.iterdir()) if self._folder.is_dir() else 0
        if others:
            _log.warning("%s holds %d masks already: those that this run does not replace stay", name, others)

    def _write_classes(self, text: str) -> None:
        path = self._folder / "classes.txt"
        if not path.exists():
            write_atomically(path, text.encode(), hint="give another folder to --save-masks")
            self._made.append(path)
        elif path.read_bytes() != text.encode():
            raise UsageError(f"{path} lists other classes and would be lost: give another folder to --save-masks")

    def write(self, item: Rendered) -> None:
        """Write one PNG."""
        import cv2

        name = Path(item.frame.name).stem if item.frame.name else f"{item.frame.index:06d}"
        path = self._folder / f"{name}.png"
        ids = item.class_map if item.class_map.dtype == np.uint8 else item.class_map.astype(np.uint16)
        done, data = cv2.imencode(".png", ids)
        try:
            if not done:
                raise OutputError(f"{path}: OpenCV could not encode {ids.dtype} {list(ids.shape)} as PNG")
            path.write_bytes(data.tobytes())
            self._made.clear()
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # half a mask would pass for one
            raise OutputError(
                f"{shown(path)}: {error.strerror}; masks up to here are kept; free the disk or give another folder to "
                "--save-masks"
            ) from error

    def close(self) -> None:
        """Take away the list of classes, and the folder, that were made for this run and got no mask."""
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                path.rmdir() if path == self._folder else path.unlink()

    @property
    def output(self) -> str:
        """The folder."""
        return str(self._folder)


def _image_folders(info: SourceInfo) -> set[Path]:
    if info.kind != "images":
        return set()
    path = Path(info.uri)
    if path.is_dir():
        return {path}
    return {path.parent} if path.exists() else {Path(name).parent for name in glob.iglob(info.uri)}
