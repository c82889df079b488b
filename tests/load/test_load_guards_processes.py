"""What the load's processes tell of themselves, what becomes of a process that dies, and what the selftest compares."""

from __future__ import annotations

import asyncio
import gc
import math
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmtop.domain.client import ClientCause, ClientHealth, ClientReason
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Stage
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.endpoint.clock import LagSample
from llmtop.endpoint.trace import Trace
from llmtop.errors import SessionLost
from llmtop.load import health as health_module
from llmtop.load import pool, selftest
from llmtop.load.account import Worker
from llmtop.load.controller import LONGEST_HOLD_S, Controller
from llmtop.load.files import auto_workers
from llmtop.load.health import HealthProbe, raise_fd_limit
from llmtop.load.here import WorkerFacts
from llmtop.load.messages import Close, Cut, Follow, WorkerSetup, orders, packed
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers
from llmtop.load.post import Pipes
from llmtop.load.users import Flight
from llmtop.load.worker import work

SECOND = 1_000_000_000


# ── Health ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Probed:
    """A probe whose clocks and whose /proc/stat are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = self.cpu_ns = 0
        self.stat: str | None = "cpu 0 0 0 0 0 0 0 0"
        monkeypatch.setattr(health_module, "Path", lambda name: SimpleNamespace(read_bytes=self._read))
        monkeypatch.setattr(health_module, "perf_counter_ns", lambda: self.now_ns)
        self.probe = HealthProbe(clock=lambda: self.now_ns, cpu_clock=lambda: self.cpu_ns)

    def _read(self) -> bytes:
        if self.stat is None:
            raise FileNotFoundError
        return f"{self.stat}\ncpu0 9 9 9 9 9 9 9 9 9 9\n".encode()

    def second(self, chunks: int = 0, slips_ns: list[int] | None = None) -> ClientSample:
        self.now_ns += SECOND
        return self.probe.take(
            self.now_ns / 1e9, LagSample(), slips_ns or [], tpot_ms=None, chunks=chunks, stamp_source="kernel"
        )


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Probed:
    return Probed(monkeypatch)


def test_steal_is_the_share_of_all_ticks_that_went_to_others(probed: Probed) -> None:
    probed.stat = "cpu  100 0 0 100 0 0 0 10 777 777"
    probed.probe = HealthProbe(clock=lambda: probed.now_ns, cpu_clock=lambda: 0)
    probed.stat = "cpu  150 0 0 120 0 0 0 40 999 999"
    assert probed.second().steal == pytest.approx(0.3), "guests are in user time already"
    assert probed.second().steal == 0.0, "no tick has passed"


def test_a_kernel_without_steal_has_none(probed: Probed) -> None:
    for ticks in (100, 200):
        probed.stat = f"cpu {ticks} 0 0 0 0 0 0"
        sample = probed.second()
    assert sample.steal == 0.0


@pytest.mark.parametrize("missing", ["before", "after", "always"])
def test_of_a_machine_that_does_not_tell_steal_is_not_known(probed: Probed, missing: str) -> None:
    told = "cpu 1 0 0 0 0 0 0 1"
    probed.stat = told if missing == "after" else None
    probed.second()
    probed.stat = told if missing == "before" else None
    assert probed.second().steal is None


def test_a_second_is_told_by_itself(probed: Probed) -> None:
    probed.cpu_ns = SECOND // 4
    first = probed.second(chunks=30, slips_ns=[2_000_000] * 99 + [9_000_000])
    assert (first.span_s, first.cpu, first.chunks_per_s) == (1.0, 0.25, 30.0)
    assert first.send_slip_p99_ms == pytest.approx(2.07, abs=0.01)
    second = probed.second()
    assert (second.span_s, second.cpu, second.chunks_per_s, second.send_slip_p99_ms) == (1.0, 0.0, 0.0, None)


def test_a_span_of_nothing_divides_nothing(probed: Probed) -> None:
    sample = probed.probe.take(0.0, LagSample(), [], tpot_ms=None, chunks=3, stamp_source="kernel")
    assert (sample.span_s, sample.cpu, sample.chunks_per_s) == (0.0, 0.0, None)


def test_the_longest_collection_of_garbage_of_a_second_is_told(probed: Probed) -> None:
    for pause_ms in (3, 7, 5):
        probed.probe._on_gc("start", {})
        probed.now_ns += pause_ms * 1_000_000
        probed.probe._on_gc("stop", {})
    assert probed.second().gc_pause_ms == pytest.approx(7.0)
    assert probed.second().gc_pause_ms == 0.0


async def test_how_late_the_loop_was_counts_from_when_it_was_due(probed: Probed) -> None:
    callbacks = list(gc.callbacks)
    probed.probe.start()
    assert len(gc.callbacks) == len(callbacks) + 1
    probed.now_ns += 50_000_000
    await asyncio.sleep(0.03)
    probed.probe.stop()
    probed.probe.stop()
    assert gc.callbacks == callbacks
    assert probed.second().loop_lag_ms == pytest.approx(30.0)
    assert probed.second().loop_lag_ms == 0.0


@pytest.mark.parametrize(
    ("soft", "hard", "refused", "left"),
    [
        (1024, 4096, False, 4096),
        (1024, 4096, True, 1024),
        (4096, 4096, False, 4096),
        (1024, -1, False, 1_048_576),
        (2_000_000, -1, False, 2_000_000),
        (-1, -1, False, -1),
    ],
)
def test_open_files_are_raised_as_far_as_the_system_lets(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, refused: bool, left: int
) -> None:
    set_to: list[tuple[int, int]] = []

    def setrlimit(kind: int, limits: tuple[int, int]) -> None:
        if refused:
            raise ValueError
        set_to.append(limits)

    fake = SimpleNamespace(RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda kind: (soft, hard), setrlimit=setrlimit)
    monkeypatch.setattr(health_module, "resource", fake)
    assert raise_fd_limit() == left
    assert set_to == ([] if left == soft else [(left, hard)])


# ── One process ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("limit", "warned"), [(91, True), (92, False), (None, False), (100_000, False)])
def test_too_few_open_files_for_the_load_are_told_before_it_begins(
    lab: Any, monkeypatch: pytest.MonkeyPatch, limit: int | None, warned: bool
) -> None:
    monkeypatch.setattr(health_module, "raise_fd_limit", lambda: limit)
    engine = lab.engine(LoadPoint(concurrency=1), caps=Caps(max_concurrency=64, stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(0.1)

    lab.drive(engine, script)
    texts = [event.text for event in engine.take().events]
    assert [f"more than {(limit or 0) - 28} requests" in text for text in texts] == [True] * warned


def test_what_an_engine_shows_is_what_its_plan_says(lab: Any) -> None:
    stages = (
        Stage(name="a", duration_s=2.0, shape=Hold(concurrency=2)),
        Stage(name="b", duration_s=3.0, shape=Hold(concurrency=3)),
    )
    engine = lab.engine(LoadPlan(stages=stages, base=LoadPoint(concurrency=1, output_tokens=10)))
    seen = []

    async def script() -> None:
        for _ in range(4):
            await asyncio.sleep(1.5)
            seen.append((engine.stage, engine.target.concurrency, engine.in_flight, engine.finished, engine.braked))
        assert engine.stage_left_s is None

    lab.drive(engine, script)
    assert seen == [
        ("a", 2, 2, False, None),
        ("b", 3, 3, False, None),
        ("b", 3, 3, False, None),
        (None, 0, 0, True, None),
    ]
    assert {record.stage for record in engine.take().requests} == {"a", "b"}


def test_how_long_a_stage_still_lasts_is_shown(lab: Any) -> None:
    engine = lab.engine(LoadPlan(stages=(Stage(name="a", duration_s=4.0, shape=Hold(concurrency=1)),)))

    async def script() -> None:
        await asyncio.sleep(1.0)
        assert engine.stage_left_s == pytest.approx(3.0)

    lab.drive(engine, script)


def test_the_time_between_tokens_of_a_second_is_the_mean_of_its_gaps(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=1, output_tokens=1000), lambda _: lab.Answer(0.0, 0.02))

    async def script() -> None:
        await asyncio.sleep(2.1)

    lab.drive(engine, script)
    samples = engine.take().client
    assert samples[0].tpot_ms == pytest.approx(20.0, abs=0.5)
    assert samples[0].chunks_per_s == pytest.approx(50.0, abs=2.0)


def test_a_second_without_tokens_has_no_time_between_them(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=1), lambda _: None)

    async def script() -> None:
        await asyncio.sleep(1.1)

    lab.drive(engine, script)
    assert engine.take().client[0].tpot_ms is None


def test_arrivals_are_due_when_the_plan_says_and_none_is_left_out(lab: Any) -> None:
    engine = lab.engine(LoadPoint(rate_rps=20.0, burstiness=math.inf, output_tokens=1))

    async def script() -> None:
        await asyncio.sleep(2.01)

    lab.drive(engine, script)
    due_s = sorted(record.scheduled_ns / 1e9 for record in engine.take().requests)
    assert due_s[:40] == pytest.approx([0.025 + i / 20 for i in range(40)], abs=1e-6)
    assert lab.client.started == 40


def test_a_first_request_that_the_loop_sends_late_was_due_when_its_user_was_to_start(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=40), lambda _: lab.Answer(5.0, 0.0))

    async def script() -> None:
        await asyncio.sleep(0.01)
        lab.loop.selector.now_s += 0.3  # something kept the loop
        await asyncio.sleep(0.001)
        engine.cut()

    lab.drive(engine, script)
    due_s = [record.scheduled_ns / 1e9 for record in engine.take().requests]
    assert len(due_s) == 40
    assert max(due_s) <= 0.1


def test_coming_down_no_more_of_the_resting_leave_than_are_too_many(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=10, think_time_s=50.0), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(10.0)
        assert engine.in_flight == 0
        engine.command(LoadPoint(concurrency=8, think_time_s=50.0))
        await asyncio.sleep(1.0)
        assert lab.client.started == 10, "those who stay go on thinking"
        await asyncio.sleep(44.0)

    lab.drive(engine, script)
    assert lab.client.started == 18


def test_the_target_of_a_bin_is_that_of_its_end(lab: Any) -> None:
    plan = LoadPlan(
        stages=(Stage(name="up", duration_s=8.0, shape=Ramp(0, 80, "rate_rps")),),
        base=LoadPoint(rate_rps=0.0, output_tokens=1),
    )
    engine = lab.engine(plan)

    async def script() -> None:
        await asyncio.sleep(4.1)

    lab.drive(engine, script)
    bins = engine.take().bins
    assert [closed.target for closed in bins[:16]] == pytest.approx([10 * closed.t_s for closed in bins[:16]], abs=0.1)


# ── Who drives ────────────────────────────────────────────────────────────────────────────────────────────────────────


def controller(*shapes: Any, duration_s: float = 100.0) -> Controller:
    stages = tuple(Stage(name=f"s{i}", duration_s=duration_s, shape=shape) for i, shape in enumerate(shapes))
    made = Controller(Pacer(LoadPlan(stages=stages)), Caps(), 0)
    made.start(0)
    return made


def held_s(made: Controller, red_s: list[tuple[float, float]], until_s: float, step_s: float = 0.05) -> float:
    """How long the plan stood still, with a red client in these spans."""
    held = 0.0
    for step in range(round(until_s / step_s)):
        at_s = step * step_s
        made.look(round(at_s * SECOND), any(start <= at_s < stop for start, stop in red_s))
        held += step_s * (made._paused is not None)
    return held


def test_one_stage_is_held_for_half_a_minute_at_most_also_in_pieces() -> None:
    assert pytest.approx(30.0) == LONGEST_HOLD_S
    assert held_s(controller(Ramp(1, 100)), [(1.0, 90.0)], 95.0) == pytest.approx(30.0, abs=0.2)
    assert held_s(controller(Ramp(1, 100)), [(1.0, 11.0), (20.0, 32.0), (40.0, 90.0)], 95.0) == pytest.approx(
        30, abs=0.3
    )
    assert held_s(controller(Ramp(1, 100)), [(1.0, 11.0)], 95.0) == pytest.approx(10.0, abs=0.1)


def test_a_hold_of_thirty_seconds_is_over_in_the_thirtieth() -> None:
    made = controller(Ramp(1, 100))
    assert made.look(SECOND, client_red=True)
    assert not made.look(31 * SECOND - 1, client_red=True)
    assert made.look(31 * SECOND, client_red=True)
    assert not made.look(32 * SECOND, client_red=True), "a pacer that stays is not followed anew"


def test_the_next_stage_may_be_held_as_long_again() -> None:
    made = controller(Ramp(1, 50), Ramp(50, 100), duration_s=10.0)
    assert held_s(made, [(1.0, 200.0)], 200.0) == pytest.approx(60.0, abs=0.4)
    assert made.finished(200 * SECOND)


def test_a_falling_ramp_is_not_held_and_its_pacer_stays() -> None:
    made = controller(Ramp(100, 1))
    pacer = made.pacer
    assert not made.look(SECOND, client_red=True)
    assert not made.look(2 * SECOND, client_red=False)
    assert made.pacer is pacer


def test_a_hand_is_not_held() -> None:
    made = Controller(Pacer.hold(LoadPoint(concurrency=5)), Caps(), 0)
    made.start(0)
    assert made.stage(SECOND) == (None, None)
    assert not made.look(SECOND, client_red=True)
    assert made.target(SECOND).concurrency == 5


def test_a_hold_begins_and_ends_with_another_pacer_and_no_look_between() -> None:
    made = controller(Ramp(0, 100))
    assert [made.look(round(at_s * SECOND), red) for at_s, red in ((1, True), (2, True), (3, False), (4, False))] == [
        True,
        False,
        True,
        False,
    ]
    assert made.stage(4 * SECOND) == ("s0", pytest.approx(98.0))
    assert made.target(4 * SECOND).concurrency == 2


# ── Several processes ─────────────────────────────────────────────────────────────────────────────────────────────────


class Orders:
    """Takes what is written to a worker, and reads it as the worker would."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def write(self, piece: bytes) -> None:
        while piece:
            length = int.from_bytes(piece[:4], "little")
            self.got.append(orders.decode(piece[4 : 4 + length]))
            piece = piece[4 + length :]


