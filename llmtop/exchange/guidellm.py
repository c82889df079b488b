"""`guidellm benchmark --output-path x.json`, report version 2: one benchmark a load.

Its `time_per_output_token_ms` holds TTFT; ours is its `inter_token_latency_ms`, whose percentiles are over tokens, not
over requests: they are taken over where all answers have one length, or else reckoned from the requests. Of these a
report may keep a part only; then they are not looked at. Its request latency goes to the end of the stream, ours to the
last token. Source: guidellm/benchmark/schemas/metrics.py, schemas/base/request_stats.py, 0.8.1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency
from llmtop.exchange.fields import MOST_CLOCK, Fields, known
from llmtop.exchange.foreign import STATS, Foreign, Sample

TOOL = "GuideLLM"
VERSION = 2
_RATED = ("constant", "poisson", "async")
METRICS: dict[Latency, tuple[str, float]] = {
    "ttft": ("time_to_first_token_ms", 1e-3),
    "tpot": ("inter_token_latency_ms", 1e-3),
    "e2e": ("request_latency", 1.0),
}


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
    for metric, (name, scale) in METRICS.items():
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
