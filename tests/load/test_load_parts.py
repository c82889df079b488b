"""The parts of the load engine by themselves: brake, health, controller, and the merging of workers."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Stage, Steps
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.endpoint.clock import LagSample
from llmtop.load.controller import LONGEST_HOLD_S, Controller
from llmtop.load.health import HealthProbe, raise_fd_limit
from llmtop.load.merging import Merger, quiet
from llmtop.load.pacer import Pacer
from llmtop.meter.binner import merge_bins
from llmtop.meter.client import ClientJudge
from llmtop.meter.facts import Facts

SECOND = 1_000_000_000


def test_open_files_are_raised_to_the_hard_limit() -> None:
    assert raise_fd_limit() >= 256
    assert raise_fd_limit() == raise_fd_limit()


def test_a_red_second_holds_the_ramp_and_voids_what_lived_through_it(lab) -> None:
    up = Stage(name="up", duration_s=20.0, shape=Ramp(1, 41))
    plan = LoadPlan(stages=(up,), base=LoadPoint(concurrency=0, output_tokens=10))
    engine = lab.engine(plan)

    async def script() -> None:
        await asyncio.sleep(5.0)
        lab.client.lag = LagSample(1000, 0, 5.0, 50.0, 60.0)
        await asyncio.sleep(3.0)
        held = engine.target.concurrency
        assert engine.stage == "up"
        await asyncio.sleep(2.0)
        assert engine.target.concurrency == held
        lab.client.lag = LagSample(1000, 0, 0.1, 0.2, 0.3)
        await asyncio.sleep(3.0)
        assert engine.target.concurrency > held
        await asyncio.sleep(9.0)
        assert not engine.finished
        await asyncio.sleep(4.0)
        assert engine.finished

    lab.drive(engine, script)
    told = engine.take()
    red = [second.health.t_s for second in ClientJudge().take(told.client) if second.health.state == "red"]
    assert red == pytest.approx([6, 7, 8, 9, 10], abs=0.01)
    facts = Facts.of([FactBatch(t_s=60.0, client=told.client, requests=told.requests)])
    for record, limited in zip(told.requests, facts.requests.column("client_limited"), strict=True):
        start_s, end_s = record.dispatched_ns / 1e9, record.end_ns / 1e9
        if end_s < 4.99 or start_s > 10.01:
            assert not limited
        elif end_s > 5.01 and start_s < 9.99:
            assert limited
    assert any("bottleneck" in event.text for event in told.events)


def test_jumps_of_the_wall_clock_are_told_in_words_once_in_a_while(lab) -> None:
    engine = lab.engine(LoadPoint(concurrency=2, output_tokens=5))

    async def script() -> None:
        await asyncio.sleep(1.5)
        lab.client.lag = LagSample(1000, jumps=1, jumped_ns=-50_000_000)
        await asyncio.sleep(1.0)
        lab.client.lag = LagSample(1000, jumps=1, jumped_ns=3_600_000_000_000)
        await asyncio.sleep(7.0)
        lab.client.lag = LagSample(1000)
        await asyncio.sleep(7.0)

    lab.drive(engine, script)
    told = [event for event in engine.take().events if "wall clock" in event.text]
    assert [round(event.t_s) for event in told] == [2, 12]
    assert told[0].text.startswith("The wall clock was set back by 0.05 s: latencies are not touched")
    assert told[1].text.startswith("The wall clock went ahead by 7 h in 7 jumps: ")
    assert {(event.kind, event.severity) for event in told} == {("client", "warning")}


def test_nothing_is_held_back_however_the_client_does(lab) -> None:
    """A record is told with the bin in which it ended, also in a second in which the loop is late."""
    engine = lab.engine(LoadPoint(concurrency=4, output_tokens=5))

    async def script() -> None:
        await asyncio.sleep(5.0)
        lab.client.lag = LagSample(1000, 0, 5.0, 50.0, 60.0)
        await asyncio.sleep(0.005)
        lab.loop.selector.now_s += 0.03  # something kept the loop for 30 ms
        for _ in range(12):
            told = engine.take()
            ended = [record.end_ns / 1e9 for record in told.requests]
            assert len(ended) == sum(closed.ok + closed.errors + closed.cancelled for closed in told.bins)
            last_s = told.bins[-1].t_s if told.bins else 0.0
            assert all(end_s <= last_s for end_s in ended)
            await asyncio.sleep(0.25)
            assert engine.take().requests, "some end in every quarter of a second"

    lab.drive(engine, script)


def test_a_client_that_never_keeps_up_does_not_hold_a_plan_for_ever() -> None:
    plan = LoadPlan(stages=(Stage(name="up", duration_s=10.0, shape=Steps((1, 2))),))
    controller = Controller(Pacer(plan), Caps(), 0)
    controller.start(0)
    now = 0
    while not controller.finished(now):
        now += SECOND // 20
        controller.look(now, client_red=True)
        assert now < 100 * SECOND
    assert now / SECOND == pytest.approx(10.0 + LONGEST_HOLD_S, abs=1.0)


def test_an_open_loop_goes_on_sending_while_its_ramp_is_held() -> None:
    plan = LoadPlan(stages=(Stage(name="up", duration_s=10.0, shape=Ramp(0, 100, "rate_rps")),))
    controller = Controller(Pacer(plan), Caps(), 0)
    controller.start(0)
    assert controller.look(5 * SECOND, client_red=True)
    assert controller.target(6 * SECOND).rate_rps == pytest.approx(50.0)
    assert controller.pacer.arrivals(2.0) == pytest.approx(100, abs=30)
    assert controller.stage(7 * SECOND) == ("up", pytest.approx(5.0))
    assert controller.look(7 * SECOND, client_red=False)
    assert controller.target(8 * SECOND).rate_rps == pytest.approx(60.0)


def test_a_hold_is_not_held() -> None:
    controller = Controller(
        Pacer(LoadPlan(stages=(Stage(name="flat", duration_s=10.0, shape=Hold(concurrency=3)),))), Caps(), 0
    )
    assert not controller.look(5 * SECOND, client_red=True)


def test_the_controller_caps_a_hand_and_a_plan() -> None:
    plan = LoadPlan(stages=(Stage(name="high", duration_s=10.0, shape=Hold(concurrency=300)),))
    controller = Controller(Pacer(plan), Caps(max_concurrency=100), 0)
    assert controller.target(0).concurrency == 100
    controller.command(LoadPoint(concurrency=200), 1)
    assert controller.target(2).concurrency == 100
    assert "200" in controller.events[0].text


def test_the_probe_sees_a_loop_that_is_held_up() -> None:
    async def watched() -> ClientSample:
        now = [0]
        probe = HealthProbe(clock=lambda: now[0], cpu_clock=lambda: now[0] // 2)
        probe.start()
        for _ in range(3):
            now[0] += 70_000_000
            await asyncio.sleep(0.021)
        sample = probe.take(1.0, LagSample(), [1_000_000], tpot_ms=None, chunks=21, stamp_source="kernel", worker=3)
        probe.stop()
        return sample

    sample = asyncio.run(watched())
    assert sample.loop_lag_ms is not None
    assert sample.loop_lag_ms >= 50.0
    assert sample.cpu == pytest.approx(0.5)
    assert sample.send_slip_p99_ms == 1.0
    assert sample.span_s == pytest.approx(0.21)
    assert sample.chunks_per_s == pytest.approx(100.0)
    assert sample.worker == 3
    assert sample.state is None, "a fact is recorded, not an opinion"


def load_bin(t_s: float, sent: int, in_flight: int, ok: int = 0) -> LoadBin:
    return LoadBin(t_s=t_s, span_s=0.25, target=4.0, in_flight=in_flight, sent=sent, ok=ok)


def test_bins_of_workers_are_merged_when_all_have_told_them() -> None:
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    merger.add(0, [load_bin(0.2501, 3, 3), load_bin(0.5, 0, 3)])
    assert merger.take({0, 1}) == []
    merger.add(1, [load_bin(0.26, 2, 2)])
    (first,) = merger.take({0, 1})
    assert merge_bins(list(first.values())).in_flight == 5
    merger.add(1, [load_bin(1.02, 0, 1, ok=1)])  # worker 1 was late and skipped two intervals
    merger.add(0, [load_bin(0.75, 0, 3), load_bin(1.0, 0, 3)])
    merged = [merge_bins(list(group.values())) for group in merger.take({0, 1})]
    assert [b.in_flight for b in merged] == [5, 5, 4]
    assert sum(b.ok for b in merged) == 1


def test_a_dead_worker_is_not_waited_for() -> None:
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    merger.add(0, [load_bin(0.25, 1, 1), load_bin(0.5, 1, 2)])
    merger.add(1, [load_bin(0.25, 1, 1)])
    assert len(merger.take({0, 1})) == 1
    merger.end(1, load_bin(0.3, 0, 0))
    (group,) = merger.take({0})
    assert [group[worker].in_flight for worker in (0, 1)] == [2, 0]
    merger.add(0, [load_bin(0.75, 0, 2)])
    (group,) = merger.take({0})
    assert list(group) == [0], "nothing stands in for it any more"


SHORT = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8)


@given(st.lists(SHORT, min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_merged_bins_keep_the_law_of_each_worker(workers, rng: random.Random) -> None:
    """sent = ended + in flight after every merged bin, whatever intervals a worker skipped."""
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    for number, moves in enumerate(workers):
        in_flight = interval = 0
        for sent, most_ended in moves:
            ended = min(most_ended, in_flight + sent)
            in_flight += sent - ended
            interval += rng.choice([1, 1, 1, 3])
            merger.add(number, [load_bin(interval * 0.25 + 0.01, sent, in_flight, ended)])
    merged = [merge_bins(list(group.values())) for group in merger.take(set(range(len(workers))))]
    total_sent = total_ended = 0
    for b in merged:
        total_sent, total_ended = total_sent + b.sent, total_ended + b.ok
        assert total_sent == total_ended + b.in_flight
    rest = [merge_bins(list(group.values())) for group in merger.take(set())]
    assert sum(b.sent for b in merged + rest) == sum(sent for moves in workers for sent, _ in moves)