class FakeChild:
    """One that has ended."""

    def __init__(self, code: int, said: str) -> None:
        self.pid = 4711
        self._code, self._said = code, said

    def wait(self) -> int:
        return self._code

    def said(self) -> str:
        return self._said


class FakePost:
    """The way to a worker that is not there."""

    name = "h2:4711"

    def __init__(self, out: Orders) -> None:
        self._out = out

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._out.write(packed(message))


class Pool:
    """Workers of which none runs."""

    def __init__(self, count: int) -> None:
        self.setup = WorkerSetup(
            endpoint=Endpoint(base_url="http://h"),
            info=None,
            workload=Workload(),
            caps=Caps(),
            origin_ns=0,
            seed=0,
            api="chat",
            workers=count,
        )
        self.workers = Workers(self.setup)
        self.outs = [Orders() for _ in range(count)]
        self.each = [Worker(i, FakePost(out)) for i, out in enumerate(self.outs)]  # type: ignore[arg-type]
        self.workers._workers.extend(self.each)

    def tell(self, number: int, *bins: LoadBin, client: tuple[ClientSample, ...] = (), **fields: Any) -> None:
        """As `_serve` takes it in."""
        batch = FactBatch(t_s=0.0, bins=bins, client=client)
        self.each[number].account(WorkerFacts(batch, fields.get("in_flight", 0), (), fields.get("started", ())))
        self.workers._bins.add(number, bins)
        self.workers._seconds.add(number, client)


