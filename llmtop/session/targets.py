"""What a run drives: a server that was given, one behind a command, or the simulated engine in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns
from typing import Protocol

from msgspec.structs import replace

from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.endpoint import CommandStatus, Endpoint, EndpointInfo
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.settings import SLOTS as SETTINGS
from llmtop.endpoint.control import control
from llmtop.errors import EndpointError, UsageError
from llmtop.session.bank import BUDGET, SLOTS, Bank, is_ours
from llmtop.session.options import SessionOptions
from llmtop.simulator.server.guard import TOKEN_HEADER
from llmtop.simulator.server.process import KnobValue, SimulatorProcess
from llmtop.telemetry.scraper import Scraper

SIMULATED = Endpoint(base_url="", simulated=True)
"""What is driven when nobody names an endpoint."""
CONTROL = "/llmtop/control"
"""Where the simulated engine's knobs are turned."""
VERSION = "/version"
ADDED = "replica_added"
"""The fault that gives it a second engine with slots of its own."""


class Target(Protocol):
    """A server, and as much of a hand on it as there is."""

    @property
    def knobs(self) -> Mapping[str, float]:
        """Those that turn while it runs, and where they stand; none: it has none that can be reached."""
        ...

    @property
    def bank(self) -> Bank | None:
        """What turns them; None: the simulated engine, which does so itself."""
        ...

    def over(self, snapshot: ServerSnapshot) -> ServerSnapshot:
        """A scrape, with the limits that are known from the knobs in the place of those that it has, or lacks."""
        ...

    @property
    def faults(self) -> Mapping[str, float]:
        """Those that can be injected, and how strong they are now; 0: not."""
        ...

    @property
    def status(self) -> CommandStatus | None:
        """Of the command that starts it or changes it; None: there is none."""
        ...

    async def start(self) -> Endpoint:
        """Where it is reached; what is ours to start runs. Raises UsageError, SessionLost or EndpointError."""
        ...

    async def turn(self, wish: SetKnob | InjectFault) -> str:
        """Do it, and say what was done. Raises UsageError or EndpointError: it could not be done, and why."""
        ...

    async def restart(self, knobs: Mapping[str, KnobValue]) -> Endpoint:
        """End it and start it again with these knobs; what runs on it is lost. Raises as `start` does."""
        ...

    async def close(self) -> None:
        """End what was ours to start."""
        ...


class Given:
    """A server that somebody else has started."""

    def __init__(self, endpoint: Endpoint, knobs_url: str | None = None) -> None:
        self._endpoint = endpoint
        self.bank = Bank(endpoint, knobs_url)
        self.faults: Mapping[str, float] = {}
        self.status: CommandStatus | None = None

    @property
    def knobs(self) -> Mapping[str, float]:
        return self.bank.knobs

    def over(self, snapshot: ServerSnapshot) -> ServerSnapshot:
        return self.bank.over(snapshot)

    async def start(self) -> Endpoint:
        return self._endpoint

    async def turn(self, wish: SetKnob | InjectFault) -> str:
        return await self.bank.turn(wish)

    async def restart(self, knobs: Mapping[str, KnobValue]) -> Endpoint:
        raise UsageError("this server was not started from here, and is not restarted from here")

    async def close(self) -> None:
        """It is not ours to end."""


