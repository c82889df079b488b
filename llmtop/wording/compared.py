"""What is said of two measurements beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from llmtop.domain.compared import Compared, Delta, Difference, Verdict
from llmtop.domain.gain import Gain
from llmtop.domain.load import Axis
from llmtop.domain.profile import Fixed, LengthDistribution, LogNormal, Normal, Workload
from llmtop.wording.figures import TEXT, UNKNOWN, Figures
from llmtop.wording.names import load_unit, short_unit
from llmtop.wording.sentences import listed

_NAMES = {
    "output_tokens_per_s": "output tokens/s",
    "error_ratio": "errors",
    "kv_usage": "KV cache",
    "capacity": "capacity",
    "cliff": "cliff",
    "cost": "cost of 1M output tokens",
}
SHARES = ("error_ratio", "kv_usage")
"""Figures whose changes are points, not shares of what was before."""
LEAST_SHOWN = 5e-5
ONE_SERVER = "no difference beyond what two runs of one server differ by"


def metric_name(metric: str) -> str:
    """`TTFT p50`, `output tokens/s`"""
    latency, _, stat = metric.partition("_")
    return _NAMES.get(metric) or f"{latency.upper()} {stat}"


def figure(metric: str, value: float | None, axis: Axis, figures: Figures = TEXT) -> str:
    """One side's figure in its unit."""
    if value is None:
        return UNKNOWN
    if metric in ("capacity", "cliff"):
        return figures.load(value, axis)
    if metric in SHARES:
        return figures.percent(value)
    if metric == "cost":
        return figures.digits(value)
    return figures.count(value) if metric == "output_tokens_per_s" else figures.latency(value)


def change(delta: Delta, figures: Figures = TEXT) -> str:
    """`+9.8 %`, `-0.14 points`, `x12.4`; what is less than a hundredth of a percent is `0 %`."""
    if delta.change is None:
        return UNKNOWN
    changed = 0.0 if abs(delta.change) < LEAST_SHOWN else delta.change
    if delta.metric in SHARES:
        return points(changed, figures)
    return f"x{figures.digits(1 + changed)}" if changed >= 2 else figures.change(changed)


def interval_text(delta: Delta, figures: Figures = TEXT) -> str:
    """`-14.1 % to -3.20 %`: between which the change lies; `--`: it is not known."""
    ends = [change(Delta(metric=delta.metric, change=end), figures) for end in (delta.low, delta.high)]
    return UNKNOWN if UNKNOWN in ends else " to ".join(ends)


def points(share: float, figures: Figures = TEXT) -> str:
    return f"{'+' if share > 0 else '-' if share < 0 else ''}{figures.digits(abs(share) * 100)}{figures.gap}points"


CARRIED = ("fields", "stop words", "models asked", "hung up")
"""What requests carry that changes what a server has to do, by the names of traits."""
_MOST_FIELDS = 60
"""Characters of fields that are shown; the sum behind them tells longer ones apart."""


def carried_text(workload: Workload) -> dict[str, str]:
    """The traits of what requests carry; empty where it is nothing."""
    fields, cancel = workload.body, workload.cancel
    if len(fields) > _MOST_FIELDS:
        fields = f"{fields[:_MOST_FIELDS]}... ({crc32(fields.encode()):08x})"
    models = ", ".join(f"{model.name}:{model.weight:g}" for model in workload.models)
    hung_up = "" if cancel is None else f"{TEXT.percent(cancel.share)} after {cancel.after_s:g} s"
    return dict(zip(CARRIED, (fields, ", ".join(map(repr, workload.stop)), models, hung_up), strict=True))


def spreads_text(workload: Workload) -> str:
    """`fixed/normal cv 0.3`, `2 000 pairs`: of prompts and answers."""
    if workload.lengths:
        return f"{TEXT.whole(len(workload.lengths))} pairs"
    return f"{spread_text(workload.prompt)}/{spread_text(workload.output)}"


def spread_text(lengths: LengthDistribution) -> str:
    """`fixed`, `normal cv 0.3`, `a table`"""
    if isinstance(lengths, Fixed):
        return "fixed"
    if isinstance(lengths, Normal | LogNormal):
        return f"{lengths.__struct_config__.tag} cv {lengths.cv:g}"
    return "a table"


def replayed(workload: Workload) -> str:
    """`x2, 10 min to 20 min`, of a trace that is not replayed as it stands; else nothing."""
    parts = [] if workload.speed == 1 else [f"x{workload.speed:g}"]
    if workload.window_s is not None:
        parts.append(" to ".join(map(TEXT.duration, workload.window_s)))
    return ", ".join(parts)


def difference_text(difference: Difference) -> str:
    """`max_num_seqs 32 -> 48`, `gate 16, not told of before`"""
    before, after = difference.before, difference.after
    if before is None:
        return f"{difference.name} {after}, not told before"
    if after is None:
        return f"{difference.name} {before}, not told after"
    same = f"{difference.name} "
    return f"{same}{before.removeprefix(same)} -> {after.removeprefix(same)}"


