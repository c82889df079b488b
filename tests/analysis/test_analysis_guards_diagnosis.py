"""Each gate of the diagnosis stays shut just below its threshold and opens just above."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import requests_of
from test_analysis_diagnosis import busy

from llmtop.analysis import Level, Limits
from llmtop.analysis.diagnosis import diagnose, trust_notes
from llmtop.domain.verdicts import Bound, Confidence, Diagnosis
from llmtop.wording.sentences import CLIENT_LATE

CALM = {"waiting": 0.0, "waiting_share": 0.0, "in_flight": 64.0}
SLOTS = Limits(max_num_seqs=64)
ROOM = Limits(max_num_seqs=256, max_num_batched_tokens=2000)


def found(limits: Limits = SLOTS, levels: tuple[Level, ...] = (), **more: object) -> Diagnosis:
    return diagnose(busy(**more), limits, levels, "vllm")


def bound(limits: Limits = SLOTS, levels: tuple[Level, ...] = (), **more: object) -> Bound:
    return found(limits, levels, **more).bound


def test_the_client_is_named_from_a_fifth_of_the_seconds_on() -> None:
    assert bound(red_share=0.2) is Bound.CLIENT
    assert bound(red_share=0.19) is Bound.QUEUE


def test_a_queue_is_one_in_three_polls_at_least_and_most_of_them() -> None:
    assert bound(polls=3, waiting_share=0.6) is Bound.QUEUE
    assert bound(polls=2, waiting_share=0.6) is Bound.NONE
    assert bound(polls=3, waiting_share=0.59) is Bound.NONE
    assert bound(waiting=None, in_flight=64.0) is Bound.NONE


FULL = {"running": 40.0, "running_max": 60.0}


def test_memory_binds_where_it_is_full_while_slots_are_free() -> None:
    assert bound(kv_usage=0.90, **FULL) is Bound.KV
    assert bound(kv_usage=0.89, in_flight=51.0, **FULL) is Bound.NONE
    assert bound(kv_usage=0.95) is Bound.QUEUE, "running sticks to the slots"
    assert bound(kv_usage=0.95, **FULL, **CALM | {"in_flight": 40.0}) is Bound.NONE, "nobody waits"


def test_evictions_are_proof_of_short_memory_only_in_number() -> None:
    assert found(preemptions=10.0, **CALM).confidence is Confidence.FIRM
    assert found(preemptions=9.0, **CALM).confidence is Confidence.PROVISIONAL
    assert found(kv_usage=0.95, **FULL).confidence is Confidence.FIRM
    assert bound(preemptions=5.0, requests=500.0, **CALM) is Bound.KV
    assert bound(preemptions=4.9, requests=500.0, **CALM) is Bound.NONE
    assert bound(preemptions=0.5, requests=None, **CALM) is Bound.NONE


def test_the_token_budget_binds_from_four_fifths_on_while_slots_are_free() -> None:
    free = {"running": 100.0, "running_max": 140.0, "in_flight": 111.0}
    assert bound(ROOM, iteration_tokens=1600.0, **free) is Bound.TOKEN_BUDGET
    assert bound(ROOM, iteration_tokens=1590.0, **free) is Bound.NONE
    assert bound(ROOM, iteration_tokens=None, **free) is Bound.NONE
    assert bound(Limits(max_num_seqs=256), iteration_tokens=1900.0, **free) is Bound.NONE
    pinned = Limits(max_num_seqs=64, max_num_batched_tokens=2000)
    assert bound(pinned, iteration_tokens=1900.0) is Bound.QUEUE
    assert bound(ROOM, iteration_tokens=1900.0, **free | CALM | {"in_flight": 100.0}) is Bound.NONE


def test_slots_bind_where_running_stands_on_a_plateau() -> None:
    assert bound(Limits(), running=93.0, running_max=100.0, in_flight=104.0) is Bound.QUEUE
    assert bound(Limits(), running=92.0, running_max=100.0, in_flight=103.0) is Bound.NONE
    assert bound(SLOTS, running=61.0, running_max=80.0) is Bound.QUEUE, "64 less 5 %"
    assert bound(SLOTS, running=60.0, running_max=80.0, in_flight=71.0) is Bound.NONE
    assert found(SLOTS).confidence is Confidence.FIRM
    assert found(Limits()).confidence is Confidence.PROVISIONAL, "inferred from the plateau"
    assert bound(Limits(max_num_seqs=71)) is Bound.QUEUE, "nine slots of ten"
    assert bound(Limits(max_num_seqs=72)) is Bound.NONE, "free slots are not what binds"


def test_the_network_is_named_where_ttft_here_is_far_above_the_servers_own() -> None:
    def gap(here_s: float, server_s: float | None) -> Bound:
        return bound(ttft_here_s=here_s, ttft_server_s=server_s, **CALM)

    assert gap(0.30, 0.20) is Bound.NETWORK
    assert gap(0.30, 0.22) is Bound.NONE, "a quarter of it"
    assert gap(0.10, 0.04) is Bound.NETWORK
    assert gap(0.10, 0.055) is Bound.NONE, "45 ms"
    assert gap(0.30, None) is Bound.NONE


@pytest.mark.parametrize(
    ("in_flight", "held", "expected"),
    [
        (100.0, 26.0, Bound.NETWORK),
        (100.0, 25.0, Bound.NONE),
        (10.0, 3.5, Bound.NETWORK),
        (8.0, 3.0, Bound.NONE),
    ],
)
def test_requests_that_never_reach_the_server_are_held_on_the_way(
    in_flight: float, held: float, expected: Bound
) -> None:
    seen = {"in_flight": in_flight, "held": held}
    assert bound(Limits(), **CALM | seen) is expected


@pytest.mark.parametrize(
    ("ages_s", "expected"),
    [
        ([60.0, 60.0, 60.0], Bound.NETWORK),
        ([60.0, 60.0], Bound.NONE),
        ([60.0, 63.0, 65.0], Bound.NETWORK),
        ([60.0, 63.0, 67.0], Bound.NONE),
        ([10.0, 10.0, 10.0], Bound.NETWORK),
        ([9.9, 9.9, 9.9], Bound.NONE),
    ],
)
def test_failures_of_one_age_are_a_timeout_on_the_way(ages_s: list[float], expected: Bound) -> None:
    ended = requests_of(np.arange(float(len(ages_s))), e2e_s=np.array(ages_s), failed=True)
    assert bound(ended=ended, **CALM) is expected


def slow(tpot_s: float, *, n: int = 10, base: int = 4, **more: object) -> Bound:
    """TPOT now against 20 ms at 2 in flight; 8 in flight now."""
    first = Level(2.0, np.full(base, 0.2), np.full(base, 0.02), np.full(base, 2.2))
    calm = CALM | {"in_flight": 8.0, "running": 8.0, "running_max": 8.0}
    return bound(Limits(), (first,), ended=requests_of(np.arange(float(n)), tpot_s=tpot_s), **calm | more)


def test_steps_are_slow_from_half_as_long_again() -> None:
    assert slow(0.0301) is not Bound.NONE
    assert slow(0.0299) is Bound.NONE
    assert slow(0.06, n=9) is Bound.NONE
    assert slow(0.06, base=3) is Bound.NONE


def test_steps_are_slow_by_themselves_only_where_no_queue_or_late_client_makes_them() -> None:
    assert slow(0.06, waiting_share=0.2) is not Bound.NONE
    assert slow(0.06, waiting_share=0.21) is Bound.NONE
    assert slow(0.06, late_share=0.19) is not Bound.NONE
    assert slow(0.06, late_share=0.2) is Bound.NONE, "the client is late"
    assert found(late_share=0.2, held=50.0, **CALM).evidence == (CLIENT_LATE,)
    assert bound(late_share=0.9) is Bound.QUEUE, "gauges do not come late"


def test_free_slots_make_a_wait_a_matter_of_slow_steps() -> None:
    first = Level(2.0, np.full(20, 0.2), np.full(20, 0.02), np.full(20, 2.2))
    seen = {"waiting_share": 0.5, "in_flight": 8.0, "running": 8.0, "ended": requests_of(np.arange(10.0), tpot_s=0.06)}
    assert bound(Limits(), (first,), **seen) is Bound.NONE
    assert bound(Limits(max_num_seqs=16), (first,), **seen) is Bound.COMPUTE


def test_tokens_of_the_load_before_say_nothing_of_the_steps_of_now() -> None:
    assert slow(0.06, changed_s=0.0) is not Bound.NONE
    assert slow(0.06, changed_s=0.5) is Bound.NONE, "nine were sent since"


def test_the_shape_of_tpot_tells_compute_from_bandwidth() -> None:
    """Four times the load: twice the TPOT is a slope of one half."""
    assert slow(0.041) is Bound.COMPUTE
    assert slow(0.039) is Bound.MEMORY
    assert slow(0.039, in_flight=2.0, running=2.0, running_max=2.0) is Bound.COMPUTE, "slower at the same load"
    assert slow(0.06, in_flight=7.9) is Bound.NONE, "loads too close to tell"


def test_the_highest_level_tells_the_shape_where_the_load_is_lower_now() -> None:
    first = Level(2.0, np.full(20, 0.2), np.full(20, 0.02), np.full(20, 2.2))
    top = Level(16.0, np.full(4, 0.2), np.full(4, 0.1), np.full(4, 2.2))
    calm = CALM | {"in_flight": 8.0, "running": 8.0, "ended": requests_of(np.arange(10.0), tpot_s=0.035)}
    assert bound(Limits(), (first,), **calm) is Bound.MEMORY
    assert bound(Limits(), (first, top), **calm) is Bound.COMPUTE


def test_the_servers_own_counters_tell_it_better() -> None:
    assert slow(0.06, flops=200.0, memory_bytes=1.0) is Bound.COMPUTE
    assert slow(0.06, flops=199.0, memory_bytes=1.0) is Bound.MEMORY
    assert slow(0.06, flops=1.0, memory_bytes=0.0) is Bound.COMPUTE, "no bytes: by the shape"


def test_notes_are_told_only_past_their_thresholds() -> None:
    def notes(**more: object) -> int:
        return len(trust_notes(busy(**more)))

    assert notes(foreign=13.0) == 1
    assert notes(prefix_hit_ratio=0.46, shared_prefix=0.3) == 1
    assert notes(prefix_hit_ratio=0.44, shared_prefix=0.3) == 0
    ttft_s = np.full(100, 0.1)
    ttft_s[:3] = 1.05

    def starved(n: int = 100, long: float = 150.0, in_flight: float = 75.0) -> int:
        prompts = np.where(np.arange(n) % 10, 100.0, long)
        ended = requests_of(np.arange(float(n)), ttft_s=ttft_s[:n], prompt_tokens=prompts)
        return notes(ended=ended, in_flight=in_flight, running=in_flight, waiting=0.0)

    assert starved() == 1
    assert starved(99) == 0
    assert starved(long=149.0) == 0, "of one length"
    assert (starved(in_flight=4.0), starved(in_flight=3.0)) == (1, 0), "too few to starve behind"
    ttft_s[:3] = 0.95
    assert notes(ended=requests_of(np.arange(100.0), ttft_s=ttft_s)) == 0
