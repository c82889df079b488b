"""Every fault by name: what it does, and that it is over when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llmtop.simulator.server import deployment
from llmtop.simulator.server.faults import FAULTS

ENGINE = "{engine=0}"


@pytest.mark.parametrize(("fault", "status"), [("http_500", 500), ("http_429", 429)])
async def test_bursts_of_errors(client: Any, fault: str, status: int) -> None:
    await client.control(faults={fault: 1.0})
    answer = await client.complete()
    assert answer.status == status
    assert answer.json["error"]["code"] == status
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)
    await client.control(faults={fault: 0.5})
    statuses = {(await client.complete(max_tokens=1)).status for _ in range(40)}
    assert statuses == {200, status}
    await client.control(faults={fault: False})
    assert (await client.complete()).status == 200


async def test_hang_answers_nothing_and_only_generations_hang(client: Any) -> None:
    await client.control(faults={"hang": True})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.complete(), 0.1)
    assert (await client.ask("GET", "/health")).status == 200
    assert (await client.metrics())["vllm:num_requests_running{engine=0}"] == 0
    await client.control(faults={"hang": None})
    assert (await client.complete()).whole


async def test_cut_breaks_streams_before_their_end(client: Any) -> None:
    await client.control(faults={"cut": 1.0})
    answers = [await client.complete(max_tokens=20) for _ in range(5)]
    assert {answer.status for answer in answers} == {200}
    assert not any(answer.whole for answer in answers)
    assert all(b"[DONE]" not in answer.body for answer in answers)
    await client.until("vllm:num_requests_running{engine=0}", 0.0)
    assert (await client.metrics())["vllm:kv_cache_usage_perc{engine=0}"] == 0


async def test_a_slow_client_gets_the_same_bytes_in_few_pieces(client: Any) -> None:
    await client.control(faults={"slow_client": 0.2})
    reader, writer = await client.open()
    body = b'{"prompt": "x", "max_tokens": 30, "ignore_eos": true, "stream": true}'
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    pieces = []
    while piece := await reader.read(1 << 20):
        pieces.append(piece)
    writer.close()
    assert b"".join(pieces).count(b'"text"') == 30
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert len(pieces) < 10


async def test_stalled_metrics_are_answered_when_the_fault_ends(client: Any) -> None:
    await client.control(faults={"metrics_stalled": True})
    scrape = asyncio.create_task(client.metrics())
    assert (await client.complete()).status == 200
    assert not scrape.done()
    await client.control(faults={"metrics_stalled": False})
    assert (await scrape)[f"vllm:generation_tokens_total{ENGINE}"] == 4


async def test_a_restart_drops_everything_and_begins_at_zero_on_the_same_port(start: Any) -> None:
    client = await start(step_ms=20.0)
    before = await client.metrics()
    running = asyncio.create_task(client.complete(max_tokens=500))
    await client.until(f"vllm:generation_tokens_total{ENGINE}", 2.0)
    await client.control(faults={"restart": 0.3})
    assert not (await running).whole
    with pytest.raises(ConnectionError):
        await client.metrics()
    after = await as_soon_as_it_answers(client)
    assert after[f"vllm:generation_tokens_total{ENGINE}"] == 0
    assert after[f"vllm:num_requests_running{ENGINE}"] == 0
    assert after["process_start_time_seconds{}"] > before["process_start_time_seconds{}"]
    assert (await client.complete()).whole


async def test_a_restart_whose_port_is_taken_meanwhile_ends_the_server(
    start: Any, monkeypatch: pytest.MonkeyPatch, serving_tasks: list[asyncio.Task[None]]
) -> None:
    monkeypatch.setattr("llmtop.simulator.server.serving.REBIND_PAUSE_S", 0.001)
    client = await start()
    await client.control(faults={"restart": 0.05})
    with socket.create_server(("127.0.0.1", client.port)), pytest.raises(OSError, match="in use"):
        await asyncio.wait_for(serving_tasks[0], 20)


async def test_a_memory_leak_shows_in_the_resident_memory_and_goes_with_the_fault(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "HOUSEKEEPING_S", 0.02)

    async def resident() -> float:
        return (await client.metrics())["process_resident_memory_bytes{}"]

    before = await resident()
    await client.control(faults={"memory_leak": 60_000.0})
    await grown(resident, before + 200e6)
    await client.control(faults={"memory_leak": False})
    assert await resident() < before + 100e6


async def grown(figure: Callable[[], Awaitable[float]], beyond: float) -> float:
    """The first value that is."""
    async with asyncio.timeout(30):
        while (value := await figure()) <= beyond:
            pass
        return value


async def as_soon_as_it_answers(client: Any) -> dict[str, float]:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ConnectionError):
                return await client.metrics()
            await asyncio.sleep(0.01)


async def mean_step_s(client: Any, tokens: int = 20) -> float:
    """Mean gap between tokens by the engine's own clock."""
    before = await client.metrics()
    await client.complete(max_tokens=tokens)
    after = await client.metrics()
    name = "vllm:inter_token_latency_seconds_{}{{engine=0}}"
    total, count = (after[name.format(part)] - before[name.format(part)] for part in ("sum", "count"))
    assert count == tokens - 1
    return total / count


