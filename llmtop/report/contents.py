"""What a report is made of: the verdicts, the timeline, and the sums over the whole run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from llmtop.analysis.percentiles import figures_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.client import CrewFigures
from llmtop.domain.figures import RunFigures
from llmtop.domain.foresight import Foresight
from llmtop.domain.frame import Timeline, Totals
from llmtop.domain.map import Map
from llmtop.domain.plainly import plainly
from llmtop.domain.request import Outcome, RequestRecord, TokenSource, least_sure
from llmtop.domain.run import Event, LoadChange, Mark, RunMeta, ScaleStep, safe_meta
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts
from llmtop.wording.failures import failure


class ClientSummary(Struct, frozen=True, kw_only=True):
    """How the client did over the run. `red_share`: of its seconds, those in which it was the bottleneck."""

    seconds: int = 0
    red_share: float = 0.0
    lag_p99_ms: float | None = None
    """Median over the seconds of the run of the receive lag p99."""
    lag_worst_ms: float | None = None
    cpu_max: float | None = None


class ReportInput(Struct, frozen=True, kw_only=True):
    """One run, judged, ready to be written down."""

    meta: RunMeta
    slo: Slo
    """What the run was judged against; another than the profile's, perhaps."""
    assessment: Assessment
    foreseen: tuple[Foresight, ...] = ()
    """By the twin of the server: as it stands, then with other slots and another KV cache. (): it foresees none."""
    timeline: Timeline
    length_s: float
    complete: bool = True
    """False: the run was cut off."""
    totals: Totals = Totals()
    prompt_tokens: int = 0
    figures: RunFigures = RunFigures()
    failures: tuple[tuple[str, int], ...] = ()
    """(what happened, how often), the most frequent first; `assessment.failures` has them in their parts."""
    token_source: str | None = None
    """Where output token counts come from; the least sure of them."""
    client: ClientSummary = ClientSummary()
    load_workers: CrewFigures | None = None
    """Each at worst; None: this process alone has sent the load."""
    gpus: tuple[str, ...] = ()
    changes: tuple[LoadChange, ...] = ()
    marks: tuple[Mark, ...] = ()
    scaling: tuple[ScaleStep, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def map(self) -> Map | None:
        """What is drawn of it; None: there is none, or it has one prompt length and is told as a curve."""
        known = self.assessment.map
        return known if known is not None and len(known.lengths) > 1 else None


def report_input(
    meta: RunMeta,
    facts: Facts,
    assessment: Assessment,
    timeline: Timeline,
    *,
    slo: Slo,
    length_s: float,
    complete: bool = True,
    records: Iterable[RequestRecord] = (),
    gpus: Iterable[str] = (),
    foreseen: Iterable[Foresight] = (),
) -> ReportInput:
    """Sum up a run. Every text in it is `plain`, so that a format has only its own signs to escape.

    Args:
        facts: all of the run (`Facts.of(reader.batches())`).
        timeline: from start to end (`whole_run_timeline`).
        records: for the source of token counts, which `facts` do not hold; read once.
        gpus: names, one for each GPU that was seen.
        foreseen: by the twin of the server.
    """
    table = facts.requests
    ok = table.column("ok") == 1
    sources: set[TokenSource] = set()
    for record in records:
        if record.outcome is Outcome.OK:
            sources.add(record.token_source)
    report = ReportInput(
        meta=safe_meta(meta),
        slo=slo,
        assessment=assessment,
        foreseen=tuple(foreseen),
        timeline=timeline,
        length_s=length_s,
        complete=complete,
        totals=_totals(facts),
        prompt_tokens=int(table.column("prompt_tokens")[ok].sum()),
        figures=figures_of(facts, meta),
        failures=tuple((failure(group), group.count) for group in facts.failures.groups()),
        token_source=least_sure(sources),
        client=_client(facts),
        load_workers=facts.crew.whole(),
        gpus=tuple(gpus),
        changes=tuple(facts.changes),
        marks=tuple(facts.marks),
        scaling=tuple(facts.scaling),
        events=tuple(facts.events),
    )
    return plainly(report)


def _totals(facts: Facts) -> Totals:
    bins = facts.bins
    if not len(bins):
        return Totals()
    sums = {name: int(np.nansum(bins.column(name))) for name in ("sent", "ok", "errors", "cancelled", "output_tokens")}
    return Totals(in_flight=int(bins.column("in_flight")[-1]), hung_up=facts.hung_up, **sums)


def _client(facts: Facts) -> ClientSummary:
    table = facts.client
    if not len(table):
        return ClientSummary()
    lag, cpu = table.column("lag_p99_ms"), table.column("cpu")
    lag, cpu = lag[np.isfinite(lag)], cpu[np.isfinite(cpu)]
    return ClientSummary(
        seconds=len(table),
        red_share=float(np.nanmean(table.column("red"))),
        lag_p99_ms=float(np.median(lag)) if len(lag) else None,
        lag_worst_ms=float(lag.max()) if len(lag) else None,
        cpu_max=float(cpu.max()) if len(cpu) else None,
    )
