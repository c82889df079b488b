"""Guards over facts: what keeps a wrong number out of levels, of the figures of now, and of an SLO's verdict."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record, requests_of
from virtual import meta_of

from llmtop.analysis.measured import measured_curves
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.readings import finished_requests, server_gauges
from llmtop.analysis.recent import limits_of, overloaded_now, recent_of, slo_sample
from llmtop.analysis.segments import segments_of
from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.samples import ClientSample, ServerSnapshot
from llmtop.meter.facts import Facts

FOUR = LoadPoint(concurrency=4)


def steady(until_s: int, **more: object) -> Facts:
    """Four users whose requests take a second: one ends every quarter of a second."""
    requests = [record(i / 4) for i in range(4 * until_s)]
    return facts_of(requests=requests, bins=bins_of(until_s, 4, ok=1, output_tokens=10), changes=[(0.0, FOUR)], **more)


def test_seconds_in_which_the_client_was_the_bottleneck_show_no_gauge() -> None:
    """Nor do those next to them: states are told once a second."""
    server = [ServerSnapshot(t_s=float(t), waiting=50.0 if 9 <= t <= 11 else 0.0) for t in range(20)]
    client = [ClientSample(t_s=float(t), state="red" if t == 10 else "green") for t in range(20)]
    gauges = server_gauges(facts_of(server=server, client=client))
    assert gauges.t_s.tolist() == [t for t in range(20) if not 9 <= t <= 11]
    assert gauges.waiting.max() == 0.0


def test_each_time_in_which_the_client_was_the_bottleneck_is_left_out() -> None:
    server = [ServerSnapshot(t_s=float(t), waiting=0.0) for t in range(40)]
    client = [ClientSample(t_s=float(t), state="red" if t in (10, 30) else "green") for t in range(40)]
    shown = server_gauges(facts_of(server=server, client=client)).t_s.tolist()
    assert shown == [t for t in range(40) if t not in (9, 10, 11, 29, 30, 31)]


def test_amber_seconds_count() -> None:
    server = [ServerSnapshot(t_s=float(t), waiting=1.0) for t in range(5)]
    client = [ClientSample(t_s=float(t), state="amber") for t in range(5)]
    assert len(server_gauges(facts_of(server=server, client=client)).t_s) == 5


def test_throughput_is_that_of_the_bins() -> None:
    """Twice what Little's law would say of four in flight for a second each."""
    facts = facts_of(
        requests=[record(i / 4) for i in range(240)],
        bins=bins_of(60, 4, ok=2, output_tokens=30),
        changes=[(0.0, FOUR)],
    )
    (curve,) = measured_curves(facts, meta_of(), finished_requests(facts), 60.0)
    assert [(level.requests_per_s, level.output_tokens_per_s) for level in curve.levels] == [(8.0, 120.0)]


def test_throughput_is_not_taken_from_seconds_in_which_the_client_was_the_bottleneck() -> None:
    facts = steady(60, client=[ClientSample(t_s=20.0 + i, state="red") for i in range(20)])
    stalled = facts.bins.column("t_s")
    facts.bins.column("ok")[(stalled > 19.5) & (stalled < 39.5)] = 0
    curve = measured_curves(facts, meta_of(), finished_requests(facts), 60.0)[-1]
    assert [level.load for level in curve.levels] == [4.0]
    assert curve.levels[0].requests_per_s == pytest.approx(4.0)


def test_requests_that_the_client_held_up_and_cancelled_ones_are_in_no_level() -> None:
    facts = facts_of(
        requests=[record(1.0), record(2.0, client_limited=True), record(3.0, outcome=Outcome.CANCELLED), record(4.0)]
    )
    assert finished_requests(facts).sent_s.tolist() == [1.0, 4.0]
    assert finished_requests(facts, newest=1).sent_s.tolist() == [4.0]


def test_the_first_service_time_after_a_change_belongs_to_no_level() -> None:
    """S is 0.9 s: what was sent before 30.9 s met requests of the other length."""
    facts = steady(60)
    facts.changes.append(
        msgspec.structs.replace(facts.changes[0], t_s=30.0, point=LoadPoint(concurrency=4, prompt_tokens=900))
    )
    current = measured_curves(facts, meta_of(), finished_requests(facts), 60.0)[-1]
    assert current.requests.sent_s.min() == 31.0


