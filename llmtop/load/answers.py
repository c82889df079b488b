"""What a user of a Python file gets for a request, and what it says with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.endpoint.said import Said, ToolCall
from llmtop.errors import UsageError
from llmtop.workload.prompts import Prompt

_OURS = ("stream", "stream_options", "messages", "prompt", "model", "max_tokens", "max_completion_tokens", "min_tokens")
"""Fields of a request that `chat` and `complete` fill themselves."""
_WORD = 4
"""Characters for each token of a text that nobody has counted."""


class Answer:
    """See `llmtop.users.Answer`."""

    __slots__ = ("_record", "_said", "_sent")

    def __init__(self, sent: Prompt, said: Said, record: RequestRecord) -> None:
        self._sent, self._said, self._record = sent, said, record

    @property
    def ok(self) -> bool:
        return self._record.outcome in (Outcome.OK, Outcome.TEXTLESS)

    @property
    def error(self) -> str:
        return "" if self.ok else self._record.error or str(self._record.outcome)

    @property
    def status(self) -> int | None:
        return self._record.status

    @property
    def text(self) -> str:
        return self._said.text

    @property
    def reasoning(self) -> str:
        return self._said.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self._said.tool_calls

    @property
    def finish_reason(self) -> str | None:
        return self._record.finish_reason

    @property
    def prompt_tokens(self) -> int:
        return self._record.prompt_tokens

    @property
    def output_tokens(self) -> int:
        return self._record.output_tokens

    @property
    def ttft_s(self) -> float | None:
        return self._record.ttft_s

    @property
    def e2e_s(self) -> float | None:
        return self._record.e2e_s

    def messages(self) -> tuple[Mapping[str, Any], ...]:
        """All that was said up to here, the answer too, unless nothing came of it."""
        sent = self._sent.messages or ({"role": "user", "content": self._sent.text},)
        text, calls = self.text, self.tool_calls
        if not text and not calls:
            return sent
        answer: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            answer["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return (*sent, answer)

    def whole_text(self) -> str:
        """The same of a completion."""
        return self._sent.text + self.text


def tokens_of(said: str | Sequence[Mapping[str, Any]], after: Answer | None) -> int:
    """An estimate of what the endpoint will count."""
    before = 0 if after is None else after.prompt_tokens + after.output_tokens
    texts = [said] if isinstance(said, str) else [str(message.get("content") or "") for message in said]
    return before + sum(max(1, len(text) // _WORD) for text in texts)


def extra_of(body: Mapping[str, Any]) -> bytes:
    """Further fields as they stand in JSON between commas. Raises UsageError."""
    for name in _OURS:
        if name in body:
            raise UsageError(f"{name} = ... is not for the file to set: llmtop fills that field of a request")
    try:
        return b"," + msgspec.json.encode(dict(body))[1:-1]
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(f"a field of the request cannot be written as JSON: {error}") from None
