"""`vllm bench serve --save-result [--save-detailed] [--append-result]`: one flat object a run.

Aggregates are in milliseconds, arrays in seconds; arrays have a place for every request, also for those that failed,
which have text in `errors`. `mean_itl_ms` and its kin are gaps between chunks of all requests, so that there is no
figure of ours for them. Source: vllm/benchmarks/serve.py, 0.32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency
from llmtop.exchange.fields import MOST_CLOCK, Fields, known
from llmtop.exchange.foreign import NAMES, STATS, Foreign, Sample, parted

TOOL = "vllm bench serve"
THEIRS: dict[Latency, str] = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}
KEYS = {
    "mean": "mean_{}_ms",
    "std": "std_{}_ms",
    "p50": "median_{}_ms",
    **{p: p + "_{}_ms" for p in ("p90", "p95", "p99")},
}


def is_one(values: dict[str, Any]) -> bool:
    return {"backend", "duration", "completed", "request_rate", "total_token_throughput"} <= values.keys()


def read(fields: Fields) -> Foreign:
    """One result. Raises FileError."""
    if "input_sequence_throughput" in fields:
        raise fields.wrong("input_sequence_throughput", "is of an embedding benchmark: it has no tokens to time")
    axis, load = load_of(fields)
    ok, failed = fields.count("completed"), fields.count("failed")
    if failed is None and ok is not None and (asked := fields.count("num_prompts")) is not None:
        failed = max(0, asked - ok)
    samples = _samples(fields, ok)
    return Foreign(
        tool=TOOL,
        when=fields.text("date"),
        model=fields.text("model_id"),
        axis=axis,
        load=load,
        prompt_tokens=mean_of(fields.number("total_input_tokens"), ok),
        output_tokens=mean_of(fields.number("total_output_tokens"), ok),
        ok=ok,
        failed=failed,
        duration_s=fields.seconds("duration"),
        output_tokens_per_s=fields.number("output_throughput"),
        requests_per_s=fields.number("request_throughput"),
        stated=known({} if not ok else stated(fields, THEIRS)),
        samples=samples,
        traits={name: text for name in ("label",) if (text := fields.text(name))},
    )


def load_of(fields: Fields) -> tuple[Axis, float | None]:
    """(axis, load): a rate where one was set, else the cap of requests in flight; without a cap it is not known."""
    rate = fields.values.get("request_rate")
    if rate == "inf":
        rate = None
    if rate is not None and (told := fields.number("request_rate")):
        return "rate", told
    return "concurrency", fields.number("max_concurrency") or None


def mean_of(total: float | None, n: int | None) -> float | None:
    return total / n if total is not None and n else None


def stated(fields: Fields, theirs: dict[Latency, str]) -> dict[str, float | None]:
    """Statistics in seconds by our names; a percentile of 50 that is not there is the median."""
    return {
        f"{metric}_{stat}": fields.seconds(KEYS[stat].format(name), 1e-3)
        for metric, name in theirs.items()
        for stat in STATS
    }


def _samples(fields: Fields, ok: int | None) -> tuple[Sample, ...]:
    """Every request; () where the file has no arrays, or not all of the same length, or other counts than it states."""
    errors, ttfts = fields.rows("errors"), fields.numbers("ttfts")
    if not errors or len(errors) != len(ttfts):
        return ()
    n = len(errors)
    starts, latencies = fields.numbers("start_times", MOST_CLOCK), fields.numbers("latencies")
    prompts, outputs, gaps = fields.numbers("input_lens"), fields.numbers("output_lens"), fields.rows("itls")
    if len(latencies) != n:
        latencies = (
            [_with_gaps(fields, ttfts[i], gap, i) for i, gap in enumerate(gaps)] if len(gaps) == n else [None] * n
        )
    columns = [column if len(column) == n else [None] * n for column in (starts, prompts, outputs)]
    found = tuple(
        _sample(fields, at, errors[at], ttfts[at], latencies[at], *(column[at] for column in columns))
        for at in range(n)
    )
    return found if ok is None or sum(each.error is None for each in found) == ok else ()


def _with_gaps(fields: Fields, ttft_s: float | None, gaps: Any, at: int) -> float | None:
    if ttft_s is None or gaps is None:
        return None
    told = Fields({"itls": gaps}, fields.path, fields.key(f"[{at}]")).numbers("itls")
    return fields.since(f"itls[{at}]", 0.0, ttft_s + sum(gap for gap in told if gap is not None))


def _sample(
    fields: Fields,
    at: int,
    error: Any,
    ttft_s: float | None,
    e2e_s: float | None,
    start_s: float | None,
    prompt: float | None,
    output: float | None,
) -> Sample:
    if not isinstance(error, str):
        raise fields.wrong(f"errors[{at}]", "must be text")
    prompt_tokens = None if prompt is None else round(prompt)
    if error:
        return Sample(start_s=start_s, prompt_tokens=prompt_tokens, error=error[:200])
    n = None if output is None else round(output)
    tpot_s = None
    if n is not None and n > 1 and e2e_s is not None and ttft_s is not None and e2e_s > ttft_s:
        tpot_s = (e2e_s - ttft_s) / (n - 1)
    return Sample(start_s, ttft_s, tpot_s, e2e_s, prompt_tokens, n)


def written(runs: Sequence[Foreign]) -> str:
    """Results, detailed where the requests are known; of several loads one a line, as `--append-result`."""
    if len(runs) == 1:
        return json.dumps(_object(runs[0]), indent=1, allow_nan=False) + "\n"
    return "\n".join(json.dumps(_object(run), allow_nan=False) for run in runs) + "\n"


def _object(run: Foreign) -> dict[str, Any]:
    """Gaps between tokens are not among it, for of a request only its first and last are kept; what is not known of a
    request is null.
    """
    whole = run.axis == "concurrency" and run.load is not None and run.load == int(run.load)
    ok, failed = run.ok or 0, run.failed or 0
    told: dict[str, Any] = {
        "date": run.when,
        "endpoint_type": "openai",
        "backend": "openai",
        "label": run.traits.get("label"),
        "model_id": run.model,
        "tokenizer_id": None,
        "num_prompts": ok + failed,
        "request_rate": run.load if run.axis == "rate" else "inf",
        "burstiness": 1.0,
        "max_concurrency": None if run.axis == "rate" or run.load is None else int(run.load) if whole else run.load,
        "duration": run.duration_s,
        "completed": run.ok,
        "failed": run.failed,
        "total_input_tokens": _total(run.prompt_tokens, run.ok),
        "total_output_tokens": _total(run.output_tokens, run.ok),
        "request_throughput": run.requests_per_s,
        "request_goodput": None,
        "output_throughput": run.output_tokens_per_s,
        "total_token_throughput": _all_tokens(run),
    }
    for name in NAMES:
        metric, stat = parted(name)
        if (value := run.figure(name)) is not None:
            told[KEYS[stat].format(THEIRS[metric])] = value * 1e3
    if run.samples:
        told |= _arrays(run.samples)
    return told


def _total(mean: float | None, n: int | None) -> float | None:
    total = None if mean is None or n is None else mean * n
    return total if total is None or abs(total - round(total)) > 1e-6 * max(1.0, total) else round(total)


def _all_tokens(run: Foreign) -> float | None:
    if run.output_tokens_per_s is None or run.prompt_tokens is None or run.requests_per_s is None:
        return None
    return run.output_tokens_per_s + run.prompt_tokens * run.requests_per_s


def _arrays(samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        "input_lens": [each.prompt_tokens for each in samples],
        "output_lens": [each.output_tokens or 0 if each.error is not None else each.output_tokens for each in samples],
        "ttfts": [0.0 if each.error is not None else each.ttft_s for each in samples],
        "latencies": [0.0 if each.error is not None else each.e2e_s for each in samples],
        "start_times": [each.start_s for each in samples],
        "generated_texts": ["" for _ in samples],
        "errors": [each.error or "" for each in samples],
    }