def test_preemptions_are_growth_and_a_restart_takes_none_back() -> None:
    server = [ServerSnapshot(t_s=float(t), preemptions_total=n) for t, n in enumerate([5, 7, 7, 0, 1])]
    assert server_gauges(facts_of(server=server)).preemptions.tolist() == [0, 2, 0, 0, 1]


@pytest.mark.parametrize(("told", "expected"), [(32.0, 32.0), (None, 64.0)])
def test_a_limit_that_the_metrics_tell_wins_over_the_probe(told: float | None, expected: float) -> None:
    """A knob that was turned is in the metrics, never in what the probe found at the start."""
    meta = msgspec.structs.replace(meta_of(), info=EndpointInfo(dialect=Dialect.VLLM, model="m", max_num_seqs=64))
    snapshot = ServerSnapshot(t_s=1.0, running=1.0, max_num_seqs=told)
    assert limits_of(facts_of(server=[snapshot]), meta, FOUR).max_num_seqs == expected


def test_slots_that_found_their_pool_full_share_it() -> None:
    """Four slots of llama.cpp, each of which tells a context of 2 048 tokens: one pool, if streams find it full."""
    server = [ServerSnapshot(t_s=1.0, max_num_seqs=4, kv_capacity_tokens=8192, max_model_len=2048)]
    full = msgspec.structs.replace(record(0.0, outcome=Outcome.STREAM_ERROR), error="Context size has been exceeded.")
    assert limits_of(facts_of(server=server), meta_of(), FOUR).kv_capacity_tokens == 8192
    assert limits_of(facts_of(server=server, requests=[full]), meta_of(), FOUR).kv_capacity_tokens == 2048


def test_of_replicas_in_turn_no_limit_is_known_for_each_is_one_replicas() -> None:
    """What says so is a last snapshot without any figure; slots that the probe was told are one replica's, too."""
    meta = msgspec.structs.replace(meta_of(), info=EndpointInfo(dialect=Dialect.VLLM, model="m", max_num_seqs=64))
    one = ServerSnapshot(t_s=1.0, max_num_seqs=32, kv_capacity_tokens=4096, num_gpu_blocks=256, block_size=16)
    one = msgspec.structs.replace(one, process_start_s=1e9, requests_total=100.0)
    facts = facts_of(server=[one, ServerSnapshot(t_s=3.0)])
    limits = limits_of(facts, meta, FOUR)
    assert (limits.max_num_seqs, limits.kv_capacity_tokens, limits.max_num_batched_tokens) == (None, None, None)
    assert len(segments_of(facts, meta)) == 1, "nor is it a restart"


def test_the_kv_pool_is_told_or_blocks_times_their_size() -> None:
    blocks = ServerSnapshot(t_s=1.0, num_gpu_blocks=100, block_size=16)
    assert limits_of(facts_of(server=[blocks]), meta_of(), FOUR).kv_capacity_tokens == 1600
    told = msgspec.structs.replace(blocks, kv_capacity_tokens=999)
    assert limits_of(facts_of(server=[told]), meta_of(), FOUR).kv_capacity_tokens == 999
    half = ServerSnapshot(t_s=1.0, num_gpu_blocks=100)
    assert limits_of(facts_of(server=[half]), meta_of(), FOUR).kv_capacity_tokens is None
    assert limits_of(facts_of(), meta_of(), FOUR).prompt_tokens == FOUR.prompt_tokens


def window_of(facts: Facts, now_s: float) -> list[float]:
    """When the requests ended that the SLO of now is held against, by their TTFT, which says it."""
    return sorted((slo_sample(facts, meta_of(), finished_requests(facts), now_s).ttft_s * 100).round().tolist())


@pytest.mark.parametrize(
    ("changed_s", "first_s"),
    [(70.0, 72), (10.0, 41), (95.0, 97), (None, 41)],
    ids=["since the change", "at most a minute", "however short", "no change"],
)
def test_the_slo_of_now_is_held_against_one_load(changed_s: float | None, first_s: int) -> None:
    requests = [record(t - 1.0, ttft_s=t / 100, e2e_s=1.0) for t in range(1, 105)]
    changes = [] if changed_s is None else [(0.0, FOUR), (changed_s, LoadPoint(concurrency=9))]
    assert window_of(facts_of(requests=requests, changes=changes), 100.0) == list(range(first_s, 101))


