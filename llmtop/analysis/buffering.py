"""Whether something between the server and us keeps tokens back, and which figures that makes void.

A proxy, a tunnel or a gateway may hand answers on in lumps or whole, whatever the server streams. It shows in the
reads: few of them for so many tokens, and several token events in the first or in most. One of the two alone is no sign
of it: a server that guesses ahead sends several tokens in one event, but one event in a read, and a read may hold two
by chance. What comes faster than any model speaks is run together on any path, and what our own lateness ran together
is left out as the client's. E2E and throughput are those of the server all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.fits import Array
from llmtop.domain.slo import Metric, Slo, slo_of
from llmtop.domain.verdicts import Capacity, LevelPoint, SloVerdict, TargetVerdict
from llmtop.meter.facts import READ_COLUMNS, Facts
from llmtop.wording.between import arrives
from llmtop.wording.names import target_name

LEAST_TOKENS = 8
"""Answers that are shorter may come in one read by chance."""
FEW_READS = 0.5
"""Reads for each token from below which an answer was not streamed token by token."""
FASTEST_S = 1e-3
"""Seconds for each token of an answer, E2E: what is faster runs together on the way, wherever it goes."""
AT_ONCE = 0.1
"""Share of its E2E between the first and the last token of an answer that arrives whole, in however many reads."""
COALESCED = 0.5
"""Share of the reads that hold several token events, of an answer or of a run, from which most do."""
SELDOM = 0.1
"""The same share, below which a first read of several tokens was one event: the server's own lump."""
HEAD_TOKENS = 4
"""Tokens in the first read from which on it may be that the path keeps the beginning of an answer."""
HEAD_RATIO = 4.0
"""Times as many as the later reads hold on average, likewise."""
HEADS = 0.8
"""Reads with several token events for each answer, from which on each answer may have had one: its first."""
MOST = 0.8
"""Share of the answers: a path buffers all of them, a server or a network under load some."""
FEWEST = 8
"""Answers that are judged."""
SPOILT: tuple[Metric, ...] = ("ttft", "tpot")
"""Metrics of an SLO that say nothing of the server then."""

_Figure = float | Array
_SPOILT_OF_POINT = ("ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "tpot_p95_ms", "attainment")


class Arrival(StrEnum):
    """How answers arrive that a path keeps back."""

    WHOLE = "whole"
    LUMPS = "lumps"


def arrival_of(facts: Facts) -> Arrival | None:
    """How the answers since the last chapter arrive; None: as they are sent, or there are too few to say."""
    table, size = facts.requests, len(facts.requests)
    since_s = max((chapter.t_s for chapter in facts.chapters), default=-np.inf)
    first_s, last_s, e2e_s, tokens, hidden, chunks, at_first, ok, limited, sent_s = (
        np.array(table.column(name)[:size])
        for name in (
            "first_token_s",
            "last_token_s",
            "e2e_s",
            "output_tokens",
            "hidden_tokens",
            "chunks",
            "first_chunk_tokens",
            "ok",
            "client_limited",
            "sent_s",
        )
    )
    tokens = tokens - hidden  # what was never streamed was kept by the server, not by the path
    told = (ok > 0) & (limited == 0) & (chunks >= 1) & (tokens >= LEAST_TOKENS) & (sent_s >= since_s)
    told &= e2e_s >= FASTEST_S * tokens
    count = int(told.sum())
    if count < FEWEST:
        return None
    share, each = _coalesced(facts, since_s, int(((ok > 0) & (chunks >= 1) & (sent_s >= since_s)).sum()))
    together, whole = kept_back(tokens, chunks, at_first, last_s - first_s, e2e_s, share, each)
    if (told & together).sum() < MOST * count:
        return None
    return Arrival.WHOLE if (told & whole).sum() >= MOST * count else Arrival.LUMPS


def _coalesced(facts: Facts, since_s: float, answers: int) -> tuple[float, float]:
    """Share of the reads since then that held several token events, and how many of them for each answer; NaN: not
    known."""
    t_s, reads, coalesced = (facts.reads.column(name) for name in READ_COLUMNS)
    kept = (t_s > since_s) & np.isfinite(reads) & np.isfinite(coalesced)
    if not reads[kept].any():
        return np.nan, np.nan
    several = float(coalesced[kept].sum())
    return several / float(reads[kept].sum()), several / max(answers, 1)


def kept_back(
    tokens: _Figure,
    chunks: _Figure,
    at_first: _Figure,
    span_s: _Figure,
    e2e_s: _Figure,
    coalesced: float,
    coalesced_each: float,
) -> tuple[Any, Any]:
    """(whether tokens were kept back, whether all of them were) of one answer, or of many as columns.

    A path may keep the beginning alone, until a buffer is full or some time is over: then the first read has many
    tokens, in several events, and the later ones few.

    Args:
        chunks: reads with tokens.
        at_first: tokens in the first of them.
        span_s: from the first to the last token.
        coalesced: share of all reads that held several token events; NaN: not known.
        coalesced_each: how many such reads there were for each answer; NaN: not known.
    """
    events = coalesced >= SELDOM or bool(np.isnan(coalesced))
    held = (chunks == 1) | ((at_first > 1) & events) | (coalesced >= COALESCED)
    together = (chunks < FEW_READS * tokens) & held
    later = (tokens - at_first) / np.maximum(chunks - 1, 1)
    headed = (at_first >= HEAD_TOKENS) & (at_first >= HEAD_RATIO * later) & (coalesced_each >= HEADS)
    return together | headed, together & (span_s <= AT_ONCE * e2e_s)


def judged_by(slo: Slo, arrival: Arrival | None) -> Slo:
    """The limits that the figures can be held against."""
    return slo if arrival is None else slo_of(each for each in slo.limits if each.metric not in SPOILT)


def spoilt_limits(slo: Slo, arrival: Arrival | None) -> tuple[str, ...]:
    """Names of the limits that they cannot be held against."""
    return () if arrival is None else tuple(each.name for each in slo.limits if each.metric in SPOILT)


def with_spoilt(verdict: SloVerdict, slo: Slo, arrival: Arrival | None) -> SloVerdict:
    """A verdict by `judged_by(slo, arrival)` with the limits that it leaves out: neither kept nor broken."""
    spoilt = spoilt_limits(slo, arrival)
    if arrival is None or not spoilt:
        return verdict
    judged = {each.name: each for each in verdict.targets}
    text = arrives(arrival is Arrival.WHOLE)
    targets = [
        TargetVerdict(name=each.name, limit=each.limit, value=None, text=f"{target_name(each.name)}: void, {text}")
        if each.name in spoilt
        else judged.get(each.name)
        for each in slo.limits
    ]
    ok = False if verdict.ok is False else None
    return SloVerdict(ok=ok, targets=tuple(each for each in targets if each is not None))


def without_spoilt(points: Sequence[LevelPoint], arrival: Arrival | None) -> tuple[LevelPoint, ...]:
    """Levels as they are shown, without what says nothing of the server."""
    if arrival is None:
        return tuple(points)
    return tuple(replace(point, **dict.fromkeys(_SPOILT_OF_POINT)) for point in points)


def unproven(capacity: Capacity, slo: Slo, arrival: Arrival | None) -> Capacity:
    """A capacity by `judged_by(slo, arrival)`: no load is known to keep limits that cannot be judged."""
    if not spoilt_limits(slo, arrival):
        return capacity
    return replace(capacity, at_slo=None, low=None, recommended=None, soak=None, sentence="")
