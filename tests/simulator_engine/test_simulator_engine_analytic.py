"""The engine against results that can be worked out on paper."""

from __future__ import annotations

import random
from itertools import pairwise
from statistics import fmean

import msgspec
import pytest

from llmtop.simulator.engine import (
    Engine,
    EngineConfig,
    Lengths,
    Overhead,
    Preset,
    SimRequest,
    StepLoad,
    VirtualDriver,
    load_preset,
    open_loop,
    predict,
)

QUIET = {"jitter": 0.0, "api_in_ms": 0.0, "api_in_us_per_token": 0.0, "api_out_ms": 0.0}


def quiet(name: str, **knobs: float | bool | str) -> Preset:
    """A preset without noise and without the server's own times."""
    return load_preset(name).with_knobs({**QUIET, **knobs})


def alone(preset: Preset, prompt_tokens: int, max_tokens: int) -> list[int]:
    """Token times of a single request."""
    engine = Engine(preset.config, preset.step_model)
    engine.submit(SimRequest(id="a", arrival_ns=0, prompt_tokens=prompt_tokens, max_tokens=max_tokens))
    now_ns, stamps = 0, []
    while (plan := engine.plan(now_ns)) is not None:
        now_ns = plan.end_ns
        stamps += [now_ns for _event in engine.commit(plan)]
    return stamps


@pytest.mark.parametrize("asynchronous", [True, False])
def test_ttft_of_one_request_is_the_sum_of_its_chunks(asynchronous: bool) -> None:
    preset = quiet("laptop", async_scheduling=asynchronous)
    seconds = preset.step_model.seconds
    expected = sum(
        seconds(StepLoad(tokens=new, sequences=1, chunks=((before, new),)))
        for before, new in ((0, 512), (512, 512), (1024, 276))
    )
    assert alone(preset, 1300, 1) == [pytest.approx(expected * 1e9, abs=3)]


def test_ttft_seen_by_a_client_adds_the_server_s_times() -> None:
    slow = {"api_in_ms": 7.0, "api_in_us_per_token": 10.0, "api_out_ms": 5.0}
    point = predict(quiet("laptop", **slow), concurrency=[1], requests_per_level=5).points[0]
    engine_ms = alone(quiet("laptop"), 192, 1)[0] / 1e6
    assert point.ttft_ms.p50 == pytest.approx(engine_ms + 7.0 + 192 * 0.010 + 5.0, abs=1e-3)


@pytest.mark.parametrize("name", ["laptop", "h100-llama-3.1-8b", "4xh100-llama-3.1-70b"])
def test_tpot_of_one_request_is_the_formula(name: str) -> None:
    preset = quiet(name)
    stamps = alone(preset, 100, 65)
    expected = fmean(
        preset.step_model.seconds(StepLoad(tokens=1, sequences=1, decodes=1, decode_context=100 + step))
        for step in range(64)
    )
    assert (stamps[-1] - stamps[0]) / 64e9 == pytest.approx(expected, rel=1e-3)


def test_tpot_depends_on_the_sum_of_contexts_alone() -> None:
    seconds = load_preset("h100-llama-3.1-8b").step_model.seconds
    even = StepLoad(tokens=4, sequences=4, decodes=4, decode_context=4 * 1000)
    skewed = StepLoad(tokens=4, sequences=4, decodes=4, decode_context=3 * 10 + 3970)
    assert seconds(even) == seconds(skewed)


def test_twice_the_bandwidth_halves_a_memory_bound_step() -> None:
    preset = quiet("h100-llama-3.1-8b", step_ms=0.0, per_sequence_us=0.0, peak_tflops=1e6)
    faster = preset.with_knobs({"bandwidth_gb_s": 2 * preset.hardware.bandwidth_gb_s})
    load = StepLoad(tokens=8, sequences=8, decodes=8, decode_context=8000)
    assert faster.step_model.seconds(load) == pytest.approx(preset.step_model.seconds(load) / 2, rel=1e-3)


