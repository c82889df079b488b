"""AIPerf: the summary (`profile_export_aiperf.json`) and one record a request (`profile_export.jsonl`); and genai-perf,
whose summary AIPerf's was made after.

A metric is an object with its unit; none of them is called TPOT: that is their `inter_token_latency`, (latency -
TTFT) / (tokens - 1). Files before schema 1.0, and some of genai-perf, say `mean` for `avg`. Failed requests have
records with an `error` and no latency; those of the phase `warmup` are not of the benchmark. Source: aiperf/common/
models/export_models.py, record_models.py, metrics/types, 0.13; genai_perf/export_data/json_exporter.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency
from llmtop.errors import FileError, UsageError
from llmtop.exchange.fields import Fields, known
from llmtop.exchange.foreign import STATS, Foreign, Sample

TOOL, OLDER = "AIPerf", "genai-perf"
SCHEMA, VERSION = "1.4", "0.13.0"
"""Of what is written."""
SCHEMAS = ("1.0", "1.1", "1.2", "1.3", "1.4")
_METRICS: dict[Latency, str] = {
    "ttft": "time_to_first_token",
    "tpot": "inter_token_latency",
    "e2e": "request_latency",
}
_TIMES = {"ns": 1e-9, "nanoseconds": 1e-9, "us": 1e-6, "ms": 1e-3, "milliseconds": 1e-3, "s": 1.0, "sec": 1.0}
_TIMES |= {"seconds": 1.0}
_NS_MOST = 1e19
UNKNOWN = "unknown"
"""A name that must be written and is not known."""


def is_one(values: dict[str, Any]) -> bool:
    metric = values.get("request_latency")
    return "aiperf_version" in values or (isinstance(metric, dict) and "unit" in metric)


def is_record(values: dict[str, Any]) -> bool:
    metadata = values.get("metadata")
    return isinstance(metadata, dict) and "request_start_ns" in metadata and "metrics" in values


def read(fields: Fields) -> Foreign:
    """A summary. Raises FileError: of another schema, too."""
    schema = fields.values.get("schema_version")
    if schema is not None and schema not in SCHEMAS:
        raise fields.wrong("schema_version", f"is {str(schema)[:20]}; {', '.join(SCHEMAS)} are read")
    config = fields.within("input_config")
    axis, load = _load(config)
    failed = _flat(fields, "error_request_count")
    ok = _flat(fields, "request_count")
    return Foreign(
        tool=TOOL if "aiperf_version" in fields or "loadgen" in config or "phases" in config else OLDER,
        version=fields.text("aiperf_version"),
        when=fields.text("start_time"),
        model=_model(config),
        axis=axis,
        load=load,
        prompt_tokens=_flat(fields, "input_sequence_length"),
        output_tokens=_flat(fields, "output_sequence_length"),
        ok=None if ok is None else round(ok),
        failed=round(failed) if failed is not None else _failures(fields),
        duration_s=_flat(fields, "benchmark_duration", time=True),
        output_tokens_per_s=_flat(fields, "output_token_throughput"),
        requests_per_s=_flat(fields, "request_throughput"),
        stated=known(_stated(fields)),
    )


def _scale(metric: Fields) -> float:
    unit = metric.text("unit")
    if unit not in _TIMES:
        raise metric.wrong("unit", f"is {unit!r}: a time is in one of {', '.join(_TIMES)}")
    return _TIMES[unit]


def _flat(fields: Fields, name: str, *, time: bool = False) -> float | None:
    if name not in fields:
        return None
    metric = fields.within(name)
    name = "avg" if "avg" in metric else "mean"
    return metric.seconds(name, _scale(metric)) if time else metric.number(name)


def _failures(fields: Fields) -> int | None:
    """By the kinds of errors, where they are told: AIPerf leaves out a count that is 0."""
    if "error_summary" not in fields:
        return None
    return sum(each.count("count") or 0 for each in fields.objects("error_summary"))


def _stated(fields: Fields) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for metric, name in _METRICS.items():
        if name in fields:
            told = fields.within(name)
            scale = _scale(told)
            found |= {f"{metric}_{stat}": told.seconds(stat, scale) for stat in STATS}
            found[f"{metric}_mean"] = told.seconds("avg" if "avg" in told else "mean", scale)
    return found


def _load(config: Fields) -> tuple[Axis, float | None]:
    """Of the phase `profiling`; older files and genai-perf have it elsewhere."""
    phases = list(config.objects("phases")) if isinstance(config.values.get("phases"), list) else []
    measured = [each for each in phases if (each.text("kind") or each.text("name")) == "profiling"]
    phase = measured[0] if len(measured) == 1 else None
    older = config.values.get("perf_analyzer")
    stimulus = config.within("perf_analyzer", "stimulus") if isinstance(older, dict) else None
    for place in (phase, config.within("loadgen"), stimulus, config):
        if place is None:
            continue
        if (rate := _positive(place, "request_rate") or _positive(place, "rate")) is not None:
            return "rate", rate
        if (users := _positive(place, "concurrency")) is not None:
            return "concurrency", users
    return "concurrency", None


def _positive(fields: Fields, name: str) -> float | None:
    value = fields.values.get(name)
    plain_number = isinstance(value, int | float) and not isinstance(value, bool)
    return fields.number(name) or None if plain_number else None


def _model(config: Fields) -> str:
    endpoint = config.values.get("endpoint")
    for place in (endpoint, config.values):
        names = (
            place.get("model_names") or place.get("models") or place.get("model") if isinstance(place, dict) else None
        )
        names = names.get("items") if isinstance(names, dict) else names
        first = names[0] if isinstance(names, list) and names else names
        if isinstance(first, dict):
            first = first.get("name")
        if isinstance(first, str):
            return "" if first == UNKNOWN else Fields({"model": first}, config.path).text("model")
    return ""


# -- records -----------------------------------------------------------------------------------------------------------


def read_records(lines: Iterable[Fields]) -> Foreign:
    """All records of one run. Raises FileError: none of them is of the benchmark itself."""
    found, path = [], None
    for fields in lines:
        path = fields.path
        if fields.within("metadata").text("benchmark_phase") in ("", "profiling"):
            sample = _sample(fields)
            if sample is not None:
                found.append(sample)
    if not found:
        raise FileError(path, "has no record of the phase profiling", "metadata.benchmark_phase")
    found.sort(key=lambda each: each[1])
    first = found[0][1]
    every = [replace(sample, start_s=(start - first) / 1e9) for sample, start, _ in found]
    well = [sample for sample in every if sample.error is None]
    last = max((end for sample, _, end in found if sample.error is None), default=first)
    duration = (last - first) / 1e9 if last > first else None
    answers = [sample.output_tokens for sample in well if sample.output_tokens is not None]
    prompts = [sample.prompt_tokens for sample in well if sample.prompt_tokens is not None]
    whole = len(answers) == len(well) and well
    return Foreign(
        tool=TOOL,
        prompt_tokens=sum(prompts) / len(prompts) if prompts else None,
        output_tokens=sum(answers) / len(answers) if answers else None,
        ok=len(well),
        failed=len(every) - len(well),
        duration_s=duration,
        output_tokens_per_s=sum(answers) / duration if duration and whole else None,
        requests_per_s=len(well) / duration if duration else None,
        samples=tuple(every),
    )


def _sample(fields: Fields) -> tuple[Sample, int, int] | None:
    """A request and its first and last nanosecond; None: it was cancelled by the tool."""
    metadata, metrics = fields.within("metadata"), fields.within("metrics")
    start, end = (_stamp(metadata, name) for name in ("request_start_ns", "request_end_ns"))
    if "error" in fields:
        error = fields.within("error")
        prompt = _value(metrics, "error_isl")
        text = error.text("message") or error.text("type") or "failed"
        tokens = None if prompt is None else round(prompt)
        return Sample(prompt_tokens=tokens, error=text, status=error.count("code")), start, end
    if metadata.values.get("was_cancelled") is True:
        return None
    prompt, output = (_value(metrics, f"{side}_sequence_length") for side in ("input", "output"))
    ttft_s, tpot_s, e2e_s = (_value(metrics, name, time=True) for name in _METRICS.values())
    asked, given = (None if value is None else round(value) for value in (prompt, output))
    return Sample(None, ttft_s, tpot_s, e2e_s, asked, given), start, end


def _stamp(metadata: Fields, name: str) -> int:
    """Nanoseconds, in full: as a float, those of today are right to a quarter of a microsecond only."""
    metadata.number(name, _NS_MOST)
    value = metadata.values.get(name)
    if not isinstance(value, int):
        raise metadata.wrong(name, "must be a whole number of nanoseconds")
    return value


def _value(metrics: Fields, name: str, *, time: bool = False) -> float | None:
    if name not in metrics:
        return None
    metric = metrics.within(name)
    return metric.seconds("value", _scale(metric)) if time else metric.number("value")


# -- writing -----------------------------------------------------------------------------------------------------------


def written(runs: Sequence[Foreign]) -> str:
    """The summary of one load."""
    (run,) = runs
    told: dict[str, Any] = {
        "schema_version": SCHEMA,
        "aiperf_version": VERSION,
        "benchmark_id": "llmtop",
    }
    for name, unit, value in (
        ("request_throughput", "requests/sec", run.requests_per_s),
        ("request_count", "requests", run.ok),
        ("error_request_count", "requests", run.failed),
        ("output_token_throughput", "tokens/sec", run.output_tokens_per_s),
        ("output_sequence_length", "tokens", run.output_tokens),
        ("input_sequence_length", "tokens", run.prompt_tokens),
        ("benchmark_duration", "sec", run.duration_s),
    ):
        if value is not None:
            told[name] = {"unit": unit, "avg": value}
    for metric, name in _METRICS.items():
        figures = known({stat: run.figure(f"{metric}_{stat}") for stat in STATS})
        if figures:
            told[name] = {"unit": "ms"} | {("avg" if k == "mean" else k): v * 1e3 for k, v in figures.items()}
    told |= {"was_cancelled": False, "is_complete": True, "error_summary": _error_summary(run.samples)}
    if run.when:
        told["start_time"] = run.when
    told["input_config"] = _config(run)
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _config(run: Foreign) -> dict[str, Any]:
    """As little as AIPerf's own reader takes: it wants all that was asked for."""
    phase: dict[str, Any] = {"name": "profiling", "requests": max(1, (run.ok or 0) + (run.failed or 0))}
    if run.axis == "rate":
        phase |= {"type": "poisson", "rate": run.load}
    else:
        whole = run.load is None or run.load == int(run.load)
        phase |= {"type": "concurrency", "concurrency": int(run.load) if whole and run.load is not None else run.load}
    return {
        "models": {"items": [{"name": run.model or UNKNOWN}]},
        "endpoint": {"urls": ["http://unknown"]},
        "datasets": [{"name": "llmtop", "type": "synthetic"}],
        "phases": [phase],
    }


