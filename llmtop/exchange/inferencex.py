"""Aggregate rows of InferenceX (utils/process_result.py, 843c625): one configuration at one concurrency.

They are results of `vllm bench serve` with seconds in place of milliseconds and without `_ms` in their names; `intvty`
is 1 / TPOT. Throughput is per GPU: prefill and decode GPUs are counted apart where these are different machines. How
many requests there were is not told, so that nothing can be proven by a row.
"""

from __future__ import annotations

from math import prod
from typing import Any

from llmtop.domain.bounds import TIME_S
from llmtop.domain.slo import Latency
from llmtop.exchange.fields import Fields, known
from llmtop.exchange.foreign import STATS, Foreign

TOOL = "InferenceX"
THEIRS: dict[Latency, str] = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}
TRAITS = ("hw", "framework", "precision", "spec_decoding", "image")
KEYS = {"mean": "mean_{}", "std": "std_{}", "p50": "median_{}", "p90": "p90_{}", "p95": "p95_{}", "p99": "p99_{}"}


def is_one(values: dict[str, Any]) -> bool:
    return {"hw", "framework", "conc", "isl", "osl"} <= values.keys()


def read(fields: Fields) -> Foreign:
    """One row. Raises FileError."""
    gpus = _gpus(fields)
    per_gpu = fields.number("output_tput_per_gpu")
    rate = None if gpus is None or per_gpu is None else per_gpu * gpus
    traits = {name: text for name in TRAITS if (text := fields.text(name))}
    sizes = ("tp", "pp", "ep", "isl", "osl", "num_prefill_gpu", "num_decode_gpu")
    traits |= {name: f"{value:g}" for name in sizes if (value := fields.number(name)) is not None}
    stated = {
        f"{metric}_{stat}": fields.seconds(KEYS[stat].format(name)) for metric, name in THEIRS.items() for stat in STATS
    }
    speed = fields.number("median_intvty")
    if stated["tpot_p50"] is None and speed and TIME_S.holds(1 / speed):
        stated["tpot_p50"] = 1 / speed
    return Foreign(
        tool=TOOL,
        model=fields.text("model"),
        server=fields.text("framework"),
        load=fields.number("conc") or None,
        prompt_tokens=fields.number("isl"),
        output_tokens=fields.number("osl"),
        output_tokens_per_s=rate,
        stated=known(stated),
        traits=traits,
    )


def _gpus(fields: Fields) -> float | None:
    """How many GPUs the output tokens are counted by."""
    if fields.values.get("is_multinode"):
        return fields.number("num_decode_gpu") or fields.number("num_prefill_gpu")
    sizes = [fields.number(name) for name in ("tp", "pp", "pcp_size")]
    return None if sizes[0] is None else prod(size for size in sizes if size)
