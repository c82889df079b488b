"""The map of a run as it goes on: its rows by the levels that were held, the rest by the twin of its server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmtop.analysis import buffering
from llmtop.analysis.failing import all_failed
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import FAINT_BELOW
from llmtop.analysis.mapping import Row, cells_of, edge_of, joined, rows_of
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.recent import limits_of, measured_lengths
from llmtop.domain.map import Map
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.meter.facts import Facts
from llmtop.wording.mapping import contour_text, missing_text

if TYPE_CHECKING:
    from llmtop.analysis.foretold import Foreteller


class Mapper:
    """The map of one run, again and again as it goes on.

    Args:
        ledger: of the same run, kept by whoever asks; None: one of its own.
        foresees: whether a twin of the server is asked.
    """

    def __init__(self, slo: Slo, ledger: Ledger | None = None, *, foresees: bool = True) -> None:
        self._whole_slo = slo
        self._ledger = ledger or Ledger()
        self.slo = slo
        """The limits that can be judged: those that a path between spoils are none."""
        self._curves: tuple[MeasuredCurve, ...] = ()
        self._foresees = foresees
        self._foreteller: Foreteller | None = None

    def look(self, facts: Facts, meta: RunMeta) -> tuple[Row, ...]:
        """The rows of the map as the facts stand."""
        self.slo = buffering.judged_by(self._whole_slo, buffering.arrival_of(facts))
        self._curves = self._ledger.curves(facts, meta, finished_requests(facts), facts.t_s, every=True)
        return rows_of(self._curves, self.slo)

    def map(self, facts: Facts, meta: RunMeta) -> Map | None:
        """None: no level of the present configuration was measured, all fail, or no latency can be judged."""
        rows = () if all_failed(facts) else self.look(facts, meta)
        if not rows or not any(target.metric in LATENCIES for target in self.slo.targets):
            return None
        last = max(rows, key=lambda row: row.curve.requests.sent_s.max(initial=0.0))
        limits = measured_lengths(limits_of(facts, meta, last.point), last.curve.requests)
        edges = joined([edge_of(row, self.slo) for row in rows])
        found = Map(
            axis=last.curve.axis,
            output_tokens=last.point.output_tokens,
            cells=tuple(cell for row in rows for cell in cells_of(row, self.slo)),
            contour=edges,
            kv_tokens=limits.kv_capacity_tokens,
            answer_tokens=_answer_tokens(limits),
            slots=limits.max_num_seqs,
        )
        driven = bool(facts.changes) and facts.changes[-1].point.value > 0 and meta.ended_s is None
        if self._foresees and (
            len(rows) > 1 or not driven
        ):  # a fit costs a tenth of a second, and one row needs it little
            found = self._foretold(found, facts, meta, rows)
        return replace(found, text=contour_text(found), missing=missing_text(found, worth_trying(rows, FAINT_BELOW)))

    def _foretold(self, found: Map, facts: Facts, meta: RunMeta, rows: Sequence[Row]) -> Map:
        from llmtop.analysis.foretold import Foreteller
        from llmtop.analysis.grounds import grounds_of  # late: the first picture does not wait for a twin

        own = {id(row.curve) for row in rows}
        curves = [curve for curve in self._curves if id(curve) in own]
        self._foreteller = self._foreteller or Foreteller()
        return self._foreteller.add(found, rows, grounds_of(facts, meta, curves), self.slo)


def _answer_tokens(limits: Limits) -> float:
    """What a request that runs holds beside its prompt: half of its answer, more of long ones, and half a block."""
    return (limits.output_tokens or 0.0) / 2 * (1 + limits.output_cv**2) + (limits.block_tokens - 1) / 2


def worth_trying(rows: Sequence[Row], least: int) -> int | None:
    """The prompt length whose level would say most of what lies between and beyond; None: three are there."""
    lengths = [row.prompt_tokens for row in rows if any(level.n >= least for level in row.curve.levels)]
    if not lengths or len(lengths) >= 3:
        return None
    return 4 * lengths[-1] if len(lengths) == 1 else round(math.sqrt(lengths[0] * lengths[1]))
