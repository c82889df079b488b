"""What the twin of a server rests on: which levels are of that one server, what is known of it, and when there is none.

Curves of one run count together where they differ only in the slots (turned live, or by a gate) and in the lengths of
the requests. Levels of another start, model, KV cache or way of driving are another server's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmtop.analysis import buffering
from llmtop.analysis.cut import cut_of
from llmtop.analysis.diagnosis import is_client_bound
from llmtop.analysis.failing import all_failed
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.analysis.measured import MeasuredCurve
from llmtop.analysis.recent import limits_of, measured_lengths
from llmtop.analysis.sessions import SHOWN_FROM
from llmtop.analysis.sides import prefix_hits
from llmtop.analysis.supply import gpus_told
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.load import Axis
from llmtop.domain.run import RunMeta
from llmtop.domain.settings import is_slots
from llmtop.domain.slo import Latency, Stat
from llmtop.meter.facts import Facts
from llmtop.simulator.engine.twin import Known, Measured
from llmtop.wording import foresight as words
from llmtop.wording.chapters import GATE, LENGTHS, TOLD

SPECULATION = ("speculative_algorithm", "speculative_method", "num_speculative_tokens")
"""Flags by which servers tell that they speculate."""
_STEPS: tuple[Latency, ...] = ("ttft", "tpot")
_STATS: tuple[Stat, ...] = ("p50", "p95")
BLOCK_TOKENS = 16
"""Of a KV block, where the server does not tell it: vLLM's."""
_OFF = ("", "none", "null", "false", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """Equal ones give an equal twin."""

    levels: tuple[Measured, ...] = ()
    known: Known = field(default_factory=Known)
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    """Mean lengths of what is driven now."""
    block_tokens: int | None = None
    """Of the KV cache; None: the server does not tell it."""
    several: bool = False
    """Whether levels of several lengths are among them."""
    void: str = ""
    """Why there can be no twin; empty: nothing speaks against it."""
    cost: Cost = UNSTATED
    """What the run's profile states."""
    gpus: int | None = None
    """That the server tells; None: it does not."""


def grounds_of(facts: Facts, meta: RunMeta, curves: Sequence[MeasuredCurve], at: int = -1) -> Grounds:
    """Those of the server of one curve of a run.

    Args:
        curves: all of the run (`Ledger.curves(..., every=True)`).
        at: which of them is asked about.
    """
    if not curves:
        return Grounds()
    current = curves[at]
    limits = measured_lengths(limits_of(facts, meta, current.point), current.requests)
    shown = current.settings
    budget = shown.get("max_num_batched_tokens") or limits.max_num_batched_tokens
    kv_tokens = limits.kv_capacity_tokens if current is curves[-1] else _kv_tokens(shown)
    block_tokens = _number(str(shown.get("block_size", "")))
    own = [curve for curve in curves if _same_server(curve, current)]
    known = Known(
        slots=_slots(current, limits),
        kv_tokens=kv_tokens if kv_tokens and kv_tokens >= (limits.prompt_tokens or 0.0) else None,
        block_tokens=block_tokens or BLOCK_TOKENS,
        budget_tokens=None if budget is None else int(budget),
        prompt_cv=limits.prompt_cv,
        output_cv=limits.output_cv,
        axis=current.axis,
    )
    found = [(curve, _levels(curve, _slots(curve, limits), facts)) for curve in own]
    # the first answers of users who begin staggered are short: they are in no level
    asked = next(levels for curve, levels in found if curve is current)
    return Grounds(
        levels=tuple(level for _, levels in found for level in levels),
        known=known,
        prompt_tokens=_weighted(asked, "prompt_tokens") or limits.prompt_tokens,
        output_tokens=_weighted(asked, "output_tokens") or limits.output_tokens,
        block_tokens=block_tokens,
        several=len({(curve.point.prompt_tokens, curve.point.output_tokens) for curve in own}) > 1,
        void=_void(facts, meta, current),
        cost=meta.profile.stated_cost,
        gpus=gpus_told(facts, current.traits or (() if meta.info is None else meta.info.traits)),
    )


def _weighted(levels: Sequence[Measured], name: str) -> float | None:
    """The mean length over the requests of some levels; None: there are none."""
    requests = sum(level.n for level in levels)
    return sum(level.n * float(getattr(level, name)) for level in levels) / requests if requests else None


def _levels(curve: MeasuredCurve, slots: int | None, facts: Facts) -> list[Measured]:
    cached, point = prefix_hits(facts.server, curve), curve.point
    found = (
        measured_of(level, curve.axis, slots, cached, point.prompt_tokens, point.output_tokens)
        for level in curve.levels
    )
    return [each for each in found if each is not None]


def grounds_of_levels(
    levels: Sequence[Level],
    axis: Axis,
    *,
    slots: int | None = None,
    prompt_tokens: float | None = None,
    output_tokens: float | None = None,
) -> Grounds:
    """Those of a table of levels, or of another tool's results, which tell nothing else of their server.

    Args:
        prompt_tokens, output_tokens: mean lengths of the requests, where the levels do not tell them.
    """
    usable = [level for level in levels if level.n >= SHOWN_FROM and not level.broken]
    found = [each for level in usable if (each := measured_of(level, axis, slots, 0.0, prompt_tokens, output_tokens))]
    return Grounds(
        levels=tuple(found),
        known=Known(slots=slots, axis=axis),
        prompt_tokens=_mean([each.prompt_tokens for each in found]),
        output_tokens=_mean([each.output_tokens for each in found]),
        void="" if found or not usable else words.UNTOLD,
    )


def measured_of(
    level: Level,
    axis: Axis,
    slots: int | None,
    cached: float | None,
    prompt_tokens: float | None = None,
    output_tokens: float | None = None,
) -> Measured | None:
    """A level as a twin takes it; None: too few requests, too many that fail, or figures that nobody told.

    Args:
        cached: share of the prompt tokens that were found in the prefix cache.
        prompt_tokens, output_tokens: mean lengths, where the level does not tell them.
    """
    prompt, answer = _known(level.prompt_tokens) or prompt_tokens, _answer(level) or output_tokens
    ttft_s, tpot_s, e2e_s = _latency_s(level, "ttft"), _latency_s(level, "tpot"), _latency_s(level, "e2e")
    if level.n < SHOWN_FROM or level.broken or prompt is None or answer is None or ttft_s is None:
        return None
    if tpot_s is None and e2e_s is not None and answer > 1:
        tpot_s = (e2e_s - ttft_s) / (answer - 1)
    if tpot_s is None or tpot_s <= 0:
        return None
    e2e_s = ttft_s + tpot_s * (answer - 1) if e2e_s is None else e2e_s
    rate = _known(level.requests_per_s) or (level.in_flight / e2e_s if axis == "concurrency" else level.load)
    told = ((metric, stat) for metric in _STEPS for stat in _STATS)
    tails = {f"{metric}_{stat}_s": _stated_s(level, metric, stat) for metric, stat in told}
    return Measured(
        load=level.load,
        n=level.n,
        prompt_tokens=prompt,
        output_tokens=answer,
        tpot_s=tpot_s,
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        requests_per_s=rate,
        output_tokens_per_s=_known(level.output_tokens_per_s) or rate * answer,
        **tails,
        running=_known(level.running),
        kv_usage=_known(level.kv_usage),
        cached=min(max(cached or 0.0, 0.0), 1.0),
        slots=slots,
    )


def _latency_s(level: Level, metric: Latency) -> float | None:
    """The mean in seconds; of a table that tells none its median."""
    if level.given is not None:
        return None  # nobody says which statistic of which latency it is
    if level.stated is not None:
        return _known(level.stated.figure(metric, "mean")) or _known(level.stated.figure(metric, "p50"))
    if metric == "e2e":
        return level.mean("e2e")
    values = level.samples(metric)
    return _known(float(values.mean())) if len(values) else None


def _stated_s(level: Level, metric: Latency, stat: Stat) -> float | None:
    """A statistic in seconds; None: too few requests to tell it."""
    found = level.statistic(metric, stat)
    return None if found is None else _known(found.y)


def _answer(level: Level) -> float | None:
    """Mean tokens of an answer: as it was counted, else by the rates."""
    tokens, rate = _known(level.output_tokens_per_s), _known(level.requests_per_s)
    return _known(level.output_tokens) or (tokens / rate if tokens and rate else None)


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) or value <= 0 else value


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _same_server(curve: MeasuredCurve, current: MeasuredCurve) -> bool:
    return curve is current or (
        curve.axis == current.axis
        and _apart(curve) == _apart(current)
        and curve.point.think_time_s == current.point.think_time_s
    )


