"""Answers of `/v1/responses`: its typed events, told as the events of a chat, so that both are counted by one reader.

    response.output_text.delta, response.refusal.delta            text
    response.reasoning_text.delta, .reasoning_summary_text.delta  reasoning
    response.function_call_arguments.delta, ...                   a call of a tool
    response.completed                                            the end, with usage; there is no [DONE]
    response.incomplete                                           the end, for want of tokens or by a filter
    response.failed, response.cancelled, error                    an error

All others repeat what these have told, or announce it. Source: OpenAI's API reference (responses, streaming events);
vLLM 0.32 `vllm/entrypoints/openai/responses`, which says `completed` also of an answer that was cut.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

_PIECE = b'{"choices":[{"delta":{"%b":%b}}]}'
_CALL = b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":%b}}]}}]}'
_IGNORED = (b"ping", b"")
_DONE = (b"", b"[DONE]")
_CUT = {"max_output_tokens": "length", "max_tokens": "length"}
"""Why an answer is incomplete, as a chat has it."""


class _Typed(Struct, gc=False):
    type: str = ""
    delta: Raw = Raw(b"")


class _Cut(Struct, gc=False):
    reason: str | None = None


class _Response(Struct, gc=False):
    status: str | None = None
    usage: Raw = Raw(b"null")
    error: Raw = Raw(b"null")
    incomplete_details: _Cut | None = None


class _End(Struct, gc=False):
    response: _Response = msgspec.field(default_factory=_Response)
    error: Raw = Raw(b"null")


_typed = msgspec.json.Decoder(_Typed).decode
_end = msgspec.json.Decoder(_End).decode
_KINDS = {
    "response.output_text.delta": b"content",
    "response.refusal.delta": b"refusal",
    "response.reasoning_text.delta": b"reasoning",
    "response.reasoning_summary_text.delta": b"reasoning",
    "response.reasoning.delta": b"reasoning",
}
_CALLS = frozenset(
    f"response.{what}.delta"
    for what in (
        "function_call_arguments",
        "custom_tool_call_input",
        "mcp_call_arguments",
        "code_interpreter_call_code",
    )
)


def as_chat(events: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The events of one read, (name, data) each, as a chat's. What is none of this API's stays as it is."""
    told: list[tuple[bytes, bytes]] = []
    for name, data in events:
        try:
            typed = _typed(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            told.append((name, data))
            continue
        kind = typed.type or name.decode("latin-1")
        field = _KINDS.get(kind)
        if field is not None:
            told.append((b"", _PIECE % (field, bytes(typed.delta) or b"null")))
        elif kind in _CALLS:
            told.append((b"", _CALL % (bytes(typed.delta) or b"null")))
        elif kind in ("response.completed", "response.incomplete"):
            told += [(b"", _ended(kind, data)), _DONE]
        elif kind in ("response.failed", "response.cancelled"):
            told.append((b"error", _failed(kind, data)))
        elif kind.startswith("response."):
            told.append(_IGNORED)
        else:
            told.append((b"error" if kind == "error" else name, data))
    return told


def _ended(kind: str, data: bytes) -> bytes:
    response = _end_of(data).response
    reason = "stop"
    if kind == "response.incomplete" or response.status == "incomplete":
        why = response.incomplete_details.reason if response.incomplete_details is not None else None
        reason = _CUT.get(why or "max_output_tokens", why or "length")
    usage = bytes(response.usage)
    return b'{"choices":[{"delta":{},"finish_reason":%b}],"usage":%b}' % (msgspec.json.encode(reason), usage)


def _failed(kind: str, data: bytes) -> bytes:
    end = _end_of(data)
    errors = [bytes(each) for each in (end.response.error, end.error) if bytes(each) != b"null"]
    return b'{"error":%b}' % (errors[0] if errors else msgspec.json.encode({"message": kind}))


def _end_of(data: bytes) -> _End:
    """The last event of an answer; what cannot be used of it is left out."""
    try:
        return _end(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _End()
