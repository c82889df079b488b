"""The stamps of one request in flight, and who wants to hear of them."""

from __future__ import annotations

from time import time
from typing import Protocol

from msgspec import NODEFAULT
from msgspec.structs import fields

from llmtop.domain.request import Outcome, RequestRecord, TokenSource


class Trace:
    """What is known of one request so far. A user makes it, the client fills it, and it makes the record.

    A field has the meaning and the first value of the field of `RequestRecord` with its name. All `*_ns` are on the run
    clock; None: it has not come to that.

    Attributes:
        tokens_seen: tokens counted so far: by usage where the server counts along, else one for each event.
        prompt_tokens: by usage; None: the server has not told.
        output_tokens: the final count, once the request has ended.
        token_source: where `output_tokens` comes from.
    """

    scheduled_ns: int
    dispatched_ns: int
    sent_ns: int | None
    connect_ns: int | None
    headers_ns: int | None
    first_token_ns: int | None
    first_answer_ns: int | None
    last_token_ns: int | None
    end_ns: int | None
    prompt_tokens: int | None
    output_tokens: int
    tokens_seen: int
    first_chunk_tokens: int
    chunks: int
    max_gap_ns: int | None
    held_ns: int
    timed_tokens: float | None
    hidden_tokens: int
    cached_tokens: int | None
    token_source: TokenSource
    outcome: Outcome | None
    status: int | None
    error: str | None
    finish_reason: str | None
    retry_after_s: float | None

    __slots__ = tuple(__annotations__)  # noqa: PLE0237, RUF100

    def __init__(self, scheduled_ns: int = 0, dispatched_ns: int = 0) -> None:
        self.scheduled_ns = scheduled_ns
        self.dispatched_ns = dispatched_ns
        self.held_ns = 0
        self.end_ns = None
        self.outcome = None
        self.error = None
        self.clear()

    @property
    def begun_ns(self) -> int | None:
        """As `RequestRecord.begun_ns`."""
        return None if self.sent_ns is None else self.sent_ns - self.held_ns

    def clear(self) -> None:
        """Forget everything of an attempt that did not count, before the request is sent once more."""
        for name, value in _FRESH:
            setattr(self, name, value)

    def record(
        self,
        now_ns: int,
        *,
        asked_prompt_tokens: int,
        asked_output_tokens: int,
        stage: str | None,
        worker: int,
        name: str | None = None,
        session: int | None = None,
        turn: int | None = None,
        model: str | None = None,
    ) -> RequestRecord:
        """The record of a request that has ended, now at the latest."""
        assert self.outcome is not None, "a request has ended without an outcome"
        values = {name: getattr(self, name) for name in _RECORDED}
        values["end_ns"] = now_ns if self.end_ns is None else self.end_ns
        values["prompt_tokens"] = self.prompt_tokens or asked_prompt_tokens
        values["output_tokens"] = self.output_tokens or self.tokens_seen
        return RequestRecord(
            **values,
            prompt_source=TokenSource.USAGE if self.prompt_tokens else TokenSource.ASKED,
            started_at=time() - (now_ns - self.dispatched_ns) / 1e9,
            asked_prompt_tokens=asked_prompt_tokens,
            asked_output_tokens=asked_output_tokens,
            stage=stage,
            worker=worker,
            name=name,
            session=session,
            turn=turn,
            model=model,
        )


_DEFAULTS = {field.name: None if field.default is NODEFAULT else field.default for field in fields(RequestRecord)}
_LASTING = {"scheduled_ns", "dispatched_ns", "held_ns", "end_ns", "outcome", "error"}
_FRESH = tuple(
    (name, value)
    for name, value in {**_DEFAULTS, "output_tokens": 0, "tokens_seen": 0}.items()
    if name in Trace.__slots__ and name not in _LASTING
)
_RECORDED = tuple(name for name in Trace.__slots__ if name in _DEFAULTS)


class Sink(Protocol):
    """What the load engine hears of every stream, called synchronously while bytes are read: it must be quick."""

    def first_token(self, trace: Trace) -> None:
        """The first token has come; `tokens` for the same read follows."""

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        """`n` tokens came in one read.

        `gap_ns` is the time since the read with tokens before it; None for the first read, and for tokens that only
        the usage at the end of the stream made known (then `n` is what had been missed).
        """


class Nobody:
    """A sink that hears nothing: only the trace is wanted, and no statistics are to know of the request."""

    def first_token(self, trace: Trace) -> None:
        """See `Sink`."""

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        """See `Sink`."""
