"""A simulated deployment that scales: by a script, by its autoscaler, and how requests find its replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from llmtop.errors import UsageError
from llmtop.simulator.engine import load_preset
from llmtop.simulator.server import pods

PAGE = "/llmtop/replicas"
ROUND_S = 0.002
"""What a timer may be early by."""


async def listed(client: Any) -> Any:
    return (await client.ask("GET", PAGE)).json


async def until(client: Any, condition: Callable[[Any], bool]) -> Any:
    """The first listing that meets the condition."""
    async with asyncio.timeout(20):
        while not condition(told := await listed(client)):
            await asyncio.sleep(0.005)
        return told


def names(told: Any) -> list[str]:
    return [replica["name"] for replica in told["replicas"]]


async def test_a_script_decides_begins_and_readies_replicas_at_its_times(start: Any) -> None:
    client = await start(scale="at=0.05 replicas=3 created=0.05 ready=0.1; at=0.6 replicas=1")
    first = await listed(client)
    assert (first["scales"], names(first)[0], first["replicas"][0]["ready"]) == (True, "pod-1", True)
    last = await until(client, lambda told: len(told["gone"]) == 2)
    assert (names(last), last["desired"]) == (["pod-1"], 1)
    assert [step["replicas"] for step in last["decided"]][-2:] == [3, 1]
    up_s, down_s = (step["t_s"] for step in last["decided"][-2:])
    assert up_s >= 0.05 - ROUND_S
    assert down_s >= 0.6 - ROUND_S
    assert {replica["name"] for replica in last["gone"]} == {"pod-2", "pod-3"}
    for replica in last["gone"]:
        assert up_s + 0.05 - ROUND_S <= replica["created_s"] <= replica["ready_s"] - 0.05 + ROUND_S
        assert replica["ready_s"] <= down_s <= replica["gone_s"]
        assert replica["serving_s"] is None


async def test_the_queue_scales_it_up_and_room_scales_it_down(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "LOOK_S", 0.02)
    quick = {"autoscale_for_s": 0.0, "scale_delay_s": 0.0, "pod_start_s": 0.1, "scale_down_s": 0.2}
    client = await start(max_num_seqs=1, step_ms=20.0, autoscale_queue=2.0, max_replicas=3, **quick)
    asks = [asyncio.create_task(client.complete(max_tokens=1000)) for _ in range(7)]
    told = await until(client, lambda told: told["ready"] == 3)
    assert told["desired"] == 3
    await client.leave(*asks)
    told = await until(client, lambda told: len(told["gone"]) == 2)
    assert (told["desired"], names(told)) == (1, ["pod-1"])


async def test_nothing_scales_by_itself(client: Any) -> None:
    told = await listed(client)
    assert (told["scales"], told["desired"], told["created"], told["gone"]) == (False, 1, 1, [])


async def test_the_control_scales_and_refuses_what_is_no_script(client: Any) -> None:
    state = await client.control(autoscaling={"scale": "replicas=2 created=0 ready=0", "balance": "connection"})
    assert state["autoscaling"]["balance"] == "connection"
    await until(client, lambda told: told["ready"] == 2)
    for wish, says in (
        ({"scale": "at=1"}, "a step needs replicas=N from 1 to 64"),
        ({"scale": "replicas=2 reddy=3"}, "'reddy=3' is not known"),
        ({"scale": "replicas=2 created=9 ready=3"}, "ready=3 comes before created=9"),
        ({"balance": "luck"}, "luck"),
        ({"replicas": 3}, "those of the start"),
        ({"nonsense": 3}, "nonsense"),
    ):
        answer = await client.ask("POST", "/llmtop/control", {"autoscaling": wish})
        assert answer.status == 400, wish
        assert says in answer.json["error"]["message"]
    assert (await listed(client))["desired"] == 2


@pytest.mark.parametrize("knobs", [{"scale": "x"}, {"replicas": 0}, {"autoscale_queue": 0}, {"balance": "luck"}])
def test_a_knob_of_autoscaling_is_refused_as_any_other(knobs: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"knob {next(iter(knobs))}"):
        load_preset("laptop").with_knobs(knobs)


async def test_a_kept_connection_stays_with_its_replica_where_connections_are_balanced(start: Any, kept: Any) -> None:
    client = await start(balance="connection", scale="at=0 replicas=2 created=0 ready=0")
    await until(client, lambda told: told["ready"] == 2)
    async with kept(client) as ask:
        for _ in range(3):
            await ask()
        told = await listed(client)
        assert sum(replica["serving_s"] is not None for replica in told["replicas"]) == 1
    async with kept(client) as ask:
        await ask()
    assert (await listed(client))["serving"] == 2


async def test_each_replica_has_a_page_of_its_own(start: Any) -> None:
    client = await start(replicas=2)
    await client.complete()
    told = await listed(client)
    served = next(replica for replica in told["replicas"] if replica["serving_s"] is not None)
    for replica in told["replicas"]:
        page = (await client.ask("GET", replica["metrics"])).body.decode()
        tokens = next(line for line in page.splitlines() if line.startswith("vllm:generation_tokens_total"))
        assert float(tokens.split()[-1]) == (4.0 if replica is served else 0.0)
        assert page.count("vllm:num_requests_running{") == 1
    assert (await client.ask("GET", "/replicas/pod-9/metrics")).status == 404
    assert (await client.ask("GET", "/replicas/pod-1/other")).status == 404


async def test_no_counter_falls_when_a_replica_goes(start: Any) -> None:
    client = await start(replicas=2, balance="connection")
    for _ in range(2):
        await client.complete(max_tokens=4)
    before = await client.metrics()
    assert before["vllm:generation_tokens_total{engine=1}"] == 4.0
    await client.control(autoscaling={"scale": "replicas=1"})
    await until(client, lambda told: told["gone"])
    after = await client.metrics()
    assert "vllm:num_requests_running{engine=1}" not in after, "what it does now is nothing"
    counted = {name: value for name, value in before.items() if "_total{engine" in name or "_count{engine" in name}
    assert len(counted) > 20
    assert all(after[name] >= value for name, value in counted.items())
    assert (await listed(client))["gone"][0]["serving_s"] is not None