def _apart(curve: MeasuredCurve) -> tuple[dict[str, str], dict[str, str]]:
    """What tells a server from another, and the requests from others but for their lengths."""
    parts = {name: text for name, text in curve.parts.items() if name not in (LENGTHS, GATE) and not is_slots(name)}
    if (told := parts.get(TOLD)) is not None and is_slots(told.partition(" ")[0]):
        del parts[TOLD]
    return parts, {name: text for name, text in curve.traits if not is_slots(name)}


def _slots(curve: MeasuredCurve, limits: Limits) -> int | None:
    """How many requests were let run at once: the slots as the server shows or told them then, or a lower gate."""
    told = [value for name, value in curve.traits if is_slots(name)]
    name, _, turned = curve.parts.get(TOLD, "").partition(" ")
    turned_to = turned.rpartition("→")[2].strip() if is_slots(name) else ""
    texts = [str(curve.settings.get("max_num_seqs", "")), turned_to, *told, str(limits.own_slots or "")]
    own = next((number for text in texts if (number := _number(text))), None)
    gate = curve.point.gate
    return own if gate is None else gate if own is None else min(own, gate)


def _number(text: str) -> int | None:
    try:
        return round(float(text))
    except (ValueError, OverflowError):
        return None


def _kv_tokens(settings: Mapping[str, float]) -> float | None:
    blocks, size = settings.get("num_gpu_blocks"), settings.get("block_size")
    return settings.get("kv_capacity_tokens") or (blocks * size if blocks and size else None)


def _void(facts: Facts, meta: RunMeta, current: MeasuredCurve) -> str:
    """Why no twin can be made of a run, whatever its levels are."""
    speculation = [(name, value) for name, value in current.traits if name in SPECULATION]
    red = facts.client.column("red")
    if len(red) and is_client_bound(float(red.mean())):
        return words.CLIENT
    if all_failed(facts):
        return words.FAILING
    if buffering.arrival_of(facts) is not None:
        return words.BUFFERED
    if cut_of(facts) is not None:
        return words.CUT
    if facts.in_turn_s is not None:
        return words.IN_TURN
    if current.point.think_time_s > 0:
        return words.THINKING
    for name, value in speculation:
        if value.strip().lower() not in _OFF:
            return words.speculates(f"{name} {value}")
    drafts = () if meta.info is None else meta.info.findings
    return (
        words.speculates("it counts drafted tokens")
        if any(each.name == "speculation" and each.ok for each in drafts)
        else ""
    )