def test_goodput_of_now_is_over_the_seconds_that_were_looked_at() -> None:
    facts = facts_of(requests=[record(1.0)], changes=[(0.0, FOUR), (70.0, LoadPoint(concurrency=9))])
    requests = finished_requests(facts)
    assert slo_sample(facts, meta_of(), requests, 100.0).span_s == pytest.approx(100 - 70.9), "a service time after it"
    assert slo_sample(facts, meta_of(), requests, 5.0).span_s == 5.0
    ended = msgspec.structs.replace(meta_of(), ended_s=100.0)
    whole = slo_sample(facts, ended, requests, 100.0)
    assert whole.span_s == 100.0
    assert len(whole.ttft_s) == 1


def now_overloaded(
    *,
    ttft_s: float = 0.1,
    e2e_s: float = 2.0,
    base_s: float | None = 0.1,
    before: bool = False,
    waiting: tuple[float, ...] = (),
    n: int = 8,
) -> bool:
    """At second 20, after `n` first tokens and polls that ended a second ago."""
    polls = [ServerSnapshot(t_s=20.5 - len(waiting) + i, waiting=value) for i, value in enumerate(waiting)]
    requests = requests_of(np.linspace(10, 15, n), ttft_s=ttft_s, e2e_s=e2e_s)
    return overloaded_now(facts_of(server=polls), requests, base_s, 20.0, before, usual_s=1.0)


def test_five_polls_in_a_row_with_requests_waiting_are_an_overload() -> None:
    assert now_overloaded(waiting=(1, 1, 1, 1, 1))
    assert not now_overloaded(waiting=(1, 1, 1, 1))
    assert not now_overloaded(waiting=(1, 1, 1, 1, 0.5))
    assert not now_overloaded(waiting=(1, 1, 0, 1, 1))
    assert now_overloaded(waiting=(0, 1, 1, 1, 1, 1))


def test_slow_first_tokens_are_an_overload_only_past_twice_the_base_and_a_queue_share_of_12_percent() -> None:
    assert now_overloaded(ttft_s=1.1, base_s=0.5)
    assert not now_overloaded(ttft_s=0.95, base_s=0.5), "not twice the base"
    assert not now_overloaded(ttft_s=0.3, base_s=0.1), "10 % of E2E"
    assert now_overloaded(ttft_s=0.36, base_s=0.1), "13 % of E2E"
    assert not now_overloaded(ttft_s=1.1, base_s=0.5, n=7), "seven first tokens say nothing"
    assert not now_overloaded(ttft_s=1.1, base_s=None), "nothing to compare with"


def test_the_overload_marker_stays_until_the_queue_is_gone_and_ttft_is_back() -> None:
    slow = {"ttft_s": 0.75, "base_s": 0.5}
    assert now_overloaded(**slow, before=True), "1.5 times the base"
    assert not now_overloaded(**slow, before=False), "which raises nothing by itself"
    assert not now_overloaded(ttft_s=0.6, base_s=0.5, before=True), "1.2 times the base"
    assert now_overloaded(before=True, waiting=(1,)), "one still waits"
    assert not now_overloaded(before=True, waiting=(0.5,))
    assert not now_overloaded(before=True, base_s=None)


def test_old_first_tokens_and_failures_say_nothing_of_now() -> None:
    old = requests_of(np.linspace(10, 15, 8), ttft_s=1.0, e2e_s=2.0)
    assert overloaded_now(facts_of(), old, 0.1, 40.0, False, 1.0)
    assert not overloaded_now(facts_of(), old, 0.1, 47.0, False, 1.0)
    failed = requests_of(np.linspace(10, 15, 8), ttft_s=1.0, e2e_s=2.0, failed=True)
    assert not overloaded_now(facts_of(), failed, 0.1, 20.0, False, 1.0)


def test_the_last_seconds_are_those_of_one_load_but_five_at_least() -> None:
    server = [ServerSnapshot(t_s=float(t), running=float(t), preemptions_total=2.0 * t) for t in range(1, 101)]
    requests = requests_of(np.arange(100.0) + 0.5, e2e_s=0.5)
    for changed_s, first_s in ((0.0, 86), (90.0, 91), (98.0, 96)):
        facts = facts_of(server=server, changes=[(changed_s, FOUR)])
        found = recent_of(facts, requests, FOUR, 100.0)
        assert (found.polls, found.running_max) == (101 - first_s, 100.0)
        assert found.running == pytest.approx((first_s + 100) / 2)
        assert found.preemptions == 2.0 * (100 - first_s)
        assert found.ended is not None
        assert found.ended.end_s.tolist() == list(range(first_s, 101))


