"""Keeps a command of the user's: `python -m llmtop.session.keeper`; stdin says what to keep, stdout what becomes of it.

The command runs in the shell, in a process group of its own, with no stdin. It ends when the keeper's stdin does, which
is when whoever started the keeper wishes it or is gone, kill -9 included: SIGTERM to the group, time to leave, SIGKILL
to what is left of it. On Linux what has left the group for a life of its own is found and ended, too, and a keeper that
is killed takes the command along.

What the command writes goes to the keeper's stderr, a file, whose length is bounded: the last lines are kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec
from msgspec import Struct

from llmtop import channel
from llmtop.domain.server_command import Kind

LOG_BYTES = 1 << 23
"""Of what a command writes, in its file: a day of vLLM at its usual level of log."""
KEPT_BYTES = 1 << 16
"""What is left of a longer one: more lines than anybody scrolls through."""
LOOK_S = 0.1
KILLED_S = 5.0
"""How long a killed process may take to be gone: a driver frees the memory of a GPU."""
_PIECE = 1 << 16
_SUBREAPER, _DEATH_SIGNAL = 36, 1
"""PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG, see prctl(2)."""


class ToKeep(Struct, frozen=True):
    command: str
    kind: Kind
    grace_s: float
    """Between SIGTERM and SIGKILL."""
    environment: tuple[bytes, ...] = ()
    """NAME=value of all that it sees."""


class Kept(Struct, frozen=True, omit_defaults=True):
    """One line on the keeper's stdout."""

    pid: int | None = None
    """It has begun; also the number of its group."""
    ended: int | None = None
    """Its exit code; below 0: minus the signal."""
    problem: str | None = None
    """It could not be begun."""


def bound(descriptor: int, most: int = LOG_BYTES, kept: int = KEPT_BYTES) -> None:
    """Begin a log anew, with its own end, if it has grown longer than `most`."""
    size = os.fstat(descriptor).st_size
    if size <= most:
        return
    end = os.pread(descriptor, kept, size - kept)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, end[end.find(b"\n") + 1 :])


class Keeper:
    """One command, from its start to the end of all that it has started."""

    def __init__(self, what: ToKeep, log: int) -> None:
        self._what, self._log = what, log
        self._code: int | None = None
        self.wanted = False
        """The end is."""
        libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if libc is not None and what.kind == "serve":
            libc.prctl(_SUBREAPER, 1)

        def begin() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if libc is not None and what.kind == "serve":
                libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)

        # What an applied command leaves running keeps the file, and would be ended by a pipe that nobody reads.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", what.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if what.kind == "serve" else log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(each.partition(b"=")[::2] for each in what.environment),
            preexec_fn=begin,
        )
        self.pid = self._process.pid
        self._pipe = -1 if self._process.stdout is None else self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        if self._pipe >= 0:
            self._poll.register(self._pipe, select.POLLIN)

    def look(self, wait_s: float = LOOK_S) -> int | None:
        """Take what it writes for a moment; its exit code once it has one."""
        for descriptor, _ in self._poll.poll(wait_s * 1000):
            if descriptor == self._pipe:
                self._take()
            elif not os.read(0, _PIECE):
                self.wanted = True
                self._poll.unregister(0)
        with contextlib.suppress(OSError):
            bound(self._log)
        self._reap()
        return self._code

    def end(self) -> None:
        """End all of it, and see that it is gone."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        self._outlast(self._what.grace_s)
        deadline_s = time.monotonic() + KILLED_S
        while self._is_alive() and time.monotonic() < deadline_s:
            self._signal(signal.SIGKILL)
            self.look(LOOK_S / 2)
        self.look(0.0)

    def _outlast(self, limit_s: float) -> None:
        deadline_s = time.monotonic() + limit_s
        while self._is_alive() and time.monotonic() < deadline_s:
            self.look(min(LOOK_S, max(0.0, deadline_s - time.monotonic())))

    def _take(self) -> None:
        piece = os.read(self._pipe, _PIECE)
        if not piece:
            self._poll.unregister(self._pipe)
            self._pipe = -1
        with contextlib.suppress(OSError):  # a full disk is no reason to hold up the server
            os.write(self._log, piece)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (gone := os.waitpid(-1, os.WNOHANG))[0]:
                if gone[0] == self.pid:
                    self._code = self._process.returncode = os.waitstatus_to_exitcode(gone[1])

    def _is_alive(self) -> bool:
        self._reap()
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return bool(self._strays())
        except PermissionError:  # of another user, by now; nothing that a signal of ours reaches
            return self._code is None
        return True

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for stray in self._strays():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stray, number)

    def _strays(self) -> list[int]:
        """Processes of the command's that have left its group and lost their parent: they are this process's now."""
        if self._what.kind != "serve":
            return []
        try:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in children.split() if int(pid) != self.pid]


def _tell(out: int, kept: Kept) -> None:
    with contextlib.suppress(OSError):
        os.write(out, msgspec.json.encode(kept) + b"\n")


def main() -> int:
    out = channel.claim_stdout()
    body = channel.read(sys.stdin.buffer)
    if body is None:
        return 2
    what = msgspec.json.decode(body, type=ToKeep)
    try:
        keeper = Keeper(what, 2)
    except OSError as error:
        _tell(out, Kept(problem=f"/bin/sh cannot be started: {error.strerror or error}"))
        return 2

    def ask(number: int, frame: FrameType | None) -> None:
        keeper.wanted = True

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, ask)
    with channel.interrupts(signal.SIG_UNBLOCK):
        _tell(out, Kept(pid=keeper.pid))
        while (code := keeper.look()) is None and not keeper.wanted:
            pass
        if code is not None:
            _tell(out, Kept(ended=code))
        if what.kind == "serve" or code is None:
            keeper.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
