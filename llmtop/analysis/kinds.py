"""Figures by what a request is: its name, its model, its turn in a visit; visits, and the calls beside requests.

What counts is what counts in the figures of the whole run (`percentiles.Parts`): cancelled requests and those that the
client held up are in no figure, and rates are of the seconds in which the client was not the bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array
from llmtop.analysis.percentiles import Parts, column, distribution, red
from llmtop.domain.kinds import CallFigures, KindFigures, TurnFigures, VisitFigures
from llmtop.domain.slo import Metric
from llmtop.meter.facts import Facts

MOST_ROWS = 12
"""Rows that a reader compares at a glance; of more names the most frequent stand for themselves."""
LAST_TURN = 3
"""The turn from which all are told together: by then a prefix is shared or it is not."""
By = Literal["name", "model"]
Mask = npt.NDArray[np.bool_]
_Key = TypeVar("_Key", float, str)


def by_kind(facts: Facts, by: By, void: Sequence[Metric] = (), unnamed: str = "") -> tuple[KindFigures, ...]:
    """Figures of each name, or of each model, in the order in which they came; () where none was told.

    Args:
        void: latencies that are not told (`buffering.SPOILT`).
        unnamed: what requests without one are called; empty: they keep no name.
    """
    if not (facts.names if by == "name" else facts.models).texts:
        return ()
    parts = Parts(facts, void)
    counts = _Counted(facts, parts)
    return tuple(
        counts.kind(text or unnamed, others, chosen)
        for text, others, chosen in groups(facts, by, parts.ok | parts.error)
    )


def groups(facts: Facts, by: By, counted: Mask) -> list[tuple[str, int, Mask]]:
    """(text, others, which rows of `facts.requests`) of each kind; at most `MOST_ROWS` and one of all others.

    Args:
        counted: rows that decide which are the most frequent; a kind without any is left out.
    """
    texts = (facts.names if by == "name" else facts.models).texts
    code = np.where(np.isnan(found := column(facts.requests, by)), len(texts), found)
    codes, sizes = np.unique(code[counted], return_counts=True)
    own, others = _ranked(list(map(float, codes)), list(map(int, sizes)), lambda each: each < 0)
    told = [("" if each == len(texts) else texts[int(each)], 0, code == each) for each in own]
    return [*told, *([("", len(others), np.isin(code, others))] if others else [])]


def _ranked(keys: list[_Key], sizes: list[int], never: Callable[[_Key], bool]) -> tuple[list[_Key], list[_Key]]:
    """Keys that have a row of their own, in their order, and the others; one other alone has a row, too."""
    may = [place for place, key in enumerate(keys) if not never(key)]
    most = sorted(may, key=lambda place: -sizes[place])[: MOST_ROWS if len(keys) > MOST_ROWS + 1 else None]
    return [keys[place] for place in sorted(most)], [key for place, key in enumerate(keys) if place not in most]


class _Counted:
    """Rows of the requests as the figures of kinds, turns and visits are made of them."""

    def __init__(self, facts: Facts, parts: Parts) -> None:
        table = facts.requests
        self.parts = parts
        self.span_s = parts.span_s()
        self.prompt, self.output = column(table, "prompt_tokens"), column(table, "output_tokens")
        self.cached = column(table, "cached_tokens")
        self.in_time = ~red(facts, column(table, "end_s"))
        self.well = column(table, "ok") > 0

    def kind(self, name: str, others: int, chosen: Mask) -> KindFigures:
        parts, ok = self.parts, self.parts.ok & chosen
        n, errors = int(ok.sum()), int((parts.error & chosen).sum())
        ttft, tpot, e2e = (parts.latency(each, chosen) for each in ("ttft", "tpot", "e2e"))
        return KindFigures(
            name=name,
            others=others,
            n=n,
            errors=errors,
            error_ratio=errors / (n + errors) if n + errors else None,
            requests_per_s=self._per_s((self.well & self.in_time & chosen).sum()),
            output_tokens_per_s=self._per_s(np.nansum(self.output[self.in_time & chosen])),
            ttft_p50_ms=ttft.p50,
            ttft_p95_ms=ttft.p95,
            tpot_p50_ms=tpot.p50,
            tpot_p95_ms=tpot.p95,
            e2e_p50_ms=e2e.p50,
            e2e_p95_ms=e2e.p95,
            prompt_tokens=_mean(self.prompt[ok]),
            output_tokens=_mean(self.output[ok]),
            cached_share=self._cached_share(ok),
        )

    def turn(self, turn: int, chosen: Mask) -> TurnFigures:
        ok, ttft = self.parts.ok & chosen, self.parts.latency("ttft", chosen)
        return TurnFigures(
            turn=turn,
            n=int(ok.sum()),
            ttft_p50_ms=ttft.p50,
            ttft_p95_ms=ttft.p95,
            prompt_tokens=_mean(self.prompt[ok]),
            cached_share=self._cached_share(ok),
        )

    def _per_s(self, count: float) -> float | None:
        return float(count) / self.span_s if self.span_s > 0 else None

    def _cached_share(self, ok: Mask) -> float | None:
        told = ok & np.isfinite(self.cached)
        prompts = float(self.prompt[told].sum())
        return float(self.cached[told].sum()) / prompts if prompts else None


def visits_of(facts: Facts, void: Sequence[Metric] = ()) -> VisitFigures | None:
    """Of all visits; None where no request is told to be of one."""
    table = facts.requests
    session, turn = column(table, "session"), column(table, "turn")
    if not np.isfinite(session).any():
        return None
    parts = Parts(facts, void)
    counts = _Counted(facts, parts)
    turns = [counts.turn(each, turn >= each if each == LAST_TURN else turn == each) for each in range(1, LAST_TURN + 1)]
    of = np.flatnonzero(np.isfinite(session))
    _, visit = np.unique(session[of], return_inverse=True)
    most = int(visit.max()) + 1

    def any_of(chosen: Mask) -> Mask:
        return np.bincount(visit, weights=chosen[of], minlength=most) > 0

    began_s, ended_s = np.full(most, np.inf), np.full(most, -np.inf)
    np.minimum.at(began_s, visit, column(table, "dispatched_s")[of])
    np.maximum.at(ended_s, visit, column(table, "end_s")[of])
    whole = ~any_of(parts.cancelled | parts.limited | parts.unjudged)
    lasted = distribution((ended_s - began_s)[whole])
    return VisitFigures(
        visits=int(whole.sum()),
        failed=int((whole & any_of(parts.error)).sum()),
        per_s=float((whole & ~red(facts, ended_s)).sum()) / counts.span_s if counts.span_s > 0 else None,
        duration_p50_s=None if lasted.p50 is None else lasted.p50 / 1e3,
        duration_p95_s=None if lasted.p95 is None else lasted.p95 / 1e3,
        requests=_mean(np.bincount(visit, minlength=most)[whole].astype(float)),
        turns=tuple(each for each in turns if each.n),
    )


def calls_of(facts: Facts) -> tuple[CallFigures, ...]:
    """Of each name, in the order in which they came; of many the most frequent, and all others together."""
    by_name: dict[str, list[int]] = {}
    calls = tuple(facts.calls)
    for place, call in enumerate(calls):
        by_name.setdefault(call.name, []).append(place)
    own, others = _ranked(list(by_name), list(map(len, by_name.values())), lambda _: False)
    took_s = np.array([call.duration_s for call in calls])
    failed = np.array([call.status is None or call.status >= 400 or bool(call.error) for call in calls])

    def figures(name: str, others: int, places: list[int]) -> CallFigures:
        took = distribution(took_s[places])
        return CallFigures(
            name=name, others=others, n=len(places), errors=int(failed[places].sum()), p50_ms=took.p50, p95_ms=took.p95
        )

    told = [figures(name, 0, by_name[name]) for name in own]
    rest = [place for name in others for place in by_name[name]]
    return (*told, *([figures("", len(others), rest)] if others else []))


def _mean(values: Array) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
