"""What binds now: each gate opens on its own evidence and names the server's own flag."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from llmtop.analysis import Level, Limits
from llmtop.analysis.diagnosis import Recent, diagnose, trust_notes
from llmtop.analysis.recent import HELD_AGAIN_S, limits_of, recent_of
from llmtop.analysis.sessions import Requests
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Event, FactBatch, RunMeta
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.verdicts import Bound, Confidence
from llmtop.load.visits import HELD_TOLD_NS
from llmtop.meter.facts import REQUEST_COLUMNS, Facts
from llmtop.wording.sentences import held_loop


def requests(n: int = 50, *, ttft_s: float = 0.2, tpot_s: float = 0.02, failed_at_s: float | None = None) -> Requests:
    sent_s = np.linspace(0, 10, n)
    e2e_s = np.full(n, ttft_s + 100 * tpot_s)
    error = np.full(n, failed_at_s is not None)
    end_s = sent_s + (e2e_s if failed_at_s is None else failed_at_s)
    tokens = np.full(n, 100.0)
    return Requests(
        sent_s, sent_s + ttft_s, end_s, np.full(n, ttft_s), np.full(n, tpot_s), e2e_s, ~error, error, tokens, tokens
    )


def busy(**more: object) -> Recent:
    known = {
        "polls": 15,
        "in_flight": 75.0,
        "running": 64.0,
        "running_max": 64.0,
        "waiting": 11.0,
        "waiting_share": 1.0,
        "kv_usage": 0.41,
        "preemptions": 0.0,
        "requests": 500.0,
    }
    return Recent(**{**known, **more})


def test_slots_bind_where_running_sticks_to_them():
    limits = Limits(max_num_seqs=64, kv_capacity_tokens=64000, prompt_tokens=512, output_tokens=128)
    found = diagnose(busy(), limits, (), "vllm")
    assert found.bound is Bound.QUEUE
    assert found.confidence is Confidence.FIRM
    assert found.evidence[0] == "running stuck at 64, waiting 11, KV 41.0 %"


def test_slots_are_inferred_where_the_server_does_not_tell():
    found = diagnose(busy(), Limits(), (), "sglang")
    assert found.bound is Bound.QUEUE
    assert found.confidence is Confidence.PROVISIONAL
    assert "inferred" in found.evidence[1]
    assert found.evidence[1].startswith("--max-running-requests")


def test_full_memory_binds():
    limits = Limits(max_num_seqs=256)
    found = diagnose(busy(running=40.0, running_max=45.0, kv_usage=0.97), limits, (), "vllm")
    assert found.bound is Bound.KV
    thrash = diagnose(busy(waiting=0.0, waiting_share=0.0, preemptions=30.0), limits, (), "vllm")
    assert thrash.bound is Bound.KV
    assert "60 per 1 000 requests" in thrash.evidence[1]


def test_token_budget_binds():
    limits = Limits(max_num_seqs=256, max_num_batched_tokens=2048)
    found = diagnose(busy(running=100.0, running_max=140.0, iteration_tokens=1900.0), limits, (), "vllm")
    assert found.bound is Bound.TOKEN_BUDGET


def test_the_client_comes_first():
    found = diagnose(busy(red_share=0.5), Limits(max_num_seqs=64), (), "vllm")
    assert found.bound is Bound.CLIENT


def test_users_code_that_holds_the_clients_loop_is_what_is_mended_first():
    """It is told once a minute: the one that was told in the minute before the last seconds is meant."""
    assert HELD_AGAIN_S * 1e9 == HELD_TOLD_NS
    facts = Facts()
    for t_s, text in ((1.0, held_loop("/home/me/rag.py:7 in parse", 51.0)), (2.0, "The client is the bottleneck")):
        facts.events.append(Event(t_s, "client", text, "warning"))
    point = LoadPoint(concurrency=4)
    for now_s, said in ((50.0, "mend what holds the loop (rag.py:7 in parse), lower the load"), (200.0, "lower the l")):
        found = recent_of(facts, requests(), point, now_s)
        told = diagnose(dataclasses.replace(found, red_share=0.5), Limits(), (), None)
        assert str(told.advice).startswith(said)


def test_time_that_the_server_does_not_know_of_is_the_network():
    calm = busy(waiting=0.0, waiting_share=0.0, ttft_here_s=0.5, ttft_server_s=0.1)
    assert diagnose(calm, Limits(), (), None).bound is Bound.NETWORK
    held = busy(running=30.0, running_max=40.0, waiting=0.0, waiting_share=0.0, in_flight=100.0, held=70.0)
    found = diagnose(held, Limits(), (), None)
    assert found.bound is Bound.NETWORK
    assert "gateway" in found.advice
    cut = busy(in_flight=64.0, waiting=0.0, waiting_share=0.0, ended=requests(5, failed_at_s=60.0))
    assert "1 min" in diagnose(cut, Limits(), (), None).advice


@pytest.mark.parametrize(
    ("counters", "bound"),
    [
        ({"flops": 5e14, "memory_bytes": 1e12}, Bound.COMPUTE),
        ({"flops": 5e13, "memory_bytes": 1e12}, Bound.MEMORY),
        ({"flops": 0.0, "memory_bytes": 0.0}, Bound.COMPUTE),
    ],
)
def test_slow_steps_are_compute_or_bandwidth(counters, bound):
    calm = busy(in_flight=8.0, running=8.0, waiting=0.0, waiting_share=0.0, ended=requests(tpot_s=0.06), **counters)
    first = Level(2.0, np.full(20, 0.2), np.full(20, 0.02), np.full(20, 2.2))
    assert diagnose(calm, Limits(), (first,), None).bound is bound
    assert diagnose(calm, Limits(), (first,), None, pressed=False).bound is Bound.NONE


def test_nothing_binds_when_nothing_does():
    assert diagnose(Recent(), Limits(), (), None).bound is Bound.NONE


def test_notes_warn_of_strangers_caches_and_starvation():
    mixed = requests(200)
    mixed.ttft_s[:4] = 9.0
    mixed.prompt_tokens[::2] = 900.0
    notes = " ".join(trust_notes(busy(foreign=35.0, in_flight=40.0, prefix_hit_ratio=0.6, ended=mixed)))
    assert "foreign traffic: about 35" in notes
    assert "60.0 % hits where 0 % was asked" in notes
    assert "starve" in notes
    assert trust_notes(busy(prefix_hit_ratio=0.1)) == ()
    (alike,) = trust_notes(busy(prefix_hit_ratio=0.774, in_visits=True))
    assert alike == "prefix cache had 77.4 % of the prompt tokens: visits begin their prompts alike"


@pytest.mark.parametrize("session", [math.nan, 3.0])
def test_requests_of_visits_are_told_from_those_of_none(session: float) -> None:
    facts = Facts()
    row = {"session": session, "turn": 1.0, "ok": True, "sent_s": 0.0, "end_s": 1.0}
    facts.requests.extend([tuple(row.get(name, math.nan) for name in REQUEST_COLUMNS)])
    assert recent_of(facts, requests(), LoadPoint(concurrency=4), 5.0).in_visits is (session == 3.0)


@pytest.mark.parametrize(("told", "wanted"), [(16.0, 16), (None, 8)])
def test_a_limit_is_that_of_the_server_that_answers_now(told: float | None, wanted: int) -> None:
    """Four slots before an outage; what comes back tells another number, or none and the probe knows it."""
    facts = Facts()
    for t_s, slots in ((1.0, 4.0), (9.0, told)):
        facts.extend(FactBatch(t_s=t_s, server=(ServerSnapshot(t_s=t_s, running=1.0, max_num_seqs=slots),)))
    meta = RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://h"),
        info=EndpointInfo(dialect=Dialect.VLLM, model="m", max_num_seqs=8),
        profile=Profile(name="hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=1))),
    )
    assert limits_of(facts, meta, LoadPoint(concurrency=1)).max_num_seqs == wanted
