"""vLLM's own engine on the CPU: queue, KV cache, preemptions, admission limit, and the ends of a server."""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmtop.analysis.segments import segments_of
from llmtop.domain.commands import SetKnob
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import Caps, LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, TokenSource
from llmtop.domain.verdicts import Bound, Kind
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.meter.facts import Facts
from llmtop.meter.split import split_ttft
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session
from llmtop.telemetry.scraper import Scraper

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


async def test_it_is_recognised_and_can_be_driven(vllm_url: str) -> None:
    endpoint = endpoint_from_url(vllm_url)
    info = await probe(endpoint, Caps())
    client = EndpointClient(endpoint, info, Caps(), time.perf_counter_ns())
    assert info.dialect is Dialect.VLLM
    assert "vLLM" in (info.server or "")
    assert info.max_model_len == 2048
    assert info.has_usage
    assert info.has_tokenize
    assert info.pins_output
    assert info.has_metrics
    assert await client.tokenize("one two three") is not None
    await client.close()


@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_a_stream_has_the_asked_tokens_counted_by_the_server(
    vllm_url: str, real: SimpleNamespace, api: str
) -> None:
    trace = await real.send(vllm_url, "hello there, how are you", 40, api)
    assert trace.outcome is Outcome.OK
    assert (trace.output_tokens, trace.token_source) == (40, TokenSource.USAGE)
    assert trace.sent_ns < trace.first_token_ns <= trace.last_token_ns <= trace.end_ns


async def test_a_prompt_that_is_too_long_says_so(vllm_url: str, real: SimpleNamespace) -> None:
    trace = await real.send(vllm_url, "word " * 4000, 8)
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, 400)
    assert "maximum context length is 2048 tokens" in trace.error


async def test_prompts_have_the_asked_length(vllm_url: str, real: SimpleNamespace) -> None:
    driven = await real.hold(vllm_url, 6, concurrency=2, prompt_tokens=200, output_tokens=8)
    later = [request.prompt_tokens for request in driven.ok()[10:]]
    assert len(later) > 10
    assert abs(sum(later) / len(later) - 200) < 20, "a tokenizer that nobody knows is learnt from the first answers"


async def test_overload_queues_and_shows_and_is_let_go(vllm_url: str, real: SimpleNamespace) -> None:
    driven = await real.hold(vllm_url, 8, concurrency=24, prompt_tokens=128, output_tokens=128)
    full = max(driven.snapshots, key=lambda snapshot: snapshot.waiting or 0.0)
    assert full.running is not None
    assert full.waiting is not None
    assert 6 <= full.running <= 8
    assert full.waiting >= 12
    assert full.kv_usage is not None
    assert 0 < full.kv_usage < 0.5
    assert full.kv_capacity_tokens == 32768
    assert full.preemptions_total == driven.snapshots[0].preemptions_total
    assert driven.failed() == []
    assert driven.left_after_s is not None
    assert driven.left_after_s < 5


async def test_the_servers_own_ttft_explains_ours(vllm_url: str, real: SimpleNamespace) -> None:
    driven = await real.hold(vllm_url, 8, concurrency=4, prompt_tokens=256, output_tokens=32)
    means = [snapshot for snapshot in driven.snapshots if snapshot.ttft_mean_s is not None]
    assert means
    server_s = sum(snapshot.ttft_mean_s for snapshot in means) / len(means)
    ours = [(request.first_token_ns - request.sent_ns) / 1e9 for request in driven.ok()]
    split = split_ttft(sum(ours) / len(ours), server_s, means[-1].queue_mean_s, means[-1].prefill_mean_s)
    assert split.network_s is not None
    assert split.network_s < 0.5 * split.client_s, "on loopback the time is the server's"
    assert split.prefill_s is not None
    for name in ("itl_mean_s", "e2e_mean_s", "decode_mean_s", "iteration_tokens_mean"):
        assert any(getattr(snapshot, name) is not None for snapshot in driven.snapshots), name


