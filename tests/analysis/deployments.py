"""A deployment that scales, request by request: facts whose answer is known, and what another threshold would do."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from facts_by_hand import record

from llmtop.domain.load import LoadPoint
from llmtop.domain.run import FactBatch, LoadChange, ScaleKind, ScaleStep
from llmtop.domain.samples import ServerSnapshot
from llmtop.meter.facts import Facts

STEP_S = 0.05
ALONE_S = 0.1
"""TTFT of a request that need not wait."""


@dataclass
class Deployment:
    """Replicas of `slots` that take `service_s` for each request, and an autoscaler that sees the queue at once."""

    loads: Sequence[tuple[float, LoadPoint]]
    until_s: float
    before: int = 1
    after: int = 3
    threshold: float | None = 30.0
    """More waiting for each replica, and more are wanted; None: nobody looks."""
    created_s: float = 2.0
    ready_s: Sequence[float] = (81.0, 81.0)
    """After the decision, of each further replica; those after the end never are."""
    serving_s: float = 16.0
    """After that, its first token."""
    slots: int = 8
    service_s: float = 4.0
    jitter: float = 0.0
    """Share by which that differs at most; without, users who came together stay together."""
    shared: bool = True
    stage: str | None = None
    """Of the plan that commands the load; None: a hand does."""
    desired: bool = True
    """Whether anybody tells what is wanted."""
    batches: list[FactBatch] = field(default_factory=list)

    def run(self) -> Facts:
        """The facts of a run."""
        self._ended: list[tuple[float, float, float]] = []
        self._random = random.Random(1)
        self._queues: list[deque[float]] = [deque() for _ in range(1 if self.shared else self.before)]
        self._busy: list[list[float]] = [[] for _ in range(self.before)]
        self._due, self._decided_s, self._steps = 0.0, None, [*self._at_first()]
        self._thinking: list[float] = []
        requests, server, second = [], [], 0.0
        for tick in range(int(self.until_s / STEP_S)):
            t_s = tick * STEP_S
            self._scale(t_s)
            self._send(t_s)
            self._serve(t_s)
            if t_s >= second:
                server.append(self._seen(t_s))
                second += 1.0
        for sent_s, start_s, end_s in self._ended:
            if end_s < self.until_s:
                requests.append(record(sent_s, ttft_s=start_s - sent_s + ALONE_S, e2e_s=end_s - sent_s))
        return self._facts(requests, server)

    def _at_first(self) -> Sequence[ScaleStep]:
        kinds: list[ScaleKind] = ["created", "ready", "serving"]
        if self.desired:
            kinds.insert(0, "desired")
        return [ScaleStep(t_s=0.0, kind=kind, replicas=self.before, since=True) for kind in kinds]

    def _facts(self, requests: list, server: list) -> Facts:
        batch = FactBatch(
            t_s=self.until_s,
            requests=tuple(sorted(requests, key=lambda each: each.end_ns)),
            server=tuple(server),
            changes=tuple(
                LoadChange(t_s, point, "stage" if self.stage else "hand", self.stage) for t_s, point in self.loads
            ),
            scaling=tuple(sorted(self._steps, key=lambda step: step.t_s)),
        )
        self.batches = [batch]
        return Facts.of([batch])

    def _scale(self, t_s: float) -> None:
        waiting = sum(map(len, self._queues))
        if self._decided_s is None and self.threshold is not None and waiting > self.threshold * self.before:
            self._decided_s = t_s
            if self.desired:
                self._steps.append(ScaleStep(t_s=t_s, kind="desired", replicas=self.after))
            for i, ready_s in enumerate(self.ready_s):
                count, name = self.before + i + 1, f"pod-{self.before + i}"
                for kind, at_s in (
                    ("created", t_s + self.created_s),
                    ("ready", t_s + ready_s),
                    ("serving", t_s + ready_s + self.serving_s),
                ):
                    if at_s < self.until_s:
                        self._steps.append(ScaleStep(t_s=at_s, kind=kind, replicas=count, name=name))  # type: ignore
        if self._decided_s is not None:
            since_s = t_s - self._decided_s
            serving = self.before + sum(ready_s + self.serving_s <= since_s for ready_s in self.ready_s)
            while len(self._busy) < serving:
                self._busy.append([])
                if not self.shared:
                    self._queues.append(deque())

    def _send(self, t_s: float) -> None:
        point = next(point for at_s, point in reversed(self.loads) if at_s <= t_s)
        if point.rate_rps is not None:
            self._due += point.rate_rps * STEP_S
            count, self._due = int(self._due), self._due % 1
        else:
            present = sum(map(len, self._busy)) + sum(map(len, self._queues))
            self._thinking = [each for each in self._thinking if each > t_s]
            count = max(0, int(point.value) - present - len(self._thinking))
        for _ in range(count):
            loads = [len(queue) + (0 if self.shared else len(self._busy[i])) for i, queue in enumerate(self._queues)]
            self._queues[loads.index(min(loads))].append(t_s)

    def _serve(self, t_s: float) -> None:
        think_s = next(point for at_s, point in reversed(self.loads) if at_s <= t_s).think_time_s
        for i, busy in enumerate(self._busy):
            while busy and busy[0] <= t_s:
                heapq.heappop(busy)
                if think_s:
                    self._thinking.append(t_s + think_s)
            queue = self._queues[0 if self.shared else i]
            while queue and len(busy) < self.slots:
                end_s = t_s + self.service_s * (1 + self.jitter * self._random.uniform(-1, 1))
                self._ended.append((queue.popleft(), t_s, end_s))
                heapq.heappush(busy, end_s)

    def _seen(self, t_s: float) -> ServerSnapshot:
        waiting = float(sum(map(len, self._queues)))
        return ServerSnapshot(t_s=t_s, running=float(sum(map(len, self._busy))), waiting=waiting, kv_usage=0.1)


def rates(*loads: tuple[float, float]) -> list[tuple[float, LoadPoint]]:
    return [(t_s, LoadPoint(rate_rps=rate)) for t_s, rate in loads]


def users(*loads: tuple[float, int], think_time_s: float = 0.0) -> list[tuple[float, LoadPoint]]:
    return [(t_s, LoadPoint(concurrency=count, think_time_s=think_time_s)) for t_s, count in loads]


def between(batch: FactBatch, from_s: float, until_s: float) -> FactBatch:
    """The facts of a batch that became known in a time."""

    def told(values: Sequence, at: str = "t_s", scale: float = 1.0) -> tuple:  # type: ignore[type-arg]
        first = -1.0 if from_s == 0 else from_s
        return tuple(each for each in values if first < getattr(each, at) / scale <= until_s)

    return FactBatch(
        t_s=until_s,
        requests=told(batch.requests, "end_ns", 1e9),
        server=told(batch.server),
        changes=told(batch.changes),
        scaling=told(batch.scaling),
    )
