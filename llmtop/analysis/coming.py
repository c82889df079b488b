"""Replicas that are wanted and do not serve yet: what an engine is to be given is not known before they do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from msgspec import structs

from llmtop.domain.replicas import IDLE_S, ReplicaCounts
from llmtop.domain.verdicts import Bound, Diagnosis
from llmtop.meter.facts import Facts
from llmtop.wording.advice import LEAK
from llmtop.wording.replicas import SHARE_OUT, do_not_come, wait_for

COMES_S = 600.0
"""A replica that comes no step nearer for so long is not coming: as Kubernetes has it of a Deployment
(`progressDeadlineSeconds`)."""
_RELIEVED = (Bound.QUEUE, Bound.KV, Bound.TOKEN_BUDGET, Bound.COMPUTE, Bound.MEMORY)
"""What binds an engine less when others share its load."""


@dataclass(frozen=True, slots=True)
class Coming:
    """Fewer replicas serve than are wanted."""

    since_s: float
    wanted: int
    ready: int
    serving: int
    step_s: float
    """When the last of them came a step nearer, or was wanted."""

    @property
    def missing(self) -> int:
        return self.wanted - self.serving

    def given_up(self, at_s: float) -> bool:
        """Whether they are clearly not coming; one that is ready serves at once, or gets nothing."""
        return at_s - self.step_s > (IDLE_S if self.ready >= self.wanted else COMES_S)


def coming(facts: Facts, at_s: float) -> Coming | None:
    """The replicas that were on their way at an instant and have not come since; None: there were none.

    Those that were ready when the run began serve; where nobody tells who serves, all that are ready do.
    """
    tells = any(step.kind == "serving" for step in facts.scaling)
    counts, at_first, serving = ReplicaCounts(), 0, 0
    then: Coming | None = None
    now: Coming | None = None
    for t_s, steps in groupby(facts.scaling, key=lambda step: step.t_s):
        before = counts.of, counts.created, counts.ready
        for step in steps:
            counts.take(step)
            at_first = counts.ready if step.since else at_first
        serving = min(counts.ready, max(counts.serving, at_first)) if tells else counts.ready
        nearer = any(count > was for count, was in zip((counts.of, counts.created, counts.ready), before, strict=True))
        if serving >= counts.of:
            now = None
        else:
            since_s, step_s = (t_s, t_s) if now is None else (now.since_s, t_s if nearer else now.step_s)
            now = Coming(since_s, counts.of, counts.ready, serving, step_s)
        then = now if t_s <= at_s else then
    return None if then is None or serving >= then.wanted else then


def with_coming(diagnosis: Diagnosis, facts: Facts, at_s: float) -> Diagnosis:
    """What binds, with the replicas to wait for in place of advice on an engine; beside it once they do not come.

    What is wrong whoever comes stays advised: a leak, and a balancer that is the limit.
    """
    if diagnosis.bound not in _RELIEVED or diagnosis.advice in (None, LEAK, SHARE_OUT):
        return diagnosis
    found = coming(facts, at_s)
    if found is None:
        return diagnosis
    if found.given_up(at_s):
        advice = f"{diagnosis.advice}; {do_not_come(found.missing, found.since_s)}"
        return structs.replace(diagnosis, advice=advice)
    advice = wait_for(found.missing, found.since_s, found.serving, found.wanted)
    return structs.replace(diagnosis, advice=advice, prediction=None)
