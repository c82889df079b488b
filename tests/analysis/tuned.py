"""Servers with slots to be chosen, in virtual time: races over them by gate, and what each carries truly."""

from __future__ import annotations

from functools import cache

import numpy as np
from msgspec.structs import replace
from virtual import VirtualSession

from llmtop.analysis.race import Race
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.slo import Slo, parse_slo
from llmtop.simulator.engine import Preset, load_preset, predict
from llmtop.simulator.engine.driver import Lengths, Visit

CV = 0.3
"""Of prompt and output lengths."""
_MIDDLE = {
    "bandwidth_gb_s": 400.0,
    "peak_tflops": 60.0,
    "num_gpu_blocks": 20000,
    "step_ms": 3.0,
    "per_sequence_us": 20.0,
    "max_num_batched_tokens": 2048,
}
SERVERS: dict[str, tuple[dict[str, float], str, int, int, tuple[int, ...]]] = {
    "laptop": ({"num_gpu_blocks": 6000}, "ttft_p95<2s,tpot_p95<50ms", 192, 64, (4, 8, 16, 32, 64, 128)),
    "laptop, 80 ms": ({"num_gpu_blocks": 6000}, "ttft_p95<1s,tpot_p95<80ms", 192, 64, (8, 16, 24, 48, 96, 128)),
    "middle": (_MIDDLE, "ttft_p95<2s,tpot_p95<25ms", 256, 128, (8, 16, 32, 64, 128, 256)),
}
"""Knobs over the laptop preset, SLO, prompt and output tokens, slots to try."""


class GatedSession(VirtualSession):
    """Users of a closed loop behind a gate: first come, first served; what they wait there counts."""

    def __init__(self, preset: Preset, point: LoadPoint, *, seed: int = 0) -> None:
        self._held: list[int] = []
        self._wanted: dict[int, int] = {}
        super().__init__(preset, point, seed=seed, prompt_cv=CV, output_cv=CV)

    def _fill(self) -> None:
        now_ns, point = self._driver.now_ns, self._point
        gate = point.gate or 1_000_000
        inside = self._in_flight
        while self._held and len(inside) < gate:
            self._let_in(self._held.pop(0))
        while len(inside) + len(self._held) < (point.concurrency or 0):
            if len(inside) < gate:
                self._let_in(now_ns)
            else:
                self._held.append(now_ns)

    def _let_in(self, wanted_ns: int) -> None:
        self._send(self._driver.now_ns)
        self._wanted[next(reversed(self._in_flight))] = wanted_ns

    def command(self, point: LoadPoint, reason=None) -> None:  # type: ignore[no-untyped-def]
        if point.concurrency is not None and point.concurrency < len(self._in_flight) + len(self._held):
            over = len(self._in_flight) + len(self._held) - point.concurrency
            del self._held[max(0, len(self._held) - over) :]
        super().command(point, reason)

    def _row(self, visit: Visit, outcome: Outcome, end_ns: int, status: int | None = None) -> RequestRecord:
        row = super()._row(visit, outcome, end_ns, status)
        wanted_ns = self._wanted.pop(visit.number, visit.sent_ns)
        return replace(row, scheduled_ns=wanted_ns, dispatched_ns=wanted_ns, sent_ns=wanted_ns)


def preset_of(name: str, slots: int) -> Preset:
    return load_preset("laptop").with_knobs({**SERVERS[name][0], "max_num_seqs": slots})


def slo_of(name: str) -> Slo:
    return parse_slo(SERVERS[name][1])


def base_of(name: str) -> LoadPoint:
    _, _, prompt_tokens, output_tokens, _ = SERVERS[name]
    return LoadPoint(concurrency=0, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


@cache
def figures(name: str, slots: int, users: int) -> dict[str, float]:
    """What a long run with so many slots and users comes to, in seconds and tokens/s."""
    _, _, prompt_tokens, output_tokens, _ = SERVERS[name]
    lengths = Lengths(prompt_tokens=prompt_tokens, output_tokens=output_tokens, prompt_cv=CV, output_cv=CV)
    point = predict(
        preset_of(name, slots), concurrency=[users], lengths=lengths, requests_per_level=max(1500, 10 * users), seed=99
    ).points[0]
    return {
        "ttft_p95": (point.ttft_ms.p95 or 0.0) / 1e3,
        "tpot_p95": (point.tpot_ms.p95 or 0.0) / 1e3,
        "tokens": point.output_tokens_per_s or 0.0,
    }


@cache
def true_users(name: str, slots: int) -> int:
    """Largest number of users at the SLO with so many slots, to 1 %."""

    def holds(users: int) -> bool:
        found = figures(name, slots, users)
        return all(found[target.name] <= target.limit for target in slo_of(name).targets)

    low, high = 0, 4
    while holds(high):
        low, high = high, 2 * high
    while high - low > max(1, 0.01 * low):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def raced(name: str, seed: int, users: int | None = None) -> tuple[Race, float]:
    """A race to its end on the server with the most slots, asked twice a second; and the seconds that it took."""
    slots = SERVERS[name][4]
    session = GatedSession(preset_of(name, max(slots)), base_of(name), seed=seed)
    race = Race(slo_of(name), base_of(name), slots, users=users)
    while (step := race.next(session.facts, session.now_s)).point is not None:
        session.command(step.point, "search")
        session.run_until(session.now_s + 0.5)
    return race, session.now_s


def median(values: list[float]) -> float:
    return float(np.median(values))