class Simulated:
    """The simulated engine, started and ended with the run."""

    def __init__(self, endpoint: Endpoint, preset: str, knobs: Mapping[str, KnobValue], seed: int) -> None:
        self._endpoint = endpoint
        self._preset, self._settings, self._seed = preset, dict(knobs), seed
        self._process: SimulatorProcess | None = None
        self._token = ""
        self.bank: Bank | None = None
        self.knobs: Mapping[str, float] = {}
        self.faults: Mapping[str, float] = {}
        self.status: CommandStatus | None = None
        self._scales = False
        """Its replicas may be several, each with slots of its own."""

    def over(self, snapshot: ServerSnapshot) -> ServerSnapshot:
        slots, budget = self.knobs.get(SLOTS), self.knobs.get(BUDGET)
        if self._scales or self.faults.get(ADDED):  # a replica comes after a while: the slots are inferred
            slots = None
        return replace(
            snapshot,
            max_num_seqs=snapshot.max_num_seqs if slots is None else slots,
            max_num_batched_tokens=snapshot.max_num_batched_tokens if budget is None else budget,
        )

    async def start(self) -> Endpoint:
        return await self._launch(port=0)

    async def _launch(self, port: int) -> Endpoint:
        process = await SimulatorProcess.start(self._preset, self._settings, self._seed, port=port)
        self._process, self._token = process, process.control_token
        self._endpoint = replace(self._endpoint, base_url=process.base_url)
        self._take(await control(self._let_in(), "GET", CONTROL))
        return self._endpoint

    async def turn(self, wish: SetKnob | InjectFault) -> str:
        match wish:
            case SetKnob(name, value):
                asked: object = {"knobs": {name: value}}
                done = f"{name} set to {value:g}"
            case InjectFault(name, on):
                asked = {"faults": {name: on}}
                done = f"fault {name} {'on' if on else 'off'}"
        self._take(await control(self._let_in(), "POST", CONTROL, asked))
        return done

    def _let_in(self) -> Endpoint:
        return with_token(self._endpoint, self._token)

    def _take(self, answer: object) -> None:
        if isinstance(answer, dict):
            self.knobs = {name: float(value) for name, value in answer["knobs"].items()}
            self.faults = {name: float(value) for name, value in answer["faults"].items()}
            self._scales = bool(answer["scaling"]["scales"])

    async def restart(self, knobs: Mapping[str, KnobValue]) -> Endpoint:
        port = 0 if self._process is None else self._process.port
        await self.close()
        self._settings |= knobs
        return await self._launch(port)

    async def close(self) -> None:
        if self._process is not None:
            await self._process.close()
            self._process = None


def with_token(endpoint: Endpoint, token: str) -> Endpoint:
    """The endpoint as its control lets one in."""
    return replace(endpoint, headers=(*endpoint.headers, (TOKEN_HEADER, token)))


async def slots_of(target: Target, endpoint: Endpoint, info: EndpointInfo) -> int | None:
    """How many requests the server runs at once, all its engines and replicas together; None: it does not tell.

    The metrics of the simulated engine tell as little as those of the server that it stands for: one that is ours is
    asked at its knobs, another at its version.
    """
    scraper = Scraper(endpoint, info.dialect, perf_counter_ns())
    try:
        told = (await scraper.scrape()).max_num_seqs or info.max_num_seqs
    finally:
        await scraper.close()
    if target.bank is not None and SLOTS in target.knobs:
        return int(target.knobs[SLOTS]) * target.bank.engines
    if told is not None:
        return int(told)
    known: object = target.knobs
    if not known and is_ours(info):
        try:
            known = await control(endpoint, "GET", VERSION)
        except EndpointError:
            return None
    slots = known.get("max_num_seqs") if isinstance(known, Mapping) else None
    return int(slots) if isinstance(slots, int | float) else None


def slots_told(knobs: Mapping[str, float], info: EndpointInfo | None, seen: ServerSnapshot | None) -> int | None:
    """The same by what is known already: the last scrape, a probe, and the knobs of an engine of ours."""
    flags = {} if info is None else dict(info.flags)
    told = (
        None if seen is None else seen.max_num_seqs,
        knobs.get(SLOTS),
        None if info is None else info.max_num_seqs,
        *(float(flags[name]) for name in SETTINGS if flags.get(name, "").isdecimal()),
    )
    return next((int(slots) for slots in told if slots), None)


def target_of(options: SessionOptions) -> Target:
    """What a session with these options drives."""
    endpoint = options.endpoint or SIMULATED
    if options.serving is not None:
        from llmtop.session.commanded import Commanded
        from llmtop.session.driving import wanted_of

        profile = options.profile
        wanted = wanted_of(profile.workload)
        return Commanded(endpoint, options.serving, profile.caps, options.knobs_url, wanted)
    if endpoint.simulated and not endpoint.base_url:
        return Simulated(endpoint, options.preset, options.knobs, options.seed)
    return Given(endpoint, options.knobs_url)
