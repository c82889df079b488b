"""Logs of requests with OpenAI's usage: answers as they came, batch outputs, or flat lines under the usual names.

{"created": 1794000000, "usage": {"prompt_tokens": 128, "completion_tokens": 11}}        chat.completion objects
{"created_at": ..., "usage": {"input_tokens": ..., "output_tokens": ...}}                response objects
{"timestamp": "2026-11-26T12:00:00Z", "prompt_tokens": 128, "completion_tokens": 11}     logs of gateways, tables
{"timestamp": 0.5, "data": {"input_tokens": 128, "output_tokens": 11}}                   what ServeGen generates
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence
from operator import attrgetter

import msgspec
import numpy as np
from msgspec import Struct, field

from llmtop.domain.bounds import TOKENS
from llmtop.traffic.columns import ARRIVAL_S, UNTOLD, WITHOUT_TIME, WITHOUT_TOKENS, Columns, hashed, shown, took, whole
from llmtop.traffic.mooncake import unit_s
from llmtop.traffic.tables import FAILED, Header
from llmtop.traffic.times import WALL_S, Times, number_of

HINT = (
    'a line is {"created": 1794000000, "usage": {"prompt_tokens": 128, "completion_tokens": 11}}, or has timestamp, '
    "prompt_tokens and completion_tokens"
)
ENABLE = "completion_tokens are needed: streams tell them where stream_options.include_usage is on"
COARSE_SAID = "times are whole seconds: bursts within one are not told"
LEAST_COARSE = 20
"""Requests: fewer may lie on whole seconds by chance."""
_RAW = msgspec.Raw(b"")
_Time = str | float | None
_Count = int | float | str | None
_Text = str | int | None


class Details(Struct, gc=False):
    cached_tokens: _Count = None


class Usage(Struct, gc=False):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    input: _Count = None
    output: _Count = None
    prompt_tokens_details: Details | None = None
    input_tokens_details: Details | None = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None


class Flat(Struct, gc=False):
    """A row under all names that are known; those that hold more are read when they are needed."""

    arrival_s: _Time = None
    start_time: _Time = None
    start_camel: _Time = field(default=None, name="startTime")
    started_at: _Time = None
    request_timestamp: _Time = None
    requested_at: _Time = None
    created: _Time = None
    created_at: _Time = None
    created_camel: _Time = field(default=None, name="createdAt")
    timestamp: _Time = None
    at: _Time = field(default=None, name="@timestamp")
    time: _Time = None
    ts: _Time = None
    datetime: _Time = None
    date: _Time = None
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    prompt_camel: _Count = field(default=None, name="promptTokens")
    completion_camel: _Count = field(default=None, name="completionTokens")
    input_camel: _Count = field(default=None, name="inputTokens")
    output_camel: _Count = field(default=None, name="outputTokens")
    cached_tokens: _Count = None
    end_time: _Time = None
    end_camel: _Time = field(default=None, name="endTime")
    first_camel: _Time = field(default=None, name="completionStartTime")
    latency_s: _Count = None
    duration_s: _Count = None
    e2e_s: _Count = None
    latency_ms: _Count = None
    duration_ms: _Count = None
    ttft_s: _Count = None
    ttft_ms: _Count = None
    time_to_first_token_ms: _Count = None
    request_id: _Text = None
    id: _Text = None
    session_id: _Text = None
    conversation_id: _Text = None
    object: str | None = None
    status: msgspec.Raw = _RAW
    status_code: msgspec.Raw = _RAW
    error: msgspec.Raw = _RAW
    usage: msgspec.Raw = _RAW
    response: msgspec.Raw = _RAW
    body: msgspec.Raw = _RAW
    data: msgspec.Raw = _RAW


_TIMES = Flat.__struct_fields__[: Flat.__struct_fields__.index("prompt_tokens")]
_TIME_NAMES = Flat.__struct_encode_fields__[: len(_TIMES)]
_PROMPTS = ("prompt_tokens", "input_tokens", "prompt_camel", "input_camel")
_PROMPT_NAMES = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens")
_OUTPUTS = ("completion_tokens", "output_tokens", "completion_camel", "output_camel")
_IN_S, _IN_MS = ("latency_s", "duration_s", "e2e_s"), ("latency_ms", "duration_ms")
_FIRST_S, _FIRST_MS = ("ttft_s",), ("ttft_ms", "time_to_first_token_ms")
_SPANS = attrgetter(*_IN_S, *_IN_MS, *_FIRST_S, *_FIRST_MS)
_NO_SPANS = _SPANS(Flat())
_DEEPEST = 3
"""Objects in objects: a batch has response, then body, then usage."""
_STATUS = re.compile(rb'"?([0-9]{3})"?|"(?:fail|error|cancel|timeout)[a-z_]*"', re.IGNORECASE)


def is_usage(keys: Container[str]) -> bool:
    """Whether a row with such keys is one of such a log."""
    timed = any(name in keys for name in _TIME_NAMES)
    return (
        "usage" in keys
        or (timed and any(name in keys for name in (*_PROMPT_NAMES, "response", "data", "body")))
        or ("custom_id" in keys and "response" in keys)
    )


class UsageLog:
    """Takes the rows of such a log.

    Args:
        unit: of times that are plain numbers, `ms` or `s`; None: guessed.
    """

    kind = Flat
    hint = HINT

    def __init__(self, columns: Columns, unit: str | None = None) -> None:
        self.times = Times()
        self._columns = columns
        self._unit = unit
        self._usage = msgspec.json.Decoder(Usage)
        self._flat = msgspec.json.Decoder(Flat)
        self._name = _TIMES[0]
        self._relative: bool | None = None
        self._seconds = False

    def take(self, row: Flat) -> None:
        """Raises Odd, and what msgspec raises of what is in the row."""
        columns = self._columns
        layers = self._layers(row)
        if any(layer.object in ("list", "embedding", "embeddings") for layer in layers):
            columns.passed["embeddings"] += 1
            return
        if any(map(_failed, layers)):
            raise columns.odd(FAILED, "a request that failed says nothing of the load that a server carries")
        start = self._start(layers)
        prompt, output, cached = self._tokens(layers[-1])
        if prompt < 1:
            raise columns.odd(WITHOUT_TOKENS, f"prompt tokens must be {TOKENS.allowed}; {HINT}")
        columns.add(start, prompt, max(0, output))
        took_s = first_s = UNTOLD
        if any(_SPANS(layer) != _NO_SPANS for layer in layers):
            took_s, first_s = _span_s(layers, _IN_S, _IN_MS), _span_s(layers, _FIRST_S, _FIRST_MS)
        if row.end_time is not None or row.end_camel is not None:
            took_s = self._since_s(row.end_time if row.end_time is not None else row.end_camel, start)
        if row.first_camel is not None:
            first_s = self._since_s(row.first_camel, start)
        columns.e2e.append(took_s)
        columns.ttft.append(first_s)
        columns.cached.append(cached)
        inner = layers[-1]
        answer = inner.id if inner.object else None  # of a log's own rows nobody knows what it numbers
        columns.ids.append(hashed(str(row.request_id or answer or "")))
        columns.sessions.append(hashed(str(row.session_id or row.conversation_id or "")))

    def row_of(self, header: Header) -> Callable[[Sequence[str]], None]:
        """As `take`, of the cells of a table."""
        names = dict(zip(Flat.__struct_fields__, Flat.__struct_encode_fields__, strict=True))
        places = [(name, header.place(said)) for name, said in names.items() if header.place(said) >= 0]
        plain = [(name, place) for name, place in places if name not in _RAWS]
        marks = [(name, place) for name, place in places if name in ("status", "status_code", "error")]

        def take(cells: Sequence[str]) -> None:
            row = Flat(**{name: cells[place].strip() or None for name, place in plain})  # type: ignore[arg-type]
            for name, place in marks:
                setattr(row, name, msgspec.Raw(msgspec.json.encode(cells[place].strip())))
            self.take(row)

        return take

    def done(self) -> float:
        """Seconds of one unit of the times."""
        columns = self._columns
        start = np.frombuffer(columns.start)
        if self._relative:
            if self._unit is not None or self._seconds:
                return 1e-3 if self._unit == "ms" else 1.0
            return unit_s(start, columns.sieve)
        if len(start) >= LEAST_COARSE and not (start % 1).any():
            columns.sieve.notes.append(COARSE_SAID)
        return 1.0

    @property
    def wall(self) -> bool:
        """Whether the times count from 1970."""
        return not self._relative

    def _layers(self, row: Flat) -> list[Flat]:
        """The row, and what it has in it, down to where the tokens are."""
        layers = [row]
        while len(layers) <= _DEEPEST and not _is_object(layers[-1].usage):
            inner = layers[-1]
            nested = next((raw for raw in (inner.response, inner.body, inner.data) if _is_object(raw)), None)
            if nested is None:
                break
            self._seconds = self._seconds or nested is inner.data
            layers.append(self._flat.decode(nested))
        return layers

    def _start(self, layers: list[Flat]) -> float:
        """Under the same name as in the row before, where it is there."""
        value: _Time = getattr(layers[0], self._name)
        if value is not None:
            return self._moment(self._name, value)
        for layer in layers:
            for name in _TIMES:
                if (value := getattr(layer, name)) is not None:
                    self._name = name if layer is layers[0] else self._name
                    return self._moment(name, value)
        raise self._columns.odd(WITHOUT_TIME, f"a row needs one of {', '.join(_TIME_NAMES)}; {HINT}")

    def _moment(self, name: str, value: str | float) -> float:
        columns = self._columns
        number = number_of(value)
        relative = 0 <= number < WALL_S.least
        if self._relative is None:
            self._relative = relative
            self._seconds = self._seconds or name == "arrival_s"
        if relative is not self._relative:
            raise columns.odd("with a time of another kind than the first", f"{shown(value)}: since 1970, or not?")
        try:
            return ARRIVAL_S.check(number) if relative else self.times.any_s(value)
        except ValueError as error:
            raise columns.odd("with a time that is none", f"{shown(value)} {error}; {HINT}") from None

    def _since_s(self, value: _Time, start_s: float) -> float:
        """nan: not told, no time, or before the start."""
        return UNTOLD if self._relative else self.times.since_s(value, start_s)

    def _tokens(self, row: Flat) -> tuple[int, int, int]:
        """Of prompt, answer and prefix cache; -1: not told."""
        if not _is_object(row.usage):
            return _first(row, _PROMPTS), _first(row, _OUTPUTS), whole(row.cached_tokens)
        usage = self._usage.decode(row.usage)
        prompt, output = _first(usage, _USED), _first(usage, _GIVEN)
        details = usage.prompt_tokens_details or usage.input_tokens_details
        if details is not None:
            return prompt, output, whole(details.cached_tokens)
        cached, created = whole(usage.cache_read_input_tokens), whole(usage.cache_creation_input_tokens)
        if usage.prompt_tokens is None and cached + created >= 0:  # Anthropic counts them apart
            prompt += max(0, cached) + max(0, created)
        return prompt, output, cached


_USED, _GIVEN = ("prompt_tokens", "input_tokens", "input"), ("completion_tokens", "output_tokens", "output")
_RAWS = ("status", "status_code", "error", "usage", "response", "body", "data")
_NO_ERROR = (b"", b"null", b"false", b'""', b"{}", b"[]", b"0", b'"null"', b'"none"', b'"false"', b'"0"')


def _is_object(raw: msgspec.Raw) -> bool:
    return raw is not _RAW and bytes(memoryview(raw)[:1]) == b"{"


def _failed(row: Flat) -> bool:
    if row.error is not _RAW and bytes(row.error).lower() not in _NO_ERROR:
        return True
    for raw in (row.status, row.status_code):
        if raw is not _RAW and (match := _STATUS.fullmatch(bytes(raw))) and not (match[1] and match[1] < b"400"):
            return True
    return False


def _first(row: Flat | Usage, names: Sequence[str]) -> int:
    """-1: not told."""
    for name in names:
        if (value := getattr(row, name)) is not None:
            return whole(value)
    return -1


def _span_s(layers: list[Flat], in_s: Sequence[str], in_ms: Sequence[str]) -> float:
    """nan: not told."""
    for layer in layers:
        for name in (*in_s, *in_ms):
            if (value := getattr(layer, name)) is not None:
                span = number_of(value) * (1.0 if name in in_s else 1e-3)
                return took(span)
    return UNTOLD
