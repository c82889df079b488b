"""A dashboard for Grafana of what the Prometheus page holds: classic JSON, which Grafana 10 and later import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtop.domain.request import Outcome
from llmtop.domain.slo import Metric as Limited
from llmtop.domain.slo import Slo
from llmtop.sinks.metrics import METRICS

SCHEMA = 39
"""Of the last classic form that needs no migration in Grafana 10 and 11; later ones migrate it when they load it."""
WIDE = 24
"""Columns of Grafana's grid."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUANTILES = (0.50, 0.95, 0.99)
UNKNOWN = "not known yet"
_GREEN, _YELLOW, _RED = "green", "yellow", "red"
_RUN = 'run="$run"'
_SPAN = "[$__rate_interval]"

Query = tuple[str, str]
"""(PromQL, legend)."""


def dashboard(slo: Slo) -> dict[str, Any]:
    """The dashboard, with the limits of `slo` as thresholds. Data source and run are variables; nothing has a fixed
    uid, so that it can be imported anywhere and twice."""
    panels = [*_answers(slo), *_charts(slo)]
    return {
        "id": None,
        "uid": None,
        "title": "llmtop",
        "description": "Load against a live LLM endpoint, and where it breaks. Seconds in which the client was the "
        "bottleneck are marked, and are in no latency.",
        "tags": ["llmtop", "llm"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "templating": {"list": [_source_variable(), _run_variable()]},
        "annotations": {"list": [_void_seconds()]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, start=1)],
    }


def queries(board: dict[str, Any]) -> list[str]:
    """Every query in a dashboard, its variable's and its annotations', too."""
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    marks = [mark["expr"] for mark in board["annotations"]["list"]]
    variables = [each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    return [*panels, *marks, *variables]


def _named(field: str) -> str:
    """The metric of a field of `Figures`, as Prometheus has it."""
    return next(metric.prometheus for metric in METRICS if metric.field == field)


def _of_run(field: str) -> str:
    return f"{_named(field)}{{{_RUN}}}"


def _known(field: str) -> str:
    """Its values but for NaN."""
    return f"{_of_run(field)} >= 0"


def _rate(field: str) -> str:
    return f"sum(rate({_of_run(field)}{_SPAN}))"


def _quantiles(field: str) -> list[Query]:
    buckets = f"sum by (le) (rate({_named(field)}_bucket{{{_RUN}}}{_SPAN}))"
    return [(f"histogram_quantile({q:g}, {buckets})", f"p{q * 100:g}") for q in QUANTILES]


def _error_ratio() -> str:
    failed = "|".join(outcome for outcome in Outcome if outcome.is_error)
    counted = f'{{{_RUN},outcome!="{Outcome.CANCELLED}"}}{_SPAN}'
    name = _named("requests")
    return f'sum(rate({name}{{{_RUN},outcome=~"{failed}"}}{_SPAN})) / sum(rate({name}{counted}))'


# ── Panels ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _answers(slo: Slo) -> list[dict[str, Any]]:
    """The row of figures at the top."""
    kept = {"1": {"text": "kept", "color": _GREEN}, "0": {"text": "BROKEN", "color": _RED}}
    bound = {"0": {"text": "fine", "color": _GREEN}, "1": {"text": "CLIENT-BOUND", "color": _RED}}
    users = [(_known("users_at_slo"), "users"), (_known("rps_at_slo"), "requests/s")]
    cliff = [(_known("cliff_concurrency"), "{{cause}}"), (_known("cliff_rps"), "{{cause}}, requests/s")]
    stats = [
        _stat("SLO", [(_known("slo_ok"), "")], mapped=kept),
        _stat("Users at SLO", users),
        _stat("Cliff", cliff, text="value_and_name"),
        _stat("In flight", [(_of_run("in_flight"), "")]),
        _stat("Error ratio", [(_error_ratio(), "")], unit="percentunit", steps=_steps(slo, "error_ratio")),
        _stat("Client", [(_known("client_bound"), "")], mapped=bound),
    ]
    return _laid(stats, y=0, height=4)


def _charts(slo: Slo) -> list[dict[str, Any]]:
    load = [
        (_known("target_concurrency"), "target"),
        (_known("target_rps"), "target, requests/s"),
        (_of_run("in_flight"), "in flight"),
    ]
    tokens = [(_rate("output_tokens"), "output"), (_rate("prompt_tokens"), "prompt")]
    ended = [(f"sum by (outcome) (rate({_of_run('requests')}{_SPAN})) > 0", "{{outcome}}")]
    queue = [(_known("server_waiting"), "waiting"), (_known("server_running"), "running")]
    rows = [
        [_series("Load", load), _series("Tokens/s", tokens)],
        [
            _series("TTFT", _quantiles("ttft_s"), unit="s", steps=_steps(slo, "ttft")),
            _series("TPOT", _quantiles("tpot_s"), unit="s", steps=_steps(slo, "tpot")),
        ],
        [
            _series("E2E latency", _quantiles("e2e_s"), unit="s", steps=_steps(slo, "e2e")),
            _series("Requests/s by outcome", ended, unit="reqps"),
        ],
        [
            _series("Error ratio", [(_error_ratio(), "errors")], unit="percentunit", steps=_steps(slo, "error_ratio")),
            _series("Server: queue and batch", queue, steps=_steps(slo, "queue")),
            _series(
                "Server: KV cache", [(_known("server_kv_usage"), "in use")], unit="percentunit", steps=_steps(slo, "kv")
            ),
        ],
    ]
    height, panels = 8, []
    for number, row in enumerate(rows):
        panels += _laid(row, y=4 + number * height, height=height)
    return [*panels, *_laid([_client_states()], y=4 + len(rows) * height, height=4)]


def _laid(panels: Sequence[dict[str, Any]], y: int, height: int) -> list[dict[str, Any]]:
    """Panels of one row, side by side over the whole width."""
    wide = WIDE // len(panels)
    return [{**panel, "gridPos": {"x": at * wide, "y": y, "w": wide, "h": height}} for at, panel in enumerate(panels)]


def _panel(kind: str, title: str, asked: Sequence[Query], defaults: dict[str, Any], options: Any) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        for at, (expr, legend) in enumerate(asked)
    ]
    return {
        "type": kind,
        "title": title,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def _steps(slo: Slo, metric: Limited) -> list[dict[str, Any]]:
    """Thresholds of a limit: from where it is near, and the limit; without one, none."""
    steps: list[dict[str, Any]] = [{"color": _GREEN, "value": None}]
    target = slo.target(metric)
    if target is not None:
        steps += [{"color": _YELLOW, "value": target.warn_at}, {"color": _RED, "value": target.limit}]
    return steps


def _stat(
    title: str,
    asked: Sequence[Query],
    *,
    unit: str = "short",
    steps: Sequence[dict[str, Any]] = (),
    mapped: dict[str, Any] | None = None,
    text: str = "auto",
) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": unit,
        "noValue": UNKNOWN,
        "thresholds": {"mode": "absolute", "steps": list(steps) or [{"color": "blue", "value": None}]},
        "mappings": [] if mapped is None else [{"type": "value", "options": mapped}],
    }
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if mapped is not None else "value",
        "graphMode": "none",
        "textMode": text,
    }
    return _panel("stat", title, asked, defaults, options)


