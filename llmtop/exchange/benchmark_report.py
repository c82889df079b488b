"""llm-d Benchmark Report 0.2 and 0.2.1, as JSON or YAML: one load, with what the server showed.

Units are words of a list and belong to the figure; percentages are from 0 to 100; a key that the schema does not know
is an error of its readers, so nothing of ours is added. Source: llmdbenchmark/analysis/benchmark_report/
schema_v0_2_1.py and br_v0_2_1_json_schema.json, 8bc9f1dd.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency
from llmtop.exchange.fields import Fields, known
from llmtop.exchange.foreign import STATS, Foreign

TOOL = "llm-d Benchmark Report"
VERSION = "0.2.1"
VERSIONS = ("0.2", "0.2.1")
_METRICS: dict[Latency, str] = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "e2e": "request_latency",
}
_TIMES = {"s": 1.0, "ms": 1e-3, "s/token": 1.0, "ms/token": 1e-3}
_SHARES = {"percent": 0.01, "fraction": 1.0, "ratio": 1.0}


def is_one(values: dict[str, Any]) -> bool:
    return isinstance(values.get("results"), dict) and "run" in values


def read(fields: Fields) -> Foreign:
    """A report. Raises FileError: of another version, too."""
    if (version := fields.values.get("version")) not in VERSIONS:
        raise fields.wrong("version", f"is {str(version)[:20]}; {' and '.join(VERSIONS)} are read")
    results = fields.within("results")
    told = results.within("request_performance", "aggregate")
    requests, latency, throughput = (told.within(name) for name in ("requests", "latency", "throughput"))
    load = fields.within("scenario", "load", "standardized")
    total, failed = requests.count("total"), requests.count("failures")
    left = requests.count("incomplete") or 0
    axis, value = _load(load)
    run = Foreign(
        tool=load.text("tool") or TOOL,
        version=load.text("tool_version"),
        when=fields.within("run", "time").text("start"),
        model=_model(fields),
        axis=axis,
        load=value,
        prompt_tokens=_mean(requests, "input_length"),
        output_tokens=_mean(requests, "output_length"),
        ok=None if total is None or failed is None else max(0, total - failed - left),
        failed=failed,
        duration_s=_duration(fields),
        output_tokens_per_s=_mean(throughput, "output_token_rate"),
        requests_per_s=_mean(throughput, "request_rate"),
        stated=known(_stated(latency)),
    )
    return replace(run, **_server(results))


def _load(load: Fields) -> tuple[Axis, float | None]:
    if (rate := load.number("rate_qps")) and "concurrency" not in load:
        return "rate", rate
    return "concurrency", load.number("concurrency") or None


def _mean(fields: Fields, name: str) -> float | None:
    return fields.within(name).number("mean") if name in fields else None


def _in_units(figure: Fields, units: dict[str, float]) -> float:
    unit = figure.text("units")
    if unit not in units:
        raise figure.wrong("units", f"is {unit!r}; {', '.join(units)} are read")
    return units[unit]


def _stated(latency: Fields) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for metric, name in _METRICS.items():
        if name in latency:
            figure = latency.within(name)
            scale = _in_units(figure, _TIMES)
            found |= {f"{metric}_{stat}": figure.seconds("stddev" if stat == "std" else stat, scale) for stat in STATS}
    return found


def _model(fields: Fields) -> str:
    """Of the first component of the stack that serves one."""
    for component in fields.within("scenario").objects("stack"):
        model = component.within("standardized").values.get("model")
        if isinstance(model, dict) and (name := Fields(model, fields.path).text("name")):
            return name
    return ""


def _duration(fields: Fields) -> float | None:
    """ISO 8601, of which seconds alone are written here and by llm-d's own converters: `PT12.5S`."""
    text = fields.within("run", "time").text("duration")
    if not (text.startswith("PT") and text.endswith("S")):
        return None
    try:
        value = float(text[2:-1])
    except ValueError:
        return None
    return Fields({"duration": value}, fields.path, "run.time").seconds("duration")