def test_a_throttled_card_slows_prefill_not_decode() -> None:
    model = load_preset("h100-llama-3.1-8b").step_model
    prefill = StepLoad(tokens=4096, sequences=2, chunks=((0, 2048), (0, 2048)))
    decode = StepLoad(tokens=1, sequences=1, decodes=1, decode_context=500)
    assert model.throttled(0.5).seconds(prefill) > 1.8 * model.seconds(prefill)
    assert model.throttled(0.5).seconds(decode) < 1.01 * model.seconds(decode)


def test_tensor_parallelism_pays_for_its_all_reduces() -> None:
    one = quiet("rtxpro6000-llama-3.1-8b", step_ms=0.0, per_sequence_us=0.0, sampler_passes=0.0)
    two = one.with_knobs({"tensor_parallel": 2, "link_latency_us": 0.0, "link_gb_s": 1e9})
    slow = one.with_knobs({"tensor_parallel": 2, "link_latency_us": 20.0, "link_gb_s": 1e9})
    load = StepLoad(tokens=1, sequences=1, decodes=1, decode_context=500)
    assert two.step_model.seconds(load) == pytest.approx(one.step_model.seconds(load) / 2, rel=0.01)
    assert slow.step_model.seconds(load) - two.step_model.seconds(load) == pytest.approx(2 * 32 * 20e-6)
    assert two.config.num_gpu_blocks > 2 * one.config.num_gpu_blocks


@pytest.mark.parametrize(("load", "count"), [(0.3, 10_000), (0.5, 10_000), (0.8, 50_000)])
def test_one_slot_is_an_m_d_1_queue(load: float, count: int) -> None:
    """Against Lindley's recursion on the same arrivals, and the mean wait ρ·D/(2·(1-ρ)) within 3 %."""
    preset = quiet("laptop", max_num_seqs=1, async_scheduling=False, enable_prefix_caching=False)
    engine = Engine(preset.config, preset.step_model)
    service_ns = alone(preset, 1, 1)[0]
    source = random.Random(5)
    arrivals, clock = [], 0.0
    for _ in range(count):
        clock += source.expovariate(load / service_ns)
        arrivals.append(round(clock))
    waits, free_ns = [], 0
    for arrival_ns in arrivals:
        start_ns = max(arrival_ns, free_ns)
        waits.append(start_ns - arrival_ns)
        free_ns = start_ns + service_ns
    now_ns, sent = 0, 0
    while sent < count or engine.has_work:
        while sent < count and arrivals[sent] <= now_ns:
            engine.submit(SimRequest(id=str(sent), arrival_ns=arrivals[sent], prompt_tokens=1, max_tokens=1))
            sent += 1
        plan = engine.plan(now_ns)
        if plan is None:
            now_ns = arrivals[sent]
            continue
        now_ns = plan.end_ns
        engine.commit(plan)
    mean_wait_s = engine.statistics.queue_time.sum / count
    assert mean_wait_s == pytest.approx(fmean(waits) * 1e-9, rel=1e-9)
    assert engine.statistics.busy_ns == count * service_ns
    assert mean_wait_s == pytest.approx(load * service_ns * 1e-9 / (2 * (1 - load)), rel=0.03)


def test_little_holds_over_a_drained_run() -> None:
    """L = λ·W: the requests in the system, summed step by step, against the engine's own end-to-end times."""
    preset = load_preset("laptop").with_knobs(QUIET)
    engine = Engine(preset.config, preset.step_model)
    source = random.Random(1)
    arrivals: list[int] = []
    for _ in range(400):
        arrivals.append((arrivals[-1] if arrivals else 0) + round(source.expovariate(8.0) * 1e9))
    left, now_ns, in_system_ns = list(arrivals), 0, 0
    while left or engine.has_work:
        while left and left[0] <= now_ns:
            arrival_ns = left.pop(0)
            in_system_ns += now_ns - arrival_ns  # It came while the step before was running.
            lengths = source.randrange(10, 400), source.randrange(1, 90)
            engine.submit(
                SimRequest(id=str(len(left)), arrival_ns=arrival_ns, prompt_tokens=lengths[0], max_tokens=lengths[1])
            )
        plan = engine.plan(now_ns)
        if plan is None:
            now_ns = left[0]
            continue
        in_system_ns += (engine.running + engine.waiting) * plan.duration_ns
        now_ns = plan.end_ns
        engine.commit(plan)
    assert engine.statistics.e2e_time.count == 400
    assert in_system_ns * 1e-9 == pytest.approx(engine.statistics.e2e_time.sum, rel=1e-3)


