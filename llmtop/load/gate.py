"""The gate: so many requests at most are at the server, and who comes first goes first.

A server with `max_num_seqs = M` lets M requests run and queues the others; a client that lets M of its N requests
through is that server to all of them, as long as M is no more than the server's own slots.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """On one event loop. Open until `most` is set."""

    def __init__(self) -> None:
        self._most: int | None = None
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def most(self) -> int | None:
        """So many are let through at once; None: all."""
        return self._most

    @most.setter
    def most(self, most: int | None) -> None:
        """Those that are inside stay; a wider gate lets others in at once."""
        if most != self._most:
            self._most = most
            self._admit()

    @property
    def inside(self) -> int:
        return self._inside

    @property
    def waiting(self) -> int:
        return sum(not turn.done() for turn in self._waiting)

    def slip_in(self) -> bool:
        """Enter where nobody has to wait; returns whether one has. Whoever has must `leave`."""
        if self._free:
            self._inside += 1
            return True
        return False

    async def enter(self) -> bool:
        """Wait for one's turn; returns whether there was any wait.

        Whoever has entered must `leave`; whoever is cancelled here has not entered.
        """
        if self._free:  # whoever waits was let in before, as far as there was room
            self._inside += 1
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in as it was cancelled
                self.leave()
            raise
        return True

    def leave(self) -> None:
        self._inside -= 1
        self._admit()

    @property
    def _free(self) -> bool:
        return self._most is None or self._inside < self._most

    def _admit(self) -> None:
        while self._waiting and self._free:
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(None)
