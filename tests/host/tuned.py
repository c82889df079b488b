"""Servers with slots to be chosen, in virtual time: races over them by gate, and what each carries truly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from virtual import VirtualSession

from llmtop.analysis.race import Race
from llmtop.analysis.steady import Steerer
from llmtop.analysis.tuning import Tuning, candidates
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Ending
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.tuning import Values
from llmtop.errors import ServeError
from llmtop.host.tuning import Driven, Tuned, Tuner
from llmtop.simulator.engine import Preset, load_preset, predict
from llmtop.simulator.engine.driver import Lengths

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


TRUTHS = {
    "laptop": {4: 9, 8: 18, 16: 31, 32: 51, 64: 35, 128: 35},
    "laptop, 80 ms": {8: 12, 16: 22, 24: 31, 48: 56, 96: 60, 128: 60},
    "middle": {8: 25, 16: 49, 32: 87, 64: 146, 128: 228, 256: 183},
}
"""Users at the SLO by slots, as `true_users` finds them."""


def session_of(name: str, slots: int, seed: int) -> VirtualSession:
    return VirtualSession(preset_of(name, slots), base_of(name), seed=seed, prompt_cv=CV, output_cv=CV)


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
    session = session_of(name, max(slots), seed)
    race = Race(slo_of(name), base_of(name), slots, users=users)
    while (step := race.next(session.facts, session.now_s)).point is not None:
        session.command(step.point, "search")
        session.run_until(session.now_s + 0.5)
    return race, session.now_s


class Answer(NamedTuple):
    """What a server is known by after a start."""

    ok: bool | None
    text: str = ""


class FakeServer:
    """Starts virtual servers by `max_num_seqs`.

    Args:
        start_s: how long a start takes.
        dies: slots with which it dies at its start.
        keeps: it goes on with these slots, whatever is asked for.
        tells: whether it tells its settings.
    """

    def __init__(
        self,
        name: str,
        seed: int = 0,
        *,
        start_s: float = 5.0,
        dies: tuple[int, ...] = (),
        keeps: int | None = None,
        tells: bool = True,
        factor: Callable[[int], float] = lambda _: 1.0,
    ) -> None:
        self.name, self.seed, self.start_s = name, seed, start_s
        self.dies, self.keeps, self.tells, self.factor = dies, keeps, tells, factor
        self.now_s = 0.0
        self.starts: list[int] = []
        self.slots: int | None = None
        self.closed = False
        self.drives: list[tuple[str, float]] = []

    def put(self, values: Mapping[str, str], cancelled: Callable[[], bool]) -> Answer:
        wanted = int(values["max_num_seqs"])
        self.starts.append(wanted)
        self.now_s += self.start_s
        if wanted in self.dies:
            self.slots = None
            raise ServeError("the server ended with exit code 1 before it was ready", ("out of memory",))
        self.slots = self.keeps or wanted
        if not self.tells:
            return Answer(None)
        return Answer(self.slots == wanted, f"not applied: it says max_num_seqs {self.slots} instead of {wanted}")

    def close(self) -> None:
        self.closed = True

    def drive(self, label: str, values: Values, steerer: Steerer) -> Driven:
        assert self.slots is not None
        session = session_of(self.name, self.slots, self.seed)
        session.engine.step_time_factor = self.factor(len(self.drives))
        while (step := steerer.next(session.facts, session.now_s)).point is not None:
            session.note(step.learned)
            session.command(step.point, "search")
            session.run_until(session.now_s + 0.5)
        self.now_s += session.now_s
        self.drives.append((label, session.now_s))
        return Driven(session.facts, Ending.PLAN)


def tuned(server: FakeServer, *, live: bool = False, **options: Any) -> Tuned:
    """A whole tune of the slots of a virtual server, the first of the list being what there was."""
    slots = options.pop("slots", SERVERS[server.name][4])
    all_ = candidates([("max_num_seqs", [str(each) for each in slots])])
    if live:
        server.slots = slots[0]
    users = options.get("users")
    tuning = Tuning(all_, users=users, live=live)
    return Tuner(
        tuning,
        server,
        server.drive,
        slo=slo_of(server.name),
        base=base_of(server.name),
        original=all_[0],
        live=live,
        **options,
    ).run()
