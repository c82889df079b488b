"""LiteLLM's spend logs: rows of its table LiteLLM_SpendLogs, as JSON or as the CSV of a database.

Source: BerriAI/litellm, schema.prisma (startTime, endTime and completionStartTime are UTC, in a table without zones).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct, field

from llmtop.domain.bounds import TOKENS
from llmtop.traffic.columns import UNTOLD, WITHOUT_TIME, WITHOUT_TOKENS, Columns, hashed, shown, whole
from llmtop.traffic.tables import FAILED, Header
from llmtop.traffic.times import Times

NEEDS = ("startTime", "prompt_tokens", "completion_tokens", "call_type")
"""Columns of such a table, and keys of such a row."""
HINT = (
    'a row of LiteLLM has "startTime": "2026-11-26T12:00:00Z", "prompt_tokens": 128, "completion_tokens": 11, '
    '"call_type": "acompletion"'
)
ENABLE = "LiteLLM writes completion_tokens of streams where stream_options.include_usage is on"
FROM_CACHE = "that LiteLLM's own cache answered"
_LLM = ("completion", "responses", "messages", "generate_content", "pass_through")
_OTHERS = (
    ("embedding", "embeddings"),
    ("image", "images"),
    ("transcription", "audio"),
    ("speech", "audio"),
    ("rerank", "reranking"),
    ("moderation", "moderation"),
)
_MOST_KINDS = 100
"""Types of calls that are kept with what they are."""
_EMPTY = msgspec.Raw(b"")
_Time = str | float | None
_Count = int | float | str | None


class Meta(Struct, gc=False):
    usage_object: msgspec.Raw = _EMPTY
    additional_usage_values: msgspec.Raw = _EMPTY


class SpendLog(Struct, gc=False):
    request_id: str | None = None
    call_type: str | None = None
    start_time: _Time = field(default=None, name="startTime")
    end_time: _Time = field(default=None, name="endTime")
    completion_start_time: _Time = field(default=None, name="completionStartTime")
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    session_id: str | None = None
    cache_hit: str | bool | None = None
    status: str | None = None
    metadata: Meta | str | None = None


class _Details(Struct, gc=False):
    cached_tokens: _Count = None


class _Usage(Struct, gc=False):
    prompt_tokens_details: _Details | None = None
    cache_read_input_tokens: _Count = None


class LiteLLM:
    """Takes such rows."""

    kind = SpendLog
    hint = HINT

    def __init__(self, columns: Columns) -> None:
        self.times = Times()
        self._columns = columns
        self._kinds: dict[str, str] = {}

    def take(self, row: SpendLog) -> None:
        """Raises Odd."""
        columns = self._columns
        kind = row.call_type or ""
        other = self._kinds.get(kind)
        if other is None:
            other = _other(kind)
            if len(self._kinds) < _MOST_KINDS:
                self._kinds[kind] = other
        if other:
            columns.passed[other] += 1
            return
        start_s = self._start_s(row.start_time)
        if row.status is not None and row.status not in ("success", ""):
            raise columns.odd(FAILED, "a request that failed says nothing of the load that a server carries")
        if row.cache_hit is True or row.cache_hit in ("True", "true", "t"):
            raise columns.odd(FROM_CACHE, "a request that a cache in front answered did not reach the engine")
        prompt, output = whole(row.prompt_tokens), whole(row.completion_tokens)
        if prompt < 1:
            raise columns.odd(WITHOUT_TOKENS, f"must be {TOKENS.allowed}; {HINT}", ", prompt_tokens")
        columns.add(start_s, prompt, max(0, output))
        took_s = self.times.since_s(row.end_time, start_s)
        first_s = self.times.since_s(row.completion_start_time, start_s)
        columns.e2e.append(took_s)
        columns.ttft.append(first_s if 0 < first_s < took_s else UNTOLD)  # without a stream both are the end
        columns.sessions.append(hashed(row.session_id or ""))
        columns.ids.append(hashed(row.request_id or ""))
        columns.cached.append(_cached(row.metadata))

    def row_of(self, header: Header) -> Callable[[list[str]], None]:
        """As `take`, of the cells of a table."""
        places = [header.place(name) for name in SpendLog.__struct_encode_fields__]

        def take(cells: list[str]) -> None:
            cells.append("")  # at -1, for columns that are not there
            self.take(SpendLog(*[cells[place] or None for place in places]))

        return take

    def _start_s(self, value: _Time) -> float:
        columns = self._columns
        if not value:
            raise columns.odd(WITHOUT_TIME, f"must be a time; {HINT}", ", startTime")
        try:
            return self.times.any_s(value)
        except ValueError as error:
            raise columns.odd("with startTime that is no time", f"{shown(value)} {error}", ", startTime") from None


def _other(call_type: str) -> str:
    """What a row is that is no request to an LLM; empty: it is one."""
    kind = call_type.lower()
    for word, what in _OTHERS:
        if word in kind:
            return what
    return "" if not kind or any(word in kind for word in _LLM) else "other calls"


def _cached(metadata: Meta | str | None) -> int:
    """Prompt tokens from a prefix cache; -1: not told."""
    if not isinstance(metadata, Meta):
        return -1
    for raw in (metadata.usage_object, metadata.additional_usage_values):
        if bytes(raw)[:1] != b"{":
            continue
        try:
            usage = msgspec.json.decode(raw, type=_Usage)
        except msgspec.DecodeError:
            continue
        details = usage.prompt_tokens_details
        if (cached := whole(details.cached_tokens if details else usage.cache_read_input_tokens)) >= 0:
            return cached
    return -1
