"""Answers of `/v1/embeddings`: one JSON object, no stream; it has come when its last byte has."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.ending import is_success, what_it_is_instead
from llmtop.endpoint.event import usage_in
from llmtop.endpoint.reader import KEPT_BYTES, StreamReader
from llmtop.endpoint.trace import Sink, Trace

MOST_BYTES = 32 * 1024 * 1024
"""Of an answer: a vector of 16,384 numbers takes 350 KB, and a batch of inputs some of them."""
NO_DATA = "an answer without a vector"


class _Embedded(Struct, gc=False):
    data: list[Raw] | None = None
    usage: Raw = Raw(b"null")


_decode = msgspec.json.Decoder(_Embedded).decode


class EmbeddingReader(StreamReader):
    """Reads the answer to one request for embeddings: no token is counted, and its last byte is the end of E2E."""

    __slots__ = ("_bytes", "_last_ns", "_pieces", "_succeeds")

    def __init__(self, trace: Trace, sink: Sink, stamper: Stamper, asked_tokens: int = 0) -> None:
        super().__init__(trace, sink, stamper, asked_tokens)
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._last_ns: int | None = None
        self._succeeds = False

    def body(self, data: bytes, stamp_ns: int) -> None:
        """Body bytes of one read."""
        self._succeeds = self._error is None and is_success(self.trace.status or 0)
        if not self._succeeds:
            super().body(data, stamp_ns)
            return
        self._last_ns = stamp_ns
        self._bytes += len(data)
        self._pieces.append(data)
        if self._bytes > MOST_BYTES:
            self._error = f"an answer of more than {MOST_BYTES // 1024**2} MiB"
            self._give_up()

    def close(self, end_ns: int, lost: str | None = None) -> None:
        """The answer is over; see `StreamReader.close`."""
        if not self._succeeds or self._error is not None:
            super().close(end_ns, lost)
            return
        trace, body = self.trace, b"".join(self._pieces)
        self.connection = None
        trace.end_ns = end_ns
        if lost is not None:
            trace.outcome, trace.error = Outcome.TRUNCATED, lost
            return
        try:
            answer = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            answer = _Embedded()
        if not answer.data:
            said = what_it_is_instead(body[:KEPT_BYTES]) if body else NO_DATA
            trace.outcome, trace.error = Outcome.STREAM_ERROR, said
            return
        usage = usage_in(b'{"usage":%b}' % bytes(answer.usage), always=True)
        trace.last_token_ns = self._last_ns
        trace.prompt_tokens = None if usage is None else usage.prompt_tokens
        trace.token_source = TokenSource.USAGE if trace.prompt_tokens is not None else TokenSource.CHUNKS
        trace.outcome = Outcome.OK