async def test_a_noisy_neighbour_makes_every_step_longer(client: Any) -> None:
    usual = await mean_step_s(client)
    await client.control(faults={"noisy_neighbour": True})
    assert await mean_step_s(client) == pytest.approx(usual * 1.5, rel=1e-6)
    await client.control(faults={"noisy_neighbour": False})
    assert await mean_step_s(client) == pytest.approx(usual, rel=1e-6)


async def test_a_power_throttle_slows_what_computes(start: Any) -> None:
    client = await start(peak_tflops=0.5, step_ms=0.0)
    usual = await mean_step_s(client)
    await client.control(faults={"power_throttle": True})
    throttled = await mean_step_s(client)
    assert throttled == pytest.approx(usual / 0.7, rel=0.1)
    await client.control(faults={"power_throttle": False})
    assert await mean_step_s(client) == pytest.approx(usual, rel=1e-6)


async def test_a_slow_leak_makes_steps_longer_and_longer(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "HOUSEKEEPING_S", 0.02)
    usual = await mean_step_s(client)
    await client.control(faults={"slow_leak": 10_000.0})
    first = await grown(lambda: mean_step_s(client), usual * 1.3)
    await grown(lambda: mean_step_s(client), first * 1.3)
    await client.control(faults={"slow_leak": False})
    assert await mean_step_s(client) == pytest.approx(usual, rel=1e-6)


async def test_a_kv_leak_loses_the_blocks_of_aborted_requests(start: Any) -> None:
    client = await start(step_ms=5.0)
    await client.control(faults={"kv_leak": True})
    for _ in range(2):
        running = asyncio.create_task(client.complete(list(range(160)), 1000))
        await client.until(f"vllm:num_requests_running{ENGINE}", 1.0)
        running.cancel()
        await client.until(f"vllm:num_requests_running{ENGINE}", 0.0)
    lost = (await client.metrics())[f"vllm:kv_cache_usage_perc{ENGINE}"] * 511
    assert 10 <= lost <= 24
    await client.complete(list(range(160)), 5)
    assert (await client.metrics())[f"vllm:kv_cache_usage_perc{ENGINE}"] * 511 == pytest.approx(lost)


async def test_an_added_replica_takes_its_share_and_shows_beside_the_first(start: Any) -> None:
    client = await start(max_num_seqs=2, step_ms=20.0)
    state = await client.control(faults={"replica_added": 0.05})
    assert state["replicas"] == 1
    await asyncio.sleep(0.1)
    assert (await client.ask("GET", "/llmtop/control")).json["replicas"] == 2
    asks = [asyncio.create_task(client.complete(max_tokens=1000)) for _ in range(4)]
    await client.until("vllm:num_requests_running{engine=1}", 2.0)
    figures = await client.until("vllm:num_requests_running{engine=0}", 2.0)
    assert figures["vllm:num_requests_waiting{engine=0}"] == figures["vllm:num_requests_waiting{engine=1}"] == 0
    await client.leave(*asks)
    await client.control(faults={"replica_added": False})
    assert (await client.ask("GET", "/llmtop/control")).json["replicas"] == 1


async def test_a_replica_that_goes_away_breaks_its_streams(start: Any) -> None:
    client = await start(step_ms=20.0, faults={"replica_added": 0.0})
    await asyncio.sleep(0.01)
    asks = [asyncio.create_task(client.complete(max_tokens=1000)) for _ in range(2)]
    await client.until("vllm:generation_tokens_total{engine=1}", 2.0)
    await client.control(faults={"replica_added": False})
    done, others = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
    assert [ask.result().whole for ask in done] == [False]
    await client.leave(*others)


async def test_faults_can_be_on_from_the_start(start: Any) -> None:
    client = await start(faults={"http_500": 1.0, "memory_leak": 10.0})
    assert (await client.complete()).status == 500
    state = (await client.ask("GET", "/llmtop/control")).json
    assert {name for name, figure in state["faults"].items() if figure} == {"http_500", "memory_leak"}


def test_every_fault_has_a_sentence_and_a_default_within_its_limits() -> None:
    for name, fault in FAULTS.items():
        assert fault.about.endswith("."), name
        assert fault.low <= fault.default <= fault.high, name
