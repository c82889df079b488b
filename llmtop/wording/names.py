"""One name for each thing that a verdict speaks of."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.load import Axis
from llmtop.domain.slo import LATENCIES
from llmtop.domain.verdicts import Bound, CliffVerdict, Kind


class _Named(Struct, frozen=True):
    noun: str
    adjective: str


_BOUNDS = {
    Bound.QUEUE: _Named("batch slots", "queue-bound"),
    Bound.KV: _Named("KV cache", "KV-bound"),
    Bound.TOKEN_BUDGET: _Named("token budget", "token-budget-bound"),
    Bound.COMPUTE: _Named("compute", "compute-bound"),
    Bound.MEMORY: _Named("memory bandwidth", "bandwidth-bound"),
    Bound.CLIENT: _Named("the client", "client-bound"),
    Bound.NETWORK: _Named("the network", "network-bound"),
    Bound.REFUSED: _Named("refused requests", "requests are refused"),
    Bound.FAILED: _Named("failing requests", "requests fail"),
}
_METRICS = {"error_ratio": "errors", "queue": "queue", "kv": "KV cache"}


def bound_name(bound: Bound) -> str | None:
    """What runs out first, as a noun; None: nothing, or it is not known."""
    named = _BOUNDS.get(bound)
    return None if named is None else named.noun


def bound_adjective(bound: Bound) -> str:
    """How a server is that runs out of it: queue-bound; empty where nothing binds."""
    named = _BOUNDS.get(bound)
    return "" if named is None else named.adjective


def knee_name(kind: Kind) -> str:
    """What latency does where it leaves its straight line: a cliff, or where it grows gradually a bend."""
    return "cliff" if kind is Kind.CLIFF else "bend"


def place_name(cliff: CliffVerdict) -> str:
    """What begins at the place of a verdict: a cliff, a bend, or that requests are refused or fail."""
    if cliff.fails:
        return "refusals" if cliff.cause is Bound.REFUSED else "failures"
    return knee_name(cliff.kind)


def target_name(name: str) -> str:
    """`ttft_p95` as it is said: TTFT p95, and `answer.ttft_p95`: TTFT p95 of answer. A latency without a statistic is
    judged by its p95."""
    kind, _, name = name.rpartition(".")
    if kind:
        return f"{target_name(name)} of {kind}"
    metric, _, stat = name.partition("_")
    return f"{metric.upper()} {stat or 'p95'}" if metric in LATENCIES else _METRICS[name]


def load_unit(axis: Axis, load: float | None = None) -> str:
    """What a load counts, for whoever plans capacity: of one, a `concurrent user`."""
    return "requests/s" if axis == "rate" else f"concurrent user{'' if load == 1 else 's'}"


def axis_name(axis: Axis) -> str:
    """The axis of a load as it was measured."""
    return "requests/s" if axis == "rate" else "requests in flight"


def short_axis(axis: Axis) -> str:
    """The same where there is little room."""
    return "req/s" if axis == "rate" else "in flight"


def short_unit(axis: Axis, load: float) -> str:
    """What a load counts, where there is little room: users, of one `user`, or requests/s."""
    return "requests/s" if axis == "rate" else "user" if load == 1 else "users"