@pytest.mark.parametrize("think_s", [0.0, 1.5])
def test_closed_loop_keeps_every_user_in_the_system(think_s: float) -> None:
    """X·(R + Z) = N."""
    point = predict("laptop", concurrency=[12], think_time_s=think_s, requests_per_level=600).points[0]
    assert point.e2e_ms.mean is not None
    assert point.requests_per_s * (point.e2e_ms.mean / 1e3 + think_s) == pytest.approx(12, rel=0.02)


def test_throughput_rises_up_to_the_slots_and_stays() -> None:
    points = predict(quiet("laptop"), concurrency=[1, 2, 4, 8, 16, 32, 64]).points
    rates = [point.output_tokens_per_s for point in points]
    assert all(late >= 0.97 * early for early, late in pairwise(rates))
    decode = StepLoad(tokens=32, sequences=32, decodes=32, decode_context=32 * 192)
    assert max(rates) <= 32 / quiet("laptop").step_model.seconds(decode)
    assert points[-1].running_mean == pytest.approx(32, abs=1)


@pytest.mark.parametrize("blocks", [200, 400])
def test_kv_blocks_bound_the_running(blocks: int) -> None:
    """At most as many run as the blocks hold; at least as many as hold them at full length."""
    preset = quiet("laptop", num_gpu_blocks=blocks, max_num_seqs=256)
    point = predict(preset, concurrency=[100], prompt_tokens=192, output_tokens=64).points[0]
    assert (blocks - 1) // 16 - 1 <= point.running_mean <= (blocks - 1) / 12 + 1
    assert point.kv_usage_max > 0.95
    assert point.waiting_mean > 50