def load_bin(t_s: float, **fields: Any) -> LoadBin:
    return LoadBin(**{"t_s": t_s, "span_s": 0.25, "target": 1.0, "in_flight": 0, **fields})


def flight(number: int, dispatched_s: float = 1.0) -> Flight:
    return Flight(number, 0, round(dispatched_s * SECOND), 11, 22, "warm")


def share(follow: Follow) -> tuple[int, int]:
    """Which part of the load a worker is told to drive."""
    return follow.pacer.share


@pytest.mark.parametrize(("keep", "parts"), [(0, [0, 0, 0]), (1, [1, 0, 0]), (3, [1, 1, 1]), (5, [2, 2, 1])])
def test_requests_that_a_cut_keeps_are_dealt_out(keep: int, parts: list[int]) -> None:
    made = Pool(3)
    made.workers.cut(keep)
    assert [out.got for out in made.outs] == [[Cut(part)] for part in parts]


def test_a_cut_keeps_nothing_unless_it_is_told_to() -> None:
    made = Pool(2)
    made.workers.cut()
    assert [out.got for out in made.outs] == [[Cut(0)], [Cut(0)]]


def test_the_living_share_the_load_and_hear_of_the_end() -> None:
    made = Pool(3)
    made.each[1].alive = False
    made.workers.follow(Pacer.hold(LoadPoint(concurrency=7)), 5)
    made.workers.close()
    assert made.outs[1].got == []
    for place, out in enumerate((made.outs[0], made.outs[2])):
        follow, close = out.got
        assert isinstance(follow, Follow)
        assert follow.start_ns == 5
        assert close == Close()
        assert share(follow) == (place, 2)


