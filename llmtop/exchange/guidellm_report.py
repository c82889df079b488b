"""A GuideLLM report, version 2, as its own reader wants it: every summary in full, with nothing for what is not known.

Source: guidellm/benchmark/schemas, 0.8.1; its `GenerativeBenchmarksReport` takes what is written of known requests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from llmtop.exchange.fields import known
from llmtop.exchange.foreign import STATS, Foreign, Sample
from llmtop.exchange.guidellm import METRICS, VERSION

_FAILED_S = 1e-9
"""A request that failed at once still ends after it began."""
_SPEC = {
    "backend": {"kind": "openai_http", "target": "http://unknown"},
    "profile": {"kind": "concurrent", "streams": [1]},
    "data": [{"kind": "synthetic_text", "prompt_tokens": 1, "output_tokens": 1}],
}
"""What GuideLLM's own reader wants to know of how it was started; no benchmark is read from it."""


def written(runs: Sequence[Foreign]) -> str:
    """A report with a benchmark for each."""
    report = {
        "metadata": {
            "version": VERSION,
            "guidellm_version": "0.8.1",
            "python_version": "",
            "platform": "written by llmtop",
        },
        "config": {"spec": _SPEC},
        "benchmarks": [_benchmark(run, at) for at, run in enumerate(runs)],
        "conclusions": [],
    }
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def _benchmark(run: Foreign, at: int) -> dict[str, Any]:
    start = _start_s(run)
    duration = run.duration_s or 0.0
    totals = {"successful": run.ok, "errored": run.failed, "incomplete": 0, "total": (run.ok or 0) + (run.failed or 0)}
    well = [each for each in run.samples if each.error is None]
    bad = [each for each in run.samples if each.error is not None]
    return {
        "type_": "generative_benchmark",
        "config": {
            "id_": f"llmtop-{at}",
            "run_id": "llmtop",
            "run_index": at,
            "strategy": _strategy(run),
            "constraints": {},
            "sample_size": None,
            "profile": {},
            "requests": {},
            "backend": {"model": run.model} if run.model else {},
            "environment": {},
        },
        "scheduler_state": {},
        "scheduler_metrics": {
            **dict.fromkeys(("start_time", "request_start_time", "measure_start_time"), start),
            **dict.fromkeys(("measure_end_time", "request_end_time", "end_time"), start + duration),
            "requests_made": totals,
            **dict.fromkeys(_SCHEDULER_ZEROS, 0.0),
        },
        "metrics": {"request_totals": totals, **_metrics(run)},
        "requests": {
            "successful": [_request(each, i, start) for i, each in enumerate(well)],
            "incomplete": [],
            "errored": [_request(each, len(well) + i, start) for i, each in enumerate(bad)],
            "total": None,
        },
        "start_time": start,
        "end_time": start + duration,
        "duration": run.duration_s,
        "warmup_duration": 0.0,
        "cooldown_duration": 0.0,
    }


_SCHEDULER_ZEROS = (
    *("queued_time_avg", "resolve_start_delay_avg", "resolve_targeted_start_delay_avg", "request_start_delay_avg"),
    *("request_targeted_start_delay_avg", "request_time_avg", "resolve_end_delay_avg", "resolve_time_avg"),
    *("finalized_delay_avg", "processed_delay_avg"),
)


def _start_s(run: Foreign) -> float:
    try:
        return datetime.fromisoformat(run.when).timestamp()
    except ValueError:
        return 0.0


def _strategy(run: Foreign) -> dict[str, Any]:
    if run.axis == "rate":
        return {"type_": "constant", "rate": run.load}
    if run.load is None or run.load != int(run.load):
        return {"type_": "concurrent", "streams": run.load}
    return {"type_": "concurrent", "streams": int(run.load)}