def test_gauges_of_now_are_means_and_counters_growth() -> None:
    """From second 5 on: what was before belongs to no load, and five seconds are looked at in any case."""
    means = ("waiting", "kv_usage", "iteration_tokens_mean", "ttft_mean_s", "prefix_hit_ratio")
    growing = ("requests_total", "flops_total", "memory_bytes_total")
    polls = [
        ServerSnapshot(
            t_s=float(t),
            running=(1.0, 2.0, 9.0)[t % 3],
            **{name: float(i + t) for i, name in enumerate(means)},
            **{name: float((i + 1) * t) for i, name in enumerate(growing)},
        )
        for t in range(1, 10)
    ]
    client = [ClientSample(t_s=float(t), state={6: "amber", 8: "red"}.get(t, "green")) for t in range(1, 9)]
    shared = LoadPoint(concurrency=4, shared_prefix=0.25)
    facts = facts_of(server=polls, client=client, bins=bins_of(10, 3), changes=[(7.0, FOUR)])
    found = recent_of(facts, requests_of([]), shared, 9.0)
    assert (found.polls, found.in_flight, found.running, found.running_max) == (5, 3.0, 2.0, 9.0)
    assert (found.waiting, found.kv_usage, found.iteration_tokens) == (7.0, 8.0, 9.0)
    assert (found.prefix_hit_ratio, found.shared_prefix, found.changed_s) == (11.0, 0.25, 7.0)
    assert (found.requests, found.flops, found.memory_bytes) == (4.0, 8.0, 12.0)
    assert (found.red_share, found.late_share) == (0.25, 0.5)
    unmoved = facts_of(server=[ServerSnapshot(t_s=0.5), ServerSnapshot(t_s=9.0)])
    assert recent_of(unmoved, requests_of([]), FOUR, 10.0).polls == 2, "since the start where no load changed"


def test_one_poll_shows_no_growth_and_a_counter_that_fell_none_either() -> None:
    one = facts_of(server=[ServerSnapshot(t_s=9.0, requests_total=5.0)])
    assert recent_of(one, requests_of([]), FOUR, 10.0).requests is None
    fell = facts_of(server=[ServerSnapshot(t_s=8.0 + i, requests_total=5.0 - 5 * i) for i in range(2)])
    assert recent_of(fell, requests_of([]), FOUR, 10.0).requests == 0.0


def test_the_share_of_polls_with_a_queue_counts_whole_requests() -> None:
    polls = [ServerSnapshot(t_s=float(i), waiting=value) for i, value in enumerate((0.0, 0.9, 1.0, 5.0), start=5)]
    found = recent_of(facts_of(server=polls), requests_of([]), FOUR, 10.0)
    assert found.waiting_share == 0.5
    assert recent_of(facts_of(), requests_of([]), FOUR, 10.0).waiting_share == 0.0


def open_loop(rates: list[tuple[float, float]], capacity: float = 10.0) -> tuple[object, ...]:
    """Levels of an open loop against a server of `capacity` requests/s; `rates` are (requests/s, seconds)."""
    rate = np.concatenate([np.full(round(span_s), value) for value, span_s in rates])
    t_s = np.arange(1.0, len(rate) + 1)
    queue, level = np.zeros(len(rate)), 0.0
    for i, offered in enumerate(rate):
        level = max(0.0, level + offered - capacity)
        queue[i] = level
    sent_s = np.concatenate([np.linspace(i, i + 1, int(r), endpoint=False) for i, r in enumerate(rate)])
    ttft_s = 0.1 + np.interp(sent_s, t_s, queue) / capacity
    offered = Offered(t_s, np.ones_like(t_s), rate, queue + rate)
    return rate_levels(requests_of(sent_s, ttft_s=ttft_s, e2e_s=ttft_s + 1), offered)


def test_a_rate_driven_behind_an_old_queue_is_no_level() -> None:
    """At 10 requests/s the queue of the 14 before neither grows nor drains: TTFT there is that of the queue."""
    assert [round(level.load) for level in open_loop([(5, 60), (14, 30), (10, 60)])] == [5, 14]
    assert [round(level.load) for level in open_loop([(5, 60), (14, 30), (5, 60), (10, 60)])] == [5, 10, 14]
    assert [round(level.load) for level in open_loop([(5, 60), (10, 60)])] == [5, 10]


def test_a_pause_is_no_level() -> None:
    assert [round(level.load) for level in open_loop([(5, 30), (0, 30), (5, 30)])] == [5]