def test_bins_are_merged_by_quarters_and_samples_by_seconds_once_all_have_told_them() -> None:
    made = Pool(2)
    made.tell(0, load_bin(0.25, ok=1), load_bin(0.5, ok=2), client=(ClientSample(t_s=1.0, span_s=1.0),))
    early = made.workers.take()
    assert (early.bins, early.client) == ((), ())
    made.tell(1, load_bin(0.4, ok=4), load_bin(0.51, ok=8), client=(ClientSample(t_s=1.1, span_s=1.0, worker=1),))
    told = made.workers.take()
    assert [closed.ok for closed in told.bins] == [5, 10]
    assert [(sample.t_s, sample.worker, sample.workers_lost) for sample in told.client] == [(1.1, 0, 0), (1.1, 1, 0)]
    assert made.workers.take().bins == ()


def test_in_flight_is_what_the_living_have_told() -> None:
    made = Pool(3)
    for number in range(3):
        made.tell(number, in_flight=number + 1)
    assert made.workers.in_flight == 6
    made.each[2].alive = False
    assert made.workers.in_flight == 3


def lost(made: Pool, number: int, fate: str = "died by signal 9") -> FactBatch:
    made.each[number].alive = False
    made.workers._died(made.each[number], fate)
    return made.workers.take()


