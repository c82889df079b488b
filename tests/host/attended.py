"""A run that is attended to in this process, at whose door screens come and go."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from host_fakes import CONNECTED, frame
from msgspec.structs import replace

from llmtop.domain.commands import Command, Quit, Seen
from llmtop.domain.run import Ended
from llmtop.domain.shown import Answer, Shown
from llmtop.domain.slo import Slo, parse_slo
from llmtop.host.doors import Doors
from llmtop.host.life import Life
from llmtop.host.messages import Parting
from llmtop.host.screens import Screens
from tests import waiting
from tests.waiting import lives

LOOK_S = 0.01
"""A run that is looked at more often than one of users."""


class FakeHost:
    """An attendant that keeps what it was sent, and shows what it is told to."""

    def __init__(self, name: str = "0101-m") -> None:
        self.slo: Slo = parse_slo("ttft_p95<500ms")
        self.sent: list[Command] = []
        self.left = False
        self.newest = Shown(frame=frame(run_file=f"/r/{name}.llmtop"), meta=replace(CONNECTED, label="night"))

    @property
    def asked(self) -> list[Command]:
        return [command for command in self.sent if command != Seen()]

    def shown(self) -> Shown:
        return self.newest

    def show(self, seq: int) -> None:
        newest = self.newest.frame
        assert newest is not None
        self.newest = replace(self.newest, frame=replace(newest, seq=seq, t_s=seq / 4))

    def answer(self, text: str) -> None:
        number = 0 if self.newest.answer is None else self.newest.answer.number
        self.newest = replace(self.newest, answer=Answer(number + 1, text))

    def send(self, command: Command) -> None:
        self.sent.append(command)
        if isinstance(command, Quit):
            self.newest = replace(self.newest, ended=Ended())

    def close(self) -> None: ...


class Attended:
    """Its doors and who is there, on an event loop in a thread of its own, until the host says that the run is over."""

    def __init__(self, host: FakeHost, *, plan: str = "", limit_s: float = 60.0) -> None:
        self.host = host
        self.life = Life(limit_s)
        self.life.detached = not plan
        self.screens = Screens(host.send, self.life, plan)
        self.doors = Doors(host, self.screens, self.life, lambda: host.send(Quit()), headless=bool(plan))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        until(lambda: self.life.bound_by != "the run has not begun yet")

    async def _serve(self) -> None:
        while self.doors.look().ended is None:
            await self.doors.open()
            await asyncio.sleep(LOOK_S)
        await self.doors.end(Parting(failed="a sink"))

    def close(self) -> None:
        self.host.newest = replace(self.host.newest, ended=self.host.newest.ended or Ended())
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def attended(name: str = "0101-m", *, plan: str = "", limit_s: float = 60.0) -> Iterator[Attended]:
    run = Attended(FakeHost(name), plan=plan, limit_s=limit_s)
    try:
        yield run
    finally:
        run.close()


def at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """Runs of this process lie below `home`; the folder, which is made."""
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    runs = home / "llmtop" / "runs"
    runs.mkdir(parents=True, mode=0o700)
    return runs


def all_end(processes: Iterable[psutil.Process]) -> None:
    """Wait until they have ended; whom nobody has waited for yet has ended, too, whenever init comes to it."""
    until(lambda: not any(map(lives, processes)))


def until(condition: Callable[[], object]) -> None:
    waiting.until(condition, 60.0)
