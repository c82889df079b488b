"""One request, from the moment it was meant to be sent to the end of its stream."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

REFUSALS = 3
"""So many refused requests in a row mean that nothing listens any more."""
TURNED_AWAY = (429, 503)
"""HTTP statuses with which a server or a gateway refuses for want of room; any other error is a failure."""
POOL_FULL = "context size has been exceeded"
"""What llama.cpp says, in any case, inside a stream for which its KV cache has no room left. A request that is too long
for its own slot is refused or cut instead: these words mean the pool that all slots share."""

HUNG_UP = "hung up by us"
"""How the error of a request begins that the client was told to end before its answer was whole."""


class Outcome(StrEnum):
    """How a request ended. `cancelled` was our doing and is in no error ratio."""

    OK = "ok"
    HTTP_ERROR = "http_error"
    """A status that is no success, or no connection at all (`status` None)."""
    STREAM_ERROR = "stream_error"
    """An error event inside a 200 stream, or bytes that are no stream."""
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    """The stream ended without a finish reason, usage or [DONE]."""
    EMPTY = "empty"
    """A 200 stream that ended well without one token."""
    TEXTLESS = "textless"
    """The same, but the server has counted tokens: special ones alone, or reasoning that it keeps to itself. That is no
    error of the server, and in no latency."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """It was in flight in a load worker that died."""

    @property
    def is_error(self) -> bool:
        return self not in (Outcome.OK, Outcome.TEXTLESS, Outcome.CANCELLED)


class TokenSource(StrEnum):
    """Where a count of tokens comes from; everything but `usage` is shown with a ≈."""

    USAGE = "usage"
    TOKENIZER = "tokenizer"
    CHUNKS = "chunks"
    """Events that held a token, one token each."""
    ASKED = "asked"
    """What the request was made for: only prompts."""


_SURENESS = (TokenSource.ASKED, TokenSource.CHUNKS, TokenSource.TOKENIZER, TokenSource.USAGE)


def least_sure(sources: Iterable[TokenSource]) -> TokenSource | None:
    """Of several counts that are shown as one; None: there are none."""
    return min(sources, key=_SURENESS.index, default=None)


class RequestRecord(Struct, frozen=True, kw_only=True, array_like=True):
    """One finished request: facts only.

    All `*_ns` stamps are nanoseconds of one monotonic clock since the start of the run; None: it never came to that.
    Definitions (the same in help and report):

        TTFT  = first_token - begun          first delta with content, reasoning or a tool call; not the role chunk
        TTFAT = first_answer - begun         the same for the answer, after any reasoning
        TPOT  = (last_token - first_token) / timed_tokens     those streamed after the first read that held any
        E2E   = last_token - begun
        begun = sent - held: what a gate holds back waits as it would in the server's own queue
        client queue = dispatched - scheduled,  send slip = begun - scheduled: in no latency
    """

    scheduled_ns: int
    """When it was meant to be sent."""
    dispatched_ns: int
    """When a user took it up."""
    sent_ns: int | None
    """Just before its first byte was written to the socket."""
    connect_ns: int | None
    """Duration of opening the connection; 0: a pooled one was used."""
    headers_ns: int | None
    first_token_ns: int | None
    first_answer_ns: int | None
    last_token_ns: int | None
    end_ns: int
    """When the stream was closed, failed or was given up."""
    started_at: float
    """Wall clock (Unix seconds) of `dispatched`: for display only, never subtracted."""
    asked_prompt_tokens: int
    asked_output_tokens: int
    prompt_tokens: int
    """By usage where the server tells, else as asked: see `prompt_source`."""
    output_tokens: int
    """All that were generated, those that were never streamed too."""
    first_chunk_tokens: int = 1
    """Tokens that arrived in the first read that held any."""
    chunks: int = 0
    """Reads that held at least one token."""
    max_gap_ns: int | None = None
    """Longest pause between two chunks of the stream."""
    held_ns: int = 0
    """How long a gate held it before it was sent."""
    timed_tokens: float | None = None
    """Tokens that were streamed after the first read that held any: what TPOT divides by. A fraction where only the sum
    is known and the first read has its share of it. None, and in run files before schema 4: output_tokens -
    first_chunk_tokens."""
    hidden_tokens: int = 0
    """Of `output_tokens`: reasoning that was generated and never streamed. In no TPOT."""
    cached_tokens: int | None = None
    """Prompt tokens that the server took from its prefix cache, where it tells."""
    token_source: TokenSource = TokenSource.CHUNKS
    """Of `output_tokens`, `timed_tokens` and `hidden_tokens`, the least sure of them."""
    prompt_source: TokenSource | None = None
    """Of `prompt_tokens`; None: not told, in run files before schema 4."""
    outcome: Outcome
    status: int | None = None
    error: str | None = None
    finish_reason: str | None = None
    retry_after_s: float | None = None
    stage: str | None = None
    worker: int = 0
    client_limited: bool | None = None
    """As judged where it was recorded: only in run files of schema 1. See `Facts` for the judgement."""
    name: str | None = None
    """What kind of request it is, where its user says so (`retrieve`, `answer`)."""
    session: int | None = None
    """The visit or conversation that it is of: a number of its own in the run; None: it is alone."""
    turn: int | None = None
    """Its place in there, from 1."""
    model: str | None = None
    """Which was asked, where a run asks several; None: the endpoint's."""

    @property
    def refused(self) -> bool:
        """Whether nobody answered: there was no connection, or none that gave a status."""
        return self.outcome is Outcome.HTTP_ERROR and self.status is None

    @property
    def broken(self) -> bool:
        """Whether its connection ended under it, or there was none."""
        return self.refused or self.outcome in (Outcome.STREAM_ERROR, Outcome.TRUNCATED)

    @property
    def hung_up(self) -> bool:
        """Whether the load ended it on purpose, as users do who close the page."""
        return self.outcome is Outcome.CANCELLED and (self.error or "").startswith(HUNG_UP)

    @property
    def found_pool_full(self) -> bool:
        """Whether it failed for want of room in the KV cache."""
        return self.outcome.is_error and self.error is not None and POOL_FULL in self.error.lower()

    @property
    def begun_ns(self) -> int | None:
        """When it would have been sent without a gate: from then on its user waits."""
        return None if self.sent_ns is None else self.sent_ns - self.held_ns

    @property
    def ttft_s(self) -> float | None:
        return _seconds(self.begun_ns, self.first_token_ns)

    @property
    def e2e_s(self) -> float | None:
        return _seconds(self.begun_ns, self.last_token_ns)

    @property
    def tpot_s(self) -> float | None:
        """None for streams with fewer than two arrivals."""
        tokens = self.timed_tokens
        if tokens is None:
            tokens = self.output_tokens - self.first_chunk_tokens
        span = _seconds(self.first_token_ns, self.last_token_ns)
        if span is None or tokens <= 0 or self.chunks < 2:
            return None
        return span / tokens


def _seconds(start_ns: int | None, stop_ns: int | None) -> float | None:
    return None if start_ns is None or stop_ns is None else (stop_ns - start_ns) / 1e9
