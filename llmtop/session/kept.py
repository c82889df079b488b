"""A command in the care of a keeper, seen from the process that wants it; and what it has written."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import signal
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from llmtop import channel
from llmtop.domain.plain import plain
from llmtop.errors import FileError, ServeError
from llmtop.files import create, make_folder, user_folder
from llmtop.session.keeper import KEPT_BYTES, KILLED_S, Kept, ToKeep, bound

TAIL_LINES = 20
"""Of a log, where something went wrong: a Python traceback's end with its reason."""
LOGS_KEPT = 8
"""Logs of commands, the newest."""


class Log:
    """What the commands of a run write: a file of bounded length; where none can be made, one without a name."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._lock = threading.Lock()
        self._closed = False
        try:
            folder = user_folder("log")
            make_folder(folder)
            _forget(folder)
            stem = time.strftime("served-%Y%m%d-%H%M%S")
            self.path = next(
                path
                for each in itertools.count(1)
                if not (path := folder / f"{stem}{f'-{each}' if each > 1 else ''}.log").exists()
            )
            os.close(create(self.path))
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, FileError):
            self.path = None
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, os.O_APPEND)

    def fileno(self) -> int:
        return self._descriptor

    def note(self, text: str) -> None:
        """A line of ours between those of the commands."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, f"── {text}\n".encode(errors="replace"))

    def mark(self) -> int:
        """Where the next line will stand."""
        return os.fstat(self._descriptor).st_size

    def tail(self, lines: int = TAIL_LINES, since: int = 0) -> tuple[str, ...]:
        """The last lines, fit to be shown; only those after a mark, unless the log was begun anew since."""
        try:
            with self._lock:
                text = "" if self._closed else self._end(since).decode("utf-8", "replace")
        except OSError:
            return ()
        # A bar of progress writes over its line: what was written last is what was seen.
        rows = (plain(line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n"))
        return tuple([row for row in rows if row.strip()][-lines:])

    def _end(self, since: int) -> bytes:
        bound(self._descriptor)
        size = os.fstat(self._descriptor).st_size
        start = max(since if since <= size else 0, size - KEPT_BYTES)
        return os.pread(self._descriptor, size - start, start)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._descriptor)


def _forget(folder: Path) -> None:
    for path in sorted(folder.glob("served-*.log"))[: 1 - LOGS_KEPT]:
        with contextlib.suppress(OSError):
            path.unlink()


class KeptCommand:
    """Begun when it is made. Raises ServeError: it could not be; SessionLost: nor could its keeper."""

    def __init__(self, what: ToKeep, log: Log) -> None:
        self._what, self._log = what, log
        self.since = log.mark()
        self.pid: int | None = None
        self.ended: int | None = None
        """Its exit code, as far as `look` has heard."""
        self._heard = b""
        self._child = channel.Child("llmtop.session.keeper", log=log.fileno())
        self._child.send(channel.framed(msgspec.json.encode(what)))
        self._poll = select.poll()
        self._poll.register(self._child.stdout.fileno(), select.POLLIN)
        try:
            deadline_s = time.monotonic() + channel.READY_S
            while self.pid is None and self.ended is None:
                self.look(0.1)
                if time.monotonic() > deadline_s:
                    raise ServeError("the command could not be begun: its keeper does not say a word")
        except BaseException:
            self.end()
            raise

    def look(self, wait_s: float = 0.0) -> int | None:
        """Hear of it for a moment; its exit code once it has ended."""
        if self.ended is not None:
            time.sleep(wait_s)
            return self.ended
        if self._poll.poll(wait_s * 1000):
            piece = os.read(self._child.stdout.fileno(), 4096)
            *lines, self._heard = (self._heard + piece).split(b"\n")
            for line in lines:
                self._take(msgspec.json.decode(line, type=Kept))
            if not piece and self.ended is None:  # the keeper was killed
                self.ended = -signal.SIGKILL
        return self.ended

    def _take(self, kept: Kept) -> None:
        if kept.problem is not None:
            raise ServeError(kept.problem)
        self.pid = kept.pid if kept.pid is not None else self.pid
        self.ended = kept.ended if kept.ended is not None else self.ended

    def tail(self, lines: int = TAIL_LINES) -> tuple[str, ...]:
        """The last lines that it wrote."""
        return self._log.tail(lines, self.since)

    def end(self) -> None:
        """End it and all that it has started, and wait until it is gone."""
        self._child.end(self._what.grace_s + KILLED_S + channel.GRACE_S)
        self.ended = -signal.SIGTERM if self.ended is None else self.ended
