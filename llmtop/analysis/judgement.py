"""The one judgement of a run: the answer to its question, which every screen, report and exit code renders.

The SLO is held against the span that the question is about: all of a hold or a soak, the level at the expected peak,
the level that a capacity names, what lies outside of a spike. Errors count wherever they came in the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec
import numpy as np

from llmtop.analysis.capacity import judge_level
from llmtop.analysis.diagnosis import is_client_bound
from llmtop.analysis.failing import all_failed, dominating, why_all_failed, without_text
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, Level
from llmtop.analysis.parts import Part, held_loads
from llmtop.analysis.readings import commanded, server_gauges
from llmtop.analysis.sessions import Gauges, Mask, Requests
from llmtop.analysis.slo import Sample, judge_named, judge_slo, overall, with_named
from llmtop.analysis.soak import creeping, long_enough, visible
from llmtop.analysis.spikes import recovered_within
from llmtop.analysis.stats import FEWEST
from llmtop.domain.judgement import Judgement, PartVerdict
from llmtop.domain.load import Hold, LoadPoint
from llmtop.domain.over_time import Drift, Recovery
from llmtop.domain.profile import Profile, Question
from llmtop.domain.run import INTERRUPTED, LOST, JudgedLevel, LoadChange, RunMeta
from llmtop.domain.scaling import Scaling
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind, SloVerdict, TargetVerdict
from llmtop.meter.facts import Facts
from llmtop.wording import answers
from llmtop.wording.over_time import owed
from llmtop.wording.scaled import too_slow
from llmtop.wording.sentences import CLIENT_BOUND, listed, requests_left_out, requests_lost, sentence, worker_called

WHOLE = 0.97
"""Share of its planned time from which a plan counts as driven to its end: ticks and the drain blur the rest."""
NEAR_PEAK, AT_PEAK = 0.93, 1.05
"""What was sent between these shares of the expected peak speaks for it: a ramp is there for a moment only."""
NOTHING = Sample(EMPTY, EMPTY, EMPTY)
About = tuple[Mask, Mask]
"""Requests whose latencies an answer is about, and those whose errors count for it."""
HELD_SCRAPES = 5
"""Scrapes at one load from which its queue and KV usage are told: a ramp is nowhere that long."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What a judgement rests on beside the facts: the opinions over the current curve."""

    requests: Requests
    levels: tuple[Level, ...]
    capacity: Capacity
    cliff: CliffVerdict
    configuration: str = ""
    """What the answer holds for, in words."""
    drifts: tuple[Drift, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    unjudged: str = ""
    """Why limits that were asked for are not among those that are judged; empty: all are."""
    part: Part | None = None
    """What of the run it is of; None: all."""
    parts: tuple[Findings, ...] = ()
    """Those of each configuration that the plan drove; (): it drove one."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The SLO over the judged span, the answer, and the words for it."""

    verdict: SloVerdict
    ok: bool | None
    text: str
    reasons: tuple[str, ...] = ()
    reach: bool = False
    """It holds for as much as was driven, also where the plan was not driven to its end."""
    said: bool = False
    """The text has the reasons in it."""
    parts: tuple[PartVerdict, ...] = ()

    def told(self, *more: str) -> str:
        """The text with its reasons, and with more of them."""
        return answers.with_reasons(self.text, more if self.said else (*self.reasons, *more))


def question_of(facts: Facts, profile: Profile) -> Question:
    """What the run is to find out. A hand that takes the wheel leaves the plan's question for that of a run by hand."""
    asks = profile.asks
    by_hand = any(change.reason == "hand" for change in facts.changes)
    return Question.CLIFF if by_hand and asks is not Question.CAPACITY else asks


def judge_run(facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float) -> tuple[SloVerdict, Judgement]:
    """The SLO over the span that the run's question is about, and the answer so far, or at the end (`meta.ended_s`)."""
    question = question_of(facts, meta.profile)
    run = Run(facts, meta, slo, found, now_s)
    answer = _by_configuration(run, question) if question in OF_LEVELS and found.parts else _ANSWERS[question](run)
    ok, reasons = answer.ok, answer.reasons
    verdict, early, more = answer.verdict, run.early, tuple[str, ...]()
    text = answer.told()
    if mostly := run.unsaid(verdict, text):
        reasons, more = (*reasons, mostly), (mostly,)
        text = answer.told(mostly)
    if run.void:
        ok, reasons, text = None, (CLIENT_BOUND,), CLIENT_BOUND
    elif all_failed(facts) and meta.ending not in LOST:
        verdict, why = run.with_named(judge_slo(run.everything, slo), run.all_of), why_all_failed(facts)
        ok, reasons = verdict.ok, tuple(filter(None, (why, early)))
        text = answers.with_reasons(why, reasons[1:])
    elif meta.ending in LOST:  # what failed while the server fell away says nothing of the load it fell at
        verdict, ok, reasons, text = SloVerdict(), None, (early or "",), answers.unanswered(early or "")
    elif found.unjudged and ok is not False:
        place = (answers.bends_at(found.cliff),) if found.cliff.at is not None else ()
        ok, reasons = None, (found.unjudged,)
        text = "; ".join((found.unjudged, *place))
    elif early is not None and not (answer.reach and ok is True):
        reasons = (*reasons, early)
        text = answer.told(*more, early)
        if ok:
            ok, text = None, answers.until_then(early, answer.told())
    told = sentence(text) if run.void or not found.configuration else answers.configured(found.configuration, text)
    return verdict, Judgement(
        question=question,
        ok=ok,
        sentence=told,
        reasons=reasons,
        left_out=run.left_out,
        void=run.void,
        ending=meta.ending,
        final=meta.ended_s is not None,
        parts=() if run.void or all_failed(facts) or meta.ending in LOST else answer.parts,
        client_bound=run.client_bound,
    )


def over_span(run: Run, question: Question) -> tuple[SloVerdict, tuple[str, ...]]:
    """The limits of `run.slo` over the span that the answer to the question is about, and what decides."""
    if question in (Question.HOLD, Question.SOAK):
        held = _hold(run)
        return held.verdict, held.reasons
    if question is Question.SPIKE:
        verdict = _spike(run).verdict
    elif question is Question.PEAK and run.meta.profile.peak is not None:
        verdict = _peak(run).verdict
    else:
        verdict = run.with_named(_at_capacity(run, run.slo), run.near_capacity)
    return verdict, run.reasons(verdict)


class Run:
    """A run with what an answer looks at."""

    def __init__(self, facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float) -> None:
        self.facts, self.meta, self.slo, self.found, self.now_s = facts, meta, slo, found, now_s
        self.plan = meta.profile.plan
        self.target = commanded(facts)
        self.since_s = max((chapter.t_s for chapter in facts.chapters), default=0.0)
        """What came before the last chapter is another configuration's."""

    @cached_property
    def gauges(self) -> Gauges:
        """What the server showed of the configuration that is judged."""
        gauges, part = server_gauges(self.facts), self.found.part
        chosen = gauges.t_s >= self.since_s
        return gauges.pick(chosen if part is None else chosen & part.during(gauges.t_s))

    def load_at(self, t_s: Array) -> Array:
        """The commanded load at each instant."""
        return np.zeros(len(t_s)) if self.target is None else self.target.at(t_s)

    def sample(self, chosen: Mask, spans: Sequence[tuple[float, float]] | None = None) -> Sample:
        """Of the requests `chosen`, with what the server showed within `spans` (None: all the while)."""
        gauges = self.gauges
        if spans is not None:
            inside = np.zeros(len(gauges.t_s), dtype=bool)
            for start_s, stop_s in spans:
                inside |= (gauges.t_s > start_s) & (gauges.t_s <= stop_s)
            gauges = gauges.pick(inside)
        members = self.found.requests.pick(chosen & (self.found.requests.sent_s >= self.since_s))
        ages_s, names = self.given_up
        sample = replace(Sample.of_window(members, gauges, ages_s, self.now_s), censored_name=names)
        waiting, kv_usage, of_fullest = self._worst(gauges)
        sample = replace(sample, waiting=waiting or sample.waiting)
        return replace(sample, kv_usage=kv_usage, of_fullest=of_fullest) if kv_usage else sample

    def _worst(self, gauges: Gauges) -> tuple[float, float, bool]:
        """Queue and KV usage at the load at which each is the highest: a calm hour does not make up for another."""
        loads, waiting, kv_usage, of_fullest = self.load_at(gauges.t_s), 0.0, 0.0, False
        nobody = self.found.requests.pick(np.empty(0, dtype=np.intp))
        for load in np.unique(loads[loads > 0]):
            there = gauges.pick(loads == load)
            if len(there.t_s) >= HELD_SCRAPES:
                seen = Sample.of_window(nobody, there, EMPTY, self.now_s)
                waiting = max(waiting, seen.waiting or 0.0)
                if (seen.kv_usage or 0.0) > kv_usage:
                    kv_usage, of_fullest = seen.kv_usage or 0.0, seen.of_fullest
        return waiting, kv_usage, of_fullest

    def spans(self, low: float, high: float) -> tuple[tuple[float, float], ...]:
        """When the commanded load was from `low` to `high`."""
        if self.target is None:
            return ()
        edges = np.append(self.target.edges_s, self.now_s)
        inside = (self.target.values >= low) & (self.target.values <= high)
        if self.found.part is not None:
            inside &= self.found.part.during(self.target.edges_s)
        return tuple((float(edges[i]), float(edges[i + 1])) for i in np.flatnonzero(inside))

    @property
    def everything(self) -> Sample:
        return self.sample(np.ones(len(self.found.requests.sent_s), dtype=bool))

    @property
    def all_of(self) -> About:
        everything = np.ones(len(self.found.requests.sent_s), dtype=bool)
        return everything, everything

    def near(self, load: float | None) -> About:
        """What was sent at a load, and errors of all up to there; of no load nothing."""
        target = np.full(len(self.found.requests.sent_s), np.inf)
        if load is None:
            return target < 0, target < 0
        target = self.load_at(self.found.requests.sent_s)
        return (target >= NEAR_PEAK * load) & (target <= AT_PEAK * load), target <= AT_PEAK * load

    @property
    def near_capacity(self) -> About:
        capacity = self.found.capacity
        return self.near(capacity.fails_at if capacity.at_slo is None else capacity.at_slo)

    @property
    def worst_spike(self) -> Recovery | None:
        return max(self.found.recoveries, key=lambda each: each.peak / max(each.base, 1e-9), default=None)

    def scaling_of(self, spike: Recovery) -> Scaling | None:
        """What the deployment did about a spike; None: it has no autoscaler, or that did nothing."""
        return next((each for each in self.found.scalings if each.up and each.from_s == spike.up_s), None)

    def outside(self, spike: Recovery) -> tuple[Mask, tuple[tuple[float, float], ...]]:
        """Requests before a spike and after what it left behind, and those spans."""
        within_s, requests = self.meta.profile.recover_within_s, self.found.requests
        calm_s = spike.down_s + (within_s if spike.took_s is None else spike.took_s)
        return (requests.end_s < spike.up_s) | (requests.sent_s >= calm_s), ((0.0, spike.up_s), (calm_s, self.now_s))

    def felt(self, chosen: Mask) -> Sample:
        """Of the requests `chosen`, without what the server showed."""
        requests, (ages_s, names) = self.found.requests, self.given_up
        members = requests.pick(chosen & (requests.sent_s >= self.since_s))
        return replace(Sample.of_window(members, Gauges(), ages_s, self.now_s), censored_name=names)

    def by_name(self, about: About) -> tuple[TargetVerdict, ...]:
        """The limits on one name alone, of the requests that an answer is about."""
        latency, errors = (judge_named(self.felt(chosen), self.slo, self.facts.names) for chosen in about)
        each = zip(self.slo.named, latency, errors, strict=True)
        return tuple(failed if target.metric == "error_ratio" else late for target, late, failed in each)

    def with_named(self, verdict: SloVerdict, about: About) -> SloVerdict:
        return with_named(verdict, self.by_name(about), self.slo) if self.slo.named else verdict

    def named(self, verdict: SloVerdict) -> SloVerdict:
        """Of a verdict what it says of limits on one name alone."""
        names = {target.name for target in self.slo.named}
        return msgspec.structs.replace(verdict, targets=tuple(each for each in verdict.targets if each.name in names))

    @cached_property
    def given_up(self) -> tuple[Array, Array]:
        """Ages of the requests that were cancelled before a first token came: as long at least their TTFT was; and what
        they are called.
        """
        table, part = self.facts.requests, self.found.part
        sent_s = np.array(table.column("sent_s"))
        waited = (table.column("cancelled") > 0) & ~np.isfinite(table.column("first_token_s"))
        waited &= sent_s >= self.since_s
        if part is not None:
            waited &= part.during(sent_s)
        ages: Array = (table.column("end_s") - sent_s)[waited]
        known = np.isfinite(ages)
        return ages[known], table.column("name")[waited][known]

    def of(self, part: Part) -> Run:
        """What of it lies in a part."""
        requests = self.found.requests
        return Run(
            self.facts,
            self.meta,
            self.slo,
            replace(self.found, requests=requests.pick(part.during(requests.sent_s)), part=part),
            self.now_s,
        )

    @cached_property
    def loads(self) -> tuple[Part, ...]:
        """The loads that its plan holds."""
        part, held = self.found.part, held_loads(self.facts.changes, self.plan)
        return held if part is None else tuple(load for load in held if load.key == part.key)

    @cached_property
    def client_bound(self) -> float | None:
        """Share of the seconds in which the client was the bottleneck; None: nobody looked."""
        red = self.facts.client.column("red")
        return float(red.mean()) if len(red) else None

    @property
    def void(self) -> bool:
        return self.client_bound is not None and is_client_bound(self.client_bound)

    @property
    def brake(self) -> LoadChange | None:
        return next((change for change in self.facts.changes if change.reason == "brake"), None)

    @property
    def early(self) -> str | None:
        """Why the plan was not driven to its end, or not for this configuration; None: it was, or it goes on."""
        ending = self.meta.ending
        if ending in LOST:
            return answers.ended_by(ending)
        brake = self.brake
        if brake is not None:
            before = [change.point for change in self.facts.changes if change.t_s < brake.t_s]
            load = before[-1] if before else brake.point
            return answers.braked(brake.t_s, load.value, load.axis)
        planned_s = self.plan.duration_s
        if ending in INTERRUPTED and (self.meta.profile.search or (planned_s and self.now_s < WHOLE * planned_s)):
            return answers.interrupted(self.now_s, planned_s)
        if self.meta.ended_s is not None and planned_s and self.now_s < WHOLE * planned_s:
            return answers.ended_early(self.now_s, planned_s)
        if self.meta.ended_s is not None and planned_s and self.since_s > (1 - WHOLE) * self.now_s:
            return answers.turned_at(self.since_s)
        return None

    @property
    def left_out(self) -> tuple[str, ...]:
        limited = self.facts.requests.column("client_limited") > 0
        workers = np.unique(self.facts.requests.column("worker")[limited])
        if not len(workers):
            return ()
        crew = self.facts.crew
        whose = worker_called(int(workers[0]), crew.called(int(workers[0]))) if len(workers) == 1 < crew.size else ""
        lost = self.facts.lost
        late = int(limited.sum()) - lost
        told = (requests_left_out(late, whose) if late > 0 else "", requests_lost(lost, whose) if lost else "")
        return tuple(filter(None, told))

    @cached_property
    def limits(self) -> dict[str, SloTarget]:
        return {target.name: target for target in self.slo.limits}

    def misses(self, verdict: SloVerdict) -> tuple[str, ...]:
        return tuple(self.miss(each, self.limits[each.name]) for each in verdict.targets if each.ok is False)

    def miss(self, verdict: TargetVerdict, target: SloTarget) -> str:
        """A limit that is missed; one on errors with what they mostly are."""
        told = answers.miss(verdict, target)
        mostly = dominating(self.facts) if target.name == "error_ratio" else ""
        return f"{told}, {mostly}" if mostly else told

    def unsaid(self, verdict: SloVerdict, text: str) -> str:
        """What failures mostly are, where their limit is missed, or that no answer had text, unless `text` says it."""
        missed = any(each.ok is False and each.name == "error_ratio" for each in verdict.targets)
        mostly = dominating(self.facts) if missed else without_text(self.facts)
        return "" if mostly in text else mostly

    def doubts(self, verdict: SloVerdict) -> tuple[str, ...]:
        """What is missing for an answer."""
        short: dict[tuple[int, int], list[str]] = {}
        unsure, nobody = [], dict[str, None]()
        for each in verdict.targets:
            target = self.limits[each.name]
            if each.ok is None and target.kind and self.facts.names.known(target.kind) is None:
                nobody[target.kind] = None
            elif each.ok is None and (target.metric in LATENCIES or (target.kind and not each.n)):
                short.setdefault((each.n, FEWEST[target.stat or "p95"]), []).append(each.name)
            elif each.ok is None and each.n and target.metric == "error_ratio":
                unsure.append(answers.too_few_failed(each, target))
        return (
            *(answers.none_called(kind, self.facts.names.texts) for kind in nobody),
            *(answers.too_few(names, *counts) for counts, names in short.items()),
            *unsure,
        )

    def proof(self, verdict: SloVerdict) -> tuple[str, ...]:
        return tuple(answers.met(each, self.limits[each.name]) for each in verdict.targets if each.ok)

    def reasons(self, verdict: SloVerdict) -> tuple[str, ...]:
        return {True: self.proof, False: self.misses, None: self.doubts}[verdict.ok](verdict)

    @property
    def held(self) -> LoadPoint | None:
        """The one load that the plan holds the longest; None: it moves."""
        if self.found.part is not None:
            return self.loads[0].point if len(self.loads) == 1 else None
        holds = [stage for stage in self.plan.stages if isinstance(stage.shape, Hold)]
        if not holds or len({stage.shape for stage in holds}) > 1:
            return None
        shape = holds[0].shape
        assert isinstance(shape, Hold)
        if shape.concurrency is not None:
            return self.plan.base.at("concurrency", shape.concurrency)
        assert shape.rate_rps is not None
        return self.plan.base.at("rate", shape.rate_rps)


def _hold(run: Run) -> _Answer:
    """All requests, and where the plan holds several loads those of each by themselves."""
    whole = _pooled(run)
    return whole if len(run.loads) < 2 else _each_load(run, whole)


def _pooled(run: Run) -> _Answer:
    verdict, held, cliff = run.with_named(judge_slo(run.everything, run.slo), run.all_of), run.held, run.found.cliff
    plural = held is not None and not (held.axis == "concurrency" and held.value == 1)
    text = answers.kept(answers.driven_load(held), verdict.ok, plural)
    bend = (answers.bends_at(cliff),) if held is None and cliff.at is not None else ()
    return _Answer(verdict, verdict.ok, text, (*run.reasons(verdict), *bend))


def _each_load(run: Run, whole: _Answer) -> _Answer:
    """Each load that the plan holds keeps the SLO, and so do all requests together."""
    several = len({load.key[1:3] for load in run.loads}) > 1
    by_answer: dict[bool | None, list[tuple[answers.Load, Run, SloVerdict]]] = {False: [], None: [], True: []}
    for load in run.loads:
        there = run.of(load)
        verdict = there.with_named(judge_slo(there.everything, run.slo), there.all_of)
        by_answer[verdict.ok].append((answers.Load(load.point, load.low, load.top), there, verdict))
    ok = False if by_answer[False] else None if by_answer[None] else True
    if ok and not whole.ok:
        return whole
    names = {answer: answers.loads([load for load, _, _ in of], several) for answer, of in by_answer.items()}
    decided = by_answer[ok]
    if ok:
        decided = [max(decided, key=lambda each: _strain(each[2]))]
    reasons = [
        answers.at_load(load, several, there.reasons(verdict)) for load, there, verdict in decided if verdict.targets
    ]
    text = answers.each_kept(names[False], names[None], names[True])
    parts = tuple(
        PartVerdict(name=answers.loads([load], several), ok=verdict.ok, text=listed(there.reasons(verdict)))
        for of in by_answer.values()
        for load, there, verdict in of
    )
    return _Answer(decided[0][2], ok, text, tuple(reasons), parts=parts)


def _strain(verdict: SloVerdict) -> float:
    """The largest share of its limit that a latency took."""
    taken = (each.value / each.limit for each in verdict.targets if each.value and each.limit and "_" in each.name)
    return max(taken, default=0.0)


def _soak(run: Run) -> _Answer:
    held = _hold(run)
    worse, drifts = creeping(run.found.drifts), run.found.drifts
    texts = tuple(drift.text for drift in worse)
    if worse:
        broken = held.reasons if held.ok is False else ()
        return replace(held, ok=False, text=answers.creeps(held.text, held.ok), reasons=(*broken, *texts))
    if held.ok and run.meta.ended_s is not None and not long_enough(drifts):
        return replace(held, ok=None, text=answers.creeps(held.text, None), reasons=(visible(drifts),))
    if held.ok:
        return replace(
            held, text=f"{held.text}{answers.calm()}", reasons=(*held.reasons, *filter(None, (visible(drifts),)))
        )
    return held


def _peak(run: Run) -> _Answer:
    """Levels up to the peak keep their latencies, and all requests sent up to there the limit on errors."""
    peak = run.meta.profile.peak
    if peak is None:
        return _cliff(run)
    axis, target = run.found.cliff.axis, run.load_at(run.found.requests.sent_s)
    near = run.sample(
        (target >= NEAR_PEAK * peak) & (target <= AT_PEAK * peak), run.spans(NEAR_PEAK * peak, AT_PEAK * peak)
    )
    pooled = judge_slo(run.sample(target <= AT_PEAK * peak), run.slo)
    judged = [(level, judge_level(level, run.slo).ok) for level in run.found.levels]
    broken = next((level for level, ok in judged if ok is False and level.load <= peak), None)
    above = next((level for level, ok in judged if ok and level.load > AT_PEAK * peak), None)
    at, verdict = peak, judge_slo(near, run.slo)
    speaks = broken if broken is not None else above if verdict.ok is None else None
    if speaks is not None:
        at, verdict = speaks.load, judge_slo(Sample.of_level(speaks), run.slo)
    verdict = run.with_named(_with_errors_of(pooled, verdict, run.slo), run.near(peak))
    ok = verdict.ok
    reasons = run.reasons(verdict)
    if ok is None and run.found.capacity.at_slo is not None:
        reasons = (answers.between(run.found.capacity.at_slo, run.found.capacity.fails_at, axis), *reasons)
    if ok is not None:
        errors = {
            run.miss(each, run.limits[each.name])
            for each in verdict.targets
            if each.ok is False and run.limits[each.name].metric == "error_ratio"
        }
        there = tuple(reason for reason in reasons if reason not in errors)
        reasons = (*((answers.at_level(at, axis, there),) if there else ()), *sorted(errors))
    text = answers.up_to_peak(peak, axis, ok)
    if ok:
        highest = max((level.load for level in run.found.levels), default=peak)
        text = f"{text}; {answers.breaks_from(run.found.capacity.fails_at, highest, axis)}"
    return _Answer(verdict, ok, text, reasons, reach=True)


def _capacity(run: Run) -> _Answer:
    """How many at the SLO; with `at_least`, whether so many."""
    capacity, wanted = run.found.capacity, run.meta.profile.at_least
    verdict, axis = run.with_named(_at_capacity(run), run.near_capacity), run.found.cliff.axis
    unproven = _unproven(run, verdict)
    at_slo, fails_at = capacity.at_slo, capacity.fails_at
    ok: bool | None
    if verdict.ok is False or (at_slo is None and fails_at is not None):
        ok = False
    elif at_slo is None:
        ok = None
    elif wanted is None:
        ok = True if _search_ended(run.facts) else None
    else:
        ok = reached(capacity, wanted)
    ok = None if ok and unproven else ok
    text = capacity.sentence or answers.nothing_known()
    if at_slo is not None and verdict.ok is False:
        text = _fails(run, verdict, at_slo)
    if wanted is not None:
        text = f"{answers.reaches(wanted, axis, ok)}; {text}"
    reasons = run.misses(verdict) if at_slo is not None and verdict.ok is False else ()
    if ok is None and at_slo is None:
        reasons = run.doubts(verdict)
    elif ok is None and unproven:
        reasons = unproven
    if ok is None and run.facts.tested and not _search_ended(run.facts):
        reasons = (answers.search_cut_short(),)
    return _Answer(verdict, ok, text, reasons)


def reached(capacity: Capacity, wanted: float) -> bool | None:
    """Whether a capacity is as large as is wanted; between a load that held and one that broke nobody knows."""
    if capacity.at_slo is not None and capacity.at_slo >= wanted:
        return True
    return False if capacity.fails_at is not None and capacity.fails_at <= wanted else None


def _cliff(run: Run) -> _Answer:
    """Where latency bends, and how many at the SLO so far."""
    answer, at_slo = (
        _located(run.found.capacity, run.found.cliff, run.with_named(_at_capacity(run), run.near_capacity)),
        run.found.capacity.at_slo,
    )
    if answer.ok is False and at_slo is not None:
        text = _fails(run, answer.verdict, at_slo)
        return replace(answer, text=text, reasons=run.misses(answer.verdict))
    if answer.ok and (unproven := _unproven(run, answer.verdict)):
        return replace(answer, ok=None, reasons=unproven)
    return replace(answer, reasons=run.doubts(answer.verdict)) if answer.ok is None else answer


def _unproven(run: Run, verdict: SloVerdict) -> tuple[str, ...]:
    """What is missing to know the limits on one name alone, at a load that the others name."""
    return run.doubts(run.named(verdict))


def _fails(run: Run, verdict: SloVerdict, at_slo: float) -> str:
    """Why a load that levels have kept the SLO at is none that keeps it: errors, or one name alone."""
    if all(run.limits[each.name].kind for each in verdict.targets if each.ok is False):
        return answers.kept_but_by_name(at_slo, run.found.cliff.axis)
    return answers.fails_anyway()


def judge_table(capacity: Capacity, cliff: CliffVerdict) -> Judgement:
    """Of levels without a run behind them: where latency bends, and how many at the SLO."""
    answer = _located(capacity, cliff, SloVerdict())
    return Judgement(question=Question.CLIFF, ok=answer.ok, sentence=sentence(answer.text), final=True)


def _located(capacity: Capacity, cliff: CliffVerdict, verdict: SloVerdict) -> _Answer:
    located = cliff.kind in (Kind.CLIFF, Kind.GRADUAL)
    ok: bool | None = None
    if verdict.ok is False or (capacity.at_slo is None and capacity.fails_at is not None):
        ok = False
    elif capacity.at_slo is not None or located or cliff.kind is Kind.NONE:
        ok = True
    place = answers.bends_at(cliff) if located else answers.straight() if cliff.kind is Kind.NONE else ""
    if ok is None:
        place = answers.nothing_known()
    return _Answer(verdict, ok, "; ".join(filter(None, (place, capacity.sentence))), reach=True)


def _spike(run: Run) -> _Answer:
    """Recovered in time, the SLO kept outside of the spike, and errors counted wherever they came.

    Where the deployment scaled about it, more replicas served, and the SLO was missed for no longer than that: a load
    that falls again makes good whatever never came.
    """
    within_s = run.meta.profile.recover_within_s
    recovery = run.worst_spike
    if recovery is None:
        whole = judge_slo(run.everything, run.slo)
        broken = [target for target in whole.targets if target.name == "error_ratio" and target.ok is False]
        verdict = msgspec.structs.replace(whole, ok=False if broken else None, targets=tuple(broken))
        verdict = run.with_named(verdict, run.near(None))
        return _Answer(verdict, verdict.ok, answers.no_spike(verdict.ok), run.misses(verdict))
    outside, spans = run.outside(recovery)
    calm = judge_slo(run.sample(outside, spans), run.slo)
    for load in run.loads:  # what else the plan holds is not made good by the calm around the spike
        there = judge_slo(run.sample(outside & load.during(run.found.requests.sent_s), load.spans), run.slo)
        calm = there if there.ok is False and calm.ok is not False else calm
    verdict = _with_errors_of(judge_slo(run.everything, run.slo), calm, run.slo)
    verdict = run.with_named(verdict, (outside, run.all_of[1]))
    ok = recovered_within((recovery,), within_s)
    told, slow = run.scaling_of(recovery), tuple[str, ...]()
    if ok and told is not None:
        slow = too_slow(told, within_s)
    text = answers.but_too_slow(answers.recovered(recovery, within_s, ok), slow)
    text = "; ".join(filter(None, (text, owed(recovery) if told is None else told.text)))
    reasons = run.reasons(verdict) if verdict.ok is not True else ()
    if slow:
        return _Answer(verdict, False, answers.with_reasons(text, reasons), (*slow, *reasons), said=True)
    if ok and verdict.ok is not True:
        ok = verdict.ok
    return _Answer(verdict, ok, text, reasons)


OF_LEVELS = (Question.PEAK, Question.CAPACITY, Question.CLIFF)
"""Questions that are answered by levels, which are of one configuration."""


def _by_configuration(run: Run, question: Question) -> _Answer:
    """Each configuration that the plan drove, by itself: yes only if it is for all of them.

    A load that is asked for is asked of those that were driven so far: 8 users say nothing of 8 requests/s.
    """
    judged: list[tuple[str, _Answer]] = []
    for name, there, asks in configurations_of(run, question):
        judged.append((name, _without_levels(there, _ANSWERS[asks](there))))
    parts = tuple(PartVerdict(name=name, ok=answer.ok, text=answer.told()) for name, answer in judged)
    judged.sort(key=lambda each: (False, None, True).index(each[1].ok))
    first = judged[0][1]
    text = "; ".join(answers.of_configuration(name, answer.told()) for name, answer in judged)
    reach = all(answer.reach for _, answer in judged)
    return _Answer(first.verdict, first.ok, text, first.reasons, reach=reach, said=True, parts=parts)


def configurations_of(run: Run, question: Question) -> list[tuple[str, Run, Question]]:
    """Each configuration that the plan drove: its name, what of the run is of it, and what is asked of it."""
    profile, parts = run.meta.profile, run.found.parts
    wanted = {Question.PEAK: profile.peak, Question.CAPACITY: profile.at_least}.get(question)
    tops = [found.part.top for found in parts if found.part is not None]
    asked = wanted if wanted is not None and max(tops) >= NEAR_PEAK * wanted else None
    otherwise = Question.HOLD if question is Question.PEAK else Question.CLIFF
    points = [found.part.point for found in parts if found.part is not None]
    told = []
    for found, name in zip(parts, answers.configurations(points), strict=True):
        assert found.part is not None
        asks = question if asked is None or found.part.top >= NEAR_PEAK * asked else otherwise
        told.append((name, Run(run.facts, run.meta, run.slo, found, run.now_s), asks))
    return told


def _without_levels(run: Run, answer: _Answer) -> _Answer:
    """The answer; where no level could be judged, what all requests of the part say against it, or what they lack."""
    if answer.ok is not None:
        return answer
    whole = _hold(run)
    return whole if whole.ok is False else replace(answer, reasons=() if whole.ok else whole.reasons)


_ANSWERS: dict[Question, Callable[[Run], _Answer]] = {
    Question.HOLD: _hold,
    Question.SOAK: _soak,
    Question.PEAK: _peak,
    Question.CAPACITY: _capacity,
    Question.SPIKE: _spike,
    Question.CLIFF: _cliff,
}


def _at_capacity(run: Run, slo: Slo | None = None) -> SloVerdict:
    """What users feel at the load that the capacity names, or at the lowest that broke; errors of all up to there.

    Args:
        slo: limits that are judged there; None: those of the run that users feel.
    """
    felt = Slo(run.slo.felt) if slo is None else Slo(slo.targets)
    capacity = run.found.capacity
    load = capacity.at_slo if capacity.at_slo is not None else capacity.fails_at
    if load is None:
        most = max(run.found.levels, key=lambda level: level.n, default=None)
        doubt = judge_slo(NOTHING if most is None else Sample.of_level(most), felt)
        return SloVerdict(targets=tuple(each for each in doubt.targets if each.ok is None))
    sent_at = run.load_at(run.found.requests.sent_s)
    up_to = sent_at <= AT_PEAK * load
    if capacity.at_slo is not None and capacity.fails_at is not None:
        up_to &= sent_at < capacity.fails_at
    pooled = judge_slo(run.sample(up_to), felt)
    tested = _tested(run.facts, run.slo, load)
    if tested is not None:
        return _with_errors_of(pooled, _of_test(tested, felt), felt)
    level = min(run.found.levels, key=lambda level: abs(level.load - load))
    return _with_errors_of(pooled, judge_slo(Sample.of_level(level), felt), felt)


def _tested(facts: Facts, slo: Slo, load: float) -> JudgedLevel | None:
    """What a search found at this load, by this SLO."""
    return next((each for each in reversed(facts.tested) if each.load == load and each.slo == str(slo)), None)


def _search_ended(facts: Facts) -> bool:
    """Whether the search came to its own end; True where none drove."""
    return not facts.tested or any(end.reason not in ("hand", "client") for end in facts.searches)


def _of_test(tested: JudgedLevel, slo: Slo) -> SloVerdict:
    worst = dict(tested.worst)
    targets = tuple(
        TargetVerdict(
            name=target.name,
            limit=target.limit,
            value=worst.get(target.name),
            n=tested.n,
            ok=target.name not in tested.failed,
            text=answers.at_search(target, worst.get(target.name), tested.load),
        )
        for target in slo.targets
    )
    return overall(targets, slo)


def _with_errors_of(pooled: SloVerdict, verdict: SloVerdict, slo: Slo) -> SloVerdict:
    """The verdict with the limit on errors as `pooled` has it."""
    errors = {each.name: each for each in pooled.targets if each.name == "error_ratio"}
    targets = tuple(errors.get(each.name, each) for each in verdict.targets)
    return msgspec.structs.replace(verdict, targets=targets, ok=overall(targets, slo).ok)
