"""The canary lane: now and then one small request beside the load, whose TTFT is what a new user feels at that moment.

It shares nothing with the load but the endpoint: a client of its own, so that it waits for no connection and is in no
receive lag, and no gate, pacer, brake or count sees it. At most one is in flight, so that a server that answers slowly
is asked less often, and the lane adds one request at most to what the server runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.run import Canary
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.trace import Nobody, Trace
from llmtop.load.users import believable
from llmtop.workload.prompts import PromptSource

POINT = LoadPoint(concurrency=1, prompt_tokens=64, output_tokens=1)
"""Small enough to cost the server next to nothing, long enough for a prompt that none before begins like."""
FAR_HEADS = 10**15
"""Added to a salt of prompts: half of all heads away from those that the load's prompts have."""


class CanaryLane:
    """Sends at the instants of a grid, while there is load.

    Args:
        rate_rps: instants of the grid a second.
        client: of this lane alone; closed with it.
        prompts: of this lane alone.
        api: as the load's.
        now: nanoseconds of the run clock.
        wanted: whether there is load, beside which it is to send.
        extra: further fields of its bodies, as the load's have them.
    """

    def __init__(
        self,
        rate_rps: float,
        client: EndpointClient,
        prompts: PromptSource,
        api: str,
        now: Callable[[], int],
        wanted: Callable[[], bool],
        extra: bytes = b"",
    ) -> None:
        self._period_ns = round(1e9 / rate_rps)
        self.client = client
        self._prompts, self._api, self._now, self._wanted = prompts, api, now, wanted
        self._extra = extra
        self._told: list[Canary] = []
        self._trace: Trace | None = None
        self._flight: asyncio.Task[None] | None = None

    @property
    def since_s(self) -> float | None:
        """When the one that is in flight was sent, on the run clock; None: none is."""
        trace = self._trace
        return None if trace is None else (trace.sent_ns or trace.dispatched_ns) / 1e9

    def take(self) -> tuple[Canary, ...]:
        """Those that ended since the last call. One that was cancelled is in none: it tells nothing of the server."""
        told, self._told = tuple(self._told), []
        return told

    def look(self) -> None:
        """Cancel what is in flight where there is no load any more. To be called whenever that may be."""
        if self._flight is not None and not self._wanted():
            self._flight.cancel()

    async def run(self) -> None:
        """Send until cancelled."""
        due_ns = 0
        try:
            while True:
                now = self._now()
                due_ns = max(due_ns, now // self._period_ns * self._period_ns) + self._period_ns
                await asyncio.sleep((due_ns - now) / 1e9)
                if self._wanted():
                    await self._send(due_ns)
        finally:
            await self.client.close()

    async def _send(self, due_ns: int) -> None:
        """One canary, to its end. Raises what a bug in it raised."""
        self._flight = flight = asyncio.get_running_loop().create_task(self._fly(due_ns))
        try:
            await asyncio.wait({flight})
        finally:
            self._flight = None
            flight.cancel()
            await asyncio.wait({flight})
        if not flight.cancelled():
            flight.result()

    async def _fly(self, due_ns: int) -> None:
        prompt = self._prompts.next(POINT)
        self._trace = trace = Trace(due_ns, self._now())
        said = prompt.said(self._api)
        try:
            await self.client.generate(said, prompt.output_tokens, self._api, trace, Nobody(), extra=self._extra)
            self.client.take_lag()  # its stamps are nobody's measure of this process
        finally:
            self._trace = None
        counted = trace.prompt_tokens
        if trace.outcome is Outcome.OK and believable(counted, prompt.tokens):
            self._prompts.calibrate(prompt.tokens, counted)
        self._told.append(_felt(trace))


def _felt(trace: Trace) -> Canary:
    """What came of it. A stream that breaks after its token was felt as its token was."""
    sent_ns = trace.sent_ns or trace.dispatched_ns
    felt_ns = trace.first_token_ns
    if felt_ns is None and trace.outcome is Outcome.OK:  # a vector comes whole
        felt_ns = trace.last_token_ns
    if felt_ns is not None and trace.sent_ns is not None:
        return Canary(sent_ns / 1e9, (felt_ns - trace.sent_ns) / 1e9)
    status = "" if trace.status in (None, 200) else f"HTTP {trace.status}"
    why = " ".join(filter(None, (status, trace.error))) or str(trace.outcome).replace("_", " ")
    return Canary(sent_ns / 1e9, None, why)
