"""A screen's end of a run that a process of its own attends to (`host/process.py`)."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import IO, Self

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from llmtop import __version__, channel
from llmtop.domain.commands import Command, Detach, Export, Quit, SaveProfile
from llmtop.domain.run import Ended
from llmtop.domain.shown import Answer, Shown
from llmtop.domain.slo import Slo
from llmtop.domain.terminal import TerminalState
from llmtop.errors import SessionLost
from llmtop.host import messages
from llmtop.host.log import Log, ended_unasked
from llmtop.host.messages import PROTOCOL, Ask, Parting, Running
from llmtop.host.options import CLOSE_S, PATIENCE_S, HostOptions
from llmtop.wording import running as words

LEAVE_S = 1.0
"""How long it is waited for the word that a screen has left."""
WHAT = "the process that attends to the run"


class Attached:
    """An `Attendant` of a screen. `send` waits for nobody and raises nothing; `shown` never fails.

    Made by `begin` and `join`.

    Attributes:
        slo: what the run is judged by.
        view: it only looks on.
        name: of the run, as `running` gives it; empty until it can be joined by it.
        holds: this screen began the run and has not left it: its going ends it.
        left: it went by `Detach`; the run goes on, and nothing new is shown of it.
        parting: None until the run is over and all was said of it.
    """

    def __init__(self, slo: Slo, stream: IO[bytes], write: Callable[[bytes], None], hang_up: Callable[[], None]):
        self.slo = slo
        self.view, self.holds, self.left = False, False, False
        self.name = ""
        self.parting: Parting | None = None
        self._shown = Shown()
        self._stream, self._write, self._hang_up = stream, write, hang_up
        self._child: channel.Child | None = None
        self._log: Log | None = None
        self._told = threading.Event()
        """All was told that ever will be."""
        self._asked_to_end = self._closed = False
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._listen, name="attached", daemon=True)
        self._writer = threading.Thread(target=self._pass_on, name="commands", daemon=True)

    @classmethod
    def begin(cls, options: HostOptions) -> Self:
        """Start a run. Must be called before a screen takes the terminal.

        Raises:
            SessionLost, OSError: no process can be started.
        """
        log = Log()
        child = channel.Child("llmtop.host.process", environment=dict(os.environ), log=log.fileno())
        child.send(messages.packed(options))
        attached = cls(options.slo, child.stdout, child.send, child.stdin.close)
        attached.holds, attached._child, attached._log = True, child, log
        attached._begin()
        return attached

    @classmethod
    def join(cls, run: Running, *, view: bool, terminal: TerminalState | None = None) -> Self:
        """Look at a run that goes on.

        Args:
            terminal: what the screen is about to take, from `session.terminal.state_of`.

        Raises:
            SessionLost: it has gone meanwhile, or is another llmtop's.
        """
        from llmtop.host.running import Line

        if run.version and (run.version, run.protocol) != (__version__, PROTOCOL):
            raise SessionLost(words.other_version(run.name, run.version, __version__))
        ask = Ask(asks="join", version=__version__, protocol=PROTOCOL, view=view, terminal=terminal)
        line = Line.asking(run, ask)
        try:
            first = messages.decode_part(line.read())
            if first.slo is UNSET:
                raise ConnectionError("it does not say what the run is judged by")
            line.within(None)
        except (OSError, SessionLost, msgspec.MsgspecError):
            line.close()
            raise SessionLost(words.has_ended(run.name)) from None
        attached = cls(first.slo, line.stream, line.send, line.close)
        attached.view, attached.name = view, run.name
        attached._merge(first)
        attached._begin()
        return attached

    def _begin(self) -> None:
        self._reader.start()
        self._writer.start()

    # ── What a screen sees and asks ───────────────────────────────────────────────────────────────────────────────

    def shown(self) -> Shown:
        """The newest of everything; once the run or its host has gone, the last of it, with `ended`."""
        return self._shown

    def send(self, command: Command) -> None:
        """Ask for something. Once nobody is left to ask, what needs somebody is refused."""
        if isinstance(command, Quit):
            self._asked_to_end = True
            if self._child is not None:
                self._child.wake()
        if not self._told.is_set():
            self._commands.put(command)
        elif isinstance(command, Export | SaveProfile):
            number = 1 if self._shown.answer is None else self._shown.answer.number + 1
            self._shown = replace(self._shown, answer=Answer(number, words.RUN_IS_OVER, refused=True))

    def _pass_on(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (command := self._commands.get()) is not None:
                self._write(messages.packed(command))

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError, SessionLost, msgspec.MsgspecError):
            while not self.left and (body := channel.read(self._stream)) is not None:
                self._merge(messages.decode_part(body))
                if self._log is not None:
                    self._log.bound()
        if not self.left and self._shown.ended is None:
            self._shown = replace(self._shown, ended=self._lost())
        self._told.set()

    def _merge(self, part: messages.Part) -> None:
        news = messages.news_of(part)
        if news:
            self._shown = replace(self._shown, **news)
        self.name = self.name if part.name is UNSET else part.name
        if part.left is not UNSET:
            self.left, self.holds = True, False
        if part.parting is not UNSET:
            self.parting = part.parting
            self._told.set()

    def _lost(self) -> Ended:
        """How a run has ended whose host has gone without a word."""
        if self._child is None or self._log is None:
            return Ended(words.HOST_GONE, 3)
        status = self._child.wait()
        return Ended() if self._asked_to_end else ended_unasked(status, self._log.path, WHAT)

    # ── The end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """A screen that holds the run ends it in order, and one that ends it waits for that; another one leaves.

        May be called twice.
        """
        if self._closed:
            return
        self._closed = True
        if self.holds and not self._asked_to_end:
            self.send(Quit())
        if self._asked_to_end:
            self._told.wait(CLOSE_S + PATIENCE_S)
        elif not self.left:
            if self._shown.ended is None:  # a run that is over is left by nobody
                self.send(Detach())
            self._told.wait(LEAVE_S)
        self._commands.put(None)
        if self._child is None:
            self._hang_up()
        elif self.left:
            self._child.let_go()
        else:
            self._child.end()
        self._reader.join(LEAVE_S)
        if self._log is not None:
            self._log.close()