def test_a_dead_workers_account_is_closed_so_that_nothing_is_left_in_flight() -> None:
    """Ten were sent and six of them have ended; its bins know of five and of three."""
    made = Pool(2)
    worker = made.each[1]
    made.tell(1, load_bin(0.25, sent=5, ok=2, errors=1, in_flight=2), started=tuple(map(flight, range(1, 5))))
    worker.told = {**worker.told, Outcome.OK: 4, Outcome.TIMEOUT: 1, Outcome.CANCELLED: 1}
    made.tell(0, load_bin(0.25))
    told = lost(made, 1)
    closed = worker.lost_bin(2 * SECOND)
    assert (closed.t_s, closed.span_s, closed.target, closed.in_flight) == (2.0, 0.25, 0.0, 0)
    assert (closed.sent, closed.ok, closed.cancelled, closed.errors) == (5, 2, 1, 4)
    assert 5 + closed.sent == (2 + closed.ok) + (1 + closed.errors) + closed.cancelled, "sent = ended, over all bins"
    assert len(told.requests) == 4
    for record in told.requests:
        assert (record.outcome, record.error, record.worker) == (Outcome.LOST, "its load worker died", 1)
        assert (record.asked_prompt_tokens, record.asked_output_tokens, record.stage) == (11, 22, "warm")


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (-9, "", "Load worker 1 (h2:4711) died by signal 9; 1 requests are lost, its share goes to the other 2"),
        (
            1,
            "Traceback\nMemoryError",
            "Load worker 1 (h2:4711) died with exit code 1: MemoryError; 1 requests are lost",
        ),
        (0, "", "Load worker 1 (h2:4711) died with exit code 0; 1 requests"),
    ],
)
async def test_how_a_worker_died_is_told_with_its_last_words(code: int, said: str, words: str) -> None:
    made = Pool(3)
    made.tell(1, started=(flight(1),))
    pipes = Pipes(FakeChild(code, said), None, None)  # type: ignore[arg-type]
    (event,) = lost(made, 1, await pipes.fate()).events
    assert event.text.startswith(words)
    assert (event.kind, event.severity) == ("client", "error")


