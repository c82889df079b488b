"""Whether a run that nobody watches is over, and what ended it: told from its facts and its newest frame. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import SILENCE_S, EndpointState
from llmtop.domain.request import Outcome
from llmtop.domain.run import Ending, FactBatch, RunMeta
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.shown import Shown
from llmtop.wording.endings import silence_text
from llmtop.wording.restarts import is_restart

DRAIN_LIMIT_S = 20.0
"""How long requests may still run when the plan is over; what is left is cancelled. With the seconds that a session
takes to leave, a run has ended within 30 s of its plan."""
RETURN_S = 10.0
"""How long an endpoint that nobody answers at is waited for, to tell a restart from one that has gone."""
SETTLE_S = 3.0
"""After the brake, or metrics that begin anew, until the run ends: errors may be the first that is seen of an endpoint
that goes away."""
SEARCH_SETTLE_S = 30.0
"""A search answers the brake with a smaller load; one that has not after so long never will."""
HANG_S = 60.0
"""Not a token, a status or a count of the server for so long, with requests in flight: what served, hangs."""
SLOWER = 3.0
"""A server that had someone wait for a first token may let the next wait so many times as long."""
BROKEN_S = 15.0
"""A restart that metrics tell of was one under our load if requests broke off no longer ago."""
LONGEST_TICK_S = 1.0
"""Batches further apart than this mean that we stood still, not the server."""


class End(Struct, frozen=True):
    """That a run is over."""

    ending: Ending
    at_s: float
    """When what ended it happened, on the run clock."""
    why: str | None = None


class EndWatch:
    """Hears a run as an output of its host does, and says when it is over.

    An outage cuts the load, and only a hand brings it back, so where there is none the run is over with it. The brake
    leaves one request in flight: no part of the plan either.

    Args:
        search: the run is over with its search instead of its plan.
        drain_limit_s: as `DRAIN_LIMIT_S`.
    """

    def __init__(self, search: bool = False, drain_limit_s: float = DRAIN_LIMIT_S) -> None:
        self._search, self._drain_limit_s = search, drain_limit_s
        self._searching = False
        self._t_s = 0.0
        self._up = False
        self._down: tuple[float, str | None] | None = None
        """(since when, why) nobody answers."""
        self._back_s: float | None = None
        self._absent = self._closed = False
        """Nobody listened at a time; requests were taken, and closed without an answer."""
        self._restarts_s: list[float] = []
        """By the chapters that tell of one."""
        self._changed: str | None = None
        """What the server tells otherwise since the last one."""
        self._broken_s: float | None = None
        self._braked: tuple[float, str] | None = None
        self._finished_s: float | None = None
        self._silent_s = 0.0
        self._heard = False
        self._longest_s = 0.0
        self._timed_out = False
        self._counted: tuple[float | None, float | None] = (None, None)

    # ── What is heard ─────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, meta: RunMeta) -> None:
        """Nothing is known yet."""

    def judged(self, assessment: Assessment) -> None:
        """Opinions end no run."""

    def end(self, meta: RunMeta) -> None:
        """Nothing is kept."""

    def tell(self, batch: FactBatch) -> None:
        passed_s, self._t_s = batch.t_s - self._t_s, batch.t_s
        self._listen(batch, min(max(0.0, passed_s), LONGEST_TICK_S))
        for record in batch.requests:
            if record.broken:
                self._broken_s = batch.t_s
            if record.refused and record.sent_ns is None:
                self._absent = True
            elif record.refused:
                self._closed = True
        for chapter in batch.chapters:
            if is_restart(chapter.text):
                self._restarts_s.append(chapter.t_s)
                self._changed = chapter.text.partition(": ")[2] or None
        for event in batch.events:
            if event.state is EndpointState.UP:
                self._up = True
                if self._down is not None and self._back_s is None:
                    self._back_s = event.t_s
            elif event.state is EndpointState.DOWN and self._up and self._finished_s is None and self._down is None:
                self._down = (event.t_s, event.text.partition(": ")[2] or None)

    def _listen(self, batch: FactBatch, passed_s: float) -> None:
        """How long the server has kept silent while it had requests of ours."""
        tokens = any(bin_.output_tokens for bin_ in batch.bins)
        timed_out = [record for record in batch.requests if record.outcome is Outcome.TIMEOUT]
        answered = any(record.status is not None and record.outcome is not Outcome.TIMEOUT for record in batch.requests)
        self._timed_out = bool(timed_out) or (self._timed_out and not (tokens or answered))
        waits = any(bin_.in_flight for bin_ in batch.bins) or not batch.bins
        if tokens or answered or self._counts(batch.server) or not (waits or self._timed_out):
            self._silent_s = 0.0
        else:
            self._silent_s += passed_s
        self._heard = self._heard or tokens or any(bin_.ok for bin_ in batch.bins)
        if not self._silent_s:
            waited_s = [bin_.oldest_prefill_s or 0.0 for bin_ in batch.bins]
            first_s = [ms / 1e3 for bin_ in batch.bins for ms in bin_.ttft_ms]
            self._longest_s = max([self._longest_s, *waited_s, *first_s])

    def _counts(self, snapshots: Sequence[ServerSnapshot]) -> bool:
        """Whether the server's own counts of tokens have moved, for whomever."""
        moved = False
        for snapshot in snapshots:
            counted = (snapshot.prompt_tokens_total, snapshot.generation_tokens_total)
            moved = moved or any(
                now is not None and before is not None and now > before
                for now, before in zip(counted, self._counted, strict=True)
            )
            self._counted = counted
        return moved

    # ── What it comes to ──────────────────────────────────────────────────────────────────────────────────────────

    def over(self, shown: Shown) -> End | None:
        """What ended the run; None: it goes on. To be asked several times a second."""
        frame = shown.frame
        if frame is None:
            return None
        if frame.braked is not None and self._braked is None:
            self._braked = (frame.t_s, frame.braked)
        if self._search and frame.braked is None:
            self._braked = None
        if frame.finished and frame.braked is None and self._finished_s is None and not self._search:
            self._finished_s = frame.t_s
        return self._outage() or self._hang(HANG_S) or self._drained(frame.in_flight) or self._steered(shown)

    def _outage(self) -> End | None:
        t_s = self._t_s
        if self._down is not None:
            down_s, why = self._down
            if self._back_s is not None:
                # What takes every request and closes, from the first on, has not gone away in between.
                stayed = self._closed and not (self._heard or self._absent or self._restarts_s)
                return End(Ending.BRAKE, down_s, why) if stayed else End(Ending.RESTART, down_s, self._changed or why)
            return End(Ending.GONE, down_s, why) if t_s >= down_s + RETURN_S else None
        if len(self._restarts_s) == 1 and self._broken_s is not None:
            (restarted_s,) = self._restarts_s
            if abs(restarted_s - self._broken_s) <= BROKEN_S:
                return End(Ending.RESTART, restarted_s, self._changed) if t_s >= restarted_s + SETTLE_S else None
        if self._braked is not None:
            braked_s, why = self._braked
            if t_s >= braked_s + (SEARCH_SETTLE_S if self._search else SETTLE_S):
                return self._hang(SILENCE_S) or End(Ending.BRAKE, braked_s, why)
        return None

    def _hang(self, patience_s: float) -> End | None:
        """A silence that is longer than this server was ever waited for."""
        if not self._heard and patience_s > SILENCE_S:
            return None  # its first token may take any time; deadlines, the brake and the plan's end bound it
        if self._silent_s < max(patience_s, SLOWER * self._longest_s):
            return None
        return End(Ending.HANG, max(0.0, self._t_s - self._silent_s), silence_text(self._silent_s))

    def _drained(self, in_flight: int) -> End | None:
        if self._finished_s is None or self._search:
            return None
        if in_flight == 0:
            return End(Ending.PLAN, self._t_s)
        if self._t_s < self._finished_s + self._drain_limit_s:
            return None
        return self._hang(SILENCE_S) or End(Ending.PLAN, self._t_s)

    def _steered(self, shown: Shown) -> End | None:
        if not self._search:
            return None
        begun, self._searching = self._searching, shown.steering.running
        return End(Ending.PLAN, self._t_s) if begun and not self._searching else None
