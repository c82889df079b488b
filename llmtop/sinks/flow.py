"""All sinks of a run as one output of its host."""

from __future__ import annotations

import time
from collections.abc import Sequence

from llmtop.domain.assessment import Assessment
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.domain.shown import SinkState
from llmtop.sinks.figures import Accumulator
from llmtop.sinks.otlp import PATIENCE_S, Push
from llmtop.sinks.pump import Pump, Sink
from llmtop.sinks.specs import sink_of

LAST_S = PATIENCE_S + 1.0
"""How long the last delivery of all sinks is waited for."""


class Flow:
    """Hears a run, and has its figures brought to all sinks. No call waits for a sink, but for `end`."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._figures = Accumulator()
        self._sinks = tuple(sinks)
        self._pumps = tuple(Pump(sink, self._figures.now) for sink in sinks)

    def states(self) -> tuple[SinkState, ...]:
        """Where figures flow to, and why they do not."""
        return tuple(pump.state for pump in self._pumps)

    def begin(self, meta: RunMeta) -> None:
        begun = self._figures.meta is not None
        self.known(meta)
        if not begun:
            for pump in self._pumps:
                pump.start()

    def known(self, meta: RunMeta) -> None:
        """More is known of the run: which model answers."""
        self._figures.begin(meta)
        for sink in self._sinks:
            if isinstance(sink, Push):
                sink.started_at, sink.api = meta.started_at, meta.profile.workload.api
                sink.provider = "" if meta.info is None else str(meta.info.dialect)

    def tell(self, batch: FactBatch) -> None:
        self._figures.tell(batch)

    def judged(self, assessment: Assessment) -> None:
        self._figures.judged(assessment)

    def end(self, meta: RunMeta) -> None:
        """The last figures; what does not arrive is in `states`."""
        self.known(meta)
        self._figures.end()
        for pump in self._pumps:
            pump.end()
        until_s = time.monotonic() + LAST_S
        for pump in self._pumps:
            pump.join(max(0.0, until_s - time.monotonic()))

    def broke(self, profile: str, why: str) -> None:
        """The run could not start: there is nothing to bring anywhere."""


def opened(specs: Sequence[str]) -> list[Flow]:
    """The output that brings a run's figures to all of `specs`; none for none. To be given to a host.

    Raises LlmtopError for what `check` refuses, but for a port that is taken: the sink says so, and tries again.
    """
    return [Flow([sink_of(spec) for spec in specs])] if specs else []
