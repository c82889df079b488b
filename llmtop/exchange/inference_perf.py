"""inference-perf: `summary_lifecycle_metrics.json` of a whole run, `stage_N_lifecycle_metrics.json` of one load.

Seconds; the 50th percentile is called `median`. TPOT is (last - first token) / (tokens - 1), as ours; throughput is of
what ended well, over first start to last end. A summary does not say its load. Source: inference_perf/reportgen, 0.7.
"""

from __future__ import annotations

from typing import Any

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency
from llmtop.exchange.fields import Fields, known
from llmtop.exchange.foreign import STATS, Foreign

TOOL = "inference-perf"
_METRICS: dict[Latency, str] = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "e2e": "request_latency",
}


def is_one(values: dict[str, Any]) -> bool:
    return {"load_summary", "successes", "failures"} <= values.keys()


def read(fields: Fields) -> Foreign:
    """A summary or a stage. Raises FileError."""
    summary, well, failures = (fields.within(name) for name in ("load_summary", "successes", "failures"))
    latency, throughput = well.within("latency"), well.within("throughput")
    ok = well.count("count")
    rate = throughput.number("requests_per_sec")
    axis: Axis = "concurrency"
    load = summary.number("concurrency") or None
    if load is None and (requested := summary.number("requested_rate")):
        axis, load = "rate", requested
    stated: dict[str, float | None] = {}
    for metric, name in _METRICS.items():
        told = latency.within(name)
        stated |= {f"{metric}_{stat}": told.seconds("median" if stat == "p50" else stat) for stat in STATS}
    return Foreign(
        tool=TOOL,
        axis=axis,
        load=load,
        prompt_tokens=_mean(well, "prompt_len", "prompt_tokens"),
        output_tokens=_mean(well, "output_len", "output_tokens"),
        ok=ok,
        failed=failures.count("count"),
        duration_s=ok / rate if ok and rate else None,
        output_tokens_per_s=throughput.number("output_tokens_per_sec"),
        requests_per_s=rate,
        stated=known(stated),
    )


def _mean(well: Fields, *names: str) -> float | None:
    """The mean length, by the name that this version has for it."""
    return next((well.within(name).number("mean") for name in names if isinstance(well.values.get(name), dict)), None)
