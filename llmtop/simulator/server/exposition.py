"""The /metrics page: vLLM's names, labels, help texts and buckets, from the engine's own counts.

Source: a page of vLLM 0.32 (`vllm/v1/metrics/loggers.py`, rendered by prometheus-client). Counters have a `_created`
gauge beside them as prometheus-client writes it. With several replicas every `vllm:` family has a series for each,
told apart by the label `engine`, as with vLLM's data parallelism. Series that begin with `llmtop_` are ours.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from llmtop.simulator.engine import EngineConfig, EngineStatistics, Histogram
from llmtop.simulator.server.deployment import Deployment
from llmtop.simulator.server.pods import Pod
from llmtop.simulator.server.replica import Replica

CONTENT_TYPE = b"text/plain; version=1.0.0; charset=utf-8"

T = TypeVar("T")
Labelled = Callable[[T], list[tuple[str, float]]]
"""Values of one family of one replica: (further labels, sorted and written out, value)."""


class Family(NamedTuple, Generic[T]):
    name: str
    help: str
    values: Labelled[T]


def _one(value: Callable[[T], float]) -> Labelled[T]:
    return lambda replica: [("", value(replica))]


_GAUGES: tuple[Family[Replica], ...] = (
    Family("num_requests_running", "Number of requests in model execution batches.", _one(lambda r: r.engine.running)),
    Family("num_requests_waiting", "Number of requests waiting to be processed.", _one(lambda r: r.engine.waiting)),
    Family(
        "num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred' "
        "= deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals "
        "vllm:num_requests_waiting.",
        lambda r: [('reason="capacity"', r.engine.waiting), ('reason="deferred"', 0)],
    ),
    Family(
        "engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; weights_offloaded = "
        "1 means sleep level 1; discard_all = 1 means sleep level 2.",
        lambda _: [
            ('sleep_state="awake"', 1),
            ('sleep_state="weights_offloaded"', 0),
            ('sleep_state="discard_all"', 0),
        ],
    ),
    Family("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", _one(lambda r: r.engine.kv_usage)),
)


def _finished(statistics: EngineStatistics) -> list[tuple[str, float]]:
    finished = statistics.finished
    reasons = ("stop", "length", "abort", "error", "repetition")
    return [(f'finished_reason="{reason}"', finished.get(reason, 0)) for reason in reasons]


def _by_source(statistics: EngineStatistics) -> list[tuple[str, float]]:
    cached = statistics.prompt_tokens_cached
    return [
        ('source="local_compute"', statistics.prompt_tokens - cached),
        ('source="local_cache_hit"', cached),
        ('source="external_kv_transfer"', 0),
    ]


def _cached_by_source(statistics: EngineStatistics) -> list[tuple[str, float]]:
    tiers = ("device", "host", "p2p", "disk", "external_unspecified")
    hits = statistics.prefix_hits
    return [(f'source="{tier}"', hits if tier == "device" else 0) for tier in tiers]


_FLOPS = "(for Model Flops Utilization calculations)."
_COUNTERS: tuple[Family[EngineStatistics], ...] = (
    Family(
        "estimated_flops_per_gpu",
        f"Estimated number of floating point operations per GPU {_FLOPS}",
        _one(lambda _: 0),
    ),
    Family(
        "estimated_read_bytes_per_gpu",
        f"Estimated number of bytes read from memory per GPU {_FLOPS}",
        _one(lambda _: 0),
    ),
    Family(
        "estimated_write_bytes_per_gpu",
        f"Estimated number of bytes written to memory per GPU {_FLOPS}",
        _one(lambda _: 0),
    ),
    Family(
        "prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens.",
        _one(lambda s: s.prefix_queries),
    ),
    Family(
        "prefix_cache_hits",
        "Prefix cache hits, in terms of number of cached tokens.",
        _one(lambda s: s.prefix_hits),
    ),
    Family(
        "external_prefix_cache_queries",
        "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of queried "
        "tokens.",
        _one(lambda _: 0),
    ),
    Family(
        "external_prefix_cache_hits",
        "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached "
        "tokens.",
        _one(lambda _: 0),
    ),
    Family("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.", _one(lambda _: 0)),
    Family("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.", _one(lambda _: 0)),
    Family(
        "num_preemptions",
        "Cumulative number of preemption from the engine.",
        _one(lambda s: s.preemptions),
    ),
    Family("prompt_tokens", "Number of prefill tokens processed.", _one(lambda s: s.prompt_tokens)),
    Family("prompt_tokens_by_source", "Number of prompt tokens by source.", _by_source),
    Family(
        "prompt_tokens_cached",
        "Number of cached prompt tokens (local + external).",
        _one(lambda s: s.prompt_tokens_cached),
    ),
    Family(
        "prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them.",
        _cached_by_source,
    ),
    Family(
        "generation_tokens",
        "Number of generation tokens processed.",
        _one(lambda s: s.generation_tokens),
    ),
    Family("request_success", "Count of successfully processed requests.", _finished),
)

_REJECTIONS = "Number of admission attempts rejected by a queue limit, by reason."
"""Counted in the front end, which knows no engines: no such label."""

_HISTOGRAMS = (
    ("request_prompt_tokens", "Number of prefill tokens processed."),
    ("request_generation_tokens", "Number of generation tokens processed."),
    ("iteration_tokens_total", "Histogram of number of tokens per engine_step."),
    ("request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens."),
    ("request_params_n", "Histogram of the n request parameter."),
    ("request_params_max_tokens", "Histogram of the max_tokens request parameter."),
    ("time_to_first_token_seconds", "Histogram of time to first token in seconds."),
    ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds."),
    ("request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request."),
    ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds."),
    ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request."),
    ("request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request."),
    ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request."),
    ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request."),
    ("request_num_preemptions", "Histogram of the number of times a request was preempted."),
    (
        "request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    ),
)


def page(deployment: Deployment, pod: Pod | None = None) -> bytes:
    """The whole page as it is now, or that of one replica alone, as of a process of its own.

    What replicas that are gone have counted stays on the whole page, as in any Prometheus client: no counter falls.
    """
    began, started_s = deployment.pods.began, deployment.started_s
    if pod is not None:
        began, started_s = [pod], pod.started_at
    own = pod is not None
    counted = [(_engine(each, own), each.statistics) for each in began if each.statistics is not None]
    lines = [*_process_lines(deployment, started_s)]
    shown = [(_engine(each, own), each.replica) for each in began if each.replica is not None]
    model_label = f'model_name="{_escaped(deployment.preset.model.name)}"'
    for gauge in _GAUGES:
        lines += _head(f"vllm:{gauge.name}", gauge.help, "gauge")
        lines += _series(f"vllm:{gauge.name}", gauge.values, shown, model_label)
    for counter in _COUNTERS:
        lines += _counter(counter, counted, model_label, started_s)
    rejected: list[tuple[str, float]] = [
        (f'{model_label},reason="{flag}"', count) for flag, count in deployment.turned_away.items()
    ]
    lines += _counter_lines("vllm:admission_rejections", _REJECTIONS, rejected, started_s)
    for name, help_text in _HISTOGRAMS:
        lines += _head(f"vllm:{name}", help_text, "histogram")
        for engine_label, statistics in counted:
            lines += _histogram(f"vllm:{name}", _histogram_of(statistics, name), engine_label, model_label)
        lines += _head(f"vllm:{name}_created", help_text, "gauge")
        lines += [f"vllm:{name}_created{{{engine_label},{model_label}}} {started_s!r}" for engine_label, _ in counted]
    lines += _head("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", "gauge")
    for engine_label, replica in shown:
        lines.append(f"vllm:cache_config_info{{{_cache_config(replica.engine.config, engine_label)}}} 1.0")
    lines += _head("llmtop_sim_late_ms", "How far from their deadlines tokens leave, p99 of the last second.", "gauge")
    lines.append(f"llmtop_sim_late_ms {deployment.late_ms()!r}")
    lines += _head("llmtop_sim_knob", "Flags of the simulated engine that can be changed while it runs.", "gauge")
    lines += [f'llmtop_sim_knob{{name="{name}"}} {float(value)!r}' for name, value in deployment.knobs().items()]
    lines.append("")
    return "\n".join(lines).encode()


def _engine(pod: Pod, alone: bool) -> str:
    return f'engine="{0 if alone else pod.number - 1}"'


def _counter(
    family: Family[EngineStatistics], counted: list[tuple[str, EngineStatistics]], model_label: str, started_s: float
) -> list[str]:
    samples = [
        (_joined(engine_label, labels, model_label), value)
        for engine_label, statistics in counted
        for labels, value in family.values(statistics)
    ]
    return _counter_lines(f"vllm:{family.name}", family.help, samples, started_s)


def _counter_lines(name: str, help_text: str, samples: list[tuple[str, float]], started_s: float) -> list[str]:
    lines = [*_head(f"{name}_total", help_text, "counter")]
    lines += [f"{name}_total{{{labels}}} {float(value)!r}" for labels, value in samples]
    lines += _head(f"{name}_created", help_text, "gauge")
    lines += [f"{name}_created{{{labels}}} {started_s!r}" for labels, _ in samples]
    return lines


def _series(name: str, values: Labelled[Replica], shown: list[tuple[str, Replica]], model_label: str) -> Iterator[str]:
    for engine_label, replica in shown:
        for labels, value in values(replica):
            yield f"{name}{{{_joined(engine_label, labels, model_label)}}} {float(value)!r}"


@lru_cache(maxsize=256)
def _joined(engine_label: str, labels: str, model_label: str) -> str:
    """Label pairs in alphabetical order, as prometheus-client writes them."""
    return ",".join(sorted(filter(None, (engine_label, labels, model_label))))


def _head(name: str, help_text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"


def _histogram_of(statistics: EngineStatistics, name: str) -> Histogram:
    histograms = statistics.histograms
    if name == "request_max_num_generation_tokens":  # The same as max_tokens while n is 1.
        return histograms["request_params_max_tokens"]
    if name == "request_params_n":
        asked = Histogram((1.0, 2.0, 5.0, 10.0, 20.0))
        asked.observe(1.0, histograms["request_params_max_tokens"].count)
        return asked
    return histograms[name]


def _histogram(name: str, histogram: Histogram, engine_label: str, model_label: str) -> list[str]:
    lines = [
        f'{name}_bucket{{{engine_label},le="{bound}",{model_label}}} {float(count)!r}'
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.cumulated(), strict=True)
    ]
    lines.append(f"{name}_count{{{engine_label},{model_label}}} {float(histogram.count)!r}")
    lines.append(f"{name}_sum{{{engine_label},{model_label}}} {float(histogram.sum)!r}")
    return lines


def _cache_config(config: EngineConfig, engine_label: str) -> str:
    tokens = config.capacity_tokens
    labels = {
        "block_size": config.block_size,
        "cache_dtype": "auto",
        "enable_prefix_caching": config.enable_prefix_caching,
        "gpu_memory_utilization": 0.92,
        "kv_cache_max_concurrency": tokens / config.max_model_len,
        "kv_cache_size_tokens": tokens,
        "num_cpu_blocks": None,
        "num_gpu_blocks": config.num_gpu_blocks,
        "num_gpu_blocks_override": None,
        "prefix_caching_hash_algo": "builtin",
        "sliding_window": None,
    }
    return ",".join(sorted([engine_label, *(f'{name}="{value}"' for name, value in labels.items())]))


def _process_lines(deployment: Deployment, started_s: float) -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    version = sys.version_info
    yield from _head("python_info", "Python platform information", "gauge")
    yield (
        f'python_info{{implementation="CPython",major="{version.major}",minor="{version.minor}",'
        f'patchlevel="{version.micro}",version="{version.major}.{version.minor}.{version.micro}"}} 1.0'
    )
    yield from _head("process_resident_memory_bytes", "Resident memory size in bytes.", "gauge")
    yield f"process_resident_memory_bytes {resident_bytes() + deployment.leaked_bytes!r}"
    yield from _head("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "gauge")
    yield f"process_start_time_seconds {started_s!r}"
    yield from _head("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "counter")
    yield f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime!r}"
    yield from _head("process_max_fds", "Maximum number of open file descriptors.", "gauge")
    yield f"process_max_fds {float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])!r}"


def resident_bytes() -> float:
    """Memory of this process: now (Linux), or the most it ever was (elsewhere; bytes on macOS)."""
    if sys.platform == "linux":
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - half the cost of Path.open, once a scrape
            return float(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