@pytest.mark.parametrize("slots", [4, 8, 16])
async def test_the_cliff_is_at_max_num_seqs(real: SimpleNamespace, tmp_path: Path, slots: int) -> None:
    levels = sorted({1, 2, slots // 2, slots - 2, slots, slots + 2, slots + 4, 2 * slots})
    with real.vllm(tmp_path / "log", "--max-num-seqs", str(slots)) as server:
        verdict = await real.climb(server.url, levels, 8, tmp_path / "run.llmtop", prompt_tokens=128, output_tokens=64)
    assert verdict.cliff.kind is Kind.CLIFF
    assert verdict.cliff.cause is Bound.QUEUE
    assert abs(verdict.cliff.at - slots) <= 1


async def test_a_live_knob_turns_under_the_load(
    real: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seconds: requests of before end within them, and a scrape comes once a second."""
    source = resources.files("llmtop.session").joinpath("llmtop_knobs.py").read_text()
    (tmp_path / "llmtop_knobs.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = ("--max-num-seqs", "16", "--scheduler-cls", "llmtop_knobs.LiveScheduler")
    with real.vllm(tmp_path / "log", *options) as server:
        base = LoadPoint(concurrency=24, prompt_tokens=64, output_tokens=64)
        profile = Profile(name="knobs", plan=LoadPlan(stages=(), base=base))
        run = SessionOptions(
            endpoint=endpoint_from_url(server.url), profile=profile, run_file=str(tmp_path / "r.llmtop"), patient=False
        )
        session = Session(run)
        await session.start()
        assert session.frame().endpoint.knobs["max_num_seqs"] == session.frame().endpoint.slots == 16
        await asyncio.sleep(6)
        for slots in (4, 16):
            await session.command(SetKnob("max_num_seqs", float(slots)))
            await asyncio.sleep(3)
            for _ in range(6):
                seen = session.frame().server
                assert seen is not None
                assert seen.running == seen.max_num_seqs == slots
                await asyncio.sleep(1)
        facts = Facts()
        await session.close()
        for batch in session.take_facts():
            facts.extend(batch)
    first, second, third = (each.key for each in segments_of(facts, session.meta))
    assert first == third != second


async def test_a_small_cache_preempts_and_its_cliff_is_of_the_cache(real: SimpleNamespace, tmp_path: Path) -> None:
    with real.vllm(tmp_path / "log", "--max-num-seqs", "16", "--kv-cache-memory-bytes", "6291456") as server:
        verdict = await real.climb(
            server.url, (1, 2, 3, 4, 5, 6, 8, 12), 15, tmp_path / "run.llmtop", prompt_tokens=300, output_tokens=512
        )
        scraper = Scraper(endpoint_from_url(server.url), Dialect.VLLM, time.perf_counter_ns())
        snapshot = await scraper.scrape()
        await scraper.close()
    assert snapshot.preemptions_total is not None
    assert snapshot.preemptions_total > 0
    assert snapshot.kv_capacity_tokens == 3072
    assert verdict.cliff.kind is Kind.CLIFF
    assert verdict.cliff.cause is Bound.KV
    assert 3 <= verdict.cliff.at <= 7


async def test_an_admission_limit_is_counted_in_both_of_its_shapes(real: SimpleNamespace, tmp_path: Path) -> None:
    with real.vllm(tmp_path / "log", "--max-num-seqs", "4", "--max-num-queued-reqs", "8") as server:
        driven = await real.hold(server.url, 8, concurrency=24, prompt_tokens=128, output_tokens=64)
    refused = driven.failed()
    assert refused
    assert {request.outcome for request in refused} <= {Outcome.HTTP_ERROR, Outcome.STREAM_ERROR}
    assert driven.ok()
    assert driven.snapshots[-1].rejections_total is not None
    assert driven.snapshots[-1].rejections_total > 0


async def test_a_server_that_dies_and_comes_back(real: SimpleNamespace, tmp_path: Path) -> None:
    with real.vllm(tmp_path / "log", "--max-num-seqs", "4") as server:
        scraper = Scraper(endpoint_from_url(server.url), Dialect.VLLM, time.perf_counter_ns())
        before = await scraper.scrape()
        server.kill()
        trace = await real.send_blindly(server.url)
        assert trace.outcome is Outcome.HTTP_ERROR
        assert trace.status is None
        for _ in range(3):
            stale = await scraper.scrape()
        assert scraper.stale_s is not None
        assert stale.kv_capacity_tokens == before.kv_capacity_tokens
        server.start()
        await scraper.scrape()
        await scraper.close()
    assert scraper.missing is None
    assert scraper.restarted
