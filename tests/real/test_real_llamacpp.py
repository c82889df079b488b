"""llama.cpp's own server: what it is, what it sends, how it fills up, and how it lets go."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome, TokenSource
from llmtop.domain.verdicts import Bound, Kind
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.errors import EndpointAuthFailed
from llmtop.telemetry.findings import examine_metrics
from llmtop.telemetry.scraper import Scraper

pytestmark = pytest.mark.real


async def test_it_is_recognised_and_can_be_driven(llamacpp_url: str) -> None:
    endpoint = endpoint_from_url(llamacpp_url)
    info = await probe(endpoint, Caps())
    client = EndpointClient(endpoint, info, Caps(), time.perf_counter_ns())
    assert info.dialect is Dialect.LLAMACPP
    assert info.max_model_len == 2048
    assert info.max_num_seqs == 8
    assert info.has_usage
    assert info.has_tokenize
    assert info.pins_output
    assert info.has_metrics
    assert await client.tokenize("one two three") is not None
    await client.close()


@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_a_stream_has_the_asked_tokens_counted_by_the_server(
    llamacpp_url: str, real: SimpleNamespace, api: str
) -> None:
    trace = await real.send(llamacpp_url, "hello there, how are you", 40, api)
    assert trace.outcome is Outcome.OK
    assert (trace.output_tokens, trace.token_source) == (40, TokenSource.USAGE)
    assert trace.sent_ns < trace.first_token_ns <= trace.last_token_ns <= trace.end_ns


async def test_a_server_that_closes_after_every_stream_makes_no_errors(
    llamacpp_url: str, real: SimpleNamespace
) -> None:
    driven = await real.hold(llamacpp_url, 6, concurrency=4, prompt_tokens=32, output_tokens=8)
    assert len(driven.ok()) > 30
    assert driven.failed() == []
    assert all(request.output_tokens == request.asked_output_tokens for request in driven.ok())


async def test_a_prompt_that_is_too_long_says_so(llamacpp_url: str, real: SimpleNamespace) -> None:
    trace = await real.send(llamacpp_url, "word " * 4000, 8)
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, 400)
    assert "exceeds the available context size (2048 tokens)" in trace.error


async def test_overload_queues_and_shows_and_is_let_go(llamacpp_url: str, real: SimpleNamespace) -> None:
    driven = await real.hold(llamacpp_url, 8, concurrency=20, prompt_tokens=128, output_tokens=256)
    full = driven.snapshots[-1]
    assert full.running == 8
    assert 10 <= full.waiting <= 12, "one or two may be on their way back in"
    assert full.max_num_seqs == 8
    assert full.kv_usage is not None
    assert 0.02 < full.kv_usage < 1
    assert "kv_usage" in full.estimated
    assert driven.failed() == []
    assert driven.left_after_s is not None
    assert driven.left_after_s < 5


async def test_the_cliff_is_at_its_slots(llamacpp_url: str, real: SimpleNamespace, tmp_path: Path) -> None:
    verdict = await real.climb(
        llamacpp_url, (1, 2, 4, 6, 8, 10, 12, 16), 6, tmp_path / "run.llmtop", prompt_tokens=128, output_tokens=64
    )
    assert verdict.cliff.kind is Kind.CLIFF
    assert verdict.cliff.cause is Bound.QUEUE
    assert abs(verdict.cliff.at - 8) <= 1


async def test_without_its_metrics_flag_the_gap_is_named_and_slots_still_show(
    real: SimpleNamespace, tmp_path: Path
) -> None:
    with real.llamacpp(tmp_path / "log", "--no-metrics", "--parallel", "2", "--ctx", "4096") as server:
        scraper = Scraper(Endpoint(base_url=server.url), Dialect.LLAMACPP, time.perf_counter_ns())
        snapshot = await scraper.scrape()
        await scraper.close()
        rows = {row.name: row for row in await examine_metrics(Endpoint(base_url=server.url), Dialect.LLAMACPP)}
    assert "--metrics" in (scraper.missing or "")
    assert (snapshot.running, snapshot.waiting, snapshot.max_num_seqs) == (0, None, 2)
    assert rows["server figures"].ok is False
    assert rows["server figures"].advice == "--metrics"


async def test_a_full_shared_cache_is_an_error_inside_the_stream(real: SimpleNamespace, tmp_path: Path) -> None:
    with real.llamacpp(tmp_path / "log", "--kv-unified", "--parallel", "4", "--ctx", "2048") as server:
        driven = await real.hold(server.url, 8, concurrency=4, prompt_tokens=500, output_tokens=400)
    assert any(
        request.outcome is Outcome.STREAM_ERROR and "Context size has been exceeded" in (request.error or "")
        for request in driven.requests
    )


async def test_a_key_is_wanted_and_used_for_metrics_too(
    real: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LLM_KEY", "s3cret")
    with real.llamacpp(tmp_path / "log", "--api-key", "s3cret") as server:
        with pytest.raises(EndpointAuthFailed, match="--api-key-env"):
            await probe(endpoint_from_url(server.url), Caps())
        refused = Scraper(Endpoint(base_url=server.url), Dialect.LLAMACPP, time.perf_counter_ns())
        await refused.scrape()
        await refused.close()
        assert "HTTP 401" in (refused.missing or "")
        endpoint = endpoint_from_url(server.url, api_key_env="TEST_LLM_KEY")
        scraper = Scraper(endpoint, Dialect.LLAMACPP, time.perf_counter_ns())
        snapshot = await scraper.scrape()
        await scraper.close()
        assert (scraper.missing, snapshot.running) == (None, 0)


async def test_a_restart_is_seen(real: SimpleNamespace, tmp_path: Path) -> None:
    """llama.cpp exports no start time: its counters fall."""
    with real.llamacpp(tmp_path / "log") as server:
        await real.hold(server.url, 2, concurrency=1, prompt_tokens=32, output_tokens=8)
        scraper = Scraper(Endpoint(base_url=server.url), Dialect.LLAMACPP, time.perf_counter_ns())
        await scraper.scrape()
        server.kill()
        for _ in range(3):
            await scraper.scrape()
        assert scraper.stale_s is not None
        server.start()
        await scraper.scrape()
        await scraper.close()
        assert scraper.missing is None
        assert scraper.restarted
