"""`python -m sglang.benchmark.serving --output-file`: one object a line and run, with `Infinity` for no rate.

It says nothing of requests that failed but for their texts in `errors`, where details were asked for. A request rate
that is finite is an open loop, perhaps capped by `max_concurrency`. Source: sglang/benchmark/serving.py, 0.5.23.
"""

from __future__ import annotations

from typing import Any

from llmtop.domain.slo import Latency
from llmtop.exchange.fields import Fields, known
from llmtop.exchange.foreign import Foreign
from llmtop.exchange.vllm import load_of, mean_of, stated

TOOL = "SGLang bench_serving"
THEIRS: dict[Latency, str] = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2e_latency"}


def is_one(values: dict[str, Any]) -> bool:
    return {"backend", "dataset_name", "duration", "completed", "median_e2e_latency_ms"} <= values.keys()


def read(fields: Fields) -> Foreign:
    """One line. Raises FileError."""
    axis, load = load_of(fields)
    ok = fields.count("completed")
    errors = fields.rows("errors")
    info = fields.values.get("server_info")
    server = Fields(info, fields.path, "server_info") if isinstance(info, dict) else Fields({}, fields.path)
    version = server.text("version")
    return Foreign(
        tool=TOOL,
        model=server.text("model_path") or server.text("served_model_name"),
        server=f"SGLang {version}" if version else "",
        axis=axis,
        load=load,
        prompt_tokens=mean_of(fields.number("total_input_tokens"), ok),
        output_tokens=mean_of(fields.number("total_output_tokens"), ok),
        ok=ok,
        failed=sum(bool(each) for each in errors) if errors else None,
        duration_s=fields.seconds("duration"),
        output_tokens_per_s=fields.number("output_throughput"),
        requests_per_s=fields.number("request_throughput"),
        stated=known(stated(fields, THEIRS) if ok else {}),
        traits={"dataset": fields.text("dataset_name"), **({"tag": tag} if (tag := fields.text("tag")) else {})},
    )
