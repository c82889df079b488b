"""The tasks of a session: they end together, and one that fails fails the session."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from llmtop.errors import UsersError
from llmtop.session.journal import Journal


class Work:
    """`failed` is a future that raises what the first task to fail has raised."""

    def __init__(self, journal: Journal) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._journal = journal
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            if isinstance(error, UsersError):
                self._journal.tell("load", f"the run has ended: {error}", "error")
            self.failed.set_exception(error)

    async def end(self) -> None:
        await cancelled(self._tasks)


async def cancelled(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    """None of them runs any more."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
