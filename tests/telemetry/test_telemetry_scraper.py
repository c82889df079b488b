"""Scraping over a real loopback connection: what flows, what is missing and why, and ends of a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.endpoint.question import PAGE_BYTES
from llmtop.telemetry import replica as scraping
from llmtop.telemetry.exposition import SERIES_LIMIT
from llmtop.telemetry.identity import STAYS, STAYS_BY_COUNTS
from llmtop.telemetry.scraper import Scraper

VLLM = """\
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} {kv}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {tokens}
vllm:prefix_cache_queries_total{{engine="0",model_name="m"}} {tokens}
vllm:prefix_cache_hits_total{{engine="0",model_name="m"}} {hits}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="m"}} {ttft_sum}
vllm:time_to_first_token_seconds_count{{engine="0",model_name="m"}} {ttft_count}
process_start_time_seconds {start}
"""
LLAMACPP = b"llamacpp:requests_processing 4\nllamacpp:requests_deferred 3\n"
SLOTS = (
    b'[{"id":0,"n_ctx":100,"is_processing":true,"n_prompt_tokens":40},'
    b'{"id":1,"n_ctx":100,"is_processing":false,"n_prompt_tokens":90},{"id":2,"n_ctx":100,"is_processing":false}]'
)


def page(**values: float) -> bytes:
    defaults = {"running": 2, "waiting": 1, "kv": 0.5, "tokens": 100, "hits": 50, "ttft_sum": 1.0}
    defaults |= {"ttft_count": 10, "start": 1.7e9}
    return VLLM.format(**(defaults | values)).encode()


Make = Callable[..., Scraper]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Scraper] = []

    def build(url: str, dialect: Dialect = Dialect.VLLM, **fields: Any) -> Scraper:
        made.append(Scraper(Endpoint(base_url=url, **fields), dialect, time.perf_counter_ns()))
        return made[-1]

    yield build
    for scraper in made:
        await scraper.close()


async def test_figures_flow_and_means_need_two_scrapes(server: Any, make: Make) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    first = await scraper.scrape()
    assert scraper.missing is None
    assert scraper.fresh
    assert (first.running, first.waiting, first.kv_usage, first.ttft_mean_s) == (2, 1, 0.5, None)
    assert first.preemptions_total is None, "absent is not 0"
    assert "preemptions_total" not in scraper.known
    assert "ttft_mean_s" in scraper.known
    server.pages["/metrics"] = page(tokens=200, hits=125, ttft_sum=3.0, ttft_count=14)
    second = await scraper.scrape()
    assert second.ttft_mean_s == pytest.approx(0.5)
    assert second.prefix_hit_ratio == pytest.approx(0.75)
    assert second.t_s > first.t_s
    third = await scraper.scrape()
    assert third.ttft_mean_s is None, "nothing happened in the interval: no mean, not 0"
    assert third.prefix_hit_ratio is None


async def test_connections_of_its_own_and_no_compression(server: Any, make: Make) -> None:
    """The first eight scrapes and every tenth after them end theirs: behind a balancer each meets another replica."""
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    connections = []
    for _ in range(22):
        await scraper.scrape()
        connections.append(server.connections)
    assert connections == [2, *range(2, 9), 9, 9, *[10] * 10, 11, 11]
    assert server.asked[0][1]["accept-encoding"] == "identity"


async def test_values_stay_and_turn_stale_after_three_misses(server: Any, make: Make) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    await scraper.scrape()
    await server.stop()
    for miss in (1, 2, 3):
        snapshot = await scraper.scrape()
        assert snapshot.running == 2
        assert not scraper.fresh
        assert snapshot.age_s > 0
        assert "no connection" in (scraper.missing or "")
        assert (scraper.stale_s is None) == (miss < 3)
    await server.start(server.port)
    back = await scraper.scrape()
    assert (back.age_s, scraper.stale_s, scraper.missing) == (0.0, None, None)


async def test_metrics_that_die_while_the_api_lives_turn_stale_too(server: Any, make: Make) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    await scraper.scrape()
    del server.pages["/metrics"]
    for _ in range(3):
        snapshot = await scraper.scrape()
    assert snapshot.running == 2
    assert scraper.stale_s is not None
    assert "HTTP 404" in (scraper.missing or "")


async def test_a_restart_is_told_once_and_makes_no_means(server: Any, make: Make) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = page(tokens=1000, ttft_count=50)
    await scraper.scrape()
    assert not scraper.restarted
    server.pages["/metrics"] = page(tokens=10, ttft_count=1, start=1.7e9 + 60)
    told = []
    for _ in range(STAYS + 2):
        snapshot = await scraper.scrape()
        told.append((scraper.restarted, scraper.fresh, snapshot.generation_tokens_total))
        assert snapshot.ttft_mean_s is None
    unsure = (False, False, 1000.0)
    assert told == [*[unsure] * (STAYS - 1), (True, True, 10.0), (False, True, 10.0), (False, True, 10.0)]


async def test_a_server_that_was_gone_and_is_back_has_restarted_at_once(server: Any, make: Make) -> None:
    scraper = make(server.url)
    for start in (1.7e9, None, 1.7e9 + 60):
        server.pages["/metrics"] = page(start=start) if start else (503, b"", "")
        await scraper.scrape()
    assert scraper.restarted


async def test_one_that_was_started_anew_has_served_nothing_yet(server: Any, second_server: Any, make: Make) -> None:
    second_server.pages["/metrics"] = page()
    scraper = make(server.url, metrics_urls=(f"{server.url}/metrics", f"{second_server.url}/metrics"))
    seen = []
    for start, tokens in ((1.7e9, 5), (1.7e9, 9), (None, 0), (1.7e9 + 60, 0), (1.7e9 + 60, 0), (1.7e9 + 60, 3)):
        server.pages["/metrics"] = page(start=start, tokens=tokens, ttft_count=1) if start else (503, b"", "")
        await scraper.scrape()
        seen.append((scraper.seen[0].served, scraper.seen[0].since_s))
    assert [served for served, _ in seen] == [False, True, True, False, False, True]
    assert len({since_s for _, since_s in seen}) == 1, "it was first read when it was"


async def test_a_counter_that_falls_is_a_restart_even_without_a_start_time(server: Any, make: Make) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = b"vllm:num_requests_running 1\nvllm:generation_tokens_total 50\n"
    await scraper.scrape()
    server.pages["/metrics"] = b"vllm:num_requests_running 1\nvllm:generation_tokens_total 3\n"
    for _ in range(STAYS_BY_COUNTS):
        assert not scraper.restarted
        await scraper.scrape()
    assert scraper.restarted


async def test_replicas_behind_one_address_are_named_and_nothing_of_theirs_is_told(server: Any, make: Make) -> None:
    scraper = make(server.url)
    told = []
    for turn in range(8):
        server.pages["/metrics"] = page(start=1e9 * (1 + turn % 2), tokens=100 + turn, running=9 * (turn % 2))
        snapshot = await scraper.scrape()
        told.append((scraper.fresh, snapshot.running, snapshot.kv_usage, snapshot.generation_tokens_total))
        assert not scraper.restarted
        assert snapshot.is_nobodys is scraper.in_turn is (turn >= 2)
    one, nobody = (0.0, 0.5, 100.0), (None, None, None)
    assert told[:3] == [(True, *one), (False, *one), (True, *nobody)], "what is not known any more is told once"
    assert told[3:] == [(False, *nobody)] * 5
    assert scraper.missing == (
        f"{server.url}/metrics: 2 replicas answer here in turn: name the page of each with --metrics-url"
    )


@pytest.mark.parametrize(
    ("answer", "dialect", "words"),
    [
        ((404, b"", ""), Dialect.LLAMACPP, ("HTTP 404", "--metrics")),
        ((501, b'{"error":{}}', ""), Dialect.LLAMACPP, ("HTTP 501", "--metrics")),
        ((401, b"{}", ""), Dialect.VLLM, ("HTTP 401", "--api-key-env")),
        ((307, b"", "Location: http://llm.example/other\r\n"), Dialect.VLLM, ("HTTP 307", "/other")),
        ((503, b"", ""), Dialect.VLLM, ("HTTP 503",)),
        (b"<html>hello</html>", Dialect.VLLM, ("a web page",)),
        (b'{"iter": 1}', Dialect.VLLM, ("not with metrics",)),
        (b"process_resident_memory_bytes 5\n", Dialect.VLLM, ("none of the metrics of vLLM", "--disable-log-stats")),
        (b"", Dialect.VLLM, ("none of the metrics",)),
    ],
)
async def test_missing_says_why_and_which_flag_helps(
    server: Any, make: Make, answer: Any, dialect: Dialect, words: tuple[str, ...]
) -> None:
    scraper = make(server.url, dialect)
    server.pages["/metrics"] = answer
    snapshot = await scraper.scrape()
    assert snapshot.running is None
    assert not scraper.fresh
    for word in (server.url, *words):
        assert word in (scraper.missing or "")


@pytest.mark.parametrize(
    ("status", "said", "is_asked"),
    [
        (400, b"{}", True),
        (404, b'{"error": "model param required"}', True),
        (404, b"{}", False),
        (403, b"model", False),
    ],
)
async def test_a_page_of_one_of_several_models_is_asked_for_with_the_driven_one(
    server: Any, make: Make, status: int, said: bytes, is_asked: bool
) -> None:
    server.pages["/metrics"] = (status, said, "")
    server.pages["/metrics?model=org%2Fm"] = page(start=1.0, tokens=9, running=4)
    scraper = make(server.url, model="org/m")
    snapshots = [await scraper.scrape() for _ in range(2)]
    assert [each.running for each in snapshots] == ([4.0] * 2 if is_asked else [None] * 2)
    assert server.paths().count("/metrics") == 1


async def test_a_refused_page_is_left_alone_for_a_while(server: Any, make: Make, monkeypatch: Any) -> None:
    scraper = make(server.url)
    for _ in range(3):
        await scraper.scrape()
    assert server.paths().count("/metrics") == 1
    assert "HTTP 404" in (scraper.missing or "")
    scraper = make(server.url)
    monkeypatch.setattr(scraping, "RETRY_REFUSED_S", 0.0)
    await scraper.scrape()
    server.pages["/metrics"] = page()
    await scraper.scrape()
    assert scraper.missing is None


async def test_a_page_that_hangs_costs_its_own_timeout_only(server: Any, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr(scraping, "TIMEOUT_S", 0.05)
    scraper = make(server.url)
    server.hang = True
    await scraper.scrape()
    assert "no answer within" in (scraper.missing or "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"x" * (PAGE_BYTES + 1), "has more than 4 MB"),
        ((200, b"x", "Content-Encoding: gzip\r\n"), "is compressed (gzip) though identity was asked for"),
        (
            b"".join(b'vllm:num_requests_running{engine="%d"} 1\n' % number for number in range(SERIES_LIMIT + 1)),
            "has more than 5000 series",
        ),
        (
            b"".join(b'DCGM_FI_DEV_GPU_UTIL{gpu="%d"} 1\n' % number for number in range(SERIES_LIMIT + 1)),
            "has more than 5000 series",
        ),
        ((500, b"x" * (1 << 20), ""), "HTTP 500"),
        ((302, b"", "Location: http://llm.example/" + "x" * 5000 + "\r\n"), "sent on to"),
    ],
    ids=["bytes", "gzip", "series", "boards", "refusal", "redirect"],
)
async def test_a_page_that_is_too_much_is_left_alone_for_a_while_and_said(
    server: Any, make: Make, answer: Any, words: str
) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    await scraper.scrape()
    server.pages["/metrics"] = answer
    for _ in range(3):
        snapshot = await scraper.scrape()
    assert words in (scraper.missing or "")
    assert len(scraper.missing or "") < 600
    assert snapshot.running == 2, "the last that was read"
    assert scraper.stale_s is not None
    assert server.paths().count("/metrics") == (4 if words == "HTTP 500" else 2)


async def test_a_page_that_is_waited_for_in_vain_is_asked_more_seldom(
    server: Any, make: Make, monkeypatch: Any
) -> None:
    monkeypatch.setattr(scraping, "TIMEOUT_S", 0.05)
    scraper = make(server.url)
    server.hang = True
    for _ in range(6):
        await scraper.scrape()
    assert server.paths().count("/metrics") == scraping.MISSES_UNTIL_STALE
    assert "no answer within" in (scraper.missing or "")


async def test_a_hostile_replica_leaves_the_figures_of_the_others(server: Any, second_server: Any, make: Make) -> None:
    scraper = make("http://127.0.0.1:1", metrics_urls=(f"{server.url}/metrics", f"{second_server.url}/metrics"))
    server.pages["/metrics"] = page(running=2)
    second_server.pages["/metrics"] = b"x" * (PAGE_BYTES + 1)
    assert (await scraper.scrape()).running == 2
    assert "1 of 2 metrics pages are missing" in (scraper.missing or "")


async def test_a_late_answer_in_json_does_not_hold_up_the_figures(server: Any, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr("llmtop.telemetry.answers.TIMEOUT_S", 0.2)
    scraper = make(server.url, Dialect.SGLANG)
    server.pages["/metrics"] = b"sglang:num_running_reqs 3\n"
    server.slow = {"/v1/models", "/get_server_info", "/server_info"}
    began = time.monotonic()
    assert (await scraper.scrape()).running == 3
    assert time.monotonic() - began < 0.4, "one late answer, not three"


async def test_a_page_is_read_while_others_on_the_loop_have_their_turn(server: Any, make: Make) -> None:
    scraper = make(server.url)
    body = b"".join(b'foreign_total{id="%d"} 1\n' % number for number in range(150_000))
    server.pages["/metrics"] = page() + body[: PAGE_BYTES - 2000].rpartition(b"\n")[0]
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    watching = asyncio.create_task(watch())
    snapshot = await scraper.scrape()
    watching.cancel()
    assert snapshot.running == 2
    assert longest < 0.05


async def test_replicas_add_up_and_keep_their_rows(server: Any, second_server: Any, make: Make) -> None:
    urls = (f"{server.url}/metrics", f"{second_server.url}/metrics")
    scraper = make("http://127.0.0.1:1", metrics_urls=urls)
    server.pages["/metrics"] = page(running=2, waiting=0, kv=0.25, tokens=100, ttft_sum=1, ttft_count=1)
    second_server.pages["/metrics"] = page(running=3, waiting=4, kv=0.75, tokens=50, ttft_sum=1, ttft_count=1)
    both = await scraper.scrape()
    assert (both.running, both.waiting, both.kv_usage, both.generation_tokens_total) == (5, 4, 0.5, 150)
    names = [f"127.0.0.1:{each.port}" for each in (server, second_server)]
    assert both.replicas == ((names[0], 2, 0, 0.25), (names[1], 3, 4, 0.75))
    server.pages["/metrics"] = page(ttft_sum=4, ttft_count=4, tokens=100)
    second_server.pages["/metrics"] = page(ttft_sum=2, ttft_count=2, tokens=50)
    assert (await scraper.scrape()).ttft_mean_s == pytest.approx(1.0), "(3 + 1) s over (3 + 1) requests"

    await second_server.stop()
    for _ in range(3):
        one = await scraper.scrape()
    assert scraper.missing is not None
    assert scraper.missing.startswith("1 of 2 metrics pages are missing")
    assert scraper.fresh
    assert one.running == 2, "a replica that is gone runs nothing"
    assert one.generation_tokens_total == 150, "and does not look like a counter that fell"
    assert one.replicas[1] == (names[1], None, None, None)


async def test_configuration_is_asked_once_and_again_after_a_restart(server: Any, make: Make) -> None:
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    server.pages["/v1/models"] = b'{"data":[{"max_model_len":2048}]}'
    for _ in range(3):
        snapshot = await scraper.scrape()
    assert snapshot.max_model_len == 2048
    assert server.paths().count("/v1/models") == 1
    server.pages["/metrics"] = page(start=1.8e9)
    server.pages["/v1/models"] = b'{"data":[{"max_model_len":4096}]}'
    for _ in range(STAYS):
        snapshot = await scraper.scrape()
    assert snapshot.max_model_len == 4096


async def test_llamacpp_kv_is_an_estimate_from_its_slots(server: Any, make: Make) -> None:
    scraper = make(server.url, Dialect.LLAMACPP)
    server.pages |= {"/metrics": LLAMACPP, "/slots": SLOTS, "/props": b'{"total_slots":3}'}
    snapshot = await scraper.scrape()
    assert (snapshot.running, snapshot.waiting) == (4, 3)
    assert snapshot.kv_usage == pytest.approx(40 / 300)
    assert snapshot.kv_capacity_tokens == 300
    assert snapshot.max_num_seqs == 3
    assert set(snapshot.estimated) == {"kv_usage", "kv_capacity_tokens"}


async def test_llamacpp_without_metrics_still_shows_its_slots(server: Any, make: Make) -> None:
    scraper = make(server.url, Dialect.LLAMACPP)
    server.pages["/slots"] = SLOTS
    snapshot = await scraper.scrape()
    assert "--metrics" in (scraper.missing or "")
    assert scraper.fresh
    assert (snapshot.running, snapshot.waiting, snapshot.max_num_seqs) == (1, None, 3)


async def test_a_page_of_another_dialect_is_read_as_what_it_is(server: Any, second_server: Any, make: Make) -> None:
    """A gateway that speaks plain OpenAI in front of a vLLM whose page was named."""
    scraper = make(server.url, Dialect.OPENAI, metrics_urls=(f"{second_server.url}/metrics",))
    second_server.pages["/metrics"] = page(running=7)
    snapshot = await scraper.scrape()
    assert scraper.missing is None
    assert snapshot.running == 7


async def test_a_hosted_endpoint_is_not_asked_for_metrics(server: Any, make: Make) -> None:
    scraper = make(server.url, Dialect.OPENAI)
    snapshot = await scraper.scrape()
    assert snapshot.running is None
    assert "no metrics page" in (scraper.missing or "")
    assert server.asked == []


async def test_the_key_goes_to_the_endpoints_host_only(server: Any, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    own = make(server.url, api_key_env="SOME_KEY", headers=(("X-Team", "a"),))
    await own.scrape()
    assert server.asked[0][1]["authorization"] == "bearer secret"
    assert server.asked[0][1]["x-team"] == "a"
    server.asked.clear()
    other = make("http://localhost:1", api_key_env="SOME_KEY", metrics_urls=(f"{server.url}/metrics",))
    await other.scrape()
    assert "authorization" not in server.asked[0][1]


async def test_a_gpu_exporter_among_the_metrics_urls_gives_gpus(server: Any, second_server: Any, make: Make) -> None:
    second_server.pages["/metrics"] = b'DCGM_FI_DEV_GPU_UTIL{gpu="0",modelName="H100"} 97\n'
    server.pages["/metrics"] = page(running=1)
    scraper = make(server.url, metrics_urls=(f"{second_server.url}/metrics",))
    snapshot = await scraper.scrape()
    assert [(gpu.name, gpu.utilisation) for gpu in scraper.gpus] == [("H100", 0.97)]
    assert snapshot.running == 1, "the endpoint's own page is scraped as well"
    assert scraper.missing is None
    assert snapshot.replicas == ()


async def test_a_proxy_of_the_environment_is_not_asked_for_loopback(server: Any, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    scraper = make(server.url)
    server.pages["/metrics"] = page()
    await scraper.scrape()
    assert scraper.missing is None


async def test_a_unix_socket_serves_the_endpoints_own_pages(make: Make, tmp_path: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = page(running=9)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        writer.close()

    listener = await asyncio.start_unix_server(answer, tmp_path / "s")
    scraper = make("http://localhost", unix_socket=str(tmp_path / "s"))
    snapshot = await scraper.scrape()
    listener.close()
    assert snapshot.running == 9


async def test_a_page_on_a_port_of_its_own_is_found_when_the_usual_place_has_none(
    server: Any, second_server: Any, make: Make, monkeypatch: Any
) -> None:
    """Triton shows TensorRT-LLM's metrics at :8002/metrics, trtllm-serve at /prometheus/metrics beside its API."""
    table = msgspec.structs.replace(DIALECTS[Dialect.TRTLLM], metrics_port=second_server.port)
    monkeypatch.setattr("llmtop.telemetry.scraper.DIALECTS", {**DIALECTS, Dialect.TRTLLM: table})
    second_server.pages["/metrics"] = (
        b'nv_trt_llm_request_metrics{model="m",request_type="scheduled"} 5\n'
        b'nv_trt_llm_request_metrics{model="m",request_type="waiting"} 2\n'
        b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.25\n'
    )
    scraper = make(server.url, Dialect.TRTLLM)
    for _ in range(2):
        snapshot = await scraper.scrape()
    assert scraper.missing is None
    assert (snapshot.running, snapshot.waiting, snapshot.kv_usage) == (5, 2, 0.25)
    assert server.paths().count("/prometheus/metrics") == 1
    second_server.pages.clear()
    both = make(server.url, Dialect.TRTLLM)
    await both.scrape()
    assert f"{server.url}/prometheus/metrics: HTTP 404" in (both.missing or "")


