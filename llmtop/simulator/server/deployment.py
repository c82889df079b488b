"""What is deployed and how it is doing: replicas of the engine, their live knobs, and the faults that are on."""

from __future__ import annotations

import asyncio
import random
import time
from time import perf_counter_ns

import msgspec

from llmtop.domain.plain import LONG, plain
from llmtop.errors import UsageError
from llmtop.simulator.engine import LIVE_KNOBS, Autoscaling, Engine, EngineConfig, Preset, ScaleOrder, StepModel
from llmtop.simulator.server.asked import shown
from llmtop.simulator.server.faults import FAULTS, read_fault
from llmtop.simulator.server.pods import Pod, Pods, listing
from llmtop.simulator.server.replica import Replica

HOUSEKEEPING_S = 0.25
"""How often a growing fault grows."""
SPAN = 64.0
"""Engine flags turn from 1/64 of what the preset says to 64 times of it."""


class Deployment:
    """One or more engines of one preset behind one address.

    Args:
        preset: with its knobs applied.
        seed: of step noise and of which requests faults hit.
        stream_interval: tokens of one event after the first.
        faults: on from the start: name to figure.
    """

    def __init__(
        self, preset: Preset, *, seed: int = 0, stream_interval: int = 1, faults: dict[str, float] | None = None
    ) -> None:
        self.preset = preset
        self.config: EngineConfig = preset.config
        self.jitter = preset.overhead.jitter
        self.stream_interval = stream_interval
        self.faults: dict[str, float] = {}
        self.started_s = 0.0
        """Unix time of the start, or of the last restart."""
        self.leaked_bytes = 0.0
        self.turned_away: dict[str, int] = {}
        """Requests refused for a full queue, by the flag that set the limit."""
        self.random = random.Random(seed)
        self._seed = seed
        self._loop = asyncio.get_running_loop()
        self._slow_since_ns = 0
        self._housekeeping: asyncio.TimerHandle | None = None
        self.pods = Pods(preset.autoscaling, self._new_replica, lambda: self.config.max_num_seqs)
        self.boot()
        for name, value in (faults or {}).items():
            self.set_fault(name, value)

    # Life

    def boot(self) -> None:
        """Begin anew with the replicas of the start, counters at zero. Faults and knobs stay as they are."""
        self.started_s = time.time()
        self.leaked_bytes = 0.0
        self.turned_away = {"max_num_queued_reqs": 0, "max_num_queued_tokens": 0}
        self._slow_since_ns = perf_counter_ns()
        self.pods.boot()

    def close(self) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        self.pods.close()

    @property
    def replicas(self) -> list[Replica]:
        """Those that run, the oldest first."""
        return self.pods.replicas

    def given(self, pinned: Pod | None) -> Pod:
        """Who gets the next request of a connection.

        Args:
            pinned: who had those before; None: it is the first.
        """
        if self.pods.plan.balance == "request":
            return self.pods.least_loaded()
        return pinned if pinned is not None and pinned.takes else self.pods.next_in_turn()

    def admits(self) -> bool:
        """Whether the queue limits let one more request in; a refusal is counted.

        As in vLLM's front end (`vllm/v1/engine/async_llm.py::check_admission`): nobody comes in once
        `max_num_queued_reqs` requests wait or run, or the prompts of those without a first token have
        `max_num_queued_tokens` together, over all replicas.
        """
        requests, tokens = self.config.max_num_queued_reqs, self.config.max_num_queued_tokens
        flag = None
        if requests is not None and self._in_engines() >= requests:
            flag = "max_num_queued_reqs"
        elif tokens is not None and self._prefilling_tokens() >= tokens:
            flag = "max_num_queued_tokens"
        if flag is None:
            return True
        self.turned_away[flag] += 1
        return False

    def _in_engines(self) -> int:
        return sum(replica.engine.running + replica.engine.waiting for replica in self.replicas)

    def _prefilling_tokens(self) -> int:
        engines = [replica.engine for replica in self.replicas]
        sequences = [
            sequence for engine in engines for sequence in (*engine.running_sequences(), *engine.waiting_sequences())
        ]
        return sum(sequence.prompt_tokens for sequence in sequences if not sequence.emitted)

    def late_ms(self) -> float:
        """How late tokens leave: p99 of the last second, of the worst replica."""
        now_ns = perf_counter_ns()
        return max(replica.lateness.p99_ms(now_ns) for replica in self.replicas)

    # Knobs

    def knobs(self) -> dict[str, float]:
        """What can be changed while it runs, and its value now."""
        flags: dict[str, float] = {knob.name: getattr(self.config, knob.name) for knob in LIVE_KNOBS}
        return {**flags, "jitter": self.jitter, "stream_interval": self.stream_interval}

    def limits(self) -> dict[str, tuple[float, float]]:
        """How far each live knob turns: lowest and highest value."""
        limits: dict[str, tuple[float, float]] = {}
        for knob in LIVE_KNOBS:
            usual = getattr(self.preset.config, knob.name)
            limits[knob.name] = max(knob.low, round(usual / SPAN)), min(knob.high, round(usual * SPAN))
        return {**limits, "jitter": (0.0, 1.0), "stream_interval": (1, 256)}

    def set_knobs(self, knobs: dict[str, float]) -> None:
        """Take over values that are within their limits. Raises UsageError when the engine refuses them together."""
        flags = {name: int(value) for name, value in knobs.items() if hasattr(self.config, name)}
        try:
            config = msgspec.structs.replace(self.config, **flags)
        except ValueError as error:
            raise UsageError(f"knobs: {error}") from error
        self.config = config
        self.jitter = knobs.get("jitter", self.jitter)
        self.stream_interval = int(knobs.get("stream_interval", self.stream_interval))
        for replica in self.replicas:
            if flags:
                replica.reconfigure(self._engine_config())
            self._trouble(replica.engine)

    # Faults

    def set_fault(self, name: str, value: float | None) -> None:
        """Turn a fault on with its figure, or off with None."""
        if value is None:
            self.faults.pop(name, None)
        else:
            self.faults[name] = value
        if name == "slow_leak":
            self._slow_since_ns = perf_counter_ns()
        elif name == "memory_leak" and value is None:
            self.leaked_bytes = 0.0
        elif name == "replica_added":
            self._add_replica(value)
        for replica in self.replicas:
            self._trouble(replica.engine)
        self._keep_house()

    def hits(self, name: str) -> bool:
        """Whether a fault that takes a share of requests takes this one."""
        share = self.faults.get(name)
        return share is not None and self.random.random() < share

    def _trouble(self, engine: Engine) -> None:
        """Put the faults that are on into an engine, and take out those that are not."""
        engine.step_time_factor = self.faults.get("noisy_neighbour", 1.0)
        engine.leak_share = self.faults.get("kv_leak", 0.0)
        engine.step_model = self._step_model()
        minutes = (perf_counter_ns() - self._slow_since_ns) / 60e9
        growth = self.faults.get("slow_leak", 0.0) / 100.0 * minutes
        engine.extra_step_ns = round(engine.step_model.constant_s * 1e9 * growth)

    def _step_model(self) -> StepModel:
        model = self.preset.step_model
        if "power_throttle" in self.faults:
            model = model.throttled(self.faults["power_throttle"])
        model.jitter = self.jitter
        return model

    def _keep_house(self) -> None:
        """Let the growing faults grow; runs only while there are any."""
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            self._housekeeping = None
        if self.faults.keys() & {"memory_leak", "slow_leak"}:
            self._housekeeping = self._loop.call_later(HOUSEKEEPING_S, self._grow)

    def _grow(self) -> None:
        self.leaked_bytes += self.faults.get("memory_leak", 0.0) * 1024 * 1024 * HOUSEKEEPING_S / 60
        if "slow_leak" in self.faults:
            for replica in self.replicas:
                self._trouble(replica.engine)
        self._keep_house()

    def _add_replica(self, delay_s: float | None) -> None:
        """A second replica after a delay, or only one from now on."""
        if delay_s is None:
            self.pods.drop_to(1)
        elif self.pods.desired == 1:
            self.pods.scale(ScaleOrder(0.0, 2, delay_s, delay_s))

    def _new_replica(self, number: int) -> Replica:
        engine = Engine(self._engine_config(), self._step_model(), self._seed + number - 1)
        self._trouble(engine)
        return Replica(engine, round(self.preset.overhead.api_out_ms * 1e6), self.admits)

    def _engine_config(self) -> EngineConfig:
        """Queue limits are the front end's: the engine behind it has none."""
        return msgspec.structs.replace(self.config, max_num_queued_reqs=None, max_num_queued_tokens=None)


