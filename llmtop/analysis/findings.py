"""What an answer rests on: the opinions that were found, and the run that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec
import numpy as np

from llmtop.analysis.diagnosis import is_client_bound
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, Level
from llmtop.analysis.parts import Part, held_loads
from llmtop.analysis.readings import commanded, server_gauges
from llmtop.analysis.reasons import Reasons
from llmtop.analysis.sessions import Gauges, Mask, Requests
from llmtop.analysis.slo import Sample, judge_named, with_named
from llmtop.domain.load import Hold, LoadPoint
from llmtop.domain.over_time import Drift, Recovery
from llmtop.domain.profile import Profile, Question
from llmtop.domain.run import INTERRUPTED, LOST, RunMeta
from llmtop.domain.scaling import Scaling
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, SloVerdict, TargetVerdict
from llmtop.meter.facts import Facts
from llmtop.wording import answers
from llmtop.wording.sentences import requests_left_out, requests_lost, worker_called

WHOLE = 0.97
"""Share of its planned time from which a plan counts as driven to its end: ticks and the drain blur the rest."""
NEAR_PEAK, AT_PEAK = 0.93, 1.05
"""What was sent between these shares of the expected peak speaks for it: a ramp is there for a moment only."""
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


def question_of(facts: Facts, profile: Profile) -> Question:
    """What the run is to find out. A hand that takes the wheel leaves the plan's question for that of a run by hand."""
    asks = profile.asks
    by_hand = any(change.reason == "hand" for change in facts.changes)
    return Question.CLIFF if by_hand and asks is not Question.CAPACITY else asks


class Run:
    """A run with what an answer looks at."""

    def __init__(self, facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float) -> None:
        self.facts, self.meta, self.slo, self.found, self.now_s = facts, meta, slo, found, now_s
        self.plan = meta.profile.plan
        self.target = commanded(facts)
        self.since_s = max((chapter.t_s for chapter in facts.chapters), default=0.0)
        """What came before the last chapter is another configuration's."""
        self.why = Reasons(facts, slo)

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
    def early(self) -> str | None:
        """Why the plan was not driven to its end, or not for this configuration; None: it was, or it goes on."""
        ending = self.meta.ending
        if ending in LOST:
            return answers.ended_by(ending)
        brake = next((change for change in self.facts.changes if change.reason == "brake"), None)
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
