"""Answers of the APIs beside chat and completions: typed events of `/v1/responses`, vectors of `/v1/embeddings`.

Source: vLLM 0.32 `vllm/entrypoints/openai/responses`: a name for each event, compact JSON, usage in the last event, and
no [DONE].
"""

from __future__ import annotations

from typing import Any

import msgspec

from llmtop.simulator.server.answers import AnswerWriter
from llmtop.simulator.server.asked import Asked

DIMENSIONS = 64
"""Numbers of a vector."""


class ResponseWriter(AnswerWriter):
    """Writes one response. The parts of a message are announced before its first token, as vLLM does."""

    __slots__ = ("_created", "_model", "_number", "_reason")
    done = b""

    def __init__(self, asked: Asked, id: str, created: int, version: str, seed: int) -> None:
        super().__init__(asked, id, created, version, seed)
        self._created, self._model = created, asked.model
        self._number = 0
        self._reason = "stop"

    def role(self) -> bytes:
        """All that comes before the first token."""
        begun = self._response("in_progress", [], None)
        item = {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return b"".join(
            (
                self._event("response.created", response=begun),
                self._event("response.in_progress", response=begun),
                self._event("response.output_item.added", output_index=0, item=item),
                self._event("response.content_part.added", output_index=0, content_index=0, part=part),
            )
        )

    def tokens(self, count: int) -> bytes:
        """The event of the next `count` tokens."""
        words = self.words(self.sent, self.sent + count).decode()
        self.sent += count
        return self._event(
            "response.output_text.delta", item_id=f"msg_{self.id}", output_index=0, content_index=0, delta=words
        )

    def last_tokens(self, count: int, reason: str) -> bytes:
        """The event of the last tokens, and those that repeat what has come."""
        self._reason = reason
        data = self.tokens(count)
        text = self.words(0, self.sent).decode()
        return data + self._event("response.output_text.done", output_index=0, content_index=0, text=text)

    def usage(self) -> bytes:
        """The last event, with the whole response."""
        is_cut = self._reason == "length"
        response = self._whole_response()
        return self._event("response.incomplete" if is_cut else "response.completed", response=response)

    def whole(self, reason: str) -> bytes:
        """The answer to a request that did not ask for a stream."""
        self._reason = reason
        return msgspec.json.encode(self._whole_response())

    def _whole_response(self) -> dict[str, Any]:
        text = {"type": "output_text", "text": self.words(0, self.sent).decode(), "annotations": []}
        message = {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "content": [text]}
        status = "incomplete" if self._reason == "length" else "completed"
        usage = {
            "input_tokens": self._prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.sent,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._prompt_tokens + self.sent,
        }
        return self._response(status, [{**message, "status": status}], usage)

    def _response(self, status: str, output: list[Any], usage: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self._model,
            "output": output,
            "usage": usage,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


class EmbeddingWriter(AnswerWriter):
    """Writes the vectors of one request."""

    __slots__ = ("_created", "_inputs", "_model")

    def __init__(self, asked: Asked, id: str, created: int, version: str, seed: int) -> None:
        super().__init__(asked, id, created, version, seed)
        self._created, self._model, self._inputs = created, asked.model, asked.inputs

    def whole(self, reason: str) -> bytes:
        """The answer."""
        vector = [round(((self._seed + 1) * (place + 7) % 97) / 97 - 0.5, 4) for place in range(DIMENSIONS)]
        answer = {
            "id": self.id,
            "object": "list",
            "created": self._created,
            "model": self._model,
            "data": [{"index": n, "object": "embedding", "embedding": vector} for n in range(self._inputs)],
            "usage": {"prompt_tokens": self._prompt_tokens, "total_tokens": self._prompt_tokens},
        }
        return msgspec.json.encode(answer)
