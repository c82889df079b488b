"""What a diagnosis says of itself: its evidence with the figures it rests on, and its advice."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import requests_of
from test_analysis_diagnosis import busy
from test_analysis_guards_diagnosis import CALM, FULL, ROOM, SLOTS, found

from llmtop.analysis import Level, Limits
from llmtop.analysis.diagnosis import by_cliff, trust_notes
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Kind

CACHE = Limits(max_num_seqs=64, kv_capacity_tokens=90 * 200.0, prompt_tokens=150, output_tokens=100)
UNPINNED = {"running": 100.0, "running_max": 140.0, "in_flight": 111.0}
GATEWAY = CALM | {"in_flight": 100.0, "running": 74.0, "held": 26.0}
THRASH = "10 preemptions in 15 s, 20 per 1 000 requests: work is thrown away"


@pytest.mark.parametrize(
    ("limits", "seen", "evidence"),
    [
        (
            SLOTS,
            CALM | {"ttft_here_s": 0.3, "ttft_server_s": 0.2},
            ("TTFT 300 ms here, 200 ms at the server",),
        ),
        (Limits(), GATEWAY, ("100 in flight here, 74 on the server",)),
        (
            SLOTS,
            CALM | {"ended": requests_of(np.arange(3.0), e2e_s=60.0, failed=True)},
            ("3 requests failed at 1 min each",),
        ),
        (SLOTS, FULL | {"kv_usage": 0.95}, ("running 40, waiting 11, KV 95.0 %",)),
        (SLOTS, CALM | {"preemptions": 10.0}, ("running 64, waiting 0, KV 41.0 %", THRASH)),
        (
            SLOTS,
            CALM | {"preemptions": 10.0, "requests": None, "kv_usage": None},
            ("running 64, waiting 0", "10 preemptions in 15 s: work is thrown away"),
        ),
        (
            CACHE,
            CALM | {"preemptions": 10.0},
            ("running 64, waiting 0, KV 41.0 %", THRASH, "the cache holds about 90 requests of this length"),
        ),
        (
            ROOM,
            UNPINNED | {"iteration_tokens": 1600.0},
            ("running 100, waiting 11, KV 41.0 %", "1 600 of 2 000 tokens a step are used"),
        ),
        (SLOTS, {}, ("running stuck at 64, waiting 11, KV 41.0 %",)),
        (
            Limits(),
            {"kv_usage": None},
            ("running stuck at 64, waiting 11", "--max-num-seqs is not shown: inferred from the plateau"),
        ),
        (SLOTS, {"red_share": 0.25}, ("the client was the bottleneck in 25.0 % of the last seconds",)),
    ],
)
def test_evidence_is_told_in_figures(limits: Limits, seen: dict[str, object], evidence: tuple[str, ...]) -> None:
    assert found(limits, **seen).evidence == evidence


@pytest.mark.parametrize(
    ("counters", "bound", "why"),
    [
        ({}, Bound.COMPUTE, "by the shape of TPOT over load"),
        ({"flops": 500.0, "memory_bytes": 2.0}, Bound.COMPUTE, "250 FLOPs a byte by the server's counters"),
        ({"flops": 100.0, "memory_bytes": 2.0}, Bound.MEMORY, "50 FLOPs a byte by the server's counters"),
    ],
)
def test_slow_steps_are_told_with_the_level_they_are_held_against(
    counters: dict[str, float], bound: Bound, why: str
) -> None:
    first = Level(2.0, np.full(4, 0.2), np.full(4, 0.02), np.full(4, 2.2))
    calm = CALM | {"in_flight": 8.0, "running": 8.0, "running_max": 8.0}
    slow = found(Limits(), (first,), ended=requests_of(np.arange(10.0), tpot_s=0.041), **calm | counters)
    assert (slow.bound, slow.evidence) == (bound, ("TPOT 41.0 ms, x2.0 of that at 2 in flight", why))


@pytest.mark.parametrize("cause", Bound)
def test_a_curve_is_diagnosed_by_its_cause(cause: Bound) -> None:
    told = by_cliff(CliffVerdict(kind=Kind.CLIFF, cause=cause, evidence=("seen",), confidence=Confidence.FIRM))
    assert (told.bound, told.evidence, told.confidence) == (cause, ("seen",), Confidence.FIRM)


def test_what_a_reader_must_know_is_told_in_figures() -> None:
    ttft_s = np.append(np.full(97, 0.1), np.full(3, 1.05))
    ended = requests_of(np.arange(100.0), ttft_s=ttft_s, prompt_tokens=np.where(np.arange(100) % 10, 100.0, 900.0))
    cached = {"prefix_hit_ratio": 0.46, "shared_prefix": 0.3}
    assert trust_notes(busy(in_flight=62.0, foreign=13.0, **cached, ended=ended)) == (
        "foreign traffic: about 13 requests on the server are not ours",
        "prefix cache flatters TTFT: 46.0 % hits where 30 % was asked",
        "TTFT p99 is x10 of p50: short requests starve behind long ones; "
        "schedule by priority, or give long prompts servers of their own",
    )
