"""The brake: when so many requests fail that going on would only hammer a server that cannot answer."""

from __future__ import annotations

from collections import Counter, deque

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.wording.figures import TEXT

LEAST_REQUESTS = 100
MOST_REQUESTS = 1000
WINDOW_NS = 10_000_000_000
LEAST_ERRORS = 2
"""One failure alone never brakes, however few requests there were."""


class Brake:
    """Looks at the requests that ended in the last 10 s: no fewer than the last 100, no more than the last 1000.

    It judges once there are 100 of them or 10 s have passed since the load was last set. Requests that llmtop cancelled
    or lost itself do not count.

    Args:
        stop_error_ratio: brake above this share of failures; None: never.
    """

    def __init__(self, stop_error_ratio: float | None, now_ns: int = 0) -> None:
        self._ratio = stop_error_ratio
        self.reset(now_ns)

    def reset(self, now_ns: int) -> None:
        """Start over: what failed under an earlier load is no reason to refuse this one."""
        self._since_ns = now_ns
        self._ended: deque[tuple[int, str | None]] = deque()
        self._failures: Counter[str] = Counter()

    def note(self, record: RequestRecord) -> None:
        if record.outcome in (Outcome.CANCELLED, Outcome.LOST) or record.dispatched_ns < self._since_ns:
            return
        failure = _failure(record) if record.outcome.is_error else None
        self._ended.append((record.end_ns, failure))
        if failure is not None:
            self._failures[failure] += 1
        while len(self._ended) > MOST_REQUESTS:
            self._forget()

    def verdict(self, now_ns: int) -> str | None:
        """Why to brake; None: go on."""
        if self._ratio is None:
            return None
        while len(self._ended) > LEAST_REQUESTS and self._ended[0][0] < now_ns - WINDOW_NS:
            self._forget()
        count, errors = len(self._ended), self._failures.total()
        enough = count >= LEAST_REQUESTS or now_ns - self._since_ns >= WINDOW_NS
        if not enough or errors < LEAST_ERRORS or errors <= self._ratio * count:
            return None
        kinds = ", ".join(f"{number} x {kind}" for kind, number in self._failures.most_common(3))
        limit = TEXT.round_percent(self._ratio)
        return f"{errors} of the last {count} requests failed ({kinds}), more than {limit} of them"

    def _forget(self) -> None:
        _, failure = self._ended.popleft()
        if failure is not None:
            self._failures[failure] -= 1
            self._failures += Counter()  # drops the kinds that are gone


def _failure(record: RequestRecord) -> str:
    if record.outcome is not Outcome.HTTP_ERROR:
        return record.outcome.replace("_", " ")
    return "no connection" if record.status is None else f"HTTP {record.status}"
