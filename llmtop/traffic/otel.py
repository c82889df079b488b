"""Spans of requests to LLMs in OTLP/JSON: of vLLM's own tracing and of clients after the GenAI conventions.

vLLM (--otlp-traces-endpoint, vllm/tracing/utils.py) says gen_ai.usage.prompt_tokens and completion_tokens, the
conventions of OpenTelemetry gen_ai.usage.input_tokens and output_tokens. A collector's file exporter writes one
document of many spans a line; 64-bit integers are text in OTLP/JSON.
"""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from llmtop.domain.bounds import TOKENS
from llmtop.domain.plain import plain
from llmtop.errors import FileError
from llmtop.traffic.columns import UNTOLD, WITHOUT_TIME, WITHOUT_TOKENS, Columns, hashed, shown, took, whole
from llmtop.traffic.rows import Odd, why_odd
from llmtop.traffic.tables import FAILED
from llmtop.traffic.times import WALL_S, number_of

HINT = (
    'OTLP/JSON is {"resourceSpans": [{"scopeSpans": [{"spans": [...]}]}]}, each span with startTimeUnixNano and the '
    "attributes gen_ai.usage.input_tokens and gen_ai.usage.output_tokens"
)
ENABLE = "the spans need gen_ai.usage.output_tokens: vLLM writes them of each finished request (--otlp-traces-endpoint)"
TWICE = "of clients, whose requests the engine's own spans tell, too"
_NAMES = {
    "gen_ai.usage.input_tokens": "prompt",
    "gen_ai.usage.prompt_tokens": "prompt",
    "gen_ai.usage.output_tokens": "output",
    "gen_ai.usage.completion_tokens": "output",
    "gen_ai.usage.cache_read.input_tokens": "cached",
    "gen_ai.usage.cached_tokens": "cached",
    "gen_ai.latency.time_to_first_token": "ttft",
    "gen_ai.conversation.id": "session",
    "session.id": "session",
    "gen_ai.operation.name": "operation",
    "error.type": "error",
}
"""Of the attributes that are read, what they tell."""
_ERROR = 2
"""STATUS_CODE_ERROR of a span."""
_ASKING = ("chat", "text_completion", "generate_content", "completion")
"""Operations that ask a model; an agent's span has the tokens of all that it asked."""
_SAMPLED = "ot="
_WHOLE = 1 << 56
_RAW = msgspec.Raw(b"")


class Value(Struct, rename="camel", gc=False):
    string_value: Any = None
    int_value: Any = None
    double_value: Any = None


class Attribute(Struct, rename="camel", gc=False):
    key: str = ""
    value: Value | None = None


class _Told(Struct, gc=False):
    """What the attributes of one span tell."""

    prompt: Value | None = None
    output: Value | None = None
    cached: Value | None = None
    ttft: Value | None = None
    session: Value | None = None
    operation: Value | None = None
    error: Value | None = None


class Status(Struct, rename="camel", gc=False):
    code: int | str | None = None


class Span(Struct, rename="camel", gc=False):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    name: str | None = None
    start_time_unix_nano: str | int | None = None
    end_time_unix_nano: str | int | None = None
    attributes: list[Attribute] | None = None
    status: Status | None = None


class Scope(Struct, rename="camel", gc=False):
    spans: list[msgspec.Raw] | None = None


class Resource(Struct, rename="camel", gc=False):
    scope_spans: list[Scope] | None = None
    instrumentation_library_spans: list[Scope] | None = None


class Document(Struct, rename="camel", gc=False):
    resource_spans: list[Resource] | None = None
    batches: list[Resource] | None = None
    """As Tempo answers."""
    scope_spans: list[Scope] | None = None
    start_time_unix_nano: msgspec.Raw = _RAW
    """Of a span that stands alone."""


