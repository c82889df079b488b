"""The knobs of a server that is not ours to simulate: what turns while it runs, who turns it, or why nothing does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from msgspec.structs import replace

from llmtop.dialects import DIALECTS
from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.places import places_in
from llmtop.domain.plain import LONG, plain
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.settings import is_slots
from llmtop.errors import EndpointError, UsageError
from llmtop.session.liveknobs import LiveKnobs, Stand, routed
from llmtop.session.panels import find_panel, replicas_of
from llmtop.wording.knobs import beyond_text, no_knob_text, none_text, replicas_text, simulated_text

LOOK_S = 4.0
"""For all of a probe: its questions are asked at the same time, some of them one after the other."""
SLOTS, BUDGET = "max_num_seqs", "max_num_batched_tokens"
NOBODY_LOOKED = "what turns while it runs is not known yet"


async def find(endpoint: Endpoint, info: EndpointInfo, url: str | None) -> tuple[LiveKnobs, Stand] | str:
    """The way to turn the server's knobs, and where they stand; or why there is none. Changes nothing.

    Args:
        url: where llmtop's scheduler shows its knobs; None: where it usually does.
    """
    table = DIALECTS[info.dialect]
    could = table.advice.live_knobs is not None
    if is_ours(info) and url is None:
        return simulated_text()
    try:
        async with asyncio.timeout(LOOK_S):
            if places_in(endpoint.metrics_urls):
                return replicas_text()
            if len(endpoint.metrics_urls) > 1 and (replicas := await replicas_of(endpoint, table)) > 1:
                return replicas_text(replicas)
            if not could:
                return await routed(endpoint, table) or none_text(table.title, could)
            own, panel = await asyncio.gather(routed(endpoint, table), find_panel(endpoint, info, table, url))
            return panel if not isinstance(panel, str) else own or none_text(table.title, could, panel)
    except TimeoutError:
        return none_text(table.title, could, f"it did not say within {LOOK_S:g} s what it turns")


def is_ours(info: EndpointInfo) -> bool:
    """Whether it is a simulated engine, as it says itself."""
    return info.server is not None and info.server.endswith("+llmtop")


class Bank:
    """What is known of one server's knobs, from its last probe and turn on.

    Args:
        url: where llmtop's scheduler shows its knobs; None: where it usually does.
    """

    def __init__(self, endpoint: Endpoint, url: str | None = None) -> None:
        self.knobs: Mapping[str, float] = {}
        self.most: Mapping[str, float] = {}
        self.by = ""
        self.none = ""
        """Why nothing turns; empty: something does, or nobody has looked."""
        self.engines = 1
        self._endpoint, self._url = endpoint, url
        self._speaker: LiveKnobs | None = None
        self._flags: Mapping[str, str | None] = {}

    async def look(self, info: EndpointInfo) -> EndpointInfo:
        """Find out what turns, and where it stands: what a probe has found, with what that tells of the server."""
        found = await find(self._endpoint, info, self._url)
        advice = DIALECTS[info.dialect].advice
        self._flags = {SLOTS: advice.more_slots, BUDGET: advice.token_budget}
        if isinstance(found, str):
            self.withdraw(found)
            return info
        self._speaker, stand = found
        self.by, self.none = self._speaker.by, ""
        self._take(stand)
        told = dict(info.flags)
        has_slots = any(map(is_slots, told))
        new = {name: f"{each:g}" for name, each in self.knobs.items() if not (has_slots and name == SLOTS)}
        return replace(info, flags=tuple(sorted({**new, **told}.items())))

    def withdraw(self, why: str) -> None:
        """Nothing turns any more."""
        self._speaker, self.by, self.none = None, "", plain(why, LONG)
        self._take(Stand(knobs={}, most={}))

    def _take(self, stand: Stand) -> None:
        self.knobs, self.most, self.engines = stand.knobs, stand.most, stand.engines

    async def turn(self, wish: SetKnob | InjectFault) -> str:
        """Turn a knob on all engines, and say what was done. Raises UsageError, or EndpointError with the reason."""
        name, speaker = wish.name, self._speaker
        if isinstance(wish, InjectFault):
            raise UsageError("only the simulated engine has faults")
        if speaker is None:
            raise UsageError(self.none or NOBODY_LOOKED)
        if name not in self.knobs:
            raise UsageError(no_knob_text(name, self.knobs))
        value, most = wish.value, self.most.get(name)
        if value < 1 or not float(value).is_integer() or (most is not None and value > most):
            raise UsageError(beyond_text(name, value, most, self._flags.get(name)))
        try:
            self._take(await speaker.turn(name, int(value)))
        except EndpointError:
            await self._read_again(speaker)
            raise
        return f"{name} set to {value:g} ({self.by})"

    async def again(self) -> bool:
        """Read the server once more; whether a knob stands elsewhere than it was left."""
        before, speaker = self.knobs, self._speaker
        if speaker is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._read_again(speaker)
        return self.knobs != before

    async def _read_again(self, speaker: LiveKnobs) -> None:
        """What stands now is what the server says, if it says anything."""
        with contextlib.suppress(EndpointError):
            self._take(await speaker.read())

    def over(self, snapshot: ServerSnapshot) -> ServerSnapshot:
        """A scrape, with the limits that stand in the place of those that the server was started with."""
        slots, budget = self.knobs.get(SLOTS), self.knobs.get(BUDGET)
        return replace(
            snapshot,
            max_num_seqs=snapshot.max_num_seqs if slots is None else slots * self.engines,
            max_num_batched_tokens=snapshot.max_num_batched_tokens if budget is None else budget,
        )
