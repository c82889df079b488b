"""The stamps of one request in flight, and who wants to hear of them."""

from __future__ import annotations

from typing import Protocol

from llmtop.domain.request import Outcome, TokenSource


class Trace:
    """What is known of one request so far. A user makes it, the client fills it.

    All `*_ns` are on the run clock; None: it has not come to that. Their meaning is that of `RequestRecord`.

    Attributes:
        tokens_seen: tokens counted so far: by usage where the server counts along, else one for each event.
        output_tokens: the final count, once the request has ended.
        token_source: where `output_tokens` comes from.
    """

    __slots__ = (
        "cached_tokens",
        "chunks",
        "connect_ns",
        "dispatched_ns",
        "end_ns",
        "error",
        "finish_reason",
        "first_answer_ns",
        "first_chunk_tokens",
        "first_token_ns",
        "headers_ns",
        "last_token_ns",
        "max_gap_ns",
        "outcome",
        "output_tokens",
        "prompt_tokens",
        "retry_after_s",
        "scheduled_ns",
        "sent_ns",
        "status",
        "token_source",
        "tokens_seen",
    )

    def __init__(self, scheduled_ns: int = 0, dispatched_ns: int = 0) -> None:
        self.scheduled_ns = scheduled_ns
        self.dispatched_ns = dispatched_ns
        self.end_ns: int | None = None
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.clear()

    def clear(self) -> None:
        """Forget everything of an attempt that did not count, before the request is sent once more."""
        self.sent_ns: int | None = None
        self.connect_ns: int | None = None
        self.headers_ns: int | None = None
        self.first_token_ns: int | None = None
        self.first_answer_ns: int | None = None
        self.last_token_ns: int | None = None
        self.first_chunk_tokens = 1
        self.chunks = 0
        self.max_gap_ns: int | None = None
        self.tokens_seen = 0
        self.prompt_tokens: int | None = None
        self.output_tokens = 0
        self.cached_tokens: int | None = None
        self.token_source = TokenSource.CHUNKS
        self.status: int | None = None
        self.finish_reason: str | None = None
        self.retry_after_s: float | None = None


class Sink(Protocol):
    """What the load engine hears of every stream, called synchronously while bytes are read: it must be quick."""

    def first_token(self, trace: Trace) -> None:
        """The first token has come; `tokens` for the same read follows."""

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        """`n` tokens came in one read.

        `gap_ns` is the time since the read with tokens before it; None for the first read, and for tokens that only
        the usage at the end of the stream made known (then `n` is what had been missed).
        """
