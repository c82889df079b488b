"""Screens come and go at a run: each is told what is new to it, and none that does not read holds up another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from llmtop import __version__, channel
from llmtop.domain.run import Ended
from llmtop.domain.shown import Shown
from llmtop.errors import SessionLost
from llmtop.host import sockets
from llmtop.host.attendant import Attendant
from llmtop.host.life import Life
from llmtop.host.messages import (
    ASKED_BYTES,
    PROTOCOL,
    SHARED,
    Ask,
    Parting,
    Running,
    decode_ask,
    decode_command,
    packed,
    part_of,
)
from llmtop.host.screens import Screen, Screens
from llmtop.session.terminal import give_back
from llmtop.wording import running as words

LOOK_S = 0.05
"""How often it is looked whether anything is new; four frames come a second."""
ASKS_WITHIN_S = 5.0
"""Whoever has said nothing for so long after it came in is shown out."""
LOOKS_AFTER_S = 1.0
"""How often it is looked whether the socket is still where it was made."""
FLUSH_S = 1.0
"""For so long the last is told to whoever does not read."""
UNNAMED_S = 5.0
"""A run that has no file after so long (its server is being started, say) is named by when it began."""


class Parts:
    """The newest of what all screens are shown, each part written once however many they are."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.written: dict[str, tuple[int, bytes]] = {}
        """By name: its version, which counts up, and the message."""

    def take(self, shown: Shown) -> None:
        for name in SHARED:
            self.put(name, getattr(shown, name))

    def put(self, name: str, value: Any) -> None:
        known = self._values.get(name, self)
        if value is known or value == known:
            return
        self._values[name] = value
        version, _ = self.written.get(name, (0, b""))
        self.written[name] = version + 1, part_of(name, value)


