"""Laws of the scheduler, checked after every step of random workloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.simulator.engine import (
    Engine,
    EngineConfig,
    Rejected,
    SimRequest,
    StepPlan,
    TokenEvent,
    load_preset,
)

STEP_MODEL = load_preset("laptop").step_model


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    """Small engines in which every limit is met often."""
    chunked = draw(st.booleans())
    budget = draw(st.integers(8, 96)) if chunked else 128
    block_size = draw(st.sampled_from([4, 8]))
    return EngineConfig(
        max_num_seqs=draw(st.integers(1, 6)),
        max_num_batched_tokens=budget,
        num_gpu_blocks=64 // block_size + draw(st.integers(1, 12)),
        block_size=block_size,
        max_model_len=64,
        enable_prefix_caching=draw(st.booleans()),
        enable_chunked_prefill=chunked,
        reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 7])) if chunked else 0,
        policy=draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
        max_num_queued_reqs=draw(st.sampled_from([None, None, 3])),
        async_scheduling=draw(st.booleans()),
        unhashed_first=draw(st.booleans()),
        skip_oversized=draw(st.booleans()),
        no_evict=draw(st.sampled_from([False, False, True])),
    )


@st.composite
def requests(draw: st.DrawFn) -> list[SimRequest]:
    """Up to 14 requests within 0.2 s, a dozen steps, some with heads in common."""
    made = []
    for number in range(draw(st.integers(1, 14))):
        shared = draw(st.integers(0, 6))
        family = draw(st.integers(0, 1))
        made.append(
            SimRequest(
                id=f"r{number}",
                arrival_ns=draw(st.integers(0, 20)) * 10_000_000,
                prompt_tokens=draw(st.integers(1, 36)),
                max_tokens=draw(st.integers(1, 26)),
                block_hashes=tuple(range(100 * family, 100 * family + shared)),
                priority=draw(st.integers(0, 2)),
                stop_after=draw(st.sampled_from([None, None, 3])),
            )
        )
    return sorted(made, key=lambda request: request.arrival_ns)


@dataclass
class Audit:
    """Runs an engine over arrivals and holds it to its laws."""

    engine: Engine
    abort_every: int = 0
    log: list[tuple[int, TokenEvent]] = field(default_factory=list)
    times: dict[str, list[int]] = field(default_factory=dict)
    asked: dict[str, SimRequest] = field(default_factory=dict)
    first_scheduled: list[str] = field(default_factory=list)
    aborted: set[str] = field(default_factory=set)
    rejected: int = 0

    def run(self, arrivals: list[SimRequest]) -> None:
        now_ns, steps, left = 0, 0, list(arrivals)
        while True:
            while left and left[0].arrival_ns <= now_ns:
                self.submit(left.pop(0))
            plan = self.step_start(now_ns)
            if plan is None:
                assert not self.engine.has_work, "idle with work that could run"
                if not left:
                    break
                now_ns = left[0].arrival_ns
                continue
            steps += 1
            assert steps < 20_000
            now_ns = plan.end_ns
            self.step_end(plan)
            if self.abort_every and steps % self.abort_every == 0:
                self.abort_one(steps)
        self.at_rest()

    def submit(self, request: SimRequest) -> None:
        try:
            self.engine.submit(request)
        except Rejected:
            self.rejected += 1
        else:
            self.asked[request.id] = request

    def step_start(self, now_ns: int) -> StepPlan | None:
        before = [sequence.id for sequence in self.engine.running_sequences()]
        free = self.engine.pool.free
        need = sum(
            max(0, -(-(sequence.target) // self.engine.config.block_size) - len(sequence.blocks))
            for sequence in self.engine.running_sequences()
        )
        plan = self.engine.plan(now_ns)
        if plan is None:
            return None
        config = self.engine.config
        assert plan.start_ns == now_ns
        assert plan.duration_ns > 0
        assert 0 < plan.tokens <= config.max_num_batched_tokens
        assert plan.tokens == plan.load.tokens
        assert self.engine.running <= config.max_num_seqs
        assert not (plan.preempted and plan.admitted), "admitted in a step that preempted"
        if not config.async_scheduling:  # Otherwise the plan was made a step ago, among others.
            crowd = self.engine.running + self.engine.waiting
            limit = config.long_prefill_token_threshold or config.max_num_batched_tokens
            assert all(new <= limit or crowd == 1 for _before, new in plan.load.chunks)
            assert plan.context == sum(sequence.computed - 1 for sequence in plan.decodes)
        if plan.preempted and not config.async_scheduling:
            assert free < need, "preempted though there were blocks for all"
            if config.policy == "fcfs":
                victims = [sequence.id for sequence in plan.preempted]
                assert victims == before[::-1][: len(victims)], "the last admitted go first"
        for sequence in plan.admitted:
            if not sequence.preemptions:
                self.first_scheduled.append(sequence.id)
        self.check_pool()
        return plan

    def step_end(self, plan: StepPlan) -> None:
        members = {sequence.id: sequence for sequence in plan.decodes}
        members |= {sequence.id: sequence for sequence, *_ in plan.chunks}
        for event in self.engine.commit(plan):
            assert event.request_id in members
            assert event.request_id not in self.aborted
            self.log.append((plan.end_ns, event))
            stamps = self.times.setdefault(event.request_id, [])
            assert event.index == len(stamps)
            stamps.append(plan.end_ns)
            if event.finished:
                sequence = members[event.request_id]
                assert not sequence.blocks
                if event.finish_reason == "length":
                    assert sequence.computed in (sequence.last_target, 0)
                    assert sequence.last_target == sequence.prompt_tokens + len(stamps) - 1
        self.check_pool()
        self.check_counts()

    def abort_one(self, steps: int) -> None:
        live = [*self.engine.running_sequences(), *self.engine.waiting_sequences()]
        if live:
            sequence = live[steps % len(live)]
            assert self.engine.abort(sequence.id)
            assert not self.engine.abort(sequence.id)
            assert not sequence.blocks
            self.aborted.add(sequence.id)
            self.check_pool()
            self.check_counts()

    def check_pool(self) -> None:
        pool = self.engine.pool
        assert pool.free + pool.used == pool.num_blocks - 1
        owners: dict[int, int] = {}
        for sequence in self.engine.running_sequences():
            for block in sequence.blocks:
                owners[block] = owners.get(block, 0) + 1
            assert sequence.computed <= sequence.capacity == len(sequence.blocks) * self.engine.config.block_size
        assert pool.owners() == owners
        assert all(not sequence.blocks for sequence in self.engine.waiting_sequences())

    def check_counts(self) -> None:
        statistics = self.engine.statistics
        ended = sum(statistics.finished.values())
        assert statistics.submitted == ended + self.engine.running + self.engine.waiting
        assert self.rejected == sum(statistics.rejected.values())
        assert statistics.generation_tokens == len(self.log)

    def at_rest(self) -> None:
        engine, statistics = self.engine, self.engine.statistics
        assert engine.running == engine.waiting == engine.pool.used == 0
        served = [name for name in self.asked if name not in self.aborted]
        for name in served:
            request, stamps = self.asked[name], self.times[name]
            assert len(stamps) == min(request.max_tokens, request.stop_after or request.max_tokens)
            assert request.arrival_ns < stamps[0]
            assert all(early < late for early, late in pairwise(stamps))
        assert statistics.finished["abort"] == len(self.aborted)
        assert statistics.finished["stop"] + statistics.finished["length"] == len(served)
        for histogram in (statistics.e2e_time, statistics.queue_time, statistics.request_prompt_tokens):
            assert histogram.count == len(served)
            assert histogram.cumulated()[-1] == histogram.count
        firsts = len(self.times)
        assert statistics.ttft.count == firsts
        assert statistics.inter_token.count == len(self.log) - firsts
        assert statistics.prompt_tokens == sum(self.asked[name].prompt_tokens for name in self.times)
        assert statistics.iteration_tokens.count == statistics.steps
        assert statistics.prefix_hits <= statistics.prefix_queries


@settings(max_examples=60)
@given(configs(), requests(), st.sampled_from([0, 0, 5, 11]), st.integers(0, 5))
def test_every_law_holds_in_every_step(
    config: EngineConfig, arrivals: list[SimRequest], abort_every: int, seed: int
) -> None:
    audit = Audit(Engine(config, STEP_MODEL, seed), abort_every)
    audit.run(arrivals)
    if config.policy == "fcfs" and not config.skip_oversized:
        order = [name for name in audit.asked if name in audit.first_scheduled]
        assert audit.first_scheduled == order, "first scheduled in order of arrival"
    if config.no_evict:
        assert audit.engine.statistics.preemptions == 0


@settings(max_examples=20)
@given(configs(), requests(), st.integers(0, 5))
def test_the_same_seed_gives_the_same_log(config: EngineConfig, arrivals: list[SimRequest], seed: int) -> None:
    logs = []
    for _ in range(2):
        audit = Audit(Engine(config, STEP_MODEL, seed))
        audit.run(arrivals)
        logs.append(msgspec.msgpack.encode(audit.log))
    assert logs[0] == logs[1]


@given(
    configs(),
    requests(),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "max_num_seqs": st.integers(1, 6),
                "num_gpu_blocks": st.integers(4, 60),
                "max_num_batched_tokens": st.integers(64, 128),
            },
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_flags_can_change_while_requests_run(
    config: EngineConfig, arrivals: list[SimRequest], changes: list[dict[str, Any]]
) -> None:
    engine = Engine(config, STEP_MODEL)
    ended: set[str] = set()
    submitted: set[str] = set()
    for request in arrivals:
        try:
            engine.submit(request)
            submitted.add(request.id)
        except Rejected:
            continue
    now_ns = 2_000_000_000
    for step in range(20_000):
        if step % 4 == 0 and changes:
            for event in engine.reconfigure(msgspec.structs.replace(config, **changes.pop())):
                assert event.finished
                assert event.request_id not in ended
                ended.add(event.request_id)
        assert engine.pool.num_blocks == engine.config.num_gpu_blocks
        assert engine.pool.free + engine.pool.used == engine.pool.num_blocks - 1
        plan = engine.plan(now_ns)
        if plan is None:
            break
        now_ns = plan.end_ns
        for event in engine.commit(plan):
            assert event.request_id not in ended
            if event.finished:
                ended.add(event.request_id)
    assert ended == submitted
    assert not engine.has_work
    assert engine.pool.used == 0


def test_the_last_admitted_is_preempted_and_computes_again_what_it_had() -> None:
    config = EngineConfig(
        num_gpu_blocks=10, block_size=4, max_model_len=36, enable_prefix_caching=False, async_scheduling=False
    )
    engine = Engine(config, STEP_MODEL)
    for name in ("first", "last"):
        engine.submit(SimRequest(id=name, arrival_ns=0, prompt_tokens=12, max_tokens=12))
    now_ns, recomputed, order = 0, [], []
    while (plan := engine.plan(now_ns)) is not None:
        now_ns = plan.end_ns
        if plan.preempted:
            assert [sequence.id for sequence in plan.preempted] == ["last"]
            assert [sequence.id for sequence in plan.decodes] == ["first"]
        if engine.statistics.preemptions and plan.chunks:
            recomputed += [new for _sequence, _before, new, _samples in plan.chunks]
        order += [event.request_id for event in engine.commit(plan) if event.finished]
    assert order == ["first", "last"]
    assert engine.statistics.preemptions == 1
    assert recomputed == [17]  # 4 blocks each leave one of the 9: 12 prompt tokens and the 5 that had been sampled.
    assert engine.statistics.request_preemptions.sum == 1


def test_the_least_urgent_is_preempted_under_the_priority_policy() -> None:
    config = EngineConfig(num_gpu_blocks=10, block_size=4, max_model_len=36, policy="priority", async_scheduling=False)
    engine = Engine(config, STEP_MODEL)
    for number, name in enumerate(("late", "urgent")):
        engine.submit(SimRequest(id=name, arrival_ns=0, prompt_tokens=12, max_tokens=12, priority=1 - number))
    now_ns, order, victims = 0, [], []
    while (plan := engine.plan(now_ns)) is not None:
        now_ns = plan.end_ns
        victims += [sequence.id for sequence in plan.preempted]
        order += [event.request_id for event in engine.commit(plan) if event.finished]
    assert victims == ["late"]
    assert order == ["urgent", "late"]


def test_fewer_slots_let_the_running_finish() -> None:
    engine = Engine(EngineConfig(max_num_seqs=4, async_scheduling=False), STEP_MODEL)
    for number in range(6):
        engine.submit(SimRequest(id=str(number), arrival_ns=0, prompt_tokens=10, max_tokens=5))
    plan = engine.plan(0)
    assert plan is not None
    engine.commit(plan)
    assert (engine.running, engine.waiting) == (4, 2)
    assert engine.reconfigure(msgspec.structs.replace(engine.config, max_num_seqs=1)) == []
    now_ns, most = plan.end_ns, 0
    while (plan := engine.plan(now_ns)) is not None:
        now_ns = plan.end_ns
        engine.commit(plan)
        if plan.admitted:
            most = max(most, engine.running)
    assert most <= 1
    assert engine.statistics.preemptions == 0
    assert engine.statistics.finished["length"] == 6


def test_block_size_and_policy_are_fixed() -> None:
    engine = Engine(EngineConfig(), STEP_MODEL)
    with pytest.raises(ValueError, match="fixed"):
        engine.reconfigure(EngineConfig(block_size=32))
    with pytest.raises(ValueError, match="fixed"):
        engine.reconfigure(EngineConfig(policy="priority"))


def test_blocks_leak_on_abort_when_told_so_and_stay_lost() -> None:
    engine = Engine(EngineConfig(num_gpu_blocks=1000, async_scheduling=False), STEP_MODEL)
    engine.leak_share = 0.5
    engine.submit(SimRequest(id="a", arrival_ns=0, prompt_tokens=160, max_tokens=5))
    assert engine.plan(0) is not None
    assert engine.abort("a")
    assert engine.pool.used == 5
    assert engine.pool.free == 994
    assert engine.kv_usage == pytest.approx(5 / 999)


@settings(max_examples=30)
@given(configs(), requests(), st.floats(0.0, 1.0))
def test_leaks_are_the_only_blocks_in_use_once_all_are_aborted(
    config: EngineConfig, arrivals: list[SimRequest], leak_share: float
) -> None:
    engine = Engine(config, STEP_MODEL)
    engine.leak_share = leak_share
    now_ns, live = 0, []
    for number, request in enumerate(arrivals):
        try:
            engine.submit(request)
            live.append(request.id)
        except Rejected:
            continue
        plan = engine.plan(now_ns)
        if plan is not None:
            now_ns = plan.end_ns
            engine.commit(plan)
        if number % 2:
            engine.abort(live[number % len(live)])
        pool = engine.pool
        assert pool.free + pool.used == pool.num_blocks - 1
    for name in live:
        engine.abort(name)
    assert not engine.has_work
    assert not engine.pool.owners()
    assert leak_share > 0.0 or engine.pool.used == 0


def test_stalls_and_factors_lengthen_steps() -> None:
    def durations(**faults: float) -> list[int]:
        engine = Engine(EngineConfig(), STEP_MODEL, seed=3)
        for name, value in faults.items():
            setattr(engine, name, value)
        engine.submit(SimRequest(id="a", arrival_ns=0, prompt_tokens=16, max_tokens=3))
        found, now_ns = [], 0
        while (plan := engine.plan(now_ns)) is not None:
            now_ns = plan.end_ns
            found.append(plan.duration_ns)
            engine.commit(plan)
        return found

    plain = durations()
    assert durations(extra_step_ns=1000) == [duration + 1000 for duration in plain]
    assert durations(stall_ns=50_000_000) == [plain[0] + 50_000_000, *plain[1:]]
    doubled = durations(step_time_factor=2.0)
    assert all(abs(slow - 2 * fast) <= 2 for slow, fast in zip(doubled, plain, strict=True))


@pytest.mark.parametrize(
    ("flags", "request_", "reason", "status"),
    [
        ({"max_model_len": 100}, {"prompt_tokens": 100, "max_tokens": 1}, "prompt_too_long", 400),
        ({"max_model_len": 100}, {"prompt_tokens": 10, "max_tokens": 101}, "max_tokens_too_large", 400),
        ({"num_gpu_blocks": 5}, {"prompt_tokens": 64, "max_tokens": 1}, "prompt_too_long", 400),
        ({"max_num_queued_reqs": 1}, {"prompt_tokens": 10, "max_tokens": 1}, "queued_reqs", 503),
        ({"max_num_queued_tokens": 25}, {"prompt_tokens": 16, "max_tokens": 1}, "queued_tokens", 503),
    ],
)
def test_what_is_turned_away(flags: dict[str, int], request_: dict[str, int], reason: str, status: int) -> None:
    engine = Engine(EngineConfig(**flags), STEP_MODEL)
    if status == 503:
        engine.submit(SimRequest(id="first", arrival_ns=0, prompt_tokens=16, max_tokens=1))
    with pytest.raises(Rejected) as refused:
        engine.submit(SimRequest(id="second", arrival_ns=0, **request_))
    assert (refused.value.reason, refused.value.status) == (reason, status)
    assert engine.statistics.rejected == {reason: 1}


def test_output_is_cut_to_the_model_s_length() -> None:
    engine = Engine(EngineConfig(max_model_len=20), STEP_MODEL)
    engine.submit(SimRequest(id="a", arrival_ns=0, prompt_tokens=15, max_tokens=20))
    now_ns, events = 0, []
    while (plan := engine.plan(now_ns)) is not None:
        now_ns = plan.end_ns
        events += engine.commit(plan)
    assert len(events) == 5
    assert events[-1].finish_reason == "length"


def test_an_id_in_flight_and_lengths_below_one_are_bugs_of_the_caller() -> None:
    engine = Engine(EngineConfig(), STEP_MODEL)
    engine.submit(SimRequest(id="a", arrival_ns=0, prompt_tokens=1, max_tokens=1))
    with pytest.raises(ValueError, match="in flight"):
        engine.submit(SimRequest(id="a", arrival_ns=0, prompt_tokens=1, max_tokens=1))
    with pytest.raises(ValueError, match="at least 1"):
        engine.submit(SimRequest(id="b", arrival_ns=0, prompt_tokens=0, max_tokens=1))


@pytest.mark.parametrize(
    "flags",
    [
        {"max_num_seqs": 0},
        {"num_gpu_blocks": 1},
        {"watermark": 1.0},
        {"long_prefill_token_threshold": -1},
        {"enable_chunked_prefill": False, "max_num_batched_tokens": 100},
    ],
)
def test_flags_that_no_engine_starts_with(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(flags)).removeprefix("enable_").split("_")[0]):
        EngineConfig(**flags)
