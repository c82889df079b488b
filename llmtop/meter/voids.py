"""Which requests of a run that goes on are the server's, told one by one as soon as that is decided. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from llmtop.domain.client import ClientHealth
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.meter.client import ClientJudge, JudgedSecond, Pause, RedSpans

MOST_WAITING = 1 << 16
"""Requests that wait for the verdict on their last second at most; the oldest are void beyond."""
PAUSES_KEPT = 1 << 12


class Voids:
    """Hears batches, and lets each request go once all its seconds are judged: by the rule of `Facts`, which can take a
    verdict back as long as it keeps the request.
    """

    def __init__(self) -> None:
        self._judge = ClientJudge()
        self._red = RedSpans()
        self._pauses: deque[Pause] = deque(maxlen=PAUSES_KEPT)
        self._judged_s = -math.inf
        self._waiting: deque[RequestRecord] = deque()
        self.health: ClientHealth | None = None
        """Of the newest second."""
        self.void = 0
        """Requests that were the client's."""

    def take(self, batch: FactBatch) -> list[RequestRecord]:
        """The requests that are known to be the server's since the last call, in the order in which they ended."""
        seconds = self._judge.take(batch.client)
        for second in seconds:
            self._take_second(second)
        decided: list[RequestRecord] = []
        if seconds:
            waiting, self._waiting = self._waiting, deque()
            self._sort(waiting, decided)
        self._sort(batch.requests, decided)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.void += 1
        return decided

    def last(self) -> list[RequestRecord]:
        """At the end of the run: those of what waits that count. A request that ended well in a second that nobody
        judged does not, unless no second was ever judged."""
        waiting, self._waiting = self._waiting, deque()
        left = [each for each in waiting if self._judged_s == -math.inf or each.outcome is not Outcome.OK]
        kept = [each for each in left if not self._is_void(each)]
        self.void += len(waiting) - len(kept)
        return kept

    def _take_second(self, second: JudgedSecond) -> None:
        self.health = second.health
        self._judged_s = second.health.t_s
        for sample in second.red:
            self._red.add(sample)
        self._pauses.extend(second.pauses)

    def _sort(self, records: Sequence[RequestRecord] | deque[RequestRecord], decided: list[RequestRecord]) -> None:
        for record in records:
            if record.end_ns / 1e9 > self._judged_s and record.client_limited is None:
                self._waiting.append(record)
            elif self._is_void(record):
                self.void += 1
            else:
                decided.append(record)

    def _is_void(self, record: RequestRecord) -> bool:
        if record.client_limited is not None:
            return record.client_limited
        if self._red.touch(record.worker, record.dispatched_ns / 1e9, record.end_ns / 1e9):
            return True
        if not self._pauses or record.first_token_ns is None:
            return False
        first_s = record.first_token_ns / 1e9
        last_s = math.nan if record.last_token_ns is None else record.last_token_ns / 1e9
        ttft_s = math.nan if record.ttft_s is None else record.ttft_s
        for pause in reversed(self._pauses):
            if pause.end_s < first_s:
                return False
            if pause.worker == record.worker and pause.spoils(first_s, last_s, ttft_s, record.first_chunk_tokens):
                return True
        return False
