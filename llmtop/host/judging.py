"""Opinions while a run goes on: each rests on all facts so far, and on the opinion before."""

from __future__ import annotations

from llmtop.analysis import assess
from llmtop.analysis.measured import Ledger
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.meter.facts import Facts

FULL_EVERY_S = 5.0
"""Intervals cost a bootstrap; they are renewed this often."""


class Judge:
    """Judges the facts of one run again and again, and remembers what it said. For one thread."""

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        self._said: Assessment | None = None
        self._full = False
        self._full_at_s = 0.0
        self._ledger = Ledger()

    def __call__(self, facts: Facts, meta: RunMeta, *, full: bool | None = None) -> Assessment:
        """All opinions over the facts so far. `full` None: with intervals every `FULL_EVERY_S` of the run."""
        said = self._said
        ended = meta.ended_s is not None
        if said is not None and said.judgement.final and ended and said.t_s == facts.t_s:
            return said
        if ended or (said is not None and facts.t_s < said.t_s):
            said, self._full_at_s = None, 0.0
        if full is None or ended:
            full = ended or facts.t_s >= self._full_at_s
        if said is not None and said.t_s == facts.t_s and self._full >= full:
            return said
        if full:
            self._full_at_s = facts.t_s + FULL_EVERY_S
        self._said = assess(facts, meta, self.slo, now_s=facts.t_s, previous=said, full=full, ledger=self._ledger)
        self._full = full
        return self._said
