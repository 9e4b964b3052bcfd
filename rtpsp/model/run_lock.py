"""One training at a time writes a folder: both would rename their files over each other's."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from rtpsp.errors import UsageError

LOCK = ".lock"


class RunLock:
    """The lock of a run's folder, which the operating system lets go of when its process dies.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, mode=0o666)  # whoever may write into the folder may hold it

    def take(self) -> str | None:
        """Hold it from now on; a second time changes nothing.

        Returns:
            Why the folder cannot be locked, where its file system or its owner does not allow it; None when it is.

        Raises:
            UsageError: Another training holds it.
        """
        if self._lock.is_locked:
            return None
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"{self._folder} is being written by another training: wait, stop it, or give another folder with -o"
            ) from error
        except (OSError, NotImplementedError) as error:
            return str(getattr(error, "strerror", None) or error)
        return None

    def release(self) -> None:
        """Let go of it."""
        self._lock.release()
