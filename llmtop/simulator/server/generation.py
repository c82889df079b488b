"""One request in flight, from the server's side: it turns token events into bytes on its connection."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from llmtop.simulator.server.answers import AnswerWriter
from llmtop.simulator.server.asked import ApiError, Asked
from llmtop.simulator.server.http import ServerConnection


class Impairment(NamedTuple):
    """What is wrong with the way to this client, decided when its request came."""

    cut_after: int | None = None
    """Tokens after which the connection breaks."""
    delay_s: float = 0.0
    """Bytes are held back and sent together once in so long."""


class Generation:
    """Writes an answer as its tokens come.

    Args:
        connection: where the answer goes; nothing has been written to it yet.
        asked: the request.
        answer: the bytes.
        interval: tokens of one event after the first (vLLM's --stream-interval).
        line: faults of the connection.
    """

    __slots__ = (
        "_chat", "_connection", "_held", "_include_usage", "_interval", "_line", "_over", "_pending", "_stream",
        "answer", "tokens",
    )  # fmt: skip

    def __init__(
        self, connection: ServerConnection, asked: Asked, answer: AnswerWriter, interval: int, line: Impairment
    ) -> None:
        self.answer = answer
        self.tokens = 0
        """Tokens that the engine has made."""
        self._connection = connection
        self._chat = asked.chat
        self._stream = asked.stream
        self._include_usage = asked.include_usage
        self._interval = interval
        self._line = line
        self._pending = 0
        self._held: bytearray | None = bytearray() if line.delay_s else None
        self._over = False
        if self._stream:
            connection.begin_stream()

    def token(self) -> None:
        """One more token, and others follow."""
        self.tokens += 1
        if not self._stream:
            self.answer.sent = self.tokens
            return
        if self._line.cut_after is not None and self.tokens > self._line.cut_after:
            self.drop()
            return
        self._pending += 1
        if self.tokens == 1:
            first = self._frame(self.answer.role()) if self._chat else b""
            self._send(first + self._frame(self.answer.tokens(1)))
            self._pending = 0
        elif self._pending >= self._interval:
            self._send(self._frame(self.answer.tokens(self._pending)))
            self._pending = 0

    def last_token(self, reason: str, *, has_token: bool = True) -> None:
        """The end: with its last token, or without one when the engine could not go on."""
        if reason == "error":
            self.refuse(ApiError(500, "InternalServerError", "The prompt does not fit into the KV cache any more."))
            return
        self.tokens += has_token
        if not self._stream:
            self.answer.sent = self.tokens
            self._connection.respond(200, self.answer.whole(reason))
            return
        first = self._frame(self.answer.role()) if self._chat and self.tokens == 1 else b""
        data = first + self._frame(self.answer.last_tokens(self._pending + has_token, reason))
        if self._include_usage:
            data += self._frame(self.answer.usage())
        self._send(data + self._last_frame(), last=True)

    def drop(self) -> None:
        """Break the connection."""
        self._connection.abort()

    def refuse(self, refusal: ApiError) -> None:
        """End without a token, in one of vLLM's two shapes: an HTTP status, or, where a 200 stream has begun, an
        error event and [DONE]."""
        if self._stream:
            self._send(self._frame(refusal.event()) + self._last_frame(), last=True)
        else:
            self._connection.respond(refusal.status, refusal.body())

    def _last_frame(self) -> bytes:
        done = self.answer.done
        return self._frame(done) if done else b""

    def _frame(self, payload: bytes) -> bytes:
        return self._connection.frame(payload)

    def _send(self, data: bytes, *, last: bool = False) -> None:
        if self._held is None:
            if last:
                self._connection.finish(data)
            else:
                self._connection.write(data)
            return
        if not self._held:
            asyncio.get_running_loop().call_later(self._line.delay_s, self._release)
        self._held += data
        self._over = self._over or last

    def _release(self) -> None:
        """Send what a slow line has held back."""
        data, self._held = bytes(self._held or b""), bytearray()
        if not self._connection.is_open:
            return
        if self._over:
            self._connection.finish(data)
        else:
            self._connection.write(data)