def _server(results: Fields) -> dict[str, Any]:
    """What the only engine showed; of several nothing is taken, for sums and means of them are no figure of one."""
    components = [
        each.within("aggregate")
        for each in results.within("observability").objects("components")
        if "kv_cache_usage" in each.within("aggregate")
    ]
    if len(components) != 1:
        return {}
    (aggregate,) = components
    usage = aggregate.within("kv_cache_usage")
    share = usage.number("mean")
    return {
        "running": _mean(aggregate, "running_requests"),
        "waiting": _mean(aggregate, "waiting_requests"),
        "kv_usage": None if share is None else share * _in_units(usage, _SHARES),
    }


def written(runs: Sequence[Foreign]) -> str:
    """The report of one load, as JSON, which is YAML too."""
    (run,) = runs
    report: dict[str, Any] = {
        "version": VERSION,
        "run": {"uid": "llmtop", "time": _time(run)},
        "scenario": {"load": _scenario(run), **_stack(run)},
        "results": {"request_performance": {"aggregate": _aggregate(run)}, **_observability(run)},
    }
    return json.dumps(_without_nothing(report), indent=1, allow_nan=False) + "\n"


def _time(run: Foreign) -> dict[str, Any]:
    return {"start": run.when or None, "duration": None if run.duration_s is None else f"PT{run.duration_s!r}S"}


def _scenario(run: Foreign) -> dict[str, Any]:
    lengths = {"input_seq_len": run.prompt_tokens, "output_seq_len": run.output_tokens}
    return {
        "metadata": {"schema_version": "0.0.1"},
        "standardized": {
            "tool": run.tool,
            "tool_version": run.version or "unknown",
            "source": "unknown",
            **{name: {"distribution": "other", "value": value} for name, value in lengths.items() if value is not None},
            **({} if run.prompt_tokens is not None else {"input_seq_len": {"distribution": "other", "value": 0}}),
            "rate_qps": run.load if run.axis == "rate" else None,
            "concurrency": None if run.axis == "rate" or run.load is None else _number(run.load),
        },
        "native": {"args": {}},
    }


def _stack(run: Foreign) -> dict[str, Any]:
    if not run.model:
        return {}
    component = {
        "metadata": {"label": "engine", "cfg_id": "unknown"},
        "standardized": {
            "kind": "inference_engine",
            "tool": run.server or "unknown",
            "tool_version": "unknown",
            "role": "replica",
            "replicas": 1,
            "model": {"name": run.model},
            "accelerator": {"model": "unknown", "count": 0, "parallelism": {}},
        },
        "native": {"args": {}},
    }
    return {"stack": [component]}


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _aggregate(run: Foreign) -> dict[str, Any]:
    total = None if run.ok is None and run.failed is None else (run.ok or 0) + (run.failed or 0)
    latency = {}
    for metric, name in _METRICS.items():
        figures = known({stat: run.figure(f"{metric}_{stat}") for stat in STATS})
        if "mean" in figures:
            units = "s/token" if metric == "tpot" else "s"
            latency[name] = {"units": units} | {("stddev" if k == "std" else k): v for k, v in figures.items()}
    return {
        "requests": {
            "total": total or 0,
            "failures": run.failed,
            "input_length": _figure("count", run.prompt_tokens),
            "output_length": _figure("count", run.output_tokens),
        },
        "latency": latency,
        "throughput": {
            "output_token_rate": _figure("tokens/s", run.output_tokens_per_s),
            "request_rate": _figure("queries/s", run.requests_per_s),
        },
    }


def _observability(run: Foreign) -> dict[str, Any]:
    if run.kv_usage is None:
        return {}
    aggregate = {
        "kv_cache_usage": _figure("percent", 100 * run.kv_usage),
        "running_requests": _figure("count", run.running),
        "waiting_requests": _figure("count", run.waiting),
    }
    return {"observability": {"components": [{"component_label": "engine", "aggregate": aggregate}]}}


def _figure(units: str, mean: float | None) -> dict[str, Any] | None:
    return None if mean is None else {"units": units, "mean": mean}


def _without_nothing(value: Any) -> Any:
    """Without keys that would say null."""
    if isinstance(value, dict):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value
