"""Figures pushed by OTLP/HTTP in JSON, under the names of the conventions for generative AI where they have one.

Temporality is cumulative: a push that does not arrive loses nothing, as the next one holds it.
"""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from llmtop import __version__
from llmtop.domain.endpoint import Endpoint, ascii_name, safe_url
from llmtop.endpoint.secret import HEADER_NAME, Secrets, of_header, of_url
from llmtop.endpoint.tls import context_for
from llmtop.errors import UsageError
from llmtop.sinks.figures import Figures, Histogram, address_of
from llmtop.sinks.metrics import METRICS, Metric
from llmtop.sinks.pump import Undelivered

VARIABLES = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS")
"""Hold headers, the second over the first."""
PATH = "/v1/metrics"
"""Where a collector takes metrics; of a URL without a path."""
EVERY_S = 10.0
_AGAIN = f"tried again every {EVERY_S:g} s"
PATIENCE_S = 5.0
"""For one push, from the connection to the end of the answer."""
MOST_ANSWER = 1 << 16
CUMULATIVE = 2
OPERATIONS = {"chat": "chat", "completions": "text_completion", "responses": "chat", "embeddings": "embeddings"}
CLIENT = "gen_ai.client.operation"
LATENCIES = {
    "ttft_s": (f"{CLIENT}.time_to_first_chunk", "Time to receive the first chunk."),
    "tpot_s": (f"{CLIENT}.time_per_output_chunk", "Time per output chunk, after the first."),
}
"""Histograms of `Figures` that the conventions have a name for."""
_CHECK = f"check the URL: a collector takes metrics at {PATH}, usually on port 4318"

Attributes = Mapping[str, str | int | None]


# ── What is pushed ────────────────────────────────────────────────────────────────────────────────────────────────────


def payload(figures: Figures, started_at: float, api: str = "chat", provider: str = "") -> dict[str, Any]:
    """An ExportMetricsServiceRequest as JSON has it: integers of 64 bits are texts. What is not known is left out.

    Args:
        started_at: Unix seconds since when counts are.
        api: what is asked, one of `APIS`.
        provider: who generates: the server's dialect; empty: not known.
    """
    host, port = address_of(figures.endpoint)
    points = _Points(_nanoseconds(started_at), _nanoseconds(figures.time))
    resource = {"service.name": "llmtop", "service.instance.id": figures.run, "service.version": __version__}
    asked: Attributes = {
        "gen_ai.operation.name": OPERATIONS[api],
        "gen_ai.provider.name": provider or None,
        "gen_ai.request.model": figures.model,
        "server.address": host or None,
        "server.port": port if host else None,
    }
    about = {"llmtop.run": figures.run, "llmtop.endpoint": figures.endpoint, "llmtop.model": figures.model}
    scope = {"name": "llmtop", "version": __version__}
    metrics = [*_conventional(figures, points, asked), *_own(figures, points, about)]
    told = {"resource": {"attributes": _attributes(resource)}, "scopeMetrics": [{"scope": scope, "metrics": metrics}]}
    return {"resourceMetrics": [told]}


def _conventional(figures: Figures, points: _Points, asked: Attributes) -> Iterator[dict[str, Any]]:
    for field, (name, meaning) in LATENCIES.items():
        yield _histogram(name, "s", meaning, [points.histogram(getattr(figures, field), asked)])
    failed = (points.histogram(found, {**asked, "error.type": kind}) for kind, found in figures.failed_s.items())
    yield _histogram(
        f"{CLIENT}.duration", "s", "Duration of the operation.", [points.histogram(figures.e2e_s, asked), *failed]
    )
    lengths = {"input": figures.prompt_lengths, "output": figures.output_lengths}
    used = [points.histogram(found, {**asked, "gen_ai.token.type": kind}) for kind, found in lengths.items()]
    yield _histogram("gen_ai.client.token.usage", "{token}", "Tokens used.", used)


def _own(figures: Figures, points: _Points, about: Attributes) -> Iterator[dict[str, Any]]:
    for metric in METRICS:
        if metric.kind == "histogram":
            continue
        own = [
            points.number(value, {**about, f"llmtop.{metric.label}": label} if metric.label else about, metric)
            for label, value in metric.values(figures)
            if value is not None
        ]
        if own and metric.kind == "counter":
            summed = {"aggregationTemporality": CUMULATIVE, "isMonotonic": True, "dataPoints": own}
            yield {**_head(f"llmtop.{metric.name}", metric.unit, metric.help), "sum": summed}
        elif own:
            yield {**_head(f"llmtop.{metric.name}", metric.unit, metric.help), "gauge": {"dataPoints": own}}


def _head(name: str, unit: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "unit": unit, "description": meaning}


def _histogram(name: str, unit: str, meaning: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_head(name, unit, meaning),
        "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": points},
    }


class _Points(msgspec.Struct, frozen=True):
    """Data points from the start of the run to now."""

    start_ns: str
    now_ns: str

    def histogram(self, found: Histogram, attributes: Attributes) -> dict[str, Any]:
        up_to = [0, *(count for _, count in found.buckets), found.count]
        return {
            "startTimeUnixNano": self.start_ns,
            "timeUnixNano": self.now_ns,
            "count": str(found.count),
            "sum": found.sum,
            "bucketCounts": [str(above - below) for below, above in itertools.pairwise(up_to)],
            "explicitBounds": [bound for bound, _ in found.buckets],
            "attributes": _attributes(attributes),
        }

    def number(self, value: float, attributes: Attributes, metric: Metric) -> dict[str, Any]:
        start = {"startTimeUnixNano": self.start_ns} if metric.kind == "counter" else {}
        whole = isinstance(value, int)
        told = {"asInt": str(int(value))} if whole else {"asDouble": value}
        return {**start, "timeUnixNano": self.now_ns, **told, "attributes": _attributes(attributes)}