def change(deployment: Deployment, wishes: dict[str, object]) -> float | None:
    """Do what a body of /llmtop/control asks for: everything, or nothing and raise UsageError.

    `{"knobs": {name: number}, "faults": {name: true | false | number}, "autoscaling": {name: value}}`. Times of a
    script count from now. Returns the seconds of a restart that is asked for, which is left to the caller.
    """
    unknown = wishes.keys() - {"knobs", "faults", "autoscaling"}
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))[:200]}: not known; use knobs, faults and autoscaling")
    knobs, faults = wishes.get("knobs") or {}, wishes.get("faults") or {}
    if not isinstance(knobs, dict) or not isinstance(faults, dict):
        raise UsageError("knobs and faults must be objects of names and values")
    limits = deployment.limits()
    new_knobs = {name: _read_knob(name, value, limits) for name, value in knobs.items()}
    new_faults = {name: read_fault(name, value) for name, value in faults.items()}
    restart = new_faults.pop("restart", None)
    scaling = wishes.get("autoscaling") or {}
    if not isinstance(scaling, dict):
        raise UsageError("autoscaling must be an object of names and values")
    plan = _read_autoscaling(deployment.pods.plan, scaling)
    if new_knobs:
        deployment.set_knobs(new_knobs)
    deployment.pods.plan = plan
    if "scale" in scaling:
        deployment.pods.follow(plan.scale)
    for name, value in new_faults.items():
        deployment.set_fault(name, value)
    return restart


