"""A recording played back: the same frames and facts as the run gave, at any speed and from any place."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from llmtop.domain.bounds import SPEED
from llmtop.domain.commands import Command, Quit, Seek
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, ReplayPosition
from llmtop.domain.run import Ended, FactBatch, RunMeta, Told
from llmtop.meter.frames import FrameBuilder
from llmtop.recording.reader import RunReader
from llmtop.session.status import endpoint_status

SLOWEST, FASTEST = SPEED.least, SPEED.most
STILL_S = 2.0
"""A load that moves after it has stood so long is an event to go to; steps that follow at once are of the same move."""


class ReplayLink:
    """Stands where a `SessionLink` stands: a host cannot tell them apart but by `frame.replay`.

    Frames and facts are asked for by different threads; a lock keeps them at one position.

    Args:
        path: the run file.
        clock: seconds of a monotonic clock; tests give their own.

    Raises:
        RunFileError: the file cannot be read.
    """

    def __init__(self, path: Path, speed: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        with RunReader(path) as reader:
            self.meta: RunMeta = reader.meta
            self.length_s = reader.length_s
            self._batches = list(reader.batches())
        self._moments = moments_of(self._batches)
        self._canaries = [(canary.t_s, batch.t_s) for batch in self._batches for canary in batch.canaries]
        """When each was sent and told."""
        self.path = path
        self._told_meta: RunMeta | None = None
        self._ended: Ended | None = None
        self._clock = clock
        self._speed = speed
        self._playing = True
        self._asked_at = clock()
        self._lock = threading.Lock()
        self._position_s = 0.0
        self._rewind()

    def _rewind(self) -> None:
        self._builder = FrameBuilder()
        self._untold: list[FactBatch] = []
        self._anew = True
        self._status = EndpointStatus(state=EndpointState.CONNECTING)
        self._left: Iterator[FactBatch] = iter(self._batches)
        self._next = next(self._left, None)
        self._position_s = 0.0

    def _advance(self) -> None:
        now = self._clock()
        if self._playing:
            self._go_to(self._position_s + (now - self._asked_at) * self._speed)
        self._asked_at = now

    def _go_to(self, t_s: float) -> None:
        t_s = min(max(t_s, 0.0), self.length_s)
        if t_s < self._position_s:
            self._rewind()
        while self._next is not None and self._next.t_s <= t_s:
            self._take(self._next)
            self._next = next(self._left, None)
        self._position_s = t_s

    def _take(self, batch: FactBatch) -> None:
        self._builder.consume(batch)
        self._untold.append(batch)
        for event in batch.events:
            if event.state is not None:
                error = None if event.state is EndpointState.UP else event.text
                self._status = endpoint_status(self.meta, event.state, event.t_s, error)

    def frame(self) -> Frame:
        with self._lock:
            self._advance()
            return self._builder.frame(
                self._status,
                max_concurrency=self.meta.profile.caps.max_concurrency,
                profile=self.meta.profile.name,
                run_file=str(self.path),
                canary_since_s=self._canary_since_s(),
                replay=ReplayPosition(self.length_s, self._speed, self._playing, self._moments),
                finished=self._position_s >= self.length_s,
            )

    def _canary_since_s(self) -> float | None:
        """When the canary that is in flight at the position was sent: that it is to come is told by the file alone."""
        at = bisect_right(self._canaries, (self._position_s, math.inf)) - 1
        return self._canaries[at][0] if at >= 0 and self._canaries[at][1] > self._position_s else None

    def take(self) -> Told:
        """Everything up to the position, since the last call; from the start again after a seek backwards."""
        with self._lock:
            self._advance()
            over = self._position_s >= self.length_s
            meta = self.meta if over else replace(self.meta, ended_s=None)  # nobody knows the end before it comes
            told = Told(
                meta=None if meta == self._told_meta else meta,
                batches=tuple(self._untold),
                anew=self._anew,
                ended=self._ended,
            )
            self._untold, self._anew, self._told_meta = [], False, meta
            return told

    def send(self, command: Command) -> None:
        """Only `Seek` and `Quit` mean anything in a recording."""
        with self._lock:
            self._advance()
            if isinstance(command, Quit):
                self._ended = Ended()
            elif isinstance(command, Seek):
                if command.speed is not None:
                    self._speed = min(max(command.speed, SLOWEST), FASTEST)
                if command.playing is not None:
                    self._playing = command.playing
                if command.t_s is not None:
                    self._go_to(command.t_s)

    def close(self) -> None:
        self._ended = Ended()


def moments_of(batches: Sequence[FactBatch]) -> tuple[float, ...]:
    """When there is something to go to, in s of the run, rising: marks, events, chapters, and moves of the load."""
    told: set[float] = set()
    moved_s: float | None = None
    for batch in batches:
        if batch.marks or batch.events or batch.chapters:
            told.add(batch.t_s)
        for change in batch.changes:
            if moved_s is not None and change.t_s - moved_s >= STILL_S:
                told.add(batch.t_s)
            moved_s = change.t_s
    return tuple(sorted(told))
