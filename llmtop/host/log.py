"""The log of what goes wrong in the session's process: of bounded length, and nobody else's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from llmtop.domain.run import Ended
from llmtop.errors import FileError, MachineShort
from llmtop.files import FILE_MODE, make_folder, temporary_folder, user_folder

LOG_BYTES = 1 << 20
"""A longer log is begun anew; the one before is kept beside it."""


def log_path() -> Path:
    """Where the session's process writes what goes wrong."""
    return user_folder("log") / "session.log"


class Log:
    """Open for appending: where it belongs, else in a temporary folder, else nowhere; no run is refused for it.

    `path` is where it is; None: nowhere.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        wanted = log_path()
        for elsewhere in (False, True):
            try:
                path = temporary_folder() / wanted.name if elsewhere else wanted
                make_folder(path.parent)
                self._descriptor = _opened(path)
            except (OSError, FileError):
                continue
            self.path = path
            self.bound()
            return
        self._descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def bound(self) -> None:
        """Begin anew if it has grown long. Whoever writes into it goes on at its new beginning."""
        if self.path is None or os.fstat(self._descriptor).st_size <= LOG_BYTES:
            return
        try:
            with self.path.open("rb") as file:
                file.seek(-LOG_BYTES, os.SEEK_END)
                end = file.read(LOG_BYTES)
            old = self.path.with_name(f"{self.path.name}.old")
            old.unlink(missing_ok=True)
            descriptor = _opened(old)
            with os.fdopen(descriptor, "wb") as file:
                file.write(end)
        except OSError:
            pass  # a log that ends is worth less than a disk that does not fill
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        os.close(self._descriptor)


def _opened(path: Path) -> int:
    """Raises OSError: it is no plain file of this user, or cannot be written."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, FILE_MODE)
    status = os.fstat(descriptor)
    try:
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_nlink != 1:
            raise OSError(f"{path} is not this user's file alone")
        os.fchmod(descriptor, FILE_MODE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def ended_unasked(status: int, log: Path | None, what: str = "the session process") -> Ended:
    """What is said of a process that has ended without being asked to."""
    if status == MachineShort.exit_code:
        return Ended("this machine has no memory, threads or files left for a run", status)
    where = f"; see {log}" if log is not None else ""
    return Ended(f"{what} has ended unasked (status {status}){where}", 3)
