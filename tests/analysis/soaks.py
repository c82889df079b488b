"""Soaks of ten minutes in virtual time, clean or with one planted fault, and what an assessment says of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from msgspec.structs import replace
from virtual import VirtualSession

from llmtop.analysis import assess
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Question
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.simulator.engine import load_preset

SOAK_S = 600.0
FAULT_S = 200.0
"""When a fault comes that comes at once."""
SERVERS: dict[str, tuple[str, dict[str, int], LoadPoint]] = {
    "laptop, 16 users": ("laptop", {}, LoadPoint(concurrency=16)),
    "24 slots, 20 users": (
        "laptop",
        {"max_num_seqs": 24},
        LoadPoint(concurrency=20, prompt_tokens=384, output_tokens=96),
    ),
    "laptop, 5 requests/s": ("laptop", {}, LoadPoint(rate_rps=5.0)),
    "L4 8B, 16 users": ("l4-llama-3.1-8b", {}, LoadPoint(concurrency=16, prompt_tokens=512, output_tokens=128)),
}


class _Replicated(VirtualSession):
    """A second replica comes: twice the blocks, and half of the users are its."""

    blocks = 1

    def _snapshot(self) -> ServerSnapshot:
        told = super()._snapshot()
        blocks = None if told.num_gpu_blocks is None else told.num_gpu_blocks * self.blocks
        return replace(told, num_gpu_blocks=blocks)


def _creep(session: VirtualSession) -> None:
    def slower(minute: float) -> Callable[[], None]:
        return lambda: setattr(session.engine, "step_time_factor", 1 + 0.01 * minute)

    session.hooks += [(float(second), slower(second / 60)) for second in range(1, int(SOAK_S))]


def _memory(session: VirtualSession) -> None:
    session.rss_per_s = 64 * 2**20 / 60


def _kv(session: VirtualSession) -> None:
    session.leaked_blocks_per_s = 0.4 * session.engine.config.num_gpu_blocks / SOAK_S


def _noisy(session: VirtualSession) -> None:
    session.hooks.append((FAULT_S, lambda: setattr(session.engine, "step_time_factor", 1.5)))


def _throttle(session: VirtualSession) -> None:
    def throttle() -> None:
        session.engine.step_model = session.engine.step_model.throttled(0.6)

    session.hooks.append((FAULT_S, throttle))


def _restart(session: VirtualSession) -> None:
    session.hooks.append((FAULT_S, session.restart))


def _replica(session: VirtualSession) -> None:
    def join() -> None:
        session.blocks = 2  # type: ignore[attr-defined]
        session.engine.step_time_factor = 0.6

    session.hooks.append((FAULT_S, join))


def _warm(session: VirtualSession) -> None:
    session.warm = 0.5


def _none(session: VirtualSession) -> None:
    pass


Named = Callable[[Assessment], bool]


def _drifts(metric: str, shape: str) -> Named:
    return lambda found: any(each.metric == metric and each.shape == shape for each in found.drifts)


def _notes(words: str) -> Named:
    return lambda found: any(words in note for note in (*found.notes, found.diagnosis.advice or ""))


FAULTS: dict[str, tuple[Callable[[VirtualSession], None], Named]] = {
    "every step +1 %/min": (_creep, _drifts("TPOT", "slope")),
    "memory leak 64 MiB/min": (_memory, _drifts("server memory", "slope")),
    "KV leak": (_kv, _drifts("KV cache", "slope")),
    "noisy x1.5": (_noisy, _drifts("TPOT", "step")),
    "throttle 0.6": (_throttle, _drifts("TPOT", "step")),
    "restart": (_restart, lambda found: any("start 2" in curve.label for curve in found.curves)),
    "replica added": (_replica, _notes("a replica was added")),
    "warm cache": (_warm, _notes("cache")),
    "foreign, 8 users": (_none, _notes("foreign")),
}
"""How each is planted, and what names it."""


@cache
def soak(server: str, fault: str | None, seed: int, length_s: float = SOAK_S) -> Assessment:
    """What is said at the end of a soak."""
    preset, knobs, point = SERVERS[server]
    others = 8 if fault == "foreign, 8 users" else 0
    session = _Replicated(load_preset(preset).with_knobs(knobs), point, seed=seed, foreign=others, client=True)
    if fault is not None:
        FAULTS[fault][0](session)
    session.run_until(length_s)
    meta = session.end()
    meta = replace(meta, profile=replace(meta.profile, question=Question.SOAK))
    return assess(session.facts, meta, Slo(), now_s=session.facts.t_s)
