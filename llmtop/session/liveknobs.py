"""The ways to turn a server's settings while it runs: probe, read, turn; each refuses with a reason.

To find out what there is changes nothing: settings are read, and whether there is a way to turn them is asked with GET.
What a way says that it did is not believed: the server is read again, and each engine must say the new value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from llmtop.dialects import DialectTable, LiveKnob, LiveRoute, dig, number_at
from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint.access import Access
from llmtop.endpoint.control import control
from llmtop.endpoint.question import JSON_BYTES, NoAnswer, ask
from llmtop.errors import EndpointError, EndpointUnusable
from llmtop.wording.knobs import refused_text, unmoved_text

ASK_S = 2.0
"""For one question of a probe: a server under load answers between two steps, and the run's start waits for it."""
READS = 4
"""How often a server is read after a turn, until it says the new value."""
PAUSE_S = 0.25
MOST_ENGINES = 64
_THERE_FOR_OTHERS = (405, 501)
"""What a GET is answered where only other methods are served."""


class Stand(Struct, frozen=True, kw_only=True):
    """Where the knobs of a server stand, and the most that each takes: those of one engine, which all have alike."""

    knobs: dict[str, float]
    most: dict[str, float]
    engines: int = 1


class LiveKnobs(Protocol):
    """One way to turn a server's settings."""

    by: str

    async def read(self) -> Stand:
        """What the server says now. Raises EndpointError."""
        ...

    async def turn(self, name: str, value: int) -> Stand:
        """Turn one of them on all engines, or on none. Raises EndpointError: it did not, and why."""
        ...


class Routed:
    """Through routes of the server's own, whose names stand in its dialect's table."""

    def __init__(self, endpoint: Endpoint, route: LiveRoute) -> None:
        self.by = route.turn
        self._endpoint, self._route = endpoint, route
        self._path = ""
        self._found: dict[str, LiveKnob] = {}

    async def probe(self) -> Stand | None:
        """What can be turned; None: nothing that the server's answers prove."""
        access, told = Access(self._endpoint), None
        async with access.stock_client() as stock:
            for path in self._route.read:
                try:
                    answer = await ask(stock, path, limit_s=ASK_S, limit_bytes=JSON_BYTES)
                except NoAnswer:
                    continue
                if answer.status == 200 and isinstance(told := answer.json, dict):
                    self._path = path
                    break
            engines = self._engines(told)
            self._found = {name: knob for name, ways in self._route.knobs.items() for knob in _first(ways, engines)}
            if not self._found:
                return None
            if self._route.turn not in self._route.read:
                try:
                    answer = await ask(stock, self._route.turn, limit_s=ASK_S, limit_bytes=JSON_BYTES)
                except NoAnswer:
                    return None
                if answer.status not in _THERE_FOR_OTHERS:
                    return None
        return self._stand(engines)

    def _engines(self, told: Any) -> list[Any]:
        """What each engine tells."""
        if self._route.engines is None:
            return [] if told is None else [told]
        listed = dig(told, self._route.engines)
        return listed[:MOST_ENGINES] if isinstance(listed, list) else []

    def _stand(self, engines: Sequence[Any]) -> Stand:
        knobs = {name: number_at(engines[0], knob.value) for name, knob in self._found.items()}
        most = {name: _most(engines[0], knob) for name, knob in self._found.items()}
        return Stand(
            knobs={name: value for name, value in knobs.items() if value is not None},
            most={name: value for name, value in most.items() if value is not None},
            engines=len(engines),
        )

    async def read(self) -> Stand:
        engines = self._engines(await control(self._endpoint, "GET", self._path))
        if not engines:
            raise EndpointUnusable(f"{self._endpoint.base_url}{self._path}", "tells no settings any more")
        return self._stand(engines)

    async def turn(self, name: str, value: int) -> Stand:
        url, knob = f"{self._endpoint.base_url}{self._route.turn}", self._found[name]
        wish: dict[str, Any] = {knob.sent: value}
        if self._route.within is not None:
            wish = {self._route.within: wish}
        try:
            answer = await control(self._endpoint, self._route.method, self._route.turn, wish)
        except EndpointError as error:
            raise type(error)(error.url, refused_text(name, value, None, error.problem)) from None
        if isinstance(answer, list) and False in answer:
            engine = answer.index(False) if len(answer) > 1 else None
            raise EndpointUnusable(url, refused_text(name, value, engine, ""))
        seen: float | None = None
        for _ in range(READS):
            engines = self._engines(await control(self._endpoint, "GET", self._path))
            stands = [number_at(engine, knob.value) for engine in engines]
            if stands and all(each == value for each in stands):
                return self._stand(engines)
            seen = next((each for each in stands if each != value), None)
            await asyncio.sleep(PAUSE_S)
        raise EndpointUnusable(url, unmoved_text(name, value, seen))


