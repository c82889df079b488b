"""Earlier measurements beside a run: which may be drawn over its loads, which may be compared, and what that says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from llmtop.analysis.compared import change_of, differences, gain_of
from llmtop.analysis.comparing import WORKLOAD
from llmtop.analysis.failing import all_failed
from llmtop.analysis.segments import parts_of, segments_of
from llmtop.analysis.sides import Side, names_of, traits_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.gain import Baseline, Comparison, Gain
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LOST, RunMeta
from llmtop.domain.verdicts import Capacity
from llmtop.meter.facts import Facts
from llmtop.wording import beside
from llmtop.wording.chapters import GATE, LENGTHS, SHARED, START_OF_USERS, TOLD, changed_text

MODEL, SERVER, SLOTS, OURSELVES = "model", "server", "max_num_seqs", "llmtop"
"""Names of a side's traits."""
_OF_POINT = (LENGTHS, SHARED, "think time")
"""What a load point says more exactly."""
MOST_CHANGES = 2
"""That are named; two servers may differ in all their flags, and a verdict is a line."""


def with_baselines(opinion: Assessment, sides: Sequence[Side], facts: Facts, meta: RunMeta) -> Assessment:
    """The opinion over a run, with what was measured earlier beside it."""
    void = bool(opinion.path) or meta.ending in LOST or all_failed(facts)
    segments = segments_of(facts, meta)
    now = segments[-1]
    capacity = None if void or opinion.capacity.lowered else opinion.capacity
    return replace(opinion, baselines=baselines_of(sides, meta, capacity, now.point, parts_of(now, segments)))


def baselines_of(
    sides: Sequence[Side],
    meta: RunMeta,
    capacity: Capacity | None,
    point: LoadPoint,
    parts: Mapping[str, str],
) -> tuple[Baseline, ...]:
    """What was measured earlier, beside a run.

    Args:
        sides: judged by the SLO of the run.
        meta: of the run.
        capacity: of its present configuration; None: it is void, and nothing is compared with it.
        point: what is driven.
        parts: what tells its present configuration from those before.
    """
    mine = _told(meta, traits_of(meta, point, parts))
    return tuple(
        _baseline(side, name, meta, capacity, point, mine) for side, name in zip(sides, names_of(sides), strict=True)
    )


def _baseline(
    side: Side, name: str, meta: RunMeta, capacity: Capacity | None, point: LoadPoint, mine: Mapping[str, str]
) -> Baseline:
    theirs = _told(side.meta, side.traits)
    apart = apart_of(side, point)
    curve = replace(side.curve, label=name, ghost=True, what=_what(side, theirs, mine), apart=apart)
    if capacity is None:
        return Baseline(curve=curve)
    if reason := apart or _unlike(side, theirs, mine):
        text = beside.apart_text(name, reason)
        said = Comparison(changed="", gain=Gain.OPEN, against=name, text=text, short=beside.reason_text(name, reason))
        return Baseline(curve=curve, compared=said)
    return Baseline(curve=curve, compared=_compared(side, name, capacity, point, _changed(side, meta, theirs, mine)))


def _compared(side: Side, name: str, capacity: Capacity, point: LoadPoint, changed: str) -> Comparison:
    before, gain = side.capacity, gain_of(side.capacity, capacity)
    change = change_of(before, capacity, gain)
    text, short = beside.against_text(name, changed, gain, change, before, capacity, point.axis)
    return Comparison(
        changed=changed,
        gain=gain,
        against=name,
        change=change,
        before=before.at_slo,
        before_fails_at=before.fails_at,
        after=capacity.at_slo,
        after_fails_at=capacity.fails_at,
        text=text,
        short=short,
    )


def apart_of(side: Side, point: LoadPoint) -> str:
    """Why the loads of an earlier measurement are no loads of this run; empty: they are, as far as is known."""
    theirs = side.point
    if side.axis != point.axis:
        return beside.other_axis(side.axis)
    if theirs is None:
        return ""
    if (theirs.prompt_tokens, theirs.output_tokens) != (point.prompt_tokens, point.output_tokens):
        return beside.other_lengths(theirs)
    if theirs.shared_prefix != point.shared_prefix:
        return beside.other_shared(theirs.shared_prefix)
    if theirs.axis == "rate":
        return "" if theirs.burstiness == point.burstiness else beside.OTHER_ARRIVALS
    return "" if theirs.think_time_s == point.think_time_s else beside.other_pause(theirs.think_time_s)


def _unlike(side: Side, theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    """Why loads that are the same carry no figures that may be compared; empty: they may be, as far as is known."""
    for name in WORKLOAD:
        was, now = theirs.get(name), mine.get(name)
        if name in _OF_POINT or was == now or (None in (was, now) and side.meta is None):
            continue
        if name == START_OF_USERS:
            return beside.other_start(was or beside.STAGGERED)
        if was is not None and now is not None:
            return beside.other_model(was) if name == MODEL else beside.other_requests(name, was)
    return ""


def _changed(side: Side, meta: RunMeta, theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    """What differs, of all that both are known to have, or that was set."""
    if side.point is None:
        return beside.LENGTHS_UNKNOWN
    was, now = differences(_served(theirs), _served(mine))
    ours = {*_set(side.meta), *_set(meta), GATE, TOLD}
    named = [name for name in dict.fromkeys((*was, *now)) if (name in was and name in now) or name in ours]
    shown = named[:MOST_CHANGES]
    simulated = side.meta is not None and side.meta.endpoint.simulated and meta.endpoint.simulated
    lacking = beside.BY_DEFAULT if simulated else beside.NOT_KNOWN

    def each_of(values: Mapping[str, str]) -> dict[str, str]:
        told = {
            name: values.get(name) or f"{name} {beside.NO_GATE if name == GATE else lacking}"
            for name in shown
            if name != TOLD
        }
        return told | ({TOLD: values[TOLD]} if TOLD in shown and TOLD in values else {})

    return beside.and_more(changed_text(each_of(was), each_of(now)), len(named) - len(shown))


def _set(meta: RunMeta | None) -> set[str]:
    return set() if meta is None else {name for name, _ in meta.settings}


def _what(side: Side, theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    """What was set of an earlier measurement, or is otherwise than here."""
    told, ours = _served(theirs), {*_set(side.meta), GATE, TOLD}
    was, now = differences(told, _served(mine))
    named = [name for name in told if name in ours or (name in was and name in now)]
    shown = [told[name] for name in named[:MOST_CHANGES]]
    if theirs.get(MODEL) is not None and mine.get(MODEL) not in (None, theirs[MODEL]):
        shown.insert(0, theirs[MODEL])
    return beside.and_more(", ".join(shown), len(named) - MOST_CHANGES)


def _told(meta: RunMeta | None, traits: Mapping[str, str]) -> dict[str, str]:
    """What is known of a configuration, by name."""
    slots = None if meta is None or meta.info is None else meta.info.max_num_seqs
    return ({} if slots is None else {SLOTS: str(slots)}) | dict(traits)


def _served(told: Mapping[str, str]) -> dict[str, str]:
    """What of it is no matter of requests, each with its name: `max_num_seqs 32`."""
    return {
        name: text if name in (SERVER, TOLD) else f"{name} {text}"
        for name, text in told.items()
        if name not in WORKLOAD and name != OURSELVES
    }