class Guest:
    """A screen and the way to it."""

    def __init__(self, screen: Screen, writer: asyncio.StreamWriter) -> None:
        self.screen, self._writer = screen, writer
        writer.transport.set_write_buffer_limits(high=0)  # to drain means that all is taken
        self._told: dict[str, int] = {}
        self._own: dict[str, Any] = {}

    def tell(self, parts: Parts, own: dict[str, Any], *, at_last: bool = False) -> None:
        """Write what is new to it; nothing while it has not taken what was written before."""
        if self._writer.is_closing() or (self._pending and not at_last):
            return
        pieces = [piece for name, (version, piece) in parts.written.items() if self._told.get(name) != version]
        self._told = {name: version for name, (version, _) in parts.written.items()}
        pieces += [part_of(name, value) for name, value in own.items() if self._own.get(name) != value]
        self._own = own
        if pieces:
            self._writer.write(b"".join(pieces))

    @property
    def _pending(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def close(self, last: bytes = b"") -> None:
        """Say `last`, and wait a moment until it is taken."""
        with contextlib.suppress(OSError):
            self._writer.write(last)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._writer.drain()
        if self._pending:
            self._writer.transport.abort()
        self._writer.close()


class Doors:
    """Serves one run to its screens, on one event loop.

    Args:
        host: attends to the run.
        screens: who is there.
        life: is told whether the run can be left: only where it can be found again.
        stop: called when somebody asks for the run's end.
        headless: no screen began it.
    """

    def __init__(
        self, host: Attendant, screens: Screens, life: Life, stop: Callable[[], None], *, headless: bool = False
    ) -> None:
        self._host, self.screens, self._life, self._stop = host, screens, life, stop
        self._headless = headless
        self._parts = Parts()
        self._parts.put("slo", host.slo)
        self._guests: list[Guest] = []
        self._waiting: list[Guest] = []
        """Those that asked for the run's end, and hear of it by being shown out."""
        self._shown = Shown()
        self._listening: asyncio.Server | None = None
        self._path: Path | None = None
        self._named, self._begun_s = False, time.monotonic()
        self._looks_s = 0.0
        """When it is looked next whether the door can still be found."""
        self._tasks: set[asyncio.Task[None]] = set()

    # ── The door ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Open it as soon as the run has a name; where there is no place for a socket, the run goes on without."""
        frame, meta, now_s = self._shown.frame, self._shown.meta, time.monotonic()
        if self._path is not None and now_s >= self._looks_s:
            self._looks_s = now_s + LOOKS_AFTER_S
            if not sockets.is_own(self._path):  # somebody has removed it: nobody could come back, or end the run
                sockets.forget(self._path)
                self._path, self._named = None, False
                self._close_door()
        if self._named or (meta is None and now_s - self._begun_s < UNNAMED_S):
            return
        self._named = True
        run_file = None if frame is None else frame.run_file
        try:
            name = f"{datetime.now():%Y%m%d-%H%M%S}" if run_file is None else Path(run_file).stem
            door, self._path = sockets.opened(name)
        except OSError as error:
            self._life.bound_by = words.no_socket(error.strerror or str(error))
            return
        self._listening = await asyncio.start_unix_server(self._come_in, sock=door)
        self._life.bound_by = ""
        self._parts.put("name", self._path.stem)

    def shut(self) -> None:
        """Nobody comes in any more; whoever is there stays."""
        self._named, self._life.bound_by = True, words.RUN_IS_OVER
        self._close_door()

    def _close_door(self) -> None:
        if self._path is not None:
            sockets.remove(self._path)
            self._path = None
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def about(self) -> Running:
        """What is said of the run at the door."""
        frame, meta, assessment = self._shown.frame, self._shown.meta, self._shown.assessment
        return Running(
            name="" if self._path is None else self._path.stem,
            pid=os.getpid(),
            version=__version__,
            protocol=PROTOCOL,
            started_at=0.0 if meta is None else meta.started_at,
            run_file=None if frame is None else frame.run_file,
            label=None if meta is None else meta.label,
            endpoint="" if meta is None else words.target_text(meta),
            load="" if frame is None else words.load_text(frame.target),
            headline="" if assessment is None else assessment.headline,
            alone_s=self._life.limit_s,
            detached=self._life.detached,
            screens=len(self.screens.all),
            holder=self.screens.holder,
            headless=self._headless,
        )

    async def _come_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        peer = sockets.peer_of(connection)
        if peer is not None and peer[0] != os.getuid():
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            writer.write(packed(self.about()))
            async with asyncio.timeout(ASKS_WITHIN_S):
                body = await channel.receive(reader, ASKED_BYTES)
            if body is not None:
                await self._answer(decode_ask(body), reader, writer, None if peer is None else peer[1])
        except (OSError, SessionLost, TimeoutError, msgspec.MsgspecError):
            pass  # it only looked, has gone, or says what nobody understands
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(
        self, ask: Ask, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int | None
    ) -> None:
        if ask.asks == "stop":
            waits = Guest(Screen(""), writer)
            self._waiting.append(waits)
            self._stop()
            await reader.read()
            self._waiting.remove(waits)
            return
        if (ask.version, ask.protocol) != (__version__, PROTOCOL):
            return
        guest = self.admit(Screen(name_of(ask.terminal, pid), view=ask.view, terminal=ask.terminal), writer)
        try:
            while (body := await channel.receive(reader, ASKED_BYTES)) is not None:
                await self.hear(guest, body)
        finally:
            self.hung_up(guest)

    # ── Those who are there ───────────────────────────────────────────────────────────────────────────────────────

    def admit(self, screen: Screen, writer: asyncio.StreamWriter) -> Guest:
        guest = Guest(screen, writer)
        screen.begin(self._shown.answer)
        self.screens.come(screen)
        self._guests.append(guest)
        self._parts.take(self._shown)
        self._tell()
        return guest

    async def hear(self, guest: Guest, body: bytes) -> None:
        """A message of a screen. Raises msgspec.MsgspecError: it is none."""
        self.screens.ask(guest.screen, decode_command(body))
        if guest.screen.gone:
            await self._let_out(guest, part_of("left", True))
        self._tell()

    def hung_up(self, guest: Guest) -> None:
        """Its screen is there no more; if it had not left, it gets its terminal back."""
        if guest not in self._guests:
            return
        self._guests.remove(guest)
        screen = guest.screen
        if screen.seen and screen.terminal is not None:
            give_back(screen.terminal)
        self.screens.go(screen)
        self._tell()

    async def _let_out(self, guest: Guest, last: bytes) -> None:
        if guest in self._guests:
            self._guests.remove(guest)
            await guest.close(last)

    def look(self) -> Shown:
        """Tell everyone what is new. Raises what a bug in the host raised."""
        self._shown = self._host.shown()
        if self._guests:
            self._parts.take(self._shown)
            self._tell()
        return self._shown

    def _tell(self, at_last: bool = False) -> None:
        for guest in self._guests:
            guest.screen.hear(self._shown.answer)
            own = {"answer": guest.screen.answer, "wheel": self.screens.wheel(guest.screen)}
            guest.tell(self._parts, own, at_last=at_last)

    async def end(self, parting: Parting, ended: Ended | None = None) -> None:
        """The run is over: tell the last of it, and show out all but the screen that holds it.

        Args:
            ended: in the place of what the host says of the end.
        """
        self.shut()
        if ended is not None:
            self._parts.put("ended", ended)
        else:
            self._parts.take(self._host.shown())
        self._tell(at_last=True)
        last = part_of("parting", parting)
        holding = [guest for guest in self._guests if guest.screen.holds]
        others = [guest for guest in self._guests if not guest.screen.holds]
        self._parts.put("parting", parting)
        for guest in holding:
            guest.tell(self._parts, {}, at_last=True)
        await asyncio.gather(
            *(self._let_out(guest, last) for guest in others), *(waits.close() for waits in self._waiting)
        )
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def name_of(terminal: Any, pid: int | None) -> str:
    """What a screen is called: `pts/3`."""
    if terminal is not None:
        return str(terminal.path).removeprefix("/dev/")
    return "a screen" if pid is None else f"process {pid}"


@contextlib.contextmanager
def looked_at(host: Attendant, stop: Callable[[], None]) -> Iterator[None]:
    """A run that is driven by its plan can be looked at and stopped meanwhile; without a thread or a socket, it cannot.

    Args:
        stop: called from another thread when somebody asks for the run's end.
    """
    over = threading.Event()

    async def serve() -> None:
        life = Life(0.0)
        doors = Doors(host, Screens(lambda _: None, life, plan=words.ITS_PLAN), life, stop, headless=True)
        try:
            while not over.is_set():
                doors.look()
                await doors.open()
                await asyncio.sleep(LOOK_S)
        finally:
            await doors.end(Parting())

    def work() -> None:
        with contextlib.suppress(Exception):  # whoever attends to the run meets it, too, and says so
            asyncio.run(serve())

    thread = threading.Thread(target=work, name="doors", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        yield
        return
    try:
        yield
    finally:
        over.set()
        thread.join(FLUSH_S + 2.0)