def test_the_share_of_a_dead_worker_goes_to_the_others() -> None:
    made = Pool(3)
    made.workers.follow(Pacer.hold(LoadPoint(concurrency=7)), 0)
    lost(made, 1)
    for out in (made.outs[0], made.outs[2]):
        _, again = out.got
        assert share(again)[1] == 2
        assert again.start_ns > 0
    assert len(made.outs[1].got) == 1
    for number in (0, 2):
        made.tell(number, client=(ClientSample(t_s=1.0, span_s=1.0, worker=number),))
    assert [sample.workers_lost for sample in made.workers.take().client] == [1, 1]


def test_a_worker_that_dies_before_any_order_takes_none_along() -> None:
    made = Pool(2)
    assert lost(made, 0).requests == ()
    assert made.outs[1].got == []


def test_the_last_worker_takes_the_load_along() -> None:
    made = Pool(1)
    with pytest.raises(SessionLost, match="last one"):
        lost(made, 0)


def test_the_load_begins_once_all_workers_have_come_and_only_once() -> None:
    made = Pool(2)
    ready: list[int] = []
    made.workers._ready = lambda: ready.append(1)
    for number, begun in ((0, 0), (0, 0), (1, 1), (1, 1), (0, 1)):
        made.workers._came(made.each[number])
        assert len(ready) == begun


@pytest.mark.parametrize(
    ("cores", "concurrency", "workers"),
    [(8, 1, 1), (8, 512, 1), (8, 513, 2), (8, 1024, 2), (8, 1025, 3), (8, 100_000, 7), (2, 100_000, 1), (1, 4096, 1)],
)
def test_one_worker_for_every_512_streams_and_one_core_stays_free(
    monkeypatch: pytest.MonkeyPatch, cores: int, concurrency: int, workers: int
) -> None:
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert auto_workers(concurrency) == workers


def test_a_workers_run_clock_counts_from_the_runs_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.load.messages.perf_counter_ns", lambda: 700)
    setup = WorkerSetup(
        endpoint=Endpoint(base_url="http://h"),
        info=None,
        workload=Workload(),
        caps=Caps(),
        origin_ns=500,
        seed=0,
        api="chat",
    )
    assert setup.now() == 200


async def test_a_worker_that_is_not_told_what_to_do_does_nothing() -> None:
    for first in (packed(Close()), b""):
        reader = asyncio.StreamReader()
        reader.feed_data(first)
        reader.feed_eof()
        await work(reader, None)  # type: ignore[arg-type]


# ── The selftest ──────────────────────────────────────────────────────────────────────────────────────────────────────


def stream(head: str, before_ns: list[int], received_ns: int = 1000) -> dict[str, Any]:
    return {"head": head, "before_ns": before_ns, "received_ns": received_ns}


def heard(stamps_ns: list[int], sent_ns: int | None = 0, first_ns: int | None = 0) -> tuple[Trace, Any]:
    trace = Trace(0, 0)
    trace.sent_ns, trace.first_token_ns = sent_ns, first_ns
    return trace, array("q", stamps_ns)


def test_errors_are_arrivals_less_departures_and_waits_less_waits() -> None:
    """The run clock begins at 500 of the machine's: a stamp of 1510 is 2010 there."""
    stamps, ttft = selftest._errors(
        {"a": heard([1510, 1620], sent_ns=400, first_ns=1510)}, [stream("a", [2000, 2100], received_ns=950)], 500
    )
    assert stamps.tolist() == [10.0, 20.0]
    assert ttft.tolist() == [1510 - 400 - (2000 - 950)]