def _error_summary(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    kinds = Counter((each.error, each.status) for each in samples if each.error is not None)
    return [
        {"error_details": {"code": status, "type": None, "message": error}, "count": n}
        for (error, status), n in kinds.items()
    ]


def written_records(runs: Sequence[Foreign]) -> str:
    """Records of one load.

    Raises UsageError: it has no requests, or the end of some is not known, so that the records would tell a throughput
    that was not.
    """
    (run,) = runs
    well = [each for each in run.samples if each.error is None]
    untold = sum(each.e2e_s is None for each in well)
    if not well or untold:
        raise UsageError(f"records need the end of every request, which {untold} of {len(well)} lack: take the summary")
    return "".join(json.dumps(_record(each, at), allow_nan=False) + "\n" for at, each in enumerate(run.samples))


def _record(each: Sample, at: int) -> dict[str, Any]:
    start = each.start_s or 0.0
    end = start + (each.e2e_s or 0.0)
    metadata = {
        "session_num": at,
        "conversation_id": f"session_{at:06d}",
        "turn_index": 0,
        "credit_issued_ns": round(start * 1e9),
        "request_start_ns": round(start * 1e9),
        "request_end_ns": round(end * 1e9),
        "worker_id": "llmtop",
        "record_processor_id": "llmtop",
        "benchmark_phase": "profiling",
        "was_cancelled": False,
    }
    metrics: dict[str, Any] = {}
    for metric, name in _METRICS.items():
        if (value := getattr(each, f"{metric}_s")) is not None:
            metrics[name] = {"value": value * 1e3, "unit": "ms"}
    tokens = {"output_sequence_length": each.output_tokens}
    tokens["input_sequence_length" if each.error is None else "error_isl"] = each.prompt_tokens
    metrics |= {name: {"value": n, "unit": "tokens"} for name, n in tokens.items() if n is not None}
    error = None if each.error is None else {"code": each.status, "type": None, "message": each.error}
    return {"metadata": metadata, "metrics": metrics, "trace_data": None, "error": error}
