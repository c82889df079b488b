"""How each of several load workers did, out of what they told: in their last second, and over a whole run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.domain.client import ClientHealth, CrewFigures, WorkerFigures, WorkerState
from llmtop.domain.run import LoadWorker
from llmtop.domain.samples import ClientSample, ClientState
from llmtop.meter.client import SEVERITY, JudgedSecond

MOST_SHOWN = 40
"""Load workers that a frame tells of: more rows than a screen has."""
MOST_TOLD = 20
"""And a report."""
SILENT_S = 0.5
"""Older than the newest second by so much: it has told nothing of that."""
BEGINNING_S = 2.0
"""The first second of a worker may take so long to be told."""
_STATES: tuple[WorkerState, ...] = (*SEVERITY, "silent", "lost")


class _Member:
    """One worker so far."""

    def __init__(self, number: int) -> None:
        self.met = LoadWorker(0.0, number, "")
        self.last: ClientSample | None = None
        self.state: ClientState = "green"
        self.worst: ClientState = "green"
        self.red_s = self.seconds = 0
        self.chunks = self.span_s = 0.0
        self.cpu: float | None = None
        self.lag_p99_ms: float | None = None
        self.loop_lag_ms: float | None = None

    def take(self, sample: ClientSample, state: ClientState) -> None:
        self.last, self.state = sample, state
        self.worst = max(self.worst, state, key=SEVERITY.index)
        self.red_s += state == "red"
        if sample.chunks_per_s is not None:
            self.chunks += sample.chunks_per_s * sample.span_s
            self.span_s += sample.span_s
        self.cpu = _larger(self.cpu, sample.cpu)
        self.lag_p99_ms = _larger(self.lag_p99_ms, sample.lag_p99_ms)
        self.loop_lag_ms = _larger(self.loop_lag_ms, sample.loop_lag_ms)

    def gone(self, newest_s: float) -> WorkerState | None:
        """None: it has told of the newest second, or cannot have done so yet."""
        if self.met.lost:
            return "lost"
        last_s = self.met.t_s + BEGINNING_S if self.last is None else self.last.t_s
        return None if newest_s - last_s < SILENT_S else "silent"


class CrewTally:
    """Hears of load workers and of their seconds as they were judged; of one process alone it says nothing."""

    def __init__(self) -> None:
        self._members: dict[int, _Member] = {}
        self._newest_s = 0.0

    def take(self, workers: Sequence[LoadWorker], seconds: Sequence[JudgedSecond]) -> None:
        for worker in workers:
            self._member(worker.worker).met = worker
        for second in seconds:
            self._newest_s = second.health.t_s
            for sample, state in second.judged:
                self._member(sample.worker).take(sample, state)

    @property
    def size(self) -> int:
        """How many there are, or were."""
        return len(self._members)

    def called(self, worker: int) -> str:
        """Its name; empty: it is not known."""
        return self._members[worker].met.name if worker in self._members else ""

    def named(self, health: ClientHealth) -> ClientHealth:
        """With the name of whose reason it is."""
        reason = health.reason
        if reason is None or reason.worker is None:
            return health
        return replace(health, reason=replace(reason, name=self.called(reason.worker)))

    def now(self, most: int = MOST_SHOWN) -> CrewFigures:
        """Of the newest second; of one process alone nothing."""
        rows = []
        for each in self._members.values():
            gone, last = each.gone(self._newest_s), each.last
            if gone is not None or last is None:
                rows.append((_figures(each, gone or "green"), 0.0))
                continue
            read = last.chunks_per_s, last.cpu, last.lag_p99_ms, last.loop_lag_ms
            rows.append((_figures(each, each.state, *read), last.chunks_per_s or 0.0))
        return self._crew(rows, most) if len(rows) > 1 else CrewFigures()

    def whole(self, most: int = MOST_TOLD) -> CrewFigures | None:
        """Of the run so far: what each was at worst, and what it has read. None: there are not several."""
        rows = []
        for each in self._members.values():
            per_s = each.chunks / each.span_s if each.span_s else None
            state: WorkerState = "lost" if each.met.lost else each.worst
            rows.append((_figures(each, state, per_s, each.cpu, each.lag_p99_ms, each.loop_lag_ms), each.chunks))
        return self._crew(rows, most) if len(rows) > 1 else None

    def _crew(self, rows: list[tuple[WorkerFigures, float]], most: int) -> CrewFigures:
        """Of rows with the chunks that each has read."""
        all_read = sum(read for _, read in rows)
        shared = [replace(row, share=read / all_read) if all_read else row for row, read in rows]
        shared.sort(key=_badness, reverse=True)
        worst, rest = tuple(shared[:most]), shared[most:]
        return CrewFigures(
            began=len(rows),
            heard=sum(each.gone(self._newest_s) is None for each in self._members.values()),
            worst=worst,
            rest=len(rest),
            rest_share=sum(row.share or 0.0 for row in rest) if rest and all_read else None,
            rest_chunks_per_s=sum(row.chunks_per_s or 0.0 for row in rest) if rest else None,
        )

    def _member(self, number: int) -> _Member:
        return self._members.setdefault(number, _Member(number))


def _figures(
    member: _Member,
    state: WorkerState,
    chunks_per_s: float | None = None,
    cpu: float | None = None,
    lag_p99_ms: float | None = None,
    loop_lag_ms: float | None = None,
) -> WorkerFigures:
    met = member.met
    return WorkerFigures(
        worker=met.worker,
        name=met.name,
        state=state,
        red_s=member.red_s,
        chunks_per_s=chunks_per_s,
        cpu=cpu,
        lag_p99_ms=lag_p99_ms,
        loop_lag_ms=loop_lag_ms,
        offset_s=met.offset_s,
        error_s=met.error_s,
    )


def _badness(row: WorkerFigures) -> tuple[int, int, float, float, int]:
    """The larger the worse; among equals the first to have begun comes first."""
    return _STATES.index(row.state), row.red_s, row.lag_p99_ms or 0.0, row.loop_lag_ms or 0.0, -row.worker


def _larger(before: float | None, now: float | None) -> float | None:
    return now if before is None else before if now is None else max(before, now)
