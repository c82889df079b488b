"""Opinions while a run goes on: each rests on all facts so far, and on the opinion before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmtop.analysis import assess
from llmtop.analysis.headline import SEPARATOR, SETTLING, slo_state
from llmtop.analysis.measured import Ledger
from llmtop.analysis.readings import finished_requests
from llmtop.domain.assessment import Assessment
from llmtop.domain.cost import Costs
from llmtop.domain.foresight import Foresight
from llmtop.domain.map import Map
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.thresholds import RunThreshold
from llmtop.domain.verdicts import SloVerdict
from llmtop.meter.facts import Facts
from llmtop.wording.failures import ALL_FAIL
from llmtop.wording.replicas import waits

if TYPE_CHECKING:
    from llmtop.analysis.foreseen import Seer
    from llmtop.analysis.grounds import Grounds
    from llmtop.analysis.mapper import Mapper
    from llmtop.analysis.sides import Side

FULL_EVERY_S = 5.0
"""Intervals cost a bootstrap; they are renewed this often."""
WORDS_S = 30.0
"""Figures in the line of words, and what stays unknown, must have stood so long."""
RELIEF_S = 5.0
"""So long a limit that was missed must hold again before the words say so."""


class Judge:
    """Judges the facts of one run again and again, and remembers what it said. For one thread.

    Args:
        slo: what the run is held against.
        baselines: earlier measurements that it is shown beside.
        foresees: whether a twin of the server is asked.
        thresholds: what the run may not come to; judged at its end.
    """

    def __init__(
        self,
        slo: Slo,
        baselines: Sequence[Side] = (),
        *,
        foresees: bool = True,
        thresholds: Sequence[RunThreshold] = (),
    ) -> None:
        self.slo = slo
        self._thresholds = tuple(thresholds)
        self.baselines = tuple(baselines)
        """Earlier measurements, judged by the same SLO."""
        self.imagined: tuple[tuple[str, float], ...] = ()
        """Settings of the server that are asked about, as `Imagine` names them."""
        self._beside: tuple[Side, ...] = ()
        """Those that the last opinion was formed beside."""
        self._said: Assessment | None = None
        self._full = False
        self._full_at_s = 0.0
        self._ledger = Ledger()
        self._foresees = foresees
        self._seer: Seer | None = None
        self._grounds: Grounds | None = None
        """What the twin rests on, as it was gathered last."""
        self._asked: tuple[tuple[str, float], ...] = ()
        """Settings that the last opinion tells of."""
        self._words_s = 0.0
        self.maps = False
        """Whether somebody looks at the map."""
        self._mapper: Mapper | None = None
        self._mapped_s: float | None = None

    def __call__(self, facts: Facts, meta: RunMeta, *, full: bool | None = None) -> Assessment:
        """All opinions over the facts so far. `full` None: with intervals every `FULL_EVERY_S` of the run."""
        said = self._said
        sides = self.baselines
        asked = self.imagined
        known, self._beside, self._asked = self._beside is sides and self._asked == asked, sides, asked
        ended = meta.ended_s is not None
        if known and said is not None and said.judgement.final and ended and said.t_s == facts.t_s:
            return said
        if ended or (said is not None and facts.t_s < said.t_s):
            said, self._full_at_s, self._grounds = None, 0.0, None
        live = full is None and not ended
        if full is None or ended:
            full = ended or facts.t_s >= self._full_at_s
        if known and said is not None and said.t_s == facts.t_s and self._full >= full:
            return said
        if full:
            self._full_at_s = facts.t_s + FULL_EVERY_S
        fresh = assess(
            facts,
            meta,
            self.slo,
            now_s=facts.t_s,
            previous=said,
            full=full,
            ledger=self._ledger,
            thresholds=self._thresholds,
        )
        if sides:
            from llmtop.analysis.baselines import with_baselines  # late: few runs are shown beside others

            fresh = with_baselines(fresh, sides, facts, meta)
        if self._foresees:
            fresh = replace(fresh, map=self._mapped(facts, meta, said, anew=full))
            fresh = replace(fresh, foreseen=self._foreseen(facts, meta, anew=full))
            fresh = replace(fresh, costs=self._split(facts, fresh.costs))
        self._said = self._calm(said, fresh) if live else fresh
        self._full = full
        return self._said

    def imagine(self, facts: Facts, meta: RunMeta) -> Assessment | None:
        """The last opinion, with what is foreseen of the settings that are asked about now; None: there is none yet."""
        asked, said = self.imagined, self._said
        if said is not None and self._asked != asked:
            self._asked = asked
            said = replace(said, foreseen=self._foreseen(facts, meta, anew=False))
        if said is not None and self.maps and said.map is None and self._mapped_s != facts.t_s:
            said = replace(said, map=self._mapped(facts, meta, None, anew=True))
        self._said = said
        return said

    def _mapped(self, facts: Facts, meta: RunMeta, said: Assessment | None, *, anew: bool) -> Map | None:
        """At the end, and while somebody looks at it; of many prompt lengths it costs as much as all else."""
        if not self.maps and meta.ended_s is None:
            return None
        if said is not None and said.map is not None and not anew:
            return said.map
        from llmtop.analysis.mapper import Mapper

        self._mapped_s = facts.t_s
        self._mapper = self._mapper or Mapper(self.slo, self._ledger)
        return self._mapper.map(facts, meta)

    def around(self) -> tuple[Foresight, ...]:
        """What the twin of the last opinion foresees beside the server as it stands; (): there is none."""
        if self._seer is None or self._grounds is None:
            return ()
        from llmtop.analysis.foreseen import around

        return around(self._seer, self._grounds, self.slo)

    def _foreseen(self, facts: Facts, meta: RunMeta, *, anew: bool) -> Foresight | None:
        """What is foreseen of the settings that are asked about; without any, of the server as it stands at rest.

        Args:
            anew: gather what the twin rests on again, even if something is known.
        """
        settings, over = self._asked, meta.ended_s is not None
        driven = bool(facts.changes) and facts.changes[-1].point.value > 0
        if not settings and driven and not over:
            return None
        from llmtop.analysis.foreseen import Seer, Wish  # late: the first picture does not wait for a twin
        from llmtop.analysis.grounds import grounds_of

        if anew or self._grounds is None:
            curves = self._ledger.curves(facts, meta, finished_requests(facts), facts.t_s, every=True)
            self._grounds = grounds_of(facts, meta, curves)
        self._seer = self._seer or Seer()
        told = self._seer.ask(self._grounds, Wish(settings=settings), self.slo)
        return told if settings or told.off is not None else None

    def _split(self, facts: Facts, costs: Costs | None) -> Costs | None:
        """Costs with the parts of input and output as the twin that was asked last tells them, where it does: it knows
        the steps of one engine.
        """
        if costs is None or costs.at is None or not costs.rows or self._seer is None or self._grounds is None:
            return costs
        if len(facts.replicas):
            return costs
        from llmtop.analysis.cost import split_by_steps
        from llmtop.analysis.foreseen import Wish

        return split_by_steps(costs, self._seer.prompt_share(self._grounds, Wish(), costs.at))

    def _calm(self, said: Assessment | None, fresh: Assessment) -> Assessment:
        """The opinion under the line of words to show: the one shown until other words have stood for a while."""
        if said is None or fresh.headline == said.headline:
            self._words_s = fresh.t_s
            return fresh
        if fresh.t_s - self._words_s < _patience_s(said, fresh):
            return _with_words_of(said, fresh)
        self._words_s = fresh.t_s
        return fresh


def _with_words_of(said: Assessment, fresh: Assessment) -> Assessment:
    """The opinion with the words that are shown, and what else is shown of the same: two advices would contradict."""
    advised = replace(fresh.diagnosis, advice=said.diagnosis.advice, prediction=said.diagnosis.prediction)
    kept = {name: getattr(said, name) for name in ("headline", "capacity", "costs", "what_if")}
    return replace(fresh, diagnosis=advised, **kept)


def _patience_s(said: Assessment, fresh: Assessment) -> float:
    """How long other words must have stood before they are shown: decisions at once, a limit that holds again after
    `RELIEF_S`, figures and what is not known after `WORDS_S`."""
    if _decided(said) != _decided(fresh):
        return 0.0
    was, now = (each.headline.partition(SEPARATOR)[0] for each in (said, fresh))
    if SETTLING in (was, now) and was != now:
        return 0.0
    if was == now or now == slo_state(SloVerdict()):
        return WORDS_S
    return RELIEF_S if now == slo_state(SloVerdict(ok=True)) else 0.0


def _decided(said: Assessment) -> tuple[object, ...]:
    found = said.cliff.kind if said.cliff.at is not None else None
    label = said.curves[-1].label if said.curves else ""
    gains = tuple(each.gain for each in said.comparisons)
    binds = said.diagnosis.bound, waits(said.diagnosis.advice)
    return ALL_FAIL in said.headline, *binds, found, label, gains
