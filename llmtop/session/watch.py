"""How the endpoint is doing, told from what came back: a pure state machine over batches."""

from __future__ import annotations

from llmtop.domain.endpoint import SILENCE_S, EndpointState
from llmtop.domain.request import REFUSALS
from llmtop.domain.run import Event, FactBatch, Severity


class EndpointWatch:
    """Feeds on batches; `state` is the newest opinion and `last_error` what led to it.

    up           a token or a good end came back
    auth failed  401 or 403
    down         `REFUSALS` requests in a row found nobody
    stale        requests are in flight, but neither tokens nor metrics have come for `SILENCE_S`
    """

    def __init__(self) -> None:
        self.state = EndpointState.CONNECTING
        self.since_s = 0.0
        self.last_error: str | None = None
        self._refused = 0
        self._heard_s = 0.0

    def to(self, state: EndpointState, t_s: float, error: str | None = None) -> Event | None:
        """Go to a state that was found out elsewhere (a probe). The event to record, or None if nothing changed."""
        if error is not None or state is EndpointState.UP:
            self.last_error = error
        if state is EndpointState.UP:
            self._heard_s, self._refused = t_s, 0
        if state is self.state:
            return None
        self.state, self.since_s = state, t_s
        severity: Severity = "info" if state is EndpointState.UP else "warning"
        text = f"endpoint {state}" + (f": {error}" if error else "")
        return Event(t_s, "endpoint", text, severity, state)

    def observe(self, batch: FactBatch) -> Event | None:
        """Judge one batch. Called for each, in order."""
        answers = any(b.output_tokens or b.ok for b in batch.bins)
        if batch.server or answers:
            self._heard_s = batch.t_s
        for record in batch.requests:
            self._refused = self._refused + 1 if record.refused else 0
            if record.status in (401, 403):
                return self.to(EndpointState.AUTH_FAILED, batch.t_s, record.error)
        if self._refused >= REFUSALS:
            why = batch.requests[-1].error if batch.requests else self.last_error
            return self.to(EndpointState.DOWN, batch.t_s, why)
        if answers:
            return self.to(EndpointState.UP, batch.t_s)
        waits = any(b.in_flight for b in batch.bins)
        if self.state is EndpointState.UP and waits and batch.t_s - self._heard_s > SILENCE_S:
            return self.to(EndpointState.STALE, batch.t_s)
        return None
