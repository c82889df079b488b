"""How a stream says that it is over, and what an answer is that is none."""

from __future__ import annotations

import json
import re
from typing import Any

from llmtop.endpoint.pieces import anything_in, choices_of, text_of
from llmtop.endpoint.refusals import TEXT_LIMIT, is_html, message_of, refusal_text

BY_ITSELF = ("stop", "eos", "eos_token", "end_turn")
"""Finish reasons of an answer that the model ended with a token of its own."""
USUAL = (
    *BY_ITSELF,
    "length",
    "max_tokens",
    "stop_sequence",
    "tool_calls",
    "tool_use",
    "function_call",
    "content_filter",
)
"""Finish reasons that are one even where a server sends them with every piece."""
_NO_REASON = re.compile(r"|null|none|nil|undefined|in_progress|not_finished|(finish_reason_)?unspecified")
"""What some write for a finish reason that there is not yet."""
_FAILED = re.compile(r"error|abort|cancel|fail|timed?_?out|insufficient")
"""Finish reasons with which a server says that it gave up: `error`, `abort`, `insufficient_system_resource`, ..."""
_LINES = 16
"""Of what is left, that are looked at."""
ONE_PIECE = "answered in one piece: the server does not stream"
NO_END = "the stream ended without a finish reason, usage or [DONE]"
NO_TEXT = "the stream ended well without any text"


def is_success(status: int) -> bool:
    """Any 2xx: frameworks answer a POST with 201, gateways with 202."""
    return 200 <= status < 300


def is_reason(finish: str) -> bool:
    """Whether a finish reason is one."""
    return finish in USUAL or _NO_REASON.fullmatch(finish.strip().lower()) is None


def has_failed(finish: str) -> bool:
    """Whether a finish reason says that the server gave up."""
    return finish not in USUAL and _FAILED.search(finish.lower()) is not None


def is_done(data: bytes) -> bool:
    """Whether the stripped data of an event is the word that ends a stream, as it is variously written."""
    return data.strip(b'"').upper() == b"[DONE]"


def is_whole(data: bytes) -> bool:
    """Whether the data of an event is all there."""
    if is_done(data.strip()):
        return True
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def are_run_together(rest: bytes) -> bool:
    """Whether what is left at the end is several events without the blank lines that end each."""
    lines = [line[5:] for line in rest.splitlines()[:_LINES] if line.startswith(b"data:")]
    return len(lines) > 1 and is_whole(lines[0]) and is_whole(lines[1])


def is_failure(answer: object) -> bool:
    """Whether an event that is no piece of an answer tells of an error, though it has no `error`."""
    return isinstance(answer, dict) and bool(answer.get("errors") or answer.get("type") == "error")


def choice_error(data: bytes) -> str | None:
    """What the choice of an event says of an error."""
    for choice in choices_of(anything_in(data)):
        if choice.get("error"):
            return message_of({"error": choice["error"]})
    return None


def has_message(data: bytes) -> bool:
    """Whether an event has a whole message where a piece of one should be."""
    return any(text_of(_dict(choice.get("message")).get("content")) for choice in choices_of(anything_in(data)))


def excerpt(data: bytes) -> str:
    """Its beginning, quoted."""
    return repr(data[:TEXT_LIMIT].decode("utf-8", "replace"))


def without_comments(body: bytes) -> bytes:
    """A body without events: what is left of it without the comments that keep a connection alive."""
    lines = body.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b":")).strip()


_FIELDS = (b"data", b"event", b"id", b"retry")
"""With which a line of an event stream begins."""


def is_silence(body: bytes) -> bool:
    """Whether a body without events is an event stream all the same: nothing, or the start of an event."""
    return not body or body.startswith(_FIELDS) or any(field.startswith(body) for field in _FIELDS)


def what_it_is_instead(body: bytes) -> str:
    """What an answer with status 200 is that should have been a stream."""
    if is_html(body):
        return f"a web page instead of a stream: {refusal_text(body)}"
    try:
        answer = json.loads(body)
        found = message_of(answer)
    except (ValueError, RecursionError):
        return f"no event stream: {excerpt(body)}"
    if found:
        return found
    if isinstance(answer, dict) and ("choices" in answer or answer.get("object") == "response"):
        return ONE_PIECE
    return f"no event stream: {excerpt(body)}"


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
