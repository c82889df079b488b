"""A run and its screens, in one process: when it ends, and what is said of it then.

It ends when the screen that began it ends it or goes without having left it, when somebody else ends it, or when it was
left and nobody has come back for too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from llmtop import channel
from llmtop.domain.commands import Quit, Seen
from llmtop.domain.run import Ended, Ending
from llmtop.errors import LlmtopError
from llmtop.host import beside, messages
from llmtop.host.doors import LOOK_S, Doors, name_of
from llmtop.host.host import Host, Link
from llmtop.host.life import Life
from llmtop.host.options import HostOptions
from llmtop.host.outputs import Output
from llmtop.host.screens import Screen, Screens
from llmtop.meter.canaries import new_user
from llmtop.session.waking import ENDS, wake_to_end
from llmtop.wording import running as words

SEEN_EVERY_S = 1.0


class Tending:
    """One run, from its start to its end."""

    def __init__(self, options: HostOptions, link: Link, outputs: Sequence[Output]) -> None:
        baselines = beside.reader(options.baselines)
        host = self._host = Host(link, options.slo, outputs=outputs, baselines=baselines)
        self._life = Life(options.detached_for_s, keep_on_hangup=options.keep_on_hangup)
        self._doors = Doors(host, Screens(host.send, self._life), self._life, lambda: host.send(Quit()))
        terminal = options.session.terminal
        self._first = Screen(name_of(terminal, os.getppid()), holds=True, terminal=terminal)
        self._gone = asyncio.Event()
        """The first screen has hung up."""

    async def attend(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        for number in ENDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._host.send, Quit())
        waking = loop.create_task(wake_to_end(os.getppid()))
        await self._admit(descriptor)
        with channel.interrupts(signal.SIG_UNBLOCK):
            await self._serve()
        waking.cancel()

    async def _admit(self, descriptor: int) -> None:
        """The screen that begins the run. What it says is read by a thread: its first words may have come already."""
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(descriptor, "wb", buffering=0)
        transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop), pipe)
        guest = self._doors.admit(self._first, asyncio.StreamWriter(transport, protocol, None, loop))

        def hang_up() -> None:
            self._doors.hung_up(guest)
            self._gone.set()

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
                try:
                    while (body := channel.read(sys.stdin.buffer)) is not None:
                        asyncio.run_coroutine_threadsafe(self._doors.hear(guest, body), loop)
                finally:
                    loop.call_soon_threadsafe(hang_up)

        threading.Thread(target=read, name="first screen", daemon=True).start()

    async def _serve(self) -> None:
        ended, parting = None, messages.Parting()
        try:
            self._host.start()
            await self._watch()
            parting = await asyncio.to_thread(self._close)
        except Exception:  # a bug: the load has ended, and whoever looks on is to hear of it
            traceback.print_exc()
            ended = Ended(words.HOST_FAILED, 3)
        await self._doors.end(parting, ended)
        while self._first.holds and not self._gone.is_set():
            if ended is None:  # a report may be asked for, and an answer come
                self._doors.look()
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        """Until the run has ended."""
        asked, told_s = False, time.monotonic()
        while self._doors.look().ended is None:
            await self._doors.open()
            now = time.monotonic()
            if not asked and (end := self._due()) is not None:
                asked = True
                self._host.send(end)
            elif self._life.detached and not asked and now - told_s >= SEEN_EVERY_S:
                told_s = now
                self._host.send(Seen())
            await asyncio.sleep(LOOK_S)

    def _due(self) -> Quit | None:
        """Whether the run is to end, as nobody holds it any more."""
        if self._life.ends:
            return Quit(None, patient=False)
        if self._life.over:
            return Quit(Ending.UNSEEN, patient=False, why=words.left_alone_text(self._life.limit_s))
        return None

    def _close(self) -> messages.Parting:
        failed: LlmtopError | None = None
        try:
            self._host.close()
        except LlmtopError as error:
            failed = error
        facts, unread = self._host.facts, self._host.unread
        wrong = unread or failed
        return messages.Parting(
            felt=new_user(facts.canaries),
            states=tuple({event.state for event in facts.events if event.state is not None}),
            unread=None if unread is None else str(unread),
            failed=None if failed is None else str(failed),
            exit_code=0 if wrong is None else wrong.exit_code,
        )