class OTel:
    """Takes documents of such spans, or a span a line."""

    kind = msgspec.Raw
    hint = HINT

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._documents = msgspec.json.Decoder(Document)
        self._spans = msgspec.json.Decoder(Span)
        self._traces = array("q")
        self._engine = array("b")
        self._share = 1.0
        self._sampled = 0

    def take(self, raw: msgspec.Raw) -> None:
        """Raises Odd, and what msgspec raises of a document that is none."""
        document = self._documents.decode(raw)
        if bytes(document.start_time_unix_nano):
            self._take_span(raw)
            return
        resources = document.resource_spans or document.batches or ()
        scopes = [scope for of in resources for scope in of.scope_spans or of.instrumentation_library_spans or ()]
        scopes.extend(document.scope_spans or ())
        if not scopes:
            self._columns.passed["documents without spans"] += 1
        for scope in scopes:
            for span in scope.spans or ():
                try:
                    self._take_span(span)
                except Odd as odd:
                    self._columns.sieve.leave_out(odd)
                except (msgspec.DecodeError, UnicodeError) as error:
                    said = FileError(self._columns.path, f"{plain(str(error)).rstrip('.')}; {HINT}", self._where)
                    self._columns.sieve.leave_out(Odd(why_odd(error), said))

    def done(self) -> None:
        """Spans of clients are left out where spans of the engine tell of the same requests."""
        columns = self._columns
        engine = np.frombuffer(self._engine, dtype=np.int8) == 1
        if engine.any() and not engine.all():
            traces = np.frombuffer(self._traces, dtype=np.int64)
            columns.leave_out(~engine & np.isin(traces, traces[engine]) & (traces != 0), TWICE)
        if self._sampled:
            one_in = f"1 of {1 / self._share:.3g}: the true rate is that much higher"
            columns.sieve.notes.append(f"{self._sampled:,} spans say that they are a sample, {one_in}")

    @property
    def _where(self) -> str:
        return f"{self._columns.unit} {self._columns.number}"

    def _take_span(self, raw: msgspec.Raw) -> None:
        columns = self._columns
        span = self._spans.decode(raw)
        told = _Told()
        for attribute in span.attributes or ():
            if (name := _NAMES.get(attribute.key)) is not None and (value := attribute.value) is not None:
                setattr(told, name, value)
        prompt, output, operation = _count(told.prompt), _count(told.output), _text(told.operation)
        asks = operation in _ASKING or (not operation and (prompt >= 0 or span.name == "llm_request"))
        if not asks:
            columns.passed["other spans" if operation != "embeddings" else "embeddings"] += 1
            return
        start_s, end_s = _unix_s(span.start_time_unix_nano), _unix_s(span.end_time_unix_nano)
        if start_s is None:
            raise columns.odd(WITHOUT_TIME, f"{shown(span.start_time_unix_nano)} must be ns since 1970; {HINT}", _START)
        if told.error is not None or (span.status is not None and span.status.code in (_ERROR, "STATUS_CODE_ERROR")):
            raise columns.odd(FAILED, "a request that failed says nothing of the load that a server carries")
        if prompt < 1:
            raise columns.odd(WITHOUT_TOKENS, f"gen_ai.usage.input_tokens must be {TOKENS.allowed}; {HINT}")
        columns.add(start_s, prompt, max(0, output))
        columns.e2e.append(UNTOLD if end_s is None else took(end_s - start_s))
        columns.ttft.append(_seconds(told.ttft))
        columns.cached.append(_count(told.cached))
        columns.sessions.append(hashed(_text(told.session)))
        columns.ids.append(hashed(f"{span.trace_id} {span.span_id}") if span.span_id and span.trace_id else 0)
        self._traces.append(hashed(span.trace_id or ""))
        self._engine.append(span.name == "llm_request" or told.ttft is not None)
        if span.trace_state and (share := sampled_share(span.trace_state)) < 1.0:
            self._sampled += 1
            self._share = share


_START = ", startTimeUnixNano"


def sampled_share(state: str) -> float:
    """Of the traces that a sampler kept, by the tracestate of a span; 1: nothing is said of it.

    Source: OpenTelemetry, "TraceState: Probability Sampling" (th: rejection threshold of 56 bits; p before it).
    """
    for entry in state.split(","):
        if not entry.strip().startswith(_SAMPLED):
            continue
        for part in entry.strip()[len(_SAMPLED) :].split(";"):
            name, _, value = part.partition(":")
            if name == "th" and 0 < len(value) <= 14 and all(digit in "0123456789abcdef" for digit in value):
                return 1 - int(value.ljust(14, "0"), 16) / _WHOLE
            if name == "p" and value.isascii() and value.isdigit() and int(value[:3]) < 63:
                return float(0.5 ** int(value))
    return 1.0


def _count(value: Value | None) -> int:
    """-1: not told."""
    if value is None:
        return -1
    return whole(value.int_value if value.int_value is not None else value.double_value or value.string_value)


def _seconds(value: Value | None) -> float:
    """nan: not told."""
    if value is None:
        return UNTOLD
    return took(number_of(value.double_value if value.double_value is not None else value.int_value))


def _text(value: Value | None) -> str:
    return value.string_value if value is not None and isinstance(value.string_value, str) else ""


def _unix_s(nanos: str | int | None) -> float | None:
    """None: there is none, or a clock that was never set."""
    try:
        seconds = int(nanos or 0) * 1e-9 if not isinstance(nanos, str) or len(nanos) <= 20 else 0.0
    except ValueError:
        return None
    return seconds if WALL_S.holds(seconds) else None
