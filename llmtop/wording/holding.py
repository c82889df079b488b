"""How control that keeps the load at the edge of its limits is said: what it does, why it stands still, how it ends."""

from __future__ import annotations

from llmtop.wording.figures import TEXT, TIGHT, Figures
from llmtop.wording.names import target_name

OPEN_LOOP = (
    "hold moves users, and this load is a rate: above what the server carries, no rate keeps a queue at one length"
)
NO_LIMIT = "hold needs a limit on a latency, as --slo 'ttft_p95<2s'"
HAND = "the wheel is yours"
STOPPED = "the load was stopped"
BRAKED = "too many requests failed, and the brake has cut the load"
CLIENT = "client late"


def holding(
    load: int, edge: float | None, cliff: float | None, binding: str, at_s: float | None, figures: Figures = TIGHT
) -> str:
    """`holding 49 of ~51 (cliff ~32), TTFT p95 1.90s`

    Args:
        edge: with how many the limit that is kept would break; None: not known.
        cliff: from where requests wait; None: not known.
        binding: name of the limit that is kept.
        at_s: where its figure stands.
    """
    near = "" if cliff is None else f" (cliff ~{figures.load(cliff, 'concurrency')})"
    where = "" if at_s is None else f", {target_name(binding)} {figures.latency(1e3 * at_s)}"
    of = "" if edge is None else f" of ~{figures.load(max(edge, float(load)), 'concurrency')}"
    return f"holding {load}{of}{near}{where}"


def moving(before: int, load: int) -> str:
    """`rising 24 → 26`: the last act was a step towards a limit that is not in sight yet."""
    return f"{'rising' if load > before else 'falling'} {before} → {load}"


def frozen(load: int, why: str) -> str:
    """`hold is frozen at 31: client late`"""
    return f"hold is frozen at {load}: {why}"


def errors(share: float) -> str:
    return f"{TEXT.percent(share)} of requests fail"


def few(count: int, need: int) -> str:
    """`5 of 8 first tokens`"""
    return f"{count} of {need} first tokens"


def held(load: int, span_s: float, cliff: float | None) -> str:
    """`held 31 for 20 s (cliff ~32)`"""
    near = "" if cliff is None else f" (cliff ~{TEXT.load(cliff, 'concurrency')})"
    return f"held {load} for {TEXT.duration(span_s)}{near}"


def begins(load: int) -> str:
    return f"hold begins at {load}"


def ends(load: int, why: str) -> str:
    """`hold ends at 31: the wheel is yours`"""
    return f"hold ends at {load}: {why}"
