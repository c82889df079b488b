"""A gate in the client is judged as the slots of a smaller server: its queue is a queue, and nobody else's fault."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from virtual import VirtualSession, meta_of

from llmtop.analysis.advice import advised
from llmtop.analysis.diagnosis import diagnose, trust_notes
from llmtop.analysis.gate import at_gate, gates_at
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.analysis.readings import finished_requests, server_gauges
from llmtop.analysis.recent import limits_of, overloaded_now, recent_of
from llmtop.analysis.walls import forecast, walls_of
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import LoadPoint
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Kind
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

NOW_S, USERS, GATE = 30.0, 48, 16
POINT = LoadPoint(concurrency=USERS, gate=GATE)


def gated(
    point: LoadPoint = POINT,
    *,
    running: float = GATE,
    waiting: float = 0.0,
    slots: float | None = 64,
    ttft_s: float = 0.1,
) -> Facts:
    """48 users at a gate of 16: the server runs 16 and tells a short TTFT, where the client measures 3 s."""
    return facts_of(
        requests=[record(0.1 * i, ttft_s=3.0, e2e_s=4.0) for i in range(260)],
        bins=bins_of(NOW_S, USERS),
        server=[
            ServerSnapshot(
                t_s=float(t), running=running, waiting=waiting, ttft_mean_s=ttft_s, max_num_seqs=slots, kv_usage=0.3
            )
            for t in range(1, 31)
        ],
        changes=[(0.0, point)],
    )


def found(facts: Facts, point: LoadPoint = POINT) -> Diagnosis:
    recent = recent_of(facts, finished_requests(facts), point, NOW_S)
    return diagnose(recent, limits_of(facts, meta_of(), point), (), Dialect.VLLM)


def test_what_waits_at_the_gate_is_what_is_in_flight_beyond_it_and_of_an_open_one_nothing() -> None:
    facts = facts_of(
        bins=bins_of(20.0, USERS),
        changes=[(0.0, POINT), (5.0, LoadPoint(concurrency=USERS)), (10.0, LoadPoint(concurrency=USERS, gate=64))],
    )
    t_s = np.array([-1.0, 2.0, 7.0, 12.0])
    assert gates_at(facts, t_s).tolist() == [np.inf, 16, np.inf, 64]
    assert at_gate(facts, t_s).tolist() == [0, 32, 0, 0]
    assert at_gate(facts_of(changes=[(0.0, POINT)]), t_s).tolist() == [0, 0, 0, 0]


def test_the_queue_of_the_gate_is_the_servers_for_levels_and_for_the_overload_of_now() -> None:
    facts = gated()
    assert server_gauges(facts).waiting.tolist() == [32] * 30
    assert overloaded_now(facts, finished_requests(facts), None, NOW_S, False, 1.0)
    wide = gated(LoadPoint(concurrency=USERS))
    assert server_gauges(wide).waiting.tolist() == [0] * 30
    assert not overloaded_now(wide, finished_requests(wide), None, NOW_S, False, 1.0)


def test_the_gate_binds_and_neither_the_network_nor_a_proxy_holds_anything_back() -> None:
    told = found(gated())
    assert told.bound is Bound.QUEUE
    assert told.evidence[0] == "gate 16 binds: 16 run, 32 wait before it, KV 30.0 %"
    assert found(gated(LoadPoint(concurrency=USERS)), LoadPoint(concurrency=USERS)).bound is Bound.NETWORK


def test_requests_that_are_neither_on_the_server_nor_at_the_gate_are_held_on_the_way() -> None:
    told = found(gated(running=4.0))
    assert told.bound is Bound.NETWORK
    assert told.evidence == ("16 in flight here, 4 on the server",)


def test_requests_of_somebody_else_are_seen_behind_a_gate_that_holds_more_than_they_are() -> None:
    facts = gated(running=40.0)
    recent = recent_of(facts, finished_requests(facts), POINT, NOW_S)
    assert trust_notes(recent)[0] == "foreign traffic: about 24 requests on the server are not ours"


@pytest.mark.parametrize(
    ("slots", "running", "waiting", "most", "gate"),
    [
        (64, 16, 0, 16, 16),
        (None, 16, 0, 16, 16),
        (16, 16, 0, 16, None),
        (8, 8, 8, 8, None),
        (None, 8, 8, None, None),
        (64, 15, 1, 16, 16),
    ],
)
def test_the_gate_is_the_slots_unless_the_server_itself_lets_fewer_run(
    slots: float | None, running: float, waiting: float, most: float | None, gate: int | None
) -> None:
    limits = limits_of(gated(slots=slots, running=running, waiting=waiting), meta_of(), POINT)
    assert (limits.max_num_seqs, limits.gate, limits.own_slots) == (most, gate, slots)


def _levels() -> list[Level]:
    """Of a server whose requests take 1 s in a slot, at a gate of 16."""
    near = np.linspace(0.97, 1.03, 80)
    levels = []
    for load in (4, 8, 12, 24, 32):
        running = min(load, GATE)
        slot_s = 0.5 + running / 32
        wait_s = (load - running) * slot_s / running
        levels.append(
            Level(
                float(load),
                ttft_s=wait_s * near + 0.1,
                tpot_s=(slot_s - 0.1) / 64 * near,
                e2e_s=wait_s * near + slot_s,
                requests_per_s=running / slot_s,
                running=float(running),
                waiting=float(load - running),
                kv_usage=running / 80,
                preemptions=0.0,
            )
        )
    return levels


def test_advice_turns_the_gate_and_never_a_flag_of_the_server_that_does_not_bind() -> None:
    slo = Slo(parse_slo("ttft_p95<2s").targets)
    limits = Limits(max_num_seqs=GATE, gate=GATE, own_slots=24)
    bound = Diagnosis(bound=Bound.QUEUE)
    advice = (
        advised(bound, _levels(), limits, slo, CliffVerdict(kind=Kind.CLIFF), Capacity(), Dialect.LLAMACPP).advice or ""
    )
    assert advice.startswith("raise the gate to about 24: about ")
    assert "--parallel" not in advice
    assert "--ctx-size" not in advice


def test_a_gate_is_not_raised_beyond_the_servers_own_slots_which_are_the_next_wall() -> None:
    slo = Slo(parse_slo("ttft_p95<2s").targets)
    walls = walls_of(_levels(), Limits(max_num_seqs=GATE, gate=GATE, own_slots=24), slo, bound=Bound.QUEUE)
    assert not isinstance(walls, str)
    told = forecast(walls, Limits(max_num_seqs=GATE, gate=GATE, own_slots=24))
    assert [(turn.knob, turn.now, turn.then) for turn in told.turns] == [("slots", 16, 24)]
    assert told.next_wall == "queue"


def test_a_gate_gives_the_figures_of_a_server_with_so_few_slots() -> None:
    def figures(slots: int, gate: int | None) -> list[float]:
        preset = load_preset("laptop").with_knobs({"max_num_seqs": slots})
        session = VirtualSession(preset, LoadPoint(concurrency=USERS, gate=gate), gauges=False)
        session.run_until(60.0)
        settled = session.facts.requests.column("end_s") > 15.0
        requests = {
            name: session.facts.requests.column(name)[settled] for name in ("ttft_s", "tpot_s", "output_tokens")
        }
        p50, p95 = np.quantile(requests["ttft_s"], (0.5, 0.95))
        return [p50, p95, float(np.nanmedian(requests["tpot_s"])), float(requests["output_tokens"].sum())]

    assert figures(64, 8) == pytest.approx(figures(8, None), rel=0.04)