async def test_one_of_several_that_starts_anew_is_no_restart_of_the_service(
    server: Any, second_server: Any, make: Make
) -> None:
    urls = (f"{server.url}/metrics", f"{second_server.url}/metrics")
    scraper = make("http://127.0.0.1:1", metrics_urls=urls)
    server.pages["/metrics"] = page(tokens=100)
    second_server.pages["/metrics"] = page(tokens=50)
    await scraper.scrape()
    start_s = (await scraper.scrape()).process_start_s
    second_server.pages["/metrics"] = page(tokens=5, start=1.7e9 + 60)
    told = []
    for _ in range(STAYS + 1):
        snapshot = await scraper.scrape()
        told.append((scraper.restarted, scraper.anew, snapshot.generation_tokens_total))
    name = f"127.0.0.1:{second_server.port}"
    assert told == [*[(False, (), 150)] * (STAYS - 1), (False, (name,), 155), (False, (), 155)]
    assert snapshot.process_start_s == start_s, "nor has it another start, by which a run would be cut"


async def test_all_that_start_anew_together_are_a_restart_of_the_service(
    server: Any, second_server: Any, make: Make
) -> None:
    urls = (f"{server.url}/metrics", f"{second_server.url}/metrics")
    scraper = make("http://127.0.0.1:1", metrics_urls=urls)
    for each in (server, second_server):
        each.pages["/metrics"] = page(tokens=100)
    await scraper.scrape()
    server.pages["/metrics"] = page(tokens=7, start=1.7e9 + 60)
    await scraper.scrape()
    second_server.pages["/metrics"] = page(tokens=3, start=1.7e9 + 61)
    told = []
    for _ in range(STAYS + 1):
        snapshot = await scraper.scrape()
        told.append((scraper.restarted, len(scraper.anew)))
    assert told == [(False, 0), (False, 1), (True, 0), (False, 0)]
    assert (snapshot.generation_tokens_total, snapshot.process_start_s) == (10, 1.7e9 + 60)


async def test_a_page_that_is_lost_leaves_the_figures_of_the_others(
    server: Any, second_server: Any, make: Make
) -> None:
    urls = (f"{server.url}/metrics", f"{second_server.url}/metrics")
    scraper = make("http://127.0.0.1:1", metrics_urls=urls)
    for each in (server, second_server):
        each.pages["/metrics"] = page()
    await scraper.scrape()
    assert (scraper.missing, scraper.partly) == (None, True)
    await second_server.stop()
    for _ in range(scraping.MISSES_UNTIL_STALE):
        await scraper.scrape()
    assert scraper.partly
    assert [each.gone for each in scraper.seen] == [False, True]
    await server.stop()
    await scraper.scrape()
    assert not scraper.partly
