"""Load that is there until somebody ends it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from trying import streams

TOKENS = 787
"""Asked of each answer; a probe asks for fewer."""
SLOW = streams(*["word "] * TOKENS, pause_s=0.1)


class Busy:
    """Answers that take more than a minute; `running` of them are under way."""

    def __init__(self) -> None:
        self.running = 0
        self.asked: list[bytes] = []
        self._lock = threading.Lock()

    def answer(self, connection: socket.socket) -> None:
        if str(TOKENS).encode() not in self.asked[-1]:
            streams("one", " two")(connection)
            return
        with self._lock:
            self.running += 1
        try:
            SLOW(connection)
        finally:
            with self._lock:
                self.running -= 1

    def off_after(self, limit_s: float, beside: Callable[[], object] = lambda: time.sleep(0.02)) -> float | None:
        """How long it takes until nothing runs any more; None: longer than `limit_s`."""
        begun = time.monotonic()
        while time.monotonic() < begun + limit_s:
            if self.running == 0:
                return time.monotonic() - begun
            beside()
        return None