def compared_sentence(told: Compared) -> str:
    """The whole in one sentence."""
    after, before = f"`{told.after}`", f"`{told.before}`"
    carries = capacity_clause(told.capacity, told.gain, told.axis)
    if told.verdict is Verdict.SAME:
        told_of = f"{after} is the same as {before} at {_loads_text(told)}: {ONE_SERVER}{_untold(told)}"
        return f"{told_of}; {carries}" if carries and told.gain is Gain.SAME else told_of
    if told.verdict is Verdict.UNKNOWN:
        return f"whether {after} differs from {before} is not known: too few requests at the loads that both have"
    changed = {verdict: _changed(told, verdict) for verdict in (Verdict.BETTER, Verdict.WORSE)}
    if told.gain in (Gain.MORE, Gain.FEWER):
        head = f"{after} {carries} than {before}"
    elif told.verdict is Verdict.MIXED:
        head = f"{after} is better and worse than {before}"
    else:
        found = changed[told.verdict]
        return f"{after} is {told.verdict} than {before}{': ' if found else ''}{listed(found)}"
    return "; ".join([head, *(f"{verdict}: {listed(found)}" for verdict, found in changed.items() if found)])


def _untold(told: Compared) -> str:
    """`; TTFT p50 is not known`: medians that were not measured well enough to be called the same."""
    unknown = [
        metric_name(each.metric)
        for each in told.over_all
        if each.metric.endswith("_p50") and each.verdict is Verdict.UNKNOWN
    ]
    return f"; {listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not known" if unknown else ""


def _loads_text(told: Compared) -> str:
    """`4 to 48 users`: the loads at which both were measured, where there are any."""
    levels = [level for level in told.levels if not level.interpolated] or told.levels
    first, last = levels[0].load, levels[-1].load
    several = "" if first == last else f"{TEXT.load(first, told.axis)} to "
    return f"{several}{TEXT.load(last, told.axis)} {short_unit(told.axis, last)}"


def capacity_clause(capacity: Delta, gain: Gain, axis: Axis, figures: Figures = TEXT) -> str:
    """`carries 18 % more concurrent users at the SLO (49 -> 58)`; empty: it is not known."""
    unit = f"{load_unit(axis)} at the SLO"
    was, now = (figures.load(value, axis) for value in (capacity.before, capacity.after))
    if gain is Gain.SAME:
        return f"both carry as many {unit} ({was} and {now})"
    if gain is Gain.OPEN:
        return ""
    more = "more" if gain is Gain.MORE else "fewer"
    if capacity.before is None or capacity.after is None or capacity.change is None:
        return f"carries {more} {unit} ({was} -> {now})"
    return f"carries {figures.percent(abs(capacity.change))} {more} {unit} ({was} -> {now})"


def _changed(told: Compared, verdict: Verdict) -> list[str]:
    """What changed so: over all levels, or where most. Of one latency's statistics the slowest requests' alone."""
    found: dict[str, str] = {}
    for over_all in told.over_all:
        latency = over_all.metric.partition("_p")[0]
        if over_all.verdict is verdict:
            found[latency] = f"{metric_name(over_all.metric)} {change(over_all)}"
            continue
        places = [
            (level.load, delta)
            for level in told.levels
            for delta in level.deltas
            if delta.metric == over_all.metric and delta.verdict is verdict
        ]
        if places:
            load, most = max(places, key=lambda place: abs(place[1].change or 0.0))
            where = f"{TEXT.load(load, told.axis)} {short_unit(told.axis, load)}"
            much = f"{change(most)} at {where}" if len(places) == 1 else f"up to {change(most)} ({where})"
            found[latency] = f"{metric_name(most.metric)} {much}"
    return list(found.values())


def unequal_text(unequal: Sequence[Difference]) -> str:
    """Why two runs are not compared unless somebody insists."""
    return f"not the same workload: {'; '.join(map(difference_text, unequal))}; --anyway compares them nevertheless"


def no_common_load(before: str, loads: Sequence[float], after: str, others: Sequence[float], axis: Axis) -> str:
    """Why two measurements cannot be compared although they are of one workload."""
    mine, theirs = (", ".join(TEXT.load(load, axis) for load in each) or "none" for each in (loads, others))
    return f"no load in common: {before} has {mine}, {after} has {theirs} {load_unit(axis)}"


def interpolated(loads: Sequence[float], axis: Axis) -> str:
    where = f"{listed([TEXT.load(load, axis) for load in loads])} {load_unit(axis)}"
    return f"{where}: one of the two lies on a straight line between the loads that it measured"


def held_to_the_end(name: str, load: float, axis: Axis) -> str:
    """Why the capacity of one of the two has no end."""
    return f"{name}: held the SLO at all loads that it was driven to; it carries at least {TEXT.load(load, axis)}"


def client_was_late(name: str, share: float) -> str:
    return f"{name}: {TEXT.percent(share)} of its requests count nowhere, as the client was the bottleneck"
