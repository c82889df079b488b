"""How the answer to a run's question is said: one sentence a question, in clauses without a capital and a full stop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from llmtop.domain.judgement import Judgement
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.over_time import Recovery
from llmtop.domain.run import Ending
from llmtop.domain.slo import SloTarget
from llmtop.domain.verdicts import CliffVerdict, TargetVerdict
from llmtop.errors import INTERRUPTED
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.figures import TEXT, clock
from llmtop.wording.names import load_unit, target_name
from llmtop.wording.sentences import fails_from, gate_text, lengths, listed

UNSURE = "not known"
NOT_SHOWN = "not shown by the server"
MOST_NAMES = 6
"""Names that are listed where one is not among them."""
FAIL_ON = "--fail-on"
COMPARED = "before and now"
"""What a run is beside earlier measurements, and beside its own configuration before."""


def users(load: float, axis: Axis) -> str:
    """24 concurrent users; 5.5 requests/s; one user alone is one."""
    if round(load, 9) == 1:
        return "1 user" if axis == "concurrency" else "1 request/s"
    return f"{TEXT.load(load, axis)} {load_unit(axis, load)}"


def driven_load(point: LoadPoint | None) -> str:
    """What a plan held: `24 concurrent users`; a load that moved is `this load`."""
    return "this load" if point is None else users(point.value, point.axis)


def kept(what: str, ok: bool | None, plural: bool) -> str:
    """`24 concurrent users keep the SLO`, or do not, or nobody knows."""
    if ok is None:
        return f"{UNSURE} whether {what} {'keep' if plural else 'keeps'} the SLO"
    if ok:
        return f"{what} {'keep' if plural else 'keeps'} the SLO"
    return f"{what} {'do' if plural else 'does'} not keep the SLO"


class Load(NamedTuple):
    """What a part of a plan held: one load, or those from `low` to `top`."""

    point: LoadPoint
    low: float
    top: float


def loads(held: Sequence[Load], with_lengths: bool) -> str:
    """`2, 4 and 5 requests/s and 8 to 32 concurrent users`; with lengths `8 concurrent users at 900/64 tokens`."""
    together: dict[tuple[Axis, str], list[Load]] = {}
    for load in held:
        together.setdefault((load.point.axis, lengths(load.point) if with_lengths else ""), []).append(load)
    texts = []
    for (axis, tokens), own in together.items():
        *others, last = sorted(own, key=lambda load: load.top)
        spans = ["" if load.low == load.top else f"{TEXT.load(load.low, axis)} to " for load in (*others, last)]
        each = [f"{span}{TEXT.load(load.top, axis)}" for span, load in zip(spans, others, strict=False)]
        text = listed([*each, f"{spans[-1]}{users(last.top, axis)}"])
        texts.append(f"{text} at {tokens}" if tokens else text)
    return listed(texts)


def each_kept(failed: str, unsure: str, held: str) -> str:
    """`the SLO is not kept at 12 requests/s, kept at 4 concurrent users`, by the loads of each; empty: none."""
    if failed:
        parts = [f"the SLO is not kept at {failed}"]
        parts += [f"not known at {unsure}"] if unsure else []
        parts += [f"kept at {held}"] if held else []
        return ", ".join(parts)
    if unsure:
        return f"{UNSURE} whether the SLO is kept at {unsure}" + (f", it is at {held}" if held else "")
    return f"the SLO is kept at {held}"


def at_load(load: Load, with_lengths: bool, reasons: Sequence[str]) -> str:
    """`at 12 requests/s TTFT p95 2.85 s > 2 s and ...`"""
    return f"at {loads([load], with_lengths)} {listed(reasons)}"


def configurations(points: Sequence[LoadPoint]) -> list[str]:
    """What tells each of several configurations from the others: `open loop`, `900/64 tokens`, `gate 16`."""
    told = [
        ("open loop" if point.axis == "rate" else "closed loop", lengths(point), gate_text(point.gate))
        for point in points
    ]
    many = [len(set(words)) > 1 for words in zip(*told, strict=True)]
    return [", ".join(word for word, differs in zip(words, many, strict=True) if differs) for words in told]


def of_configuration(name: str, told: str) -> str:
    """`open loop: ANSWER`, where the answer need not say so again."""
    return f"{name}: {re.sub(rf' [(]({re.escape(name)}|{name}, [^()]*)[)]', '', told, count=1)}"


def miss(verdict: TargetVerdict, target: SloTarget) -> str:
    """`TTFT p95 3.52 s > 2 s`; `142 of 2 034 requests failed (6.98 % > 1 %)`."""
    limit = TEXT.limit(target.metric, target.limit)
    if target.metric == "error_ratio" and verdict.value is not None:
        failed = TEXT.whole(round(verdict.value * verdict.n))
        share = TEXT.percent(verdict.value)
        return f"{failed} of {TEXT.whole(verdict.n)} requests{_of(target)} failed ({share} > {limit})"
    value = "over the limit of too few requests for a figure" if verdict.value is None else None
    measured = TEXT.measured(target.metric, verdict.value)
    return f"{target_name(target.name)} {value}" if value else f"{target_name(target.name)} {measured} > {limit}"


def met(verdict: TargetVerdict, target: SloTarget) -> str:
    """`TTFT p95 0.41 s < 2 s`; `no errors in 2 034 requests`."""
    limit = TEXT.limit(target.metric, target.limit)
    if target.metric == "error_ratio" and not verdict.value:
        return f"no errors in {TEXT.whole(verdict.n)} requests{_of(target)}"
    return f"{target_name(target.name)} {TEXT.measured(target.metric, verdict.value)} of {limit}"


def _of(target: SloTarget) -> str:
    return f" of {target.kind}" if target.kind else ""


def none_called(kind: str, names: Sequence[str]) -> str:
    """`no request is called anser: there are answer and retrieve`"""
    there = f": there are {listed(names[:MOST_NAMES])}" if names else ": none has a name"
    return f"no request is called {kind}{there}"


def kept_but_by_name(load: float, axis: Axis) -> str:
    """Where the limits on all requests together name a capacity at which one name alone breaks its own."""
    return f"{users(load, axis)} keep the limits on all requests together, but not those on one name alone"


def carried_by_name(at_slo: float | None, fails_at: float, together: float, axis: Axis, missed: Sequence[str]) -> str:
    """`supports 24 concurrent users at all limits: at 32 TTFT p95 of answer 3.52 s > 2 s; the limits on all requests
    together are kept up to 48`
    """
    there = f"at {TEXT.load(fails_at, axis)} {listed(missed)}"
    first = f"no load is known that keeps all limits: {there}"
    if at_slo is not None:
        first = f"supports {users(at_slo, axis)} at all limits: {there}"
    return f"{first}; those on all requests together are kept up to {TEXT.load(together, axis)}"


def carried_as_held(at_slo: float | None, fails_at: float, axis: Axis, missed: Sequence[str]) -> str:
    """`supports 24 concurrent users at the SLO: 40, from the first moment on, missed it: TTFT p95 1.80 s > 1.3 s`"""
    there = f"{TEXT.load(fails_at, axis)}, from the first moment on, missed it: {listed(missed)}"
    if at_slo is None:
        return f"no load is known that keeps the SLO: {there}"
    return f"supports {users(at_slo, axis)} at the SLO: {there}"


def alone_breaks(name: str, broken: Sequence[str]) -> str:
    """`requests of answer alone break a limit that all together keep: TTFT p95 3.52 s > 2 s`"""
    limits = "a limit" if len(broken) == 1 else "limits"
    return f"requests of {name} alone break {limits} that all together keep: {listed(broken)}"


def not_asked(name: str) -> str:
    """Of a limit that the question of the run leaves out."""
    return f"{name}: not judged, as the answer to the question is not about it"


def not_seen(names: Sequence[str], why: str) -> str:
    """`queue and KV cache are not judged: http://127.0.0.1:9/metrics: no connection`

    Args:
        why: what the scraper said of the page that was named; empty: nothing.
    """
    are = "is" if len(names) == 1 else "are"
    return f"{listed([target_name(name) for name in names])} {are} not judged: {why or NOT_SHOWN}"


def too_few(names: Sequence[str], n: int, fewest: int) -> str:
    """`TTFT p95 and TPOT p95 need 59 requests, 12 came`"""
    came = "none" if n == 0 else TEXT.whole(n)
    needs = "needs" if len(names) == 1 else "need"
    return f"{listed([target_name(name) for name in names])} {needs} {fewest} requests, {came} came"


def too_few_failed(verdict: TargetVerdict, target: SloTarget) -> str:
    """`1 of 50 requests failed (2.00 % > 1 %), too few to be sure`"""
    return f"{miss(verdict, target)}, too few to be sure"


def ended_early(at_s: float, planned_s: float) -> str:
    """`it ended at 00:30 of 01:30`"""
    return f"it ended at {clock(at_s)} of {clock(planned_s)}"


def interrupted(at_s: float, planned_s: float | None) -> str:
    """`it was interrupted at 00:30 of 01:30`"""
    return f"it was interrupted at {clock(at_s)}" + (f" of {clock(planned_s)}" if planned_s else "")


def braked(at_s: float, load: float, axis: Axis) -> str:
    """`the brake ended it at 00:30, at 64 concurrent users: too many requests failed`"""
    return f"the brake ended it at {clock(at_s)}, at {users(load, axis)}: too many requests failed"


def ended_by(ending: Ending) -> str:
    """`the run was ended: the server restarted under it`"""
    return ENDED_BY[ending]


def unanswered(why: str) -> str:
    """`not known: the run was ended: the server restarted under it`"""
    return f"{UNSURE}: {why}"


def turned_at(t_s: float) -> str:
    """`what came before 00:45 was another configuration`"""
    return f"what came before {clock(t_s)} was another configuration"


def fails_anyway() -> str:
    """Where errors leave no capacity to tell."""
    return "no capacity can be told, as requests fail at loads that are carried"


def up_to_peak(peak: float, axis: Axis, ok: bool | None) -> str:
    """`the SLO is kept up to the expected peak of 32 concurrent users`, or is not, or nobody knows."""
    where = f"up to the expected peak of {users(peak, axis)}"
    if ok is None:
        return f"{UNSURE} whether the SLO is kept {where}"
    return f"the SLO is {'kept' if ok else 'not kept'} {where}"


def breaks_from(fails_at: float | None, top: float, axis: Axis) -> str:
    """`it breaks at 52`; `it holds as far as was driven, to 64`."""
    if fails_at is None:
        return f"no break as far as was driven, to {TEXT.load(top, axis)}"
    return f"it breaks at {TEXT.load(fails_at, axis)}"


def between(at_slo: float, fails_at: float | None, axis: Axis) -> str:
    """`28 held and 36 failed`; `28 held, and more was not driven`."""
    if fails_at is None:
        return f"{TEXT.load(at_slo, axis)} held, and no level that can be judged is higher"
    return f"{TEXT.load(at_slo, axis)} held and {TEXT.load(fails_at, axis)} failed"


def at_level(load: float, axis: Axis, reasons: Sequence[str]) -> str:
    """`at 32 TTFT p95 0.41 s of 2 s and ...`"""
    return f"at {TEXT.load(load, axis)} {listed(reasons)}"


def at_search(target: SloTarget, value: float | None, load: float) -> str:
    """`TTFT p95 0.41 s of 2 s at 50`"""
    limit = TEXT.limit(target.metric, target.limit)
    return f"{target_name(target.name)} {TEXT.measured(target.metric, value)} of {limit} at {TEXT.exact(load)}"


def reaches(wanted: float, axis: Axis, ok: bool | None) -> str:
    """`carries 64 concurrent users`, or does not, or nobody knows."""
    if ok is None:
        return f"{UNSURE} whether it carries {users(wanted, axis)}"
    return f"{'carries' if ok else 'does not carry'} {users(wanted, axis)}"


def bends_at(cliff: CliffVerdict) -> str:
    """`latency bends at 32 (30 to 34)`; of failures, which are no latency, `HTTP 503 from 24 on`."""
    if cliff.fails:
        return fails_from(cliff)
    low, high = (TEXT.load(each, cliff.axis) for each in (cliff.low, cliff.high))
    return f"latency bends at {TEXT.load(cliff.at, cliff.axis)} ({low} to {high})"


def straight() -> str:
    return "no cliff in the range that was driven"


def nothing_known() -> str:
    return "too few requests or levels for an answer"


def search_cut_short() -> str:
    return "the search was ended before it knew"


def no_spike(ok: bool | None) -> str:
    return "no spike came and went" if ok is False else f"{UNSURE}: no spike came and went"


def creeps(kept: str, ok: bool | None) -> str:
    """`24 concurrent users keep the SLO, but something creeps`; `..., but whether anything creeps is not known`."""
    if ok is None:
        return f"{UNSURE} whether anything creeps; {kept}"
    return f"{kept}, {'but' if ok else 'and'} something creeps"


def calm() -> str:
    """After a soak that holds."""
    return " and nothing creeps"


def recovered(recovery: Recovery, within_s: float, ok: bool | None) -> str:
    """`recovered 4 s after the spike from 16 to 96 (limit 30 s)`"""
    spike = f"the spike from {TEXT.exact(recovery.base)} to {TEXT.exact(recovery.peak)}"
    limit = f"(limit {TEXT.duration(within_s)})"
    if recovery.took_s is not None:
        return f"{'' if ok else 'too late: '}recovered {TEXT.duration(recovery.took_s)} after {spike} {limit}"
    return (
        f"{UNSURE} whether it recovered from {spike} {limit}" if ok is None else f"not recovered from {spike} {limit}"
    )


def but_too_slow(recovered: str, reasons: Sequence[str]) -> str:
    """`RECOVERED, but more replicas were not ready after 55 s`: only because the load fell again was all as before."""
    return f"{recovered}, but {listed(reasons)}" if reasons else recovered


def until_then(early: str, told: str) -> str:
    """`not known, as it ended at 00:30 of 01:30; until then ANSWER: REASONS`"""
    return f"{UNSURE}, as {early}; until then {told}"


def with_reasons(answer: str, reasons: Sequence[str]) -> str:
    """`ANSWER: reason, reason and reason`"""
    return f"{answer}: {listed(reasons)}" if reasons else answer


def configured(configuration: str, answer: str) -> str:
    """`CONFIGURATION: ANSWER`, with the lengths told once."""
    lengths = configuration.rpartition(", ")[2]
    return f"{configuration}: {answer.replace(f' ({lengths})', '', 1)}"


_ANSWERS = {
    0: "yes",
    1: "no",
    3: "no answer, as the server fell away",
    4: "no answer, as this machine was the bottleneck: the figures are void",
    5: "not known",
    INTERRUPTED: "no answer, as it was interrupted",
}


def final_text(profile: str, code: int, judgement: Judgement) -> str:
    """`smoke: yes (exit code 0)`, the last line of a run that nobody watches; `..., by --fail-on capacity`, where it is
    thresholds alone that turn the answer to the question into another.
    """
    ok = judgement.passes
    by = _broken_by([each.name for each in judgement.thresholds if each.ok is ok]) if judgement.ok is not ok else ""
    answer = f"{_ANSWERS[code]}{by if code in (1, 5) else ''}"
    if ok is None and not code:
        answer = f"{_ANSWERS[5]}{by}, which --unknown-ok takes for a yes"
    if code == INTERRUPTED and ok is not None:  # so shortly before its end that the question had its answer
        answer = f"{_ANSWERS[0 if ok else 1]}{by}, and was interrupted then"
    return f"{profile}: {answer} (exit code {code})"


def no_run(profile: str, code: int) -> str:
    """`smoke: no run (exit code 3)`: it could not start, or was lost."""
    return f"{profile}: no run (exit code {code})"


def _broken_by(names: Sequence[str]) -> str:
    """`, by --fail-on ttft_p95 and capacity`: why the answer of a run is another than that to its question."""
    return f", by {FAIL_ON} {listed(names)}" if names else ""