def _first(ways: Sequence[LiveKnob], engines: Sequence[Any]) -> tuple[LiveKnob, ...]:
    """The way that every engine proves, in a tuple; (): none."""
    for knob in ways:
        proven = all(_proves(engine, knob) for engine in engines)
        if engines and proven and len({number_at(engine, knob.value) for engine in engines}) == 1:
            return (knob,)
    return ()


def _proves(engine: Any, knob: LiveKnob) -> bool:
    """Whether an engine's answer has a whole number there, below what it says is the most."""
    value, most = number_at(engine, knob.value), _most(engine, knob)
    if value is None or value < 1 or not value.is_integer() or isinstance(dig(engine, knob.value), str):
        return False
    return (most is None or value <= most) and all(number_at(engine, way) == it for way, it in knob.only.items())


def _most(engine: Any, knob: LiveKnob) -> float | None:
    told = (number_at(engine, way) for way in knob.most)
    return next((most for most in told if most is not None and most >= 1), None)


async def routed(endpoint: Endpoint, table: DialectTable) -> tuple[Routed, Stand] | None:
    """The first of a server's own ways that its answers prove; None: it has none."""
    for route in table.live:
        speaker = Routed(endpoint, route)
        stand = await speaker.probe()
        if stand is not None:
            return speaker, stand
    return None


class Panel:
    """Through llmtop's scheduler in vLLM, which listens beside each engine.

    Args:
        panels: where the engines' knobs are, in the order of the engines; they are sent no key and no header.
    """

    by = "llmtop_knobs"

    def __init__(self, panels: Sequence[Endpoint]) -> None:
        self._panels = tuple(panels)

    async def read(self) -> Stand:
        told = await asyncio.gather(*(control(panel, "GET", "/") for panel in self._panels))
        return panel_stand(told, self._panels[0].base_url)

    async def turn(self, name: str, value: int) -> Stand:
        stood = (await self.read()).knobs.get(name)
        tried = await asyncio.gather(*(self._put(panel, name, value) for panel in self._panels))
        failed = [(engine, why) for engine, why in enumerate(tried) if why is not None]
        if not failed:
            return await self.read()
        engine, why = failed[0]
        if stood is not None and len(failed) < len(tried):
            await asyncio.gather(*(self._put(each, name, int(stood)) for each in self._panels))
        raise EndpointUnusable(
            self._panels[engine].base_url,
            refused_text(name, value, engine if len(tried) > 1 else None, why),
        )

    async def _put(self, panel: Endpoint, name: str, value: int) -> str | None:
        """None: it stands there now. Otherwise why it does not."""
        try:
            stand = panel_stand([await control(panel, "PATCH", "/", {name: value})], panel.base_url)
        except EndpointError as error:
            return error.problem
        stands = stand.knobs.get(name)
        return None if stands == value else unmoved_text(name, value, stands)


def panel_stand(told: Sequence[Any], url: str) -> Stand:
    """What the panels of all engines say. Raises EndpointUnusable where one says something else."""
    stands = []
    for each in told:
        found = {}
        for name in PANEL_KNOBS:
            value, most = (number_at(each, f"knobs.{name}.{key}") for key in ("value", "most"))
            if value is not None and most is not None and 1 <= value <= most:
                found[name] = (value, most)
        if not found:
            raise EndpointUnusable(url, "shows no knobs")
        stands.append(found)
    common = {name: [each[name] for each in stands] for name in stands[0] if all(name in each for each in stands)}
    return Stand(
        knobs={name: min(value for value, _ in pairs) for name, pairs in common.items()},
        most={name: min(most for _, most in pairs) for name, pairs in common.items()},
        engines=len(stands),
    )


PANEL_KNOBS = ("max_num_seqs", "max_num_batched_tokens")
"""Names that a panel's knobs may have."""
