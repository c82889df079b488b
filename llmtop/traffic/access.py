"""Access logs as JSON, of nginx and Envoy: when requests came and how long they took, and no tokens.

nginx   log_format escape=json with msec, request, status, request_time; `msec` is when a request ENDED
Envoy   start_time, method, path, response_code, duration in ms; `start_time` is when it began
"""

from __future__ import annotations

import re

from msgspec import Struct, field

from llmtop.traffic.columns import WITHOUT_TIME, Columns, hashed, shown, took
from llmtop.traffic.tables import FAILED
from llmtop.traffic.times import Times, number_of

NGINX_HINT = (
    'a line of nginx is {"msec": 1794000000.2, "request": "POST /v1/chat/completions HTTP/1.1", "status": 200, '
    '"request_time": 0.2}'
)
ENVOY_HINT = (
    'a line of Envoy is {"start_time": "2026-11-26T12:00:00.000Z", "method": "POST", "path": "/v1/chat/completions", '
    '"response_code": 200, "duration": 200}'
)
ENABLE = (
    "an access log tells when requests came and how long they took, never how long they were; for lengths take the "
    "spans of the engine (vLLM: --otlp-traces-endpoint) or the log of a gateway"
)
END_SAID = "nginx writes when a request ended: request_time is taken off"
COARSE_SAID = "without msec the end of a request is told by the second: bursts within one are not told"
NO_REQUEST_TIME = "without request_time, so that nobody knows when they began"
_LLM_PATH = re.compile(
    r".*/(?:completions|responses|messages|generate(?:_stream)?|api/chat|invocations|infer)/?"
    r"|.*:(?:streamG|g)enerateContent"
)
_MOST_PATHS = 1000
"""That are kept with what they are."""
_Text = str | float | None


class Nginx(Struct, gc=False):
    msec: _Text = None
    time_iso8601: _Text = None
    timestamp: _Text = None
    at: _Text = field(default=None, name="@timestamp")
    time: _Text = None
    time_local: _Text = None
    request: str | None = None
    request_method: str | None = None
    method: str | None = None
    request_uri: str | None = None
    uri: str | None = None
    path: str | None = None
    status: _Text = None
    request_time: _Text = None
    request_id: str | None = None


class Envoy(Struct, gc=False):
    start_time: _Text = None
    method: str | None = None
    path: str | None = None
    original: str | None = field(default=None, name="x-envoy-original-path")
    response_code: _Text = None
    duration: _Text = None
    request_id: str | None = None


class Access:
    """Takes the lines of one of the two.

    Args:
        kind: Nginx or Envoy.
    """

    def __init__(self, columns: Columns, kind: type[Nginx] | type[Envoy]) -> None:
        self.kind = kind
        self.hint = NGINX_HINT if kind is Nginx else ENVOY_HINT
        self.times = Times()
        self._coarse = False
        self._columns = columns
        self._paths: dict[str, bool] = {}

    def take(self, row: Nginx | Envoy) -> None:
        """Raises Odd."""
        columns = self._columns
        method, path = _asked(row)
        if method != "POST":
            columns.passed["no POST"] += 1
            return
        if not self._is_llm(path):
            columns.passed["of other paths"] += 1
            return
        start_s, took_s = self._nginx_s(row) if isinstance(row, Nginx) else self._envoy_s(row)
        status = number_of(row.status if isinstance(row, Nginx) else row.response_code)
        if not 100 <= status < 400:
            raise columns.odd(FAILED, f"status {shown(status)}: a request that failed says nothing of the load")
        columns.add(start_s, 0, 0)
        columns.e2e.append(took_s)
        columns.ids.append(hashed(row.request_id or ""))

    def said(self) -> list[str]:
        """Sentences on the times of the file."""
        coarse = [COARSE_SAID] if self._coarse else []
        return [*([END_SAID] if self.kind is Nginx else []), *coarse, *self.times.said()]

    def _is_llm(self, path: str) -> bool:
        """Whether an LLM answers there: /v1/chat/completions, whatever stands before and after."""
        found = self._paths.get(path)
        if found is None:
            found = _LLM_PATH.fullmatch(path.partition("?")[0]) is not None
            if len(self._paths) < _MOST_PATHS:
                self._paths[path] = found
        return found

    def _nginx_s(self, row: Nginx) -> tuple[float, float]:
        end = row.msec
        if end is None:
            end = row.time_iso8601 or row.timestamp or row.at or row.time or row.time_local
            self._coarse = True
        took_s = took(number_of(row.request_time))
        end_s = self._instant_s(end, "msec")
        if not took_s >= 0:
            raise self._columns.odd(NO_REQUEST_TIME, f"must be seconds; {NGINX_HINT}", ", request_time")
        return end_s - took_s, took_s

    def _envoy_s(self, row: Envoy) -> tuple[float, float]:
        return self._instant_s(row.start_time, "start_time"), took(number_of(row.duration) / 1e3)

    def _instant_s(self, value: _Text, name: str) -> float:
        if value is None or value == "" or value == "-":
            raise self._columns.odd(WITHOUT_TIME, f"must be a time; {self.hint}", f", {name}")
        try:
            return self.times.any_s(value)
        except ValueError as error:
            raise self._columns.odd(f"with {name} that is no time", f"{shown(value)} {error}", f", {name}") from None


def _asked(row: Nginx | Envoy) -> tuple[str, str]:
    """Method and path."""
    if isinstance(row, Envoy):
        return (row.method or "").upper(), row.original or row.path or ""
    if row.request:
        method, _, rest = row.request.partition(" ")
        return method.upper(), rest.partition(" ")[0]
    return (row.request_method or row.method or "").upper(), row.request_uri or row.uri or row.path or ""