def _series(
    title: str, asked: Sequence[Query], *, unit: str = "short", steps: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    limited = len(steps) > 1
    defaults = {
        "unit": unit,
        "min": 0,
        "custom": {"showPoints": "never", "thresholdsStyle": {"mode": "line" if limited else "off"}},
        "thresholds": {"mode": "absolute", "steps": list(steps) or [{"color": _GREEN, "value": None}]},
    }
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return _panel("timeseries", title, asked, defaults, options)


def _client_states() -> dict[str, Any]:
    states = {"0": {"text": "fine", "color": _GREEN}, "1": {"text": "client-bound: figures are void", "color": _RED}}
    defaults = {"mappings": [{"type": "value", "options": states}], "custom": {"fillOpacity": 70}}
    asked = [(_known("client_bound"), "client")]
    return _panel("state-timeline", "Client", asked, defaults, {"showValue": "auto", "mergeValues": True})


# ── Variables and marks ───────────────────────────────────────────────────────────────────────────────────────────────


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _run_variable() -> dict[str, Any]:
    newest_first, when_time_moves = 2, 2
    query = f"label_values({_named('in_flight')}, run)"
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "run"},
        "definition": query,
        "sort": newest_first,
        "refresh": when_time_moves,
    }


def _void_seconds() -> dict[str, Any]:
    return {
        "name": "Client-bound",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": _RED,
        "expr": f"{_of_run('client_bound')} == 1",
        "titleFormat": "the client was the bottleneck: figures are void",
        "step": "5s",
    }
