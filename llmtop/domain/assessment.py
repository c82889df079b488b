"""All opinions over one run, as they are shown, told and written."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.balance import Imbalance, ReplicaFigures
from llmtop.domain.cost import Costs
from llmtop.domain.failures import FailureGroup
from llmtop.domain.foresight import Foresight, WhatIf
from llmtop.domain.gain import Baseline, Comparison
from llmtop.domain.judgement import Judgement
from llmtop.domain.kinds import CallFigures, KindFigures, VisitFigures
from llmtop.domain.map import Map
from llmtop.domain.over_time import Drift, Recovery
from llmtop.domain.scaling import Scaling
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Curve, Diagnosis, Kind, SloVerdict


class Assessment(Struct, frozen=True, kw_only=True):
    """All opinions over one run or one live window. `headline` is the verdict under the header of the screen."""

    t_s: float = 0.0
    headline: str = ""
    slo: SloVerdict = SloVerdict()
    cliff: CliffVerdict = CliffVerdict(kind=Kind.INSUFFICIENT)
    cliffs: tuple[CliffVerdict, ...] = ()
    """One for each metric and statistic that could be judged; `cliff` is the one that matters."""
    diagnosis: Diagnosis = Diagnosis(bound=Bound.NONE)
    capacity: Capacity = Capacity()
    curves: tuple[Curve, ...] = ()
    """Ghosts first, the current one last."""
    drifts: tuple[Drift, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    """What the deployment did about the load, in the order in which it was decided."""
    judgement: Judgement = Judgement()
    overloaded: bool = False
    """Past the cliff right now."""
    judged_requests: int = 0
    """Requests of the current curve that `cliffs` rest on; a shown verdict changes only as this grows."""
    failures: tuple[FailureGroup, ...] = ()
    """Of all requests of the run, the most frequent first; of a table, none."""
    compared: Comparison | None = None
    """With the configuration before; None: there was none, or nothing of it is known."""
    baselines: tuple[Baseline, ...] = ()
    """Earlier measurements, in the order in which they were asked for."""
    what_if: tuple[WhatIf, ...] = ()
    """Fewer slots, where levels were measured near them, the fewest first; (): the levels do not tell."""
    foreseen: Foresight | None = None
    """None: nothing was asked, and fewer levels were measured than a twin needs."""
    map: Map | None = None
    """Of the present configuration, whatever the prompt length; None: no level of it was measured."""
    by_name: tuple[KindFigures, ...] = ()
    """The requests of each name, in the order in which they came; (): none has one."""
    by_model: tuple[KindFigures, ...] = ()
    """The same of each model, where several were asked."""
    sessions: VisitFigures | None = None
    """Visits of users, with the turns in them; None: no request is told to be of one."""
    calls: tuple[CallFigures, ...] = ()
    """Users' requests that were none to the model, by name; in no other figure."""
    costs: Costs | None = None
    """None: neither a price nor a peak was stated, and no power was read."""
    replicas: tuple[ReplicaFigures, ...] = ()
    """What each replica carried while there was load, in the order in which they came; (): there was one alone."""
    imbalance: Imbalance | None = None
    """Of these means; None: there was one alone, or nothing ran."""
    path: str = ""
    """How the path between server and client makes TTFT, TPOT and ICL void, and what to type; empty: it does not."""
    notes: tuple[str, ...] = ()

    @property
    def scaled_besides(self) -> tuple[str, ...]:
        """What is said of `scalings` that the answer does not say already."""
        void, answer = self.judgement.void, self.judgement.sentence
        return tuple(each.text for each in self.scalings if not void and each.text not in answer)

    @property
    def fewer_slots(self) -> WhatIf | None:
        """Of `what_if` the one that is said; None: none may be."""
        return next((each for each in self.what_if if each.text), None)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """With earlier measurements, as they were asked for, then with the configuration before."""
        found = (*(each.compared for each in self.baselines), self.compared)
        return tuple(each for each in found if each is not None)