def test_no_evict_runs_as_many_as_fit_at_full_length() -> None:
    preset = quiet("laptop", num_gpu_blocks=400, max_num_seqs=256, no_evict=True)
    point = predict(preset, concurrency=[100], prompt_tokens=192, output_tokens=64).points[0]
    assert point.running_mean == pytest.approx(399 // 16, abs=1)
    assert point.preemptions == 0


@pytest.mark.parametrize("prompt_tokens", [1, 15, 16, 17, 32, 200])
def test_an_equal_prompt_hits_all_full_blocks_but_the_last_token(prompt_tokens: int) -> None:
    engine = Engine(EngineConfig(async_scheduling=False), quiet("laptop").step_model)
    now_ns = 0
    for name in ("a", "b"):
        hashes = tuple(range(prompt_tokens // 16))
        engine.submit(SimRequest(id=name, arrival_ns=0, prompt_tokens=prompt_tokens, max_tokens=2, block_hashes=hashes))
        while (plan := engine.plan(now_ns)) is not None:
            now_ns = plan.end_ns
            engine.commit(plan)
    assert engine.statistics.prefix_hits == (prompt_tokens - 1) // 16 * 16
    assert engine.statistics.prefix_queries == 2 * prompt_tokens


def test_a_shared_prefix_saves_its_prefill() -> None:
    lengths = Lengths(prompt_tokens=1024, output_tokens=16)
    shared = msgspec.structs.replace(lengths, shared_prefix=0.75, prefix_groups=4)
    plain, saved = (
        predict("laptop", rate=[1.0], lengths=each, knobs={"num_gpu_blocks": 2000}).points[0]
        for each in (lengths, shared)
    )
    assert plain.prefix_hit_ratio == 0.0
    assert saved.prefix_hit_ratio == pytest.approx(0.75, abs=0.02)
    assert saved.ttft_ms.p50 < 0.45 * plain.ttft_ms.p50


def test_a_smaller_token_budget_trades_ttft_for_smoothness() -> None:
    """A long prompt among decoding requests: with 512 tokens a step its chunks hold up the others less."""

    def worst_gap_and_ttft(budget: int) -> tuple[int, int]:
        preset = quiet("a100-llama-3.1-8b", max_num_batched_tokens=budget)
        engine = Engine(preset.config, preset.step_model)
        for number in range(8):
            engine.submit(SimRequest(id=str(number), arrival_ns=0, prompt_tokens=32, max_tokens=60))
        now_ns, last_ns, worst_ns, sent_ns, first_ns = 0, 0, 0, 0, 0
        for step in range(60):
            if step == 10:
                engine.submit(SimRequest(id="long", arrival_ns=now_ns, prompt_tokens=7000, max_tokens=2))
                sent_ns = now_ns
            plan = engine.plan(now_ns)
            if plan is None:
                break
            now_ns = plan.end_ns
            for event in engine.commit(plan):
                if event.request_id == "0":
                    worst_ns = max(worst_ns, now_ns - last_ns if event.index else 0)
                    last_ns = now_ns
                if event.request_id == "long" and event.index == 0:
                    first_ns = now_ns - sent_ns
        return worst_ns, first_ns

    small, large = worst_gap_and_ttft(512), worst_gap_and_ttft(8192)
    assert small[0] < large[0] / 4
    assert small[1] > large[1]


def test_ttft_grows_without_end_past_capacity_at_the_rate_of_the_excess() -> None:
    """Offered λ over capacity μ: TTFT of a request that arrives at t is (λ/μ - 1)·t."""
    preset = quiet("laptop", async_scheduling=False)
    capacity = predict(preset, concurrency=[300], requests_per_level=3000).points[0].requests_per_s
    engine = Engine(preset.config, preset.step_model)
    driver = VirtualDriver(engine, preset.overhead)
    rate = 2.0 * capacity
    visits = sorted(
        open_loop(driver, rate, 6000, Lengths(prompt_tokens=192, output_tokens=64), burstiness=float("inf")),
        key=lambda visit: visit.number,
    )
    early, late = fmean(v.ttft_s for v in visits[900:1100]), fmean(v.ttft_s for v in visits[4900:5100])
    slope = (late - early) / (4000 / rate)
    assert slope == pytest.approx(rate / capacity - 1, rel=0.01)


def test_version_flags_set_the_async_flavour_and_host_costs() -> None:
    old = load_preset("h100-llama-3.1-8b").with_knobs({"engine_version": "0.8"})
    new = load_preset("h100-llama-3.1-8b").with_knobs({"engine_version": "0.33"})
    assert not old.config.async_scheduling
    assert new.config.async_scheduling
    assert new.config.reserve_full_isl
    assert not old.config.reserve_full_isl
    load = StepLoad(tokens=256, sequences=256, decodes=256, decode_context=256 * 500)
    assert old.step_model.seconds(load) > new.step_model.seconds(load)


def test_async_scheduling_costs_an_arrival_one_more_step() -> None:
    ttft = {}
    for asynchronous in (True, False):
        preset = quiet("laptop", async_scheduling=asynchronous)
        engine = Engine(preset.config, preset.step_model)
        engine.submit(SimRequest(id="first", arrival_ns=0, prompt_tokens=8, max_tokens=30))
        now_ns = 0
        for step in range(20):
            if step == 5:
                engine.submit(SimRequest(id="second", arrival_ns=now_ns, prompt_tokens=8, max_tokens=2))
                sent_ns = now_ns
            plan = engine.plan(now_ns)
            assert plan is not None
            now_ns = plan.end_ns
            for event in engine.commit(plan):
                if event.request_id == "second" and event.index == 0:
                    ttft[asynchronous] = now_ns - sent_ns
    assert ttft[True] - ttft[False] == pytest.approx(13.5e6, rel=0.1)


def test_lengths_have_the_mean_that_was_asked_for() -> None:
    preset = quiet("laptop")
    driver = VirtualDriver(Engine(preset.config, preset.step_model), Overhead(), seed=2)
    lengths = Lengths(prompt_tokens=300, output_tokens=100, prompt_cv=1.0, output_cv=0.3)
    visits = [driver.send(0, lengths) for _ in range(4000)]
    assert fmean(visit.prompt_tokens for visit in visits) == pytest.approx(300, rel=0.05)
    assert fmean(visit.output_tokens for visit in visits) == pytest.approx(100, rel=0.02)