_KINDS = {
    "text": ("tokens", "words", "characters"),
    "image": ("tokens", "images", "pixels", "bytes"),
    "video": ("tokens", "frames", "seconds", "bytes"),
    "audio": ("tokens", "samples", "seconds", "bytes"),
    "tool_call": ("tokens", "mixed_tokens", "count"),
}
"""Metrics by the kind of content, which may be null."""
_EMPTY = (
    *("request_streaming_iterations_count", "time_to_first_output_token_ms", "time_to_last_round_trip_ms"),
    *("avg_round_trip_time_ms", "output_tokens_per_iteration", "iter_tokens_per_iteration"),
)
"""Metrics of which a recording has nothing: they are of 0 requests."""
_RANKS = {
    **{"p001": 0.001, "p01": 0.01, "p05": 0.05, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75},
    **{"p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999},
}


def _metrics(run: Foreign) -> dict[str, Any]:
    """Summaries of what ended well; of the others nothing is known but their number.

    With the requests they are whole, as GuideLLM's own reader wants them; without, they have what is known.
    """
    well = [each for each in run.samples if each.error is None]
    if well:
        return _of_samples(run, well)
    ok = run.ok or 0
    told: dict[str, Any] = {name: _partly({"mean": value}, ok, 1.0) for name, value in _flat(run).items()}
    for metric, (name, scale) in METRICS.items():
        if metric == "tpot":
            continue  # theirs is over tokens, and the requests are not here to weigh it
        if figures := known({stat: run.figure(f"{metric}_{stat}") for stat in STATS}):
            told[name] = _partly(figures, ok, 1 / scale)
    return told


def _flat(run: Foreign) -> dict[str, float]:
    return known(
        {
            "requests_per_second": run.requests_per_s,
            "request_concurrency": run.delivered,
            "prompt_token_count": run.prompt_tokens,
            "output_token_count": run.output_tokens,
            "output_tokens_per_second": run.output_tokens_per_s,
        }
    )


def _of_samples(run: Foreign, well: Sequence[Sample]) -> dict[str, Any]:
    def column(name: str, scale: float = 1.0) -> list[float]:
        return [value * scale for each in well if (value := getattr(each, name)) is not None]

    prompts = run.prompt_tokens or 0.0
    rates = {"requests_per_second": 1.0, "prompt_tokens_per_second": prompts, "output_tokens_per_second": None}
    told = {}
    for name, tokens in rates.items():
        rate = run.output_tokens_per_s if tokens is None else (run.requests_per_s or 0.0) * tokens
        told[name] = _whole([rate] if rate is not None else [])
    both = [each for each in well if each.prompt_tokens is not None and each.output_tokens is not None]
    spans = [(each.e2e_s / n * 1e3) for each in well if each.e2e_s is not None and (n := each.output_tokens)]
    streamed = [each for each in well if each.tpot_s is not None and (each.output_tokens or 0) > 1]
    return {
        **told,
        "tokens_per_second": _whole([(run.output_tokens_per_s or 0.0) + prompts * (run.requests_per_s or 0.0)]),
        "request_concurrency": _whole([run.delivered] if run.delivered is not None else []),
        "request_latency": _whole(column("e2e_s")),
        "prompt_token_count": _whole(column("prompt_tokens")),
        "output_token_count": _whole(column("output_tokens")),
        "total_token_count": _whole([float((each.prompt_tokens or 0) + (each.output_tokens or 0)) for each in both]),
        "time_to_first_token_ms": _whole(column("ttft_s", 1e3)),
        "time_per_output_token_ms": _whole(spans),
        "inter_token_latency_ms": _whole(
            [(each.tpot_s or 0.0) * 1e3 for each in streamed], [(each.output_tokens or 1) - 1 for each in streamed]
        ),
        **{name: _whole([]) for name in _EMPTY},
        **{kind: dict.fromkeys(parts) for kind, parts in _KINDS.items()},
    }


def _whole(values: Sequence[float], weights: Sequence[float] = ()) -> dict[str, Any]:
    """A summary in full; of nothing it is all zeros, as GuideLLM writes it. With other weights than one for all, the
    percentiles are those of the weights."""
    even = len(set(weights)) <= 1
    x = np.array(values or [0.0], dtype=np.float64)
    w = np.ones(len(x)) if even else np.array(weights, dtype=np.float64)
    mean = float(np.average(x, weights=w))
    variance = float(np.average((x - mean) ** 2, weights=w))
    ranks = list(_RANKS.values())
    found = np.quantile(x, ranks) if even else np.quantile(x, ranks, weights=w, method="inverted_cdf")
    percentiles = {name: float(value) for name, value in zip(_RANKS, found, strict=True)}
    told = {
        "mean": mean,
        "median": percentiles["p50"],
        "mode": float(x[0]),
        "variance": variance,
        "std_dev": math.sqrt(variance),
        "min": float(x.min()),
        "max": float(x.max()),
        "count": len(values),
        "total_sum": float(x.sum()),
        "percentiles": percentiles,
        "pdf": None,
    }
    nothing = told if not values else _whole([])["successful"]
    return {"successful": told, "incomplete": nothing, "errored": nothing, "total": told}


def _partly(figures: Mapping[str, float], n: int, scale: float) -> dict[str, Any]:
    percentiles = {stat: figures[stat] * scale for stat in STATS if stat.startswith("p") and stat in figures}
    mean = figures.get("mean")
    told = {
        "mean": None if mean is None else mean * scale,
        "median": percentiles.get("p50"),
        "std_dev": figures["std"] * scale if "std" in figures else None,
        "count": n,
        "total_sum": None if mean is None else mean * scale * n,
        "percentiles": percentiles,
    }
    return {"successful": told}


def _request(each: Sample, at: int, start: float) -> dict[str, Any]:
    sent = each.start_s if each.start_s is not None else start
    first = None if each.ttft_s is None else sent + each.ttft_s
    last = None if each.e2e_s is None else sent + each.e2e_s
    over = next((each for each in (last, first) if each is not None), sent + _FAILED_S)
    times = {
        "targeted_start": sent,
        "resolve_start": sent,
        "request_start": sent,
        "first_request_iteration": first,
        "first_token_iteration": first,
        "last_token_iteration": last,
        "request_iterations": each.output_tokens or 0,
        "token_iterations": each.output_tokens or 0,
        "request_end": last if each.error is None else over,
        "resolve_end": over,
    }
    return {
        "type_": "generative_request_stats",
        "request_id": f"r{at}",
        "response_id": None,
        "request_args": None,
        "output": None,
        "info": {
            "request_id": f"r{at}",
            "status": "completed" if each.error is None else "errored",
            "error": each.error,
            "timings": times,
        },
        "input_metrics": {"text_tokens": each.prompt_tokens},
        "output_metrics": {"text_tokens": each.output_tokens},
        "time_to_first_token_ms": None if each.ttft_s is None else each.ttft_s * 1e3,
        "inter_token_latency_ms": None if each.tpot_s is None else each.tpot_s * 1e3,
    }
