"""Simulated servers of known walls, the true capacity of each by brute force, and runs of the search against them."""

from __future__ import annotations

import random

from virtual import VirtualSession

from llmtop.analysis import CapacitySearch, assess
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, CliffVerdict
from llmtop.simulator.engine import Preset, load_preset, predict
from llmtop.simulator.engine.driver import Lengths

DWELL_S = 8.0
"""Time at each level of a ramp by hand: about three E2E."""
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
"""About 50 requests/s of 256/128 tokens: a data-centre card with a small model."""

SERVERS: dict[str, tuple[dict[str, float], str, int, int]] = {
    **{
        f"slots{slots}": ({"max_num_seqs": slots, "num_gpu_blocks": 3000}, "ttft_p95<2s,tpot_p95<50ms", 192, 64)
        for slots in (8, 16, 24, 32)
    },
    **{
        f"middle{slots}": ({**_MIDDLE, "max_num_seqs": slots}, "ttft_p95<2s,tpot_p95<50ms", 256, 128)
        for slots in (32, 64, 96, 128)
    },
    **{
        f"kv{blocks}": ({"max_num_seqs": 256, "num_gpu_blocks": blocks}, "ttft_p95<2s,tpot_p95<60ms", 192, 64)
        for blocks in (200, 300, 450)
    },
    "middlekv": ({**_MIDDLE, "max_num_seqs": 256, "num_gpu_blocks": 1200}, "ttft_p95<2s,tpot_p95<60ms", 256, 128),
    "compute": ({"max_num_seqs": 256, "num_gpu_blocks": 6000}, "ttft_p95<2s,tpot_p95<50ms", 192, 64),
    "compute2": (
        {**_MIDDLE, "max_num_seqs": 512, "num_gpu_blocks": 60000},
        "ttft_p95<2s,tpot_p95<30ms",
        256,
        128,
    ),
}
"""Knobs over the laptop preset, SLO, prompt and output tokens."""

CAUSES = {
    **{name: Bound.QUEUE for name in SERVERS if name.startswith(("slots", "middle")) and name != "middlekv"},
    **{name: Bound.KV for name in SERVERS if "kv" in name},
}


def preset_of(name: str) -> Preset:
    knobs = dict(SERVERS[name][0])
    if knobs["num_gpu_blocks"] * 16 < 2048 + 16:
        knobs["max_model_len"] = 1024
    return load_preset("laptop").with_knobs(knobs)


CAPACITIES = {"slots8": 17, "slots24": 42, "middle32": 87, "kv300": 35, "compute": 35}
"""What `true_capacity` says of some servers at 600 requests a level."""


def carries(name: str, users: int, requests: int) -> bool:
    """Whether a long run with so many in flight holds the SLO."""
    _, text, prompt_tokens, output_tokens = SERVERS[name]
    slo = parse_slo(text)
    lengths = Lengths(prompt_tokens=prompt_tokens, output_tokens=output_tokens, prompt_cv=CV, output_cv=CV)
    count = max(requests, 10 * users)
    predicted = predict(
        preset_of(name), concurrency=[users], lengths=lengths, requests_per_level=count, seed=99
    ).points[0]
    ttft_ms, tpot_ms = predicted.ttft_ms.p95, predicted.tpot_ms.p95
    assert ttft_ms is not None
    assert tpot_ms is not None
    limits = [slo.target(metric) for metric in ("ttft", "tpot")]
    return all(value <= 1e3 * limit.limit for value, limit in zip((ttft_ms, tpot_ms), limits, strict=True) if limit)


def true_capacity(name: str, requests: int = 1500) -> int:
    """Largest number in flight that holds the SLO in long runs, by bisection to 1 %."""
    low, high = 0, 1
    while carries(name, high, requests):
        low, high = high, 2 * high
    while high - low > max(1, 0.01 * low):
        middle = (low + high) // 2
        low, high = (middle, high) if carries(name, middle, requests) else (low, middle)
    return low


def noted_search(session: VirtualSession, slo: Slo, base: LoadPoint) -> CapacitySearch:
    """A search to its end, asked once a second as a host does, and what it learns among the session's facts."""
    search = CapacitySearch(slo, base)
    while (step := search.next(session.facts, session.now_s)).point is not None:
        session.note(step.learned)
        session.command(step.point, "search")
        session.run_until(session.now_s + 1.0)
    session.note(step.learned)
    return search


def search_run(name: str, seed: int) -> tuple[float, float]:
    """(what the search found, seconds it took)."""
    _, text, prompt_tokens, output_tokens = SERVERS[name]
    idle = LoadPoint(concurrency=0, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    session = VirtualSession(preset_of(name), idle, seed=seed, prompt_cv=CV, output_cv=CV)
    return noted_search(session, parse_slo(text), idle).capacity.at_slo or 0.0, session.now_s


def cause_run(name: str, seed: int) -> tuple[CliffVerdict, float]:
    """The verdict after a ramp by hand to twice the wall, and max_num_seqs."""
    knobs, text, prompt_tokens, output_tokens = SERVERS[name]
    steps = random.Random(seed)

    def point(users: float) -> LoadPoint:
        return LoadPoint(concurrency=int(users), prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    session = VirtualSession(preset_of(name), point(4), seed=seed, prompt_cv=CV, output_cv=CV, limits=seed % 2 == 0)
    wall = knobs["max_num_seqs"] if CAUSES[name] is Bound.QUEUE else 16 * knobs["num_gpu_blocks"] / prompt_tokens
    users = 4.0
    while users < 2 * wall:
        session.command(point(users))
        session.run_until(session.now_s + DWELL_S)
        users *= steps.uniform(1.3, 1.8)
    found = assess(session.facts, session.meta, parse_slo(text), now_s=session.now_s)
    return found.cliff, float(knobs["max_num_seqs"])
