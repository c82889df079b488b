"""`llmtop worker dask://HOST:8786`: the Dask workers of a load host, kept there until somebody ends them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtop.channel import Child
from llmtop.cluster import check_way
from llmtop.cluster.scheduler import NobodyThere, check_there, security_of
from llmtop.domain.crew import CrewSpec
from llmtop.domain.plain import plain
from llmtop.files import make_folder, user_folder
from llmtop.load.files import cores

if TYPE_CHECKING:
    from distributed import Security

Say = Callable[[str], None]
AGAIN_S = 1.0
"""How long it waits before it tries again: a scheduler that is gone, a process that has died."""
LONGEST_S = 10.0
"""A process that dies again and again is started no oftener."""
LEAVE_S = 2.5
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def as_many_as_fit() -> int:
    """One for each core but one, which Dask and the kernel have."""
    return max(1, cores() - 1)


async def keep_workers(spec: CrewSpec, processes: int, name: str, say: Say) -> signal.Signals:
    """Until SIGINT, SIGTERM or SIGHUP, which it returns; then all is gone within 3 s.

    Args:
        name: by which they are shown, each with its number; empty: this host's.
        say: hears one line for each thing that happens.

    Raises:
        UsageError, FileError: what was asked for cannot be meant.
        SessionLost: something else than a scheduler answers there.
    """
    check_way(spec)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals] = loop.create_future()
    ends = [number for number in ENDS if signal.getsignal(number) != signal.SIG_IGN]
    for number in ends:
        loop.add_signal_handler(number, _note, ended, number)
    security = await asyncio.to_thread(security_of, spec)
    logs = user_folder("log")
    make_folder(logs)
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="dask-", dir=logs))
    host = _LoadHost(spec, security, name, (scratch, logs / f"worker-{os.getpid()}.log"), say)
    keeping = asyncio.create_task(host.keep(processes))
    ends_it: set[asyncio.Future[Any]] = {keeping, ended}
    try:
        await asyncio.wait(ends_it, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        for number in ends:
            loop.remove_signal_handler(number)
        await asyncio.to_thread(shutil.rmtree, scratch, True)
    say("ended")
    return ended.result()


def _note(ended: asyncio.Future[signal.Signals], by: signal.Signals) -> None:
    if not ended.done():
        ended.set_result(by)


class _LoadHost:
    """Args:
    places: the folder of its Dask workers, and their log.
    """

    def __init__(
        self, spec: CrewSpec, security: Security | None, name: str, places: tuple[Path, Path], say: Say
    ) -> None:
        self._spec, self._security, self._name, self._say = spec, security, name, say
        self._places = [str(place) for place in places]
        self._looking = asyncio.Lock()
        self._there = self._waiting = False

    async def keep(self, processes: int) -> None:
        keeping = [asyncio.create_task(self._keep_one(number)) for number in range(processes)]
        try:
            await asyncio.gather(*keeping)
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep_one(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        name = f"{self._name}-{number}" if self._name else ""
        pause_s = AGAIN_S
        while True:
            await self._found()
            began_s = loop.time()
            child = Child("llmtop.cluster.joining", str(self._spec), name, *self._places, environment=os.environ)
            shown = f"worker {name or number}"
            try:
                code, said = await self._attend(child, shown)
            finally:
                await child.close(LEAVE_S)
            if loop.time() - began_s > LONGEST_S:
                pause_s = AGAIN_S
            if code == 0:
                self._lost()
                await asyncio.sleep(AGAIN_S)  # it still listens while it ends
                continue
            how = f"died by signal {-code}" if code < 0 else "could not go on"
            self._say(f"{shown} {how}{': ' if said else ''}{said}; it is started again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    async def _attend(self, child: Child, shown: str) -> tuple[int, str]:
        """The exit status of a Dask worker, once it is gone, and its last words."""
        facts, _ = await child.streams()
        while line := await facts.readline():
            if b"joined" in line:
                self._say(f"{shown} has joined {self._spec} (process {child.pid})")
        code = await asyncio.to_thread(child.wait)
        return code, plain(child.said().rpartition("\n")[2])

    async def _found(self) -> None:
        """When the scheduler is there. Says once that it is waited for. Raises SessionLost: it is something else."""
        async with self._looking:
            while not self._there:
                try:
                    await check_there(self._spec, self._security)
                except NobodyThere as error:
                    if not self._waiting:
                        self._say(f"{error}; it is waited for")
                    self._waiting = True
                    await asyncio.sleep(AGAIN_S)
                else:
                    self._there, self._waiting = True, False

    def _lost(self) -> None:
        if self._there:
            self._there, self._waiting = False, True
            self._say(f"the scheduler of {self._spec} is gone: no load is sent from here; it is waited for")
