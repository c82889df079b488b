"""`guidellm benchmark --output-path x.json`, report version 2: one benchmark a load.

Its `time_per_output_token_ms` holds TTFT; ours is its `inter_token_latency_ms`, whose percentiles are over tokens, not
over requests: they are taken over where all answers have one length, or else reckoned from the requests. Of these a
report may keep a part only; then they are not looked at. Its request latency goes to the end of the stream, ours to the
last token. Source: guidellm/benchmark/schemas/metrics.py, schemas/base/request_stats.py, 0.8.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency
from llmtop.exchange.fields import MOST_CLOCK, Fields, known
from llmtop.exchange.foreign import STATS, Foreign, Sample

TOOL = "GuideLLM"
VERSION = 2
_RATED = ("constant", "poisson", "async")
_METRICS: dict[Latency, tuple[str, float]] = {
    "ttft": ("time_to_first_token_ms", 1e-3),
    "tpot": ("inter_token_latency_ms", 1e-3),
    "e2e": ("request_latency", 1.0),
}
_FAILED_S = 1e-9
"""A request that failed at once still ends after it began."""


def is_one(values: dict[str, Any]) -> bool:
    return isinstance(values.get("benchmarks"), list) and ("metadata" in values or "args" in values)


def read(fields: Fields) -> tuple[Foreign, ...]:
    """A report. Raises FileError: of another version, too."""
    metadata = fields.within("metadata")
    if (version := metadata.values.get("version")) != VERSION:
        raise metadata.wrong(
            "version", f"is {str(version)[:20]}; reports of version {VERSION} are read (GuideLLM 0.7 on)"
        )
    return tuple(_read(each, metadata.text("guidellm_version")) for each in fields.objects("benchmarks"))


def _read(fields: Fields, version: str) -> Foreign:
    config, metrics = fields.within("config"), fields.within("metrics")
    totals = metrics.within("request_totals")
    ok, failed = totals.count("successful"), totals.count("errored")
    axis, load = _load(config.within("strategy"))
    start_s = fields.number("start_time", MOST_CLOCK)
    return Foreign(
        tool=TOOL,
        version=version,
        when="" if not start_s or start_s > 4e9 else datetime.fromtimestamp(start_s, UTC).isoformat(timespec="seconds"),
        model=config.within("backend").text("model"),
        axis=axis,
        load=load,
        prompt_tokens=_mean(metrics, "prompt_token_count"),
        output_tokens=_mean(metrics, "output_token_count"),
        ok=ok,
        failed=failed,
        duration_s=fields.seconds("duration"),
        output_tokens_per_s=_mean(metrics, "output_tokens_per_second"),
        requests_per_s=_mean(metrics, "requests_per_second"),
        stated=known(_stated(metrics)),
        samples=_samples(fields, ok),
    )


def _load(strategy: Fields) -> tuple[Axis, float | None]:
    kind = strategy.text("type_") or strategy.text("kind")
    if kind in _RATED:
        return "rate", strategy.number("rate") or None
    if kind == "synchronous":
        return "concurrency", 1.0
    return "concurrency", strategy.number("streams") or strategy.number("max_concurrency") or None


def _mean(metrics: Fields, name: str) -> float | None:
    summary = metrics.within(name, "successful")
    return summary.number("mean") if summary.number("count") else None


def _stated(metrics: Fields) -> dict[str, float | None]:
    lengths = metrics.within("output_token_count", "successful")
    alike = lengths.number("min") is not None and lengths.number("min") == lengths.number("max")
    found: dict[str, float | None] = {}
    for metric, (name, scale) in _METRICS.items():
        summary = metrics.within(name, "successful")
        if not summary.number("count") or (metric == "tpot" and not alike):
            continue
        found |= {f"{metric}_mean": summary.seconds("mean", scale), f"{metric}_std": summary.seconds("std_dev", scale)}
        percentiles = summary.within("percentiles")
        found |= {f"{metric}_{stat}": percentiles.seconds(stat, scale) for stat in STATS if stat.startswith("p")}
    return found


def _samples(fields: Fields, ok: int | None) -> tuple[Sample, ...]:
    """Every request; () where the report has kept a part of them only."""
    requests = fields.within("requests")
    well, errored = list(requests.objects("successful")), list(requests.objects("errored"))
    if not well or len(well) != ok:
        return ()
    found = [_sample(each, None) for each in well]
    found += [_sample(each, each.within("info").text("error") or "failed") for each in errored]
    return tuple(sorted(found, key=lambda each: each.start_s or 0.0))


def _sample(fields: Fields, error: str | None) -> Sample:
    times = fields.within("info", "timings")
    start, first, last = (
        times.number(name, MOST_CLOCK) for name in ("request_start", "first_token_iteration", "last_token_iteration")
    )
    prompt = fields.within("input_metrics").count("text_tokens")
    if error is not None:
        return Sample(start_s=start, prompt_tokens=prompt, error=error)
    output = fields.within("output_metrics").count("text_tokens")
    # Differences of today's stamps are right to a quarter of a microsecond: the figures beside them are better.
    ttft_s, tpot_s = fields.seconds("time_to_first_token_ms", 1e-3), fields.seconds("inter_token_latency_ms", 1e-3)
    waited_s, streamed_s = (
        times.since("first_token_iteration", start, first),
        times.since("last_token_iteration", first, last),
    )
    ttft_s = waited_s if ttft_s is None else ttft_s
    if tpot_s is None and streamed_s and output and output > 1:
        tpot_s = streamed_s / (output - 1)
    e2e_s = times.since("last_token_iteration", start, last)
    if ttft_s is not None and tpot_s is not None and output and output > 1:
        e2e_s = fields.since("output_metrics.text_tokens", 0.0, ttft_s + tpot_s * (output - 1))
    return Sample(start, ttft_s, tpot_s, e2e_s, prompt, output)


def written(runs: Sequence[Foreign]) -> str:
    """A report with a benchmark for each."""
    report = {
        "metadata": {
            "version": VERSION,
            "guidellm_version": "0.8.1",
            "python_version": "",
            "platform": "written by llmtop",
        },
        "config": {},
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


def _metrics(run: Foreign) -> dict[str, Any]:
    """Summaries of what ended well; of the others nothing is known but their number."""
    ok = run.ok or 0
    flat = {
        "requests_per_second": run.requests_per_s,
        "request_concurrency": run.delivered,
        "prompt_token_count": run.prompt_tokens,
        "output_token_count": run.output_tokens,
        "output_tokens_per_second": run.output_tokens_per_s,
    }
    told = {name: _summary({"mean": value}, ok, 1.0) for name, value in flat.items() if value is not None}
    answers = {each.output_tokens for each in run.samples if each.error is None}
    told |= {
        name: _summary(figures, ok, 1 / scale)
        for metric, (name, scale) in _METRICS.items()
        if (figures := known({stat: run.figure(f"{metric}_{stat}") for stat in STATS}))
    }
    if "output_token_count" in told and (not run.samples or len(answers) == 1) and "inter_token_latency_ms" in told:
        # One length: the percentiles over tokens are those over requests.
        mean = run.output_tokens
        told["output_token_count"]["successful"] |= {"min": mean, "max": mean, "std_dev": 0.0}
    elif run.samples:
        told.pop("inter_token_latency_ms", None)
    return told


def _summary(figures: Mapping[str, float], n: int, scale: float) -> dict[str, Any]:
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
