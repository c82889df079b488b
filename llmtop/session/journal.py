"""What becomes known in a session: facts on one clock, told tick by tick to the run file, to frames and to who asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

from llmtop.domain.plain import LONG, plain
from llmtop.domain.run import (
    Chapter,
    Ending,
    Event,
    EventKind,
    FactBatch,
    JudgedLevel,
    Mark,
    SearchEnded,
    Severity,
    joined,
)
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.meter.frames import FrameBuilder
from llmtop.session.recorder import Recorder

Fact = TypeVar("Fact")


class Journal:
    """Facts are kept until the next tick makes one batch of them; no batch is lost before it was taken."""

    def __init__(self, recorder: Recorder) -> None:
        self.origin_ns = time.perf_counter_ns()
        self.builder = FrameBuilder()
        self.scraped: list[ServerSnapshot] = []
        self.gpus: list[GpuSnapshot] = []
        self.marks: list[Mark] = []
        self.chapters: list[Chapter] = []
        self.noted: list[JudgedLevel | SearchEnded] = []
        self._events: list[Event] = []
        self._untold: list[FactBatch] = []
        self._recorder = recorder

    @property
    def t_s(self) -> float:
        """Now, on the run clock."""
        return (time.perf_counter_ns() - self.origin_ns) / 1e9

    def note(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)

    def tell(self, kind: EventKind, text: str, severity: Severity = "info") -> None:
        self._events.append(Event(self.t_s, kind, plain(text, LONG), severity))

    def tell_of_recording(self) -> None:
        for severity, text in self._recorder.news():
            self.tell("recording", text, severity)

    def tick(self, others: Iterable[FactBatch]) -> FactBatch:
        """Everything that became known since the last tick, and what `others` have, as one batch."""
        t_s, noted = self.t_s, _taken(self.noted)
        own = FactBatch(
            t_s=t_s,
            server=_taken(self.scraped),
            gpu=_taken(self.gpus),
            marks=_taken(self.marks),
            events=_taken(self._events),
            chapters=_taken(self.chapters),
            tested=tuple(fact for fact in noted if isinstance(fact, JudgedLevel)),
            searches=tuple(fact for fact in noted if isinstance(fact, SearchEnded)),
        )
        batch = joined(t_s, (*others, own))
        self._hand_on(batch)
        self._recorder.write(batch)
        self.tell_of_recording()
        return batch

    def _hand_on(self, batch: FactBatch) -> None:
        self.builder.consume(batch)
        self._untold.append(batch)

    def take(self) -> tuple[FactBatch, ...]:
        """The batches since the last call, in order. Whoever wants all facts calls this often enough."""
        return _taken(self._untold)

    async def end(self, ended_s: float, ending: Ending | None, *, kept: bool) -> None:
        """Close the run file, or leave none; what is to be told of that is the last batch."""
        if not kept:
            await asyncio.to_thread(self._recorder.discard)
            return
        await asyncio.to_thread(self._recorder.close, ended_s, ending)
        self.tell_of_recording()
        if self._events:
            self._hand_on(FactBatch(t_s=self.t_s, events=_taken(self._events)))


def _taken(pile: list[Fact]) -> tuple[Fact, ...]:
    taken = tuple(pile)
    pile.clear()
    return taken
