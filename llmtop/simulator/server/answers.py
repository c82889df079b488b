"""What a client gets: stream events and whole answers, byte for byte in vLLM's shape.

Source: recorded from vLLM 0.32 (`vllm serve`): key order, compact JSON, one event per HTTP chunk, role event right
before the first token, finish reason on the last token's event, usage in an event of its own, then [DONE].
"""

from __future__ import annotations

import msgspec

from llmtop.simulator.server.asked import Asked

DONE = b"data: [DONE]\n\n"

WORDS: tuple[bytes, ...] = tuple(
    b" " + word
    for word in (
        b"the of and to in is that it was for on are as with his they at be this from have or by one had not but what "
        b"all were when we there can an your which their said if do will each about how up out them then she many some "
        b"so these would other into has more her two like him see time could no make than first been its who now "
        b"people my made over did down only way find use may water long little very after words called just where"
    ).split()
)
"""Answers are made of these; each is one token in cl100k and o200k."""


class AnswerWriter:
    """Writes one answer. Tokens are counted here; the words are the same for the same `seed`.

    Args:
        id: with its prefix, `chatcmpl-...` or `cmpl-...`.
        created: Unix seconds.
        seed: where in the word list the answer begins.
    """

    done = DONE
    """The last event, which says that no more come; empty: this API has none."""

    __slots__ = (
        "_chat",
        "_continuous_usage",
        "_end",
        "_fingerprint",
        "_head",
        "_include_usage",
        "_prompt_tokens",
        "_seed",
        "_start",
        "_tail",
        "cached_tokens",
        "id",
        "sent",
    )

    def __init__(self, asked: Asked, id: str, created: int, version: str, seed: int) -> None:
        self.id = id
        self.sent = 0
        self.cached_tokens = 0
        self._chat = asked.chat
        self._include_usage = asked.include_usage
        self._continuous_usage = asked.continuous_usage
        self._prompt_tokens = len(asked.tokens)
        self._seed = seed
        self._fingerprint = b',"system_fingerprint":"vllm-%b-llmtop"' % version.encode()
        kind = b"chat.completion.chunk" if asked.chat else b"text_completion"
        self._start = b'"id":"%b","object":"%b","created":%d,"model":%b,"choices":[' % (
            id.encode(),
            kind,
            created,
            msgspec.json.encode(asked.model),
        )
        text = b'"delta":{"content":"' if asked.chat else b'"text":"'
        self._head = b'data: {%b{"index":0,%b' % (self._start, text)
        close = b'"}' if asked.chat else b'"'
        rest = b',"token_ids":null}]' if asked.chat else b',"prompt_token_ids":null,"token_ids":null}]'
        stop = b',"stop_reason":null'
        self._tail = close + b',"logprobs":null,"finish_reason":null' + (b"" if asked.chat else stop) + rest
        self._end = close + b',"logprobs":null,"finish_reason":"%b"' + stop + rest

    def role(self) -> bytes:
        """Chat's first event: no token in it."""
        usage = self._usage(0) if self._continuous_usage else b""
        choice = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        return b'data: {%b%b%b,"prompt_token_ids":null,"prompt_text":null}\n\n' % (self._start, choice, usage)

    def tokens(self, count: int) -> bytes:
        """The event of the next `count` tokens, more of which follow."""
        sent = self.sent
        self.sent = sent + count
        word = WORDS[(self._seed + sent) % len(WORDS)] if count == 1 else self.words(sent, sent + count)
        if self._continuous_usage:
            return b"%b%b%b%b}\n\n" % (self._head, word, self._tail, self._usage(self.sent))
        return b"%b%b%b}\n\n" % (self._head, word, self._tail)

    def last_tokens(self, count: int, reason: str) -> bytes:
        """The event of the last tokens, with the finish reason."""
        words = self.words(self.sent, self.sent + count)
        self.sent += count
        usage = self._usage(self.sent) if self._continuous_usage else b""
        fingerprint = b"" if self._include_usage else self._fingerprint
        return b"%b%b%b%b%b}\n\n" % (self._head, words, self._end % reason.encode(), usage, fingerprint)

    def usage(self) -> bytes:
        """The event after the last token, when usage was asked for."""
        return b"data: {%b]%b%b}\n\n" % (self._start, self._usage(self.sent, details=True), self._fingerprint)

    def whole(self, reason: str) -> bytes:
        """The answer to a request that did not ask for a stream."""
        words = self.words(0, self.sent)
        start = self._start.replace(b'"chat.completion.chunk"', b'"chat.completion"')
        if self._chat:
            message = b'"message":{"role":"assistant","content":"%b","refusal":null,"tool_calls":[]}' % words
            rest = b'"stop_reason":null,"token_ids":null}]'
        else:
            message = b'"text":"%b"' % words
            rest = b'"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null}]'
        choice = b'{"index":0,%b,"logprobs":null,"finish_reason":"%b",%b' % (message, reason.encode(), rest)
        usage = self._usage(self.sent, details=True)
        return b'{%b%b,"service_tier":null%b%b,"kv_transfer_params":null}' % (start, choice, self._fingerprint, usage)

    def words(self, start: int, stop: int) -> bytes:
        """The answer's text from token `start` to before token `stop`."""
        return b"".join([WORDS[(self._seed + index) % len(WORDS)] for index in range(start, stop)])

    def _usage(self, output: int, *, details: bool = False) -> bytes:
        counts = b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d' % (
            self._prompt_tokens,
            self._prompt_tokens + output,
            output,
        )
        if details:
            return b'%b,"prompt_tokens_details":{"cached_tokens":%d}}' % (counts, self.cached_tokens)
        return counts + (b',"completion_tokens_details":null}' if self._chat else b"}")
