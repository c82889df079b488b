"""Knobs that turn while the server runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmtop.simulator.server.faults import FAULTS


async def test_it_tells_preset_values_limits_and_faults(client: Any) -> None:
    state = (await client.ask("GET", "/llmtop/control")).json
    assert state["preset"] == "laptop"
    assert state["knobs"] == {
        "max_num_seqs": 32,
        "num_gpu_blocks": 512,
        "max_num_batched_tokens": 512,
        "jitter": 0.0,
        "stream_interval": 1,
    }
    assert state["knobs"].keys() == state["limits"].keys()
    for name, (low, high) in state["limits"].items():
        assert low <= state["knobs"][name] <= high
    assert state["faults"] == dict.fromkeys(FAULTS, 0.0)
    assert all(fault["about"] and fault["unit"] for fault in state["fault_table"].values())
    assert state["replicas"] == 1


async def test_more_slots_let_the_queue_in_at_once(start: Any) -> None:
    client = await start(max_num_seqs=1, step_ms=20.0)
    asks = [asyncio.create_task(client.complete(max_tokens=1000)) for _ in range(4)]
    await client.until("vllm:num_requests_waiting{engine=0}", 3.0)
    state = await client.control(knobs={"max_num_seqs": 4})
    assert state["knobs"]["max_num_seqs"] == 4
    await client.until("vllm:num_requests_running{engine=0}", 4.0)
    await client.leave(*asks)


async def test_fewer_blocks_preempt_and_everything_still_ends(start: Any) -> None:
    client = await start(max_model_len=512, step_ms=5.0)
    asks = [asyncio.create_task(client.complete([n] * 100, 60)) for n in range(6)]
    await client.until("vllm:num_requests_running{engine=0}", 6.0)
    await client.control(knobs={"num_gpu_blocks": 24})
    answers = await asyncio.gather(*asks)
    assert [len(answer.text.split()) for answer in answers] == [60] * 6
    assert (await client.metrics())["vllm:num_preemptions_total{engine=0}"] > 0


async def test_a_request_that_can_never_fit_any_more_ends(start: Any) -> None:
    client = await start(step_ms=10.0)
    long = asyncio.create_task(client.complete(list(range(600)), 400))
    await client.until("vllm:generation_tokens_total{engine=0}", 3.0)
    await client.control(knobs={"num_gpu_blocks": 16})
    answer = await long
    assert answer.whole
    assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
    refused = await client.complete(list(range(600)), 4)
    assert "maximum context length is 240 tokens" in refused.json["error"]["message"]


async def test_the_stream_interval_changes_for_new_streams(client: Any) -> None:
    await client.control(knobs={"stream_interval": 8})
    answer = await client.complete(max_tokens=17)
    assert len(answer.events) == 4
    assert len(answer.text.split()) == 17


async def test_jitter_makes_steps_uneven(start: Any) -> None:
    client = await start(step_ms=2.0)
    state = await client.control(knobs={"jitter": 0.5})
    assert state["knobs"]["jitter"] == 0.5
    await client.complete(max_tokens=60)
    figures = await client.metrics()
    below = figures["vllm:inter_token_latency_seconds_bucket{engine=0,le=0.01}"]
    assert figures["vllm:inter_token_latency_seconds_count{engine=0}"] == 59
    assert figures["vllm:inter_token_latency_seconds_sum{engine=0}"] != pytest.approx(59 * 2e-3, rel=1e-3)
    assert below > 50


async def test_values_that_the_engine_refuses_together_are_refused(start: Any) -> None:
    client = await start(enable_chunked_prefill=False, max_num_batched_tokens=2048)
    answer = await client.ask("POST", "/llmtop/control", {"knobs": {"max_num_batched_tokens": 512}})
    assert answer.status == 400
    assert "without chunked prefill" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"knobs": {"zork": 1}}, "'zork' cannot be changed while the server runs; use one of max_num_seqs"),
        ({"knobs": {"max_num_seqs": 0}}, "max_num_seqs: 0 must be a number from 1 to 2048"),
        ({"knobs": {"max_num_seqs": "8"}}, "must be a number"),
        ({"knobs": {"max_num_seqs": True}}, "must be a number"),
        ({"faults": {"zork": True}}, "'zork' is not known; use one of http_500"),
        ({"faults": {"hang": 2}}, "2 must be true, false or a number from 0 to 1"),
        ({"faults": ["hang"]}, "must be objects"),
        ({"nobs": {}}, "nobs: not known; use knobs, faults and autoscaling"),
    ],
)
async def test_wrong_wishes_are_refused_and_change_nothing(client: Any, wishes: dict[str, Any], says: str) -> None:
    both = {"knobs": {"max_num_seqs": 7}, "faults": {"cut": True}}
    for section, values in wishes.items():
        if isinstance(values, dict):
            both[section] = {**both.get(section, {}), **values}
        else:
            both[section] = values
    answer = await client.ask("POST", "/llmtop/control", both)
    assert answer.status == 400
    assert says in answer.json["error"]["message"]
    state = (await client.ask("GET", "/llmtop/control")).json
    assert state["knobs"]["max_num_seqs"] == 32
    assert state["faults"]["cut"] == 0.0
