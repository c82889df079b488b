"""The metrics that flow out: their names and meanings, once for all sinks and for the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from llmtop.sinks.figures import Figures, Histogram

Kind = Literal["gauge", "counter", "histogram"]
LABELS = ("run", "endpoint", "model")
"""Of every metric."""


class Metric(NamedTuple):
    """One metric. As Prometheus has it, it is `llmtop_NAME`, and with `_total` where it counts."""

    name: str
    kind: Kind
    unit: str
    """By UCUM, as OpenTelemetry writes units."""
    help: str
    field: str
    """Of `Figures`."""
    label: str = ""
    """Beside `LABELS`."""

    @property
    def prometheus(self) -> str:
        return f"llmtop_{self.name}_total" if self.kind == "counter" else f"llmtop_{self.name}"

    def values(self, figures: Figures) -> Iterator[tuple[str, float | None]]:
        """(value of `label`, figure) of a counter or a gauge; None: not known."""
        value = getattr(figures, self.field)
        if isinstance(value, dict):
            yield from value.items()
        elif self.label == "cause":
            yield figures.cliff_cause, value
        else:
            yield "", value

    def histogram(self, figures: Figures) -> Histogram:
        found: Histogram = getattr(figures, self.field)
        return found


METRICS = (
    Metric("in_flight_requests", "gauge", "{request}", "Requests in flight.", "in_flight"),
    Metric(
        "target_concurrency",
        "gauge",
        "{request}",
        "Requests in flight that are commanded; NaN in open loop.",
        "target_concurrency",
    ),
    Metric(
        "target_requests_per_second",
        "gauge",
        "{request}/s",
        "Requests per second that are commanded; NaN in closed loop.",
        "target_rps",
    ),
    Metric("requests", "counter", "{request}", "Requests that ended.", "requests", "outcome"),
    Metric(
        "client_bound_requests",
        "counter",
        "{request}",
        "Requests that ended while this client was the bottleneck; in no histogram.",
        "void_requests",
    ),
    Metric("output_tokens", "counter", "{token}", "Output tokens received.", "output_tokens"),
    Metric("prompt_tokens", "counter", "{token}", "Prompt tokens of requests whose first token came.", "prompt_tokens"),
    Metric(
        "time_to_first_token_seconds",
        "histogram",
        "s",
        "From the write of the request to the first token.",
        "ttft_s",
    ),
    Metric(
        "time_per_output_token_seconds",
        "histogram",
        "s",
        "Between tokens after the first, mean of a request.",
        "tpot_s",
    ),
    Metric(
        "e2e_request_latency_seconds",
        "histogram",
        "s",
        "From the write of the request to the last token.",
        "e2e_s",
    ),
    Metric("slo_ok", "gauge", "1", "1 while the SLO holds, 0 while it does not; NaN without a verdict.", "slo_ok"),
    Metric(
        "cliff_concurrency",
        "gauge",
        "{request}",
        "Load at which latency goes non-linear; NaN while none is known.",
        "cliff_concurrency",
        "cause",
    ),
    Metric(
        "cliff_requests_per_second",
        "gauge",
        "{request}/s",
        "The same in open loop; NaN while none is known.",
        "cliff_rps",
        "cause",
    ),
    Metric(
        "users_at_slo",
        "gauge",
        "{user}",
        "Concurrent users up to which the SLO held; NaN while none are known.",
        "users_at_slo",
    ),
    Metric(
        "requests_per_second_at_slo",
        "gauge",
        "{request}/s",
        "Requests per second up to which the SLO held, in open loop; NaN while none are known.",
        "rps_at_slo",
    ),
    Metric(
        "client_bound",
        "gauge",
        "1",
        "1 while this client is the bottleneck and its figures are void.",
        "client_bound",
    ),
    Metric(
        "server_running_requests",
        "gauge",
        "{request}",
        "Requests in the server's batch, by its own metrics; NaN where not known.",
        "server_running",
    ),
    Metric(
        "server_waiting_requests",
        "gauge",
        "{request}",
        "Requests in the server's queue, by its own metrics; NaN where not known.",
        "server_waiting",
    ),
    Metric(
        "server_kv_cache_usage_ratio",
        "gauge",
        "1",
        "Share of the server's KV cache in use, by its own metrics; NaN where not known.",
        "server_kv_usage",
    ),
)