def _attributes(pairs: Attributes) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in pairs.items()
        if value is not None
    ]


def _nanoseconds(unix_s: float) -> str:
    return str(round(unix_s * 1e9))


# ── How it is pushed ──────────────────────────────────────────────────────────────────────────────────────────────────


def read_url(url: str) -> str:
    """Where to push to, with the usual path where a URL has none. Raises UsageError, which shows no secret."""
    shown = f"--out otlp={safe_url(url)}"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable()
        fine = fine and " " not in url and "…" not in safe_url(url)
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(f"{shown}: no URL that can be pushed to; write it like http://127.0.0.1:4318")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{shown}: what lets in there does not go into the URL: put it into {VARIABLES[0]}, "
            "as Authorization=Basic%20..."
        )
    return parts._replace(path=PATH if parts.path in ("", "/") else parts.path, fragment="").geturl()


def read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Headers as the specification writes them: `key=value,key=value`, values percent-encoded.

    Raises UsageError, which shows no value.
    """
    headers: dict[str, str] = {}
    for variable in VARIABLES:
        for pair in filter(str.strip, environment.get(variable, "").split(",")):
            name, equals, value = pair.partition("=")
            name, value = name.strip(), unquote(value.strip())
            if not equals or not HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise UsageError(f"{variable}: write it as NAME=VALUE,NAME=VALUE, values percent-encoded")
            headers[name] = value
    return headers


class Push:
    """Pushes to a collector. One that is down, slow or something else is tried again at the next push.

    Args:
        url: from `read_url`.
        headers: from `read_headers`.
    """

    every_s = EVERY_S

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.name = f"otlp {safe_url(url)}"
        self.started_at, self.api, self.provider = 0.0, "chat", ""
        """Of the run: known once it has begun."""
        self._headers = {"Content-Type": "application/json", "User-Agent": f"llmtop/{__version__}", **headers}
        self._parts = urlsplit(url)
        self._secrets = Secrets(_secrets(url, headers))
        secure = self._parts.scheme == "https"
        self._tls = context_for(Endpoint(base_url=url)) if secure else None

    def deliver(self, figures: Figures) -> None:
        if figures.is_known:
            told = payload(figures, self.started_at, self.api, self.provider)
            self._post(msgspec.json.encode(told))

    def missing(self) -> str:
        """Counts are since the start of the run: whatever arrived last holds all."""
        return ""

    def end(self) -> None:
        """A connection is closed after each push."""

    def _post(self, body: bytes) -> None:
        connection = self._connection()
        late = threading.Event()
        watch = threading.Timer(PATIENCE_S, _cut, (connection, late))
        watch.daemon = True
        watch.start()
        query = f"?{self._parts.query}" if self._parts.query else ""
        try:
            connection.request("POST", self._parts.path + query, body, self._headers)
            answer = connection.getresponse()
            body = answer.read(MOST_ANSWER)
            if late.is_set():  # the end of a connection ends headers, too
                raise TimeoutError
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                why = f"no answer within {PATIENCE_S:g} s"
            elif isinstance(error, http.client.HTTPException):
                why = f"what answers there is no HTTP server; {_CHECK}"
            else:
                why = self._secrets.heard(getattr(error, "strerror", None) or str(error)).lower()
            raise Undelivered(why, _AGAIN) from None
        finally:
            watch.cancel()
            connection.close()
        self._judge(answer.status, answer.reason, body)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = ascii_name(self._parts.hostname or ""), self._parts.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        return http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=self._tls)

    def _judge(self, status: int, reason: str, body: bytes) -> None:
        """Raises Undelivered for an answer that is not a collector's yes."""
        said = f"HTTP {status} {self._secrets.heard(reason, 60)}".rstrip()
        if status in (429, 502, 503, 504) or status >= 500:
            raise Undelivered(said, _AGAIN)
        if status in (401, 403):
            raise Undelivered(f"{said}: it lets nobody in without the right headers; put them into {VARIABLES[0]}")
        if 300 <= status < 400:
            raise Undelivered(f"{said}: no redirection is followed; give the URL that it leads to")
        if not 200 <= status < 300:
            raise Undelivered(f"{said}: it takes no OTLP metrics there; {_CHECK}")
        if body.strip()[:1] == b"<":
            raise Undelivered(f"{said}, but it answers with a web page; {_CHECK}")
        if rejected := _rejected(body):
            raise Undelivered(f"it does not take all: {self._secrets.heard(rejected)}")


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    if connection.sock is not None:
        try:
            connection.sock.shutdown(2)
        except OSError:
            connection.sock.close()


def _secrets(url: str, headers: Mapping[str, str]) -> Iterable[str]:
    for name, value in headers.items():
        yield from of_header(name, value)
    yield from of_url(url)


class _Partial(msgspec.Struct, rename="camel"):
    rejected_data_points: str | int = 0
    error_message: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


def _rejected(body: bytes) -> str:
    """What a collector says that it did not take; empty: it took all, or says nothing that could be read."""
    try:
        partial = msgspec.json.decode(body, type=_Answer).partial_success
    except msgspec.MsgspecError:
        return ""
    if partial is None or (str(partial.rejected_data_points) == "0" and not partial.error_message):
        return ""
    return f"{partial.rejected_data_points} figures rejected: {partial.error_message or 'it does not say why'}"