def _read_knob(name: str, value: object, limits: dict[str, tuple[float, float]]) -> float:
    if name not in limits:
        raise UsageError(f"knob {shown(name)} cannot be changed while the server runs; use one of {', '.join(limits)}")
    low, high = limits[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"knob {name}: {shown(value)} must be a number from {low:g} to {high:g}")
    return float(value) if name == "jitter" else round(value)


def _read_autoscaling(plan: Autoscaling, wish: dict[str, object]) -> Autoscaling:
    """The plan with what is asked for. Raises UsageError."""
    if wish.keys() & {"replicas"}:
        raise UsageError(
            'autoscaling: replicas are those of the start; write {"scale": "replicas=3"} for another number'
        )
    try:
        return msgspec.convert({**msgspec.to_builtins(plan), "scale": "", **wish}, Autoscaling)
    except msgspec.ValidationError as error:
        raise UsageError(f"autoscaling: {plain(str(error), LONG)}") from error


def state(deployment: Deployment) -> dict[str, object]:
    """What GET /llmtop/control answers: values now, how far they turn, and what the faults mean."""
    preset = deployment.preset
    return {
        "preset": preset.name,
        "description": preset.description,
        "model": preset.model.name,
        "knobs": deployment.knobs(),
        "limits": deployment.limits(),
        "faults": {name: deployment.faults.get(name, 0.0) for name in FAULTS},
        "fault_table": {name: fault._asdict() for name, fault in FAULTS.items()},
        "late_ms": deployment.late_ms(),
        "replicas": len(deployment.pods.taking),
        "autoscaling": msgspec.to_builtins(deployment.pods.plan),
        "scaling": listing(deployment.pods),
    }
