"""What the kinds of requests in a run came to: by name, by model, by turn and by visit, and the calls beside them."""

from __future__ import annotations

from msgspec import Struct


class KindFigures(Struct, frozen=True, kw_only=True):
    """The requests of one name, or of one model, over the whole run as far as it is kept; what is left out of the
    run's own figures is left out here. Latencies in milliseconds. None = not known, or of too few requests.
    """

    name: str
    """As the user gave it; empty: requests without one. Of many, the last are the others together."""
    others: int = 0
    """So many names are in this one row; 0: it is one."""
    n: int = 0
    """Requests that ended well and count."""
    errors: int = 0
    error_ratio: float | None = None
    requests_per_s: float | None = None
    """Requests that ended well, in the seconds in which the client was not the bottleneck."""
    output_tokens_per_s: float | None = None
    """Tokens of the requests that ended in those seconds."""
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    tpot_p50_ms: float | None = None
    tpot_p95_ms: float | None = None
    e2e_p50_ms: float | None = None
    e2e_p95_ms: float | None = None
    prompt_tokens: float | None = None
    """Mean."""
    output_tokens: float | None = None
    cached_share: float | None = None
    """Of the prompt tokens, those from the prefix cache, of requests for which the server tells."""
    ok: bool | None = None
    """Whether it keeps the latency and error limits of the SLO, in the span that the run's answer is about."""
    breaks: tuple[str, ...] = ()
    """Those that it breaks there: `TTFT p95 3.52 s > 2 s`."""
    alone: str = ""
    """Those of them that all requests together keep, in one sentence; empty: there are none."""


class TurnFigures(Struct, frozen=True, kw_only=True):
    """The requests that came at one place in their visits."""

    turn: int
    """From 1; the last is that turn and all after it."""
    n: int = 0
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    prompt_tokens: float | None = None
    """Mean."""
    cached_share: float | None = None


class VisitFigures(Struct, frozen=True, kw_only=True):
    """The visits of users: requests that belong together. One that was cut, or that the client held up, counts for its
    turns alone."""

    visits: int = 0
    """Those that are whole as far as is known: the last ones of a run may have had more to come."""
    failed: int = 0
    """Of them, those in which a request failed."""
    per_s: float | None = None
    """In the seconds in which the client was not the bottleneck."""
    duration_p50_s: float | None = None
    """From taking up the first request to the end of the last; what a user thinks between them is in it."""
    duration_p95_s: float | None = None
    requests: float | None = None
    """Mean of a visit."""
    turns: tuple[TurnFigures, ...] = ()


class CallFigures(Struct, frozen=True, kw_only=True):
    """Users' requests of one name that are none to the model. In no figure of the endpoint."""

    name: str
    others: int = 0
    """So many names are in this one row; 0: it is one."""
    n: int = 0
    """All that ended."""
    errors: int = 0
    """Of them, those that nobody answered, or with an HTTP status of 400 or more."""
    p50_ms: float | None = None
    """Of the time that a call takes."""
    p95_ms: float | None = None
