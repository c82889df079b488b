"""The /metrics page: vLLM's series, and figures that agree with what was served."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

ENGINE = "{engine=0}"
HISTOGRAMS_PER_REQUEST = (
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_params_max_tokens",
    "request_max_num_generation_tokens",
    "request_params_n",
    "request_num_preemptions",
    "request_prefill_kv_computed_tokens",
)


def series(page: str) -> dict[str, set[str]]:
    """Label sets by sample name, vLLM's only, without the model's name."""
    found: dict[str, set[str]] = {}
    for line in page.splitlines():
        if line.startswith("vllm:") and "_created" not in line:
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).add(re.sub(r'model_name="[^"]*"', "M", labels))
    return found


def types(page: str) -> dict[str, str]:
    return {
        words[2]: words[3]
        for words in (line.split() for line in page.splitlines() if line.startswith("# TYPE vllm:"))
        if not words[2].endswith("_created")
    }


async def test_names_types_labels_and_buckets_are_those_of_a_real_page(client: Any) -> None:
    """The recording is of vLLM 0.32 with max_model_len 2048, as here."""
    theirs = (Path(__file__).parent / "data" / "vllm_metrics.txt").read_text()
    ours = (await client.ask("GET", "/metrics")).body.decode()
    assert types(ours) == types(theirs)
    real, mine = series(theirs), series(ours)
    assert mine.keys() == real.keys()
    for name in real.keys() - {"vllm:cache_config_info"}:
        assert mine[name] == real[name], name
    config = {label.partition("=")[0] for label in "".join(mine["vllm:cache_config_info"]).rstrip("}").split(",")}
    assert config <= {
        label.partition("=")[0] for label in re.split(r",(?=\w+=)", "".join(real["vllm:cache_config_info"]))
    }


async def test_the_page_parses_and_has_its_content_type(client: Any) -> None:
    answer = await client.ask("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    families = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert {"process_start_time_seconds", "process_resident_memory_bytes", "llmtop_sim_late_ms"} <= families


async def test_after_a_run_counts_agree_with_what_was_streamed(client: Any) -> None:
    lengths = [(3, 1), (20, 5), (40, 9), (700, 3)]
    answers = await asyncio.gather(
        *(client.complete(list(range(1000 * n, 1000 * n + prompt)), out) for n, (prompt, out) in enumerate(lengths))
    )
    streamed = sum(len(answer.text.split()) for answer in answers)
    figures = await client.metrics()
    assert streamed == 18
    assert figures[f"vllm:generation_tokens_total{ENGINE}"] == streamed
    assert figures[f"vllm:prompt_tokens_total{ENGINE}"] == sum(prompt for prompt, _ in lengths)
    assert figures["vllm:request_success_total{engine=0,finished_reason=length}"] == 4
    for name in HISTOGRAMS_PER_REQUEST:
        assert figures[f"vllm:{name}_count{ENGINE}"] == 4, name
        assert figures[f"vllm:{name}_bucket{{engine=0,le=+Inf}}"] == 4, name
    assert figures[f"vllm:time_to_first_token_seconds_count{ENGINE}"] == 4
    assert figures[f"vllm:request_time_per_output_token_seconds_count{ENGINE}"] == 3
    assert figures[f"vllm:inter_token_latency_seconds_count{ENGINE}"] == streamed - 4
    assert figures[f"vllm:request_prompt_tokens_sum{ENGINE}"] == sum(prompt for prompt, _ in lengths)
    assert figures[f"vllm:request_generation_tokens_sum{ENGINE}"] == streamed
    # Every token but the last of each request was computed as an input.
    assert figures[f"vllm:iteration_tokens_total_sum{ENGINE}"] == sum(p + out - 1 for p, out in lengths)
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert figures[f"vllm:{name}{ENGINE}"] == 0


async def test_gauges_show_slots_queue_and_blocks_and_reasons_add_up(start: Any) -> None:
    client = await start(max_num_seqs=2, step_ms=30.0)
    asks = [asyncio.create_task(client.complete(list(range(100 * n, 100 * n + 33)), 300)) for n in range(5)]
    figures = await client.until("vllm:num_requests_waiting{engine=0}", 3.0)
    assert figures[f"vllm:num_requests_running{ENGINE}"] == 2
    by_reason = [
        figures[f"vllm:num_requests_waiting_by_reason{{engine=0,reason={r}}}"] for r in ("capacity", "deferred")
    ]
    assert by_reason == [3, 0]
    blocks = figures[f"vllm:kv_cache_usage_perc{ENGINE}"] * 511
    assert blocks == pytest.approx(round(blocks))
    assert 6 <= blocks <= 2 * 21  # Two requests of 33 to 333 tokens.
    await client.leave(*asks)


async def test_counters_and_buckets_never_fall(client: Any) -> None:
    ends = asyncio.gather(*(client.complete(max_tokens=40) for _ in range(8)))
    before = await client.metrics()
    while not ends.done():
        after = await client.metrics()
        for name, value in before.items():
            if re.search(r"_(total|count|sum|bucket)\{", name):
                assert after[name] >= value, name
        before = after
        await asyncio.sleep(0.005)
    await ends


async def test_prefix_hits_are_counted_in_tokens(client: Any) -> None:
    for _ in range(2):
        await client.complete(list(range(50)), 1)
    figures = await client.metrics()
    assert figures[f"vllm:prefix_cache_queries_total{ENGINE}"] == 100
    assert figures[f"vllm:prefix_cache_hits_total{ENGINE}"] == 48
    assert figures[f"vllm:prompt_tokens_cached_total{ENGINE}"] == 48
    assert figures["vllm:prompt_tokens_by_source_total{engine=0,source=local_compute}"] == 52


async def test_the_cache_config_follows_the_knobs(client: Any) -> None:
    async def info() -> str:
        page = (await client.ask("GET", "/metrics")).body.decode()
        return next(line for line in page.splitlines() if line.startswith("vllm:cache_config_info{"))

    assert 'num_gpu_blocks="512"' in await info()
    await client.control(knobs={"num_gpu_blocks": 257})
    assert 'num_gpu_blocks="257"' in await info()
    assert 'kv_cache_size_tokens="4096"' in await info()
    assert (await client.metrics())["llmtop_sim_knob{name=num_gpu_blocks}"] == 257
