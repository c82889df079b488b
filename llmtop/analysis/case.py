"""A run as it is judged at one moment: its facts, and what every opinion on it looks at."""

from __future__ import annotations

from functools import cached_property

from llmtop.analysis import buffering
from llmtop.analysis.diagnosis import Recent
from llmtop.analysis.failing import all_failed
from llmtop.analysis.falls import of_this_start
from llmtop.analysis.gate import configured_s
from llmtop.analysis.judge import Limits
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.readings import driven_lengths, finished_requests
from llmtop.analysis.recent import as_ended, last_held_s, limits_of, measured_lengths, recent_of
from llmtop.analysis.sessions import Requests
from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LOST, RunMeta
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts

LIVE_REQUESTS = 32768
"""The newest, which the SLO of now and the diagnosis of a live verdict rest on: a minute of 500 requests/s."""


class Case:
    """What is known before anything is judged; most of it of the curve that is driven now, where there is one."""

    def __init__(
        self,
        facts: Facts,
        meta: RunMeta,
        slo: Slo,
        now_s: float,
        previous: Assessment | None,
        full: bool,
        ledger: Ledger,
    ) -> None:
        """Args as those of `assess`."""
        self.facts, self.now_s, self.previous, self.full, self.ledger = facts, now_s, previous, full, ledger
        self.meta = as_ended(facts, meta)
        self.over = meta.ended_s is not None
        self.all_failed = all_failed(facts)
        self.mute = self.all_failed or self.meta.ending in LOST
        """Nothing that was measured says what the server carries."""
        self.whole_slo = slo
        """With the limits that nothing can be held against, where a path buffers."""
        self._finished = finished_requests(facts, None if full or self.over else LIVE_REQUESTS)

    @cached_property
    def curves(self) -> tuple[MeasuredCurve, ...]:
        return self.ledger.curves(self.facts, self.meta, self._finished, self.now_s)

    @property
    def current(self) -> MeasuredCurve:
        return self.curves[-1]

    @property
    def point(self) -> LoadPoint:
        """The load that is asked for now."""
        return self.current.point

    @cached_property
    def requests(self) -> Requests:
        return of_this_start(self.facts, self._finished, over=self.over)

    @cached_property
    def limits(self) -> Limits:
        return measured_lengths(limits_of(self.facts, self.meta, self.point), self.current.requests)

    @cached_property
    def arrival(self) -> buffering.Arrival | None:
        """How answers arrive that the path keeps back; None: as they are sent."""
        return None if self.all_failed else buffering.arrival_of(self.facts)

    @property
    def whole(self) -> bool:
        """Whether answers arrive whole."""
        return self.arrival is buffering.Arrival.WHOLE

    @cached_property
    def slo(self) -> Slo:
        """The limits that the figures can be held against."""
        return buffering.judged_by(self.whole_slo, self.arrival)

    @property
    def dialect(self) -> Dialect | None:
        info = self.meta.info
        return info.dialect if info is not None else self.meta.endpoint.dialect

    @property
    def table(self) -> DialectTable:
        return DIALECTS[self.dialect or Dialect.OPENAI]

    @property
    def embeds(self) -> bool:
        return self.meta.profile.workload.api == "embeddings"

    @cached_property
    def driven(self) -> LoadPoint:
        """The load with the lengths that were driven."""
        return driven_lengths(self.point, self.embeds)

    @property
    def stands_here(self) -> bool:
        return self.meta.endpoint.stands_here

    @property
    def at_rest(self) -> bool:
        """Whether what is told is of a load that was, over or let go: it answers for the run, not for now."""
        return self.over or self.point.value == 0

    @cached_property
    def held_s(self) -> float:
        """Until when what is told is of a load that was held."""
        return last_held_s(self.facts, self.now_s) if self.at_rest else self.now_s

    @property
    def anew(self) -> bool:
        """Whether to reckon again what a live screen keeps between full assessments."""
        return self.full or self.over or self.previous is None

    @property
    def before(self) -> Assessment | None:
        """What was shown of this server: with a chapter, or another gate, begins another."""
        previous = self.previous
        return None if previous is None or configured_s(self.facts) >= previous.t_s else previous

    @cached_property
    def recent(self) -> Recent:
        """The last seconds of now; of a run that is over the last that were driven."""
        return recent_of(self.facts, self.requests, self.point, self.held_s if self.over else self.now_s)
