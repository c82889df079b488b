"""The runs of this user that go on now: each has a socket among the run files, and says there what it is."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self

import msgspec
from msgspec.structs import replace

from llmtop import __version__, channel
from llmtop.domain.plain import plain
from llmtop.domain.plainly import plainly
from llmtop.errors import SessionLost, UsageError
from llmtop.host import sockets
from llmtop.host.messages import PROTOCOL, Ask, Running, decode_running, packed
from llmtop.host.options import CLOSE_S, PATIENCE_S
from llmtop.recording.runfile import SUFFIX
from llmtop.wording.running import NOTHING_GOES_ON, has_ended

__all__ = ["Line", "Running", "find", "running", "stop"]

LAST = "last"
"""The name of the run that began last."""
SPEAKS_S = 2.0
"""A host that has not said a word within this time is stopped, or hangs."""
YOUNG_S = 5.0
"""A socket that is not older may be one at which nobody listens yet."""


def running() -> tuple[Running, ...]:
    """All that go on, the newest first. What a killed one has left behind is taken away."""
    there = [run for path in sockets.found() if (run := _at(path)) is not None]
    return tuple(sorted(there, key=lambda run: (run.started_at, run.name), reverse=True))


def _at(path: Path) -> Running | None:
    """What goes on there; None: nothing does."""
    try:
        line = Line(path)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > YOUNG_S:
                sockets.remove(path)
        return None
    except TimeoutError:
        return Running(name=path.stem, path=str(path), headline="it does not answer")
    except (OSError, SessionLost, msgspec.MsgspecError):
        return None
    line.close()
    return line.run


class Line:
    """A connection to a run's host that has said which run it is: `run`. Messages come from `stream`.

    Raises OSError, SessionLost, msgspec.MsgspecError: nobody is there, or it is no host of this user's.
    """

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self.stream: IO[bytes] = self._connection.makefile("rb")
        try:
            self._connection.settimeout(SPEAKS_S)
            self._connection.connect(os.fspath(path))
            peer = sockets.peer_of(self._connection)
            if peer is not None and peer[0] != os.getuid():
                raise ConnectionError("another user listens there")
            run = plainly(decode_running(self.read()))
        except BaseException:
            self.close()
            raise
        self.run = replace(run, name=run.name or path.stem, path=str(path))

    @classmethod
    def asking(cls, run: Running, ask: Ask) -> Self:
        """One at which something was asked for. Raises SessionLost: nobody answers."""
        try:
            line = cls(Path(run.path))
            line.send(packed(ask))
        except TimeoutError:
            who = f"process {run.pid}" if run.pid else "its process"
            raise SessionLost(f"{run.name}: {who} does not answer; is it stopped?") from None
        except (OSError, SessionLost, msgspec.MsgspecError):
            raise SessionLost(has_ended(run.name)) from None
        return line

    def read(self) -> bytes:
        """The next message. Raises OSError: there is none any more."""
        body = channel.read(self.stream)
        if body is None:
            raise ConnectionError("it has gone")
        return body

    def send(self, piece: bytes) -> None:
        self._connection.sendall(piece)

    def within(self, seconds: float | None) -> None:
        """Whoever waits for it from now on waits so long."""
        self._connection.settimeout(seconds)

    def ends_within(self, seconds: float) -> bool:
        """Read on to the end; whether it came in time."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(ConnectionError):
            while (left_s := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left_s)
                try:
                    if not self._connection.recv(65536):
                        return True
                except TimeoutError:
                    return False
            return False
        return True

    def close(self) -> None:
        """Also for a thread that reads."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        with contextlib.suppress(OSError):
            self.stream.close()


def find(text: str | None) -> Running:
    """The one that is meant.

    Args:
        text: its name or the only beginning of one, its label, `last`; None: the only one.

    Raises:
        UsageError: there is none, or several; it lists them, in one line.
    """
    there = running()
    if not there:
        raise UsageError(NOTHING_GOES_ON)
    if text is None:
        if len(there) == 1:
            return there[0]
        raise UsageError(f"several runs go on, name one of them: {_listed(there)}")
    for meant in _ways(text, there):
        if len(meant) == 1 or (meant and text == LAST):
            return meant[0]
        if meant:
            raise UsageError(f"{plain(text, 60)!r} may be one of several runs: {_listed(meant)}")
    raise UsageError(f"no run that goes on is called {plain(text, 60)!r}: there is {_listed(there)}")


def _ways(text: str, there: tuple[Running, ...]) -> Iterator[tuple[Running, ...]]:
    """Those that may be meant, by one way of naming after the other."""
    yield tuple(run for run in there if text in (run.name, f"{run.name}{SUFFIX}", run.run_file))
    if text == LAST:
        yield there
    yield tuple(run for run in there if text == run.label)
    yield tuple(run for run in there if text and run.name.startswith(text))


def _listed(there: tuple[Running, ...]) -> str:
    return ", ".join(plain(run.name) + (f" ({plain(run.label)})" if run.label else "") for run in there)


def stop(run: Running, say: Callable[[str], None] = lambda text: None) -> None:
    """End it in order, and wait until it is over; also of another version of llmtop.

    Args:
        say: told when it takes longer than a server usually takes to drain.

    Raises:
        SessionLost: it could not be asked, or is not over after all the time that it may take.
    """
    line = Line.asking(run, Ask(asks="stop", version=__version__, protocol=PROTOCOL))
    try:
        if line.ends_within(CLOSE_S):
            return
        say(f"{run.name} takes its time: its server drains, or its last opinion is formed")
        if not line.ends_within(PATIENCE_S):
            raise SessionLost(f"{run.name} was asked to end, and is not over: see `llmtop ls`")
    finally:
        line.close()