def test_only_what_both_sides_saw_is_compared() -> None:
    whole = heard([1510, 1620], 400, 1510)
    for told, known in [
        ({}, [stream("a", [2000, 2100])]),
        ({"a": heard([1510], 400, 1510)}, [stream("a", [2000, 2100])]),
        ({"a": heard([1510], 400, None)}, [stream("a", [2000])]),
        ({"a": heard([1510], None, 1510)}, [stream("a", [2000])]),
        ({"a": whole}, []),
    ]:
        stamps, ttft = selftest._errors(told, known, 500)
        assert (stamps.tolist(), ttft.tolist()) == ([], [])
    stamps, ttft = selftest._errors({"a": whole}, [stream("a", [-1, 2100])], 500)
    assert (stamps.tolist(), ttft.tolist()) == ([20.0], []), "of the first token the departure is not known"


def second(state: Any, cpu: float | None = 0.5, chunks: float | None = 100.0) -> ClientHealth:
    reason = ClientReason(cause=ClientCause.TOLD, text=f"{state} reason")
    return ClientHealth(t_s=0.0, state=state, cpu=cpu, chunks_per_s=chunks, reason=reason)


def test_a_level_is_the_middle_of_its_seconds_and_the_mean_of_their_figures() -> None:
    errors = np.arange(0.0, 101.0)
    seconds = [second("green", 0.2, 50.0), second("red", 0.6, None), second("amber", None, 100.0)]
    row = selftest._row(8, seconds, errors, errors / 10)
    assert (row.streams, row.state, row.reason, row.tokens) == (8, "amber", "amber reason", 101)
    assert row.cpu == pytest.approx(0.8 / 3)
    assert row.chunks_per_s == pytest.approx(50.0)
    assert (row.stamp_error_p50_us, row.stamp_error_p99_us) == (50.0, 99.0)
    assert (row.ttft_error_p50_ms, row.ttft_error_p99_ms) == pytest.approx((5.0, 9.9))


def test_a_level_in_which_nothing_was_compared_is_not_sound() -> None:
    row = selftest._row(8, [second("green")], np.zeros(0), np.zeros(0))
    assert math.isnan(row.stamp_error_p50_us)
    assert math.isnan(row.ttft_error_p99_ms)
    assert not row.sound
    assert str(row).split()[2:7] == ["--", "/", "--", "us", "--"]


@pytest.mark.parametrize(
    ("state", "stamp_us", "ttft_ms", "sound"),
    [
        ("green", 900.0, 4.9, True),
        ("amber", 900.0, 4.9, True),
        ("red", 1.0, 0.1, False),
        ("green", 1000.0, 0.1, False),
        ("green", 1.0, 5.0, False),
    ],
)
def test_a_level_is_sound_with_errors_below_a_millisecond_and_a_tenth_of_the_ttft(
    state: Any, stamp_us: float, ttft_ms: float, sound: bool
) -> None:
    row = selftest.Row(
        streams=1,
        chunks_per_s=1.0,
        stamp_error_p50_us=0.0,
        stamp_error_p99_us=stamp_us,
        ttft_error_p50_ms=0.0,
        ttft_error_p99_ms=ttft_ms,
        cpu=0.1,
        state=state,
    )
    assert row.sound == sound


def test_the_selftest_begins_with_one_stream_and_at_most_doubles() -> None:
    assert selftest.LEVELS[0] == 1
    assert list(selftest.LEVELS) == sorted(set(selftest.LEVELS))


async def test_a_level_tells_stamp_errors_in_microseconds_and_ttft_errors_in_milliseconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Client:
        endpoint = None

        def __setattr__(self, name: str, streams: dict[str, Any]) -> None:
            streams["a"] = heard([1_510_000, 1_620_000], sent_ns=400_000, first_ns=1_510_000)

    async def control(*_: object, **__: object) -> object:
        return [stream("a", [2_000_000, 2_100_000], received_ns=950_000)]

    monkeypatch.setattr(selftest, "control", control)
    monkeypatch.setattr(selftest, "SETTLE_S", 0.0)
    monkeypatch.setattr(selftest, "CUT_S", 0.0)
    told = FactBatch(t_s=1.0, client=(ClientSample(t_s=1.0, span_s=1.0),))
    engine: Any = SimpleNamespace(command=lambda point: None, cut=lambda: None, take=lambda: told)
    row = await selftest._level(engine, Client(), 3, 0.0, 500_000)  # type: ignore[arg-type]
    assert row.stamp_error_p50_us == pytest.approx(15.0)
    assert row.ttft_error_p50_ms == pytest.approx(0.06)
