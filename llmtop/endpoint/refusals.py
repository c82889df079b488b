"""What servers say when they refuse, out of every shape they say it in.

{"error": {"message": "...", "type": ..., "code": ...}}    OpenAI, vLLM, SGLang, llama.cpp
{"error": {"message": ..., "metadata": {"raw": "..."}}}    OpenRouter: the provider's own words beside its own
{"error": "...", "error_type": ...}                        TGI; vLLM's 401
{"error": "Too Many Requests", "message": "..."}           Spring, NestJS: a status in words, then what it is about
{"object": "error", "message": "..."}                      vLLM up to 0.10, LMDeploy, TensorRT-LLM
{"detail": "..."} or {"detail": [{"loc", "msg"}]}          FastAPI
{"title": "...", "detail": "..."}                          problem+json (RFC 9457)
{"errors": [{"message": "..."}]}                           gateways
[{"error": ...}]                                           Google's gateways
"message": "{\\"error\\": ...}"                            gateways that quote the one behind them
<Error><Code>..</Code><Message>..</Message></Error>        S3 and its kin
<html><title>...                                           proxies
event: error / data: {...}, or only : comments             an event stream with an error status
gzip or deflate of any of these                            proxies that compress unasked
{"base_resp": {"status_msg": ...}}, {"fault": {...}}       MiniMax, Apigee: one level down, whatever it is called
{"error": {"message": "...                                 any of these, cut
"""

from __future__ import annotations

import html
import json
import re
import zlib
from typing import Any

TEXT_LIMIT = 4000
"""Characters of a server's message that are looked at: more than are shown, since secrets in it are hidden before it is
cut, or the half of one would stay."""

INFLATED = 256 * 1024
"""Bytes that a compressed error body is unpacked to at most."""

OUT_OF_QUOTA = "insufficient_quota"
"""OpenAI's code for an account without credit, beside words that may speak of a rate."""
_READ = 4096
"""Characters of a web page without a title that are looked at."""
_DEPTH = 8
"""Messages within messages."""
_TITLE, _TITLE_END = re.compile("<title", re.IGNORECASE), re.compile("</title", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]+>")
_CODE = re.compile(r"<(script|style)\b", re.IGNORECASE)
_CODE_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
_PACKED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip and zlib begin (RFC 1952, RFC 1950); no text begins so."""
_XML = re.compile(r"<(code|message)>([^<>]*)</\1>", re.IGNORECASE)
_CUT = re.compile(r'"(?:message|Message|detail|msg|error)"\s*:\s*"((?:[^"\\]|\\.)+)')
"""The beginning of a message in JSON that was cut."""
_NO_TEXT = 0.1
"""Share of the characters that no text has, from which on what is said is none: brotli, zstd, an image."""
_HEAD = 32
"""Characters by which that is told."""
_OPENING = ("{", "[", "<", '"')
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FIELD = re.compile(r"(data|event|id|retry)?:")
"""How a line of an event stream begins; one that begins with the colon is a comment."""
_KEYS = (
    "message",
    "Message",
    "faultstring",
    "detail",
    "msg",
    "error",
    "errors",
    "error_description",
    "error_message",
    "errorMessage",
    "error_msg",
    "ErrorMessage",
    "errmsg",
    "err",
    "Error",
    "exception",
    "reason",
    "title",
    "description",
    "status_msg",
)
"""Under which names a message is looked for, the most telling first."""


def refusal_text(body: bytes) -> str:
    """The message inside an error body, on one line; empty when the body says nothing."""
    body = _unpacked(body)
    text = body.decode("utf-16" if body.startswith(_UTF16) else "utf-8-sig", "replace").strip()
    if _is_no_text(text[:_HEAD]):
        return f"{len(body)} bytes that are no text: compressed, perhaps"
    found = _quoted(text)
    if found:
        return _flat(found)
    if is_html(body) or (text.startswith("<?xml") and "<html" in text[:_READ].lower()):
        return _flat(html.unescape(_title(text) or _TAG.sub(" ", _without_code(text)[:_READ])))
    if text.startswith("<"):
        said = [value.strip() for _, value in _XML.findall(text[:_READ])]
        return _flat(html.unescape(": ".join(filter(None, said)) or _TAG.sub(" ", text[:_READ])))
    if _FIELD.match(text):
        return _flat(_in_events(text) or text)
    cut = _CUT.search(text[:_READ]) if text.startswith(_OPENING) else None
    return _flat(_unescaped(cut[1]) if cut else text)


def message_of(answer: object) -> str | None:
    """The message inside a decoded error answer, on one line; None when it is no error."""
    found = _message(answer)
    return found if found is None else _flat(found)


def _unpacked(body: bytes) -> bytes:
    """A body that was compressed, which shows in its first bytes; as far as it goes where it is cut or broken."""
    if not body.startswith(_PACKED):
        return body
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, INFLATED)
    except zlib.error:
        return b"what it says is compressed, and broken"


def _is_no_text(text: str) -> bool:
    odd = sum(char == "\ufffd" or (char < " " and not char.isspace()) for char in text)
    return odd > _NO_TEXT * len(text) and not text.startswith(_OPENING)


def _quoted(text: str, depth: int = _DEPTH) -> str | None:
    """The message of a text that is JSON; None where it is not, or has none."""
    if text[:1] not in ("{", "[", '"'):
        return None
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(answer, str):
        return _unquoted(answer, depth)
    return _message(answer, depth) or _one_level_down(answer, depth)


def _one_level_down(answer: object, depth: int) -> str | None:
    """The message of a part, where the whole has none: `base_resp`, `fault`, `result`."""
    parts = answer.values() if isinstance(answer, dict) and "choices" not in answer else ()
    found = (_message(part, depth - 1) for part in parts if isinstance(part, dict))
    return next(filter(None, found), None) if depth > 0 else None


def _unescaped(text: str) -> str:
    """What a JSON text without its end says."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _in_events(text: str) -> str:
    """What an event stream says: its data, else its comments."""
    fields = [line.partition(":") for line in text.splitlines()]
    said = [value.strip() for name, _, value in fields if name == "data"]
    data = "\n".join(value for value in said if value != "[DONE]").strip()
    return _quoted(data) or data or " ".join(value.strip() for name, _, value in fields if not name)


def _message(answer: object, depth: int = _DEPTH) -> str | None:
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    if isinstance(error, dict) and error:
        return _message_in(error, depth) or _dumped(error)
    if isinstance(error, list) and error:
        return "; ".join(_validation(item, depth) for item in error[:_DEPTH])
    if error:
        beside = _message_in({key: value for key, value in answer.items() if key != "error"}, depth)
        own = _unquoted(error, depth) if isinstance(error, str) else "" if beside else _dumped(error)
        return ": ".join(dict.fromkeys(filter(None, (own, beside))))
    if answer.get("object") == "error" or "choices" not in answer:
        return _message_in(answer, depth)
    return None


def is_html(body: bytes) -> bool:
    start = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<!--"))


def _without_code(text: str) -> str:
    """A page without its scripts and styles. One search goes on where the last ended, whatever the page is."""
    kept, at = [], 0
    while opened := _CODE.search(text, at):
        kept.append(text[at : opened.start()])
        closed = _CODE_ENDS[opened[1].lower()].search(text, opened.end())
        if closed is None:
            return " ".join(kept)
        at = closed.start()
    return " ".join((*kept, text[at:]))


def _title(page: str) -> str:
    """The title of a web page; found without a second look at any part of it."""
    opened = _TITLE.search(page)
    start = page.find(">", opened.end()) + 1 if opened else 0
    closed = _TITLE_END.search(page, start) if start else None
    return page[start : closed.start()].strip() if closed else ""


def _dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "nested too deeply to be shown"


def _message_in(fields: dict[str, Any], depth: int = _DEPTH) -> str | None:
    found = _first_of(fields, depth)
    title, raw = fields.get("title"), fields.get("metadata")
    if found and isinstance(title, str) and title and title != found:
        found = f"{title}: {found}"
    code = next((fields[key] for key in ("code", "type") if fields.get(key) == OUT_OF_QUOTA), None)
    if found and code is not None and code not in found:
        found = f"{found} ({code})"
    if found and isinstance(raw, dict) and isinstance(raw.get("raw"), str) and raw["raw"]:
        found = f"{found}: {_unquoted(raw['raw'], depth)}"
    return found


def _first_of(fields: dict[str, Any], depth: int) -> str | None:
    for key in _KEYS:
        value = fields.get(key)
        if isinstance(value, str) and value:
            return _unquoted(value, depth)
        if isinstance(value, list) and value:
            return "; ".join(_validation(item, depth - 1) for item in value[:_DEPTH])
        if isinstance(value, dict) and value:
            return (_message_in(value, depth - 1) if depth > 0 else None) or _dumped(value)
    return None


def _unquoted(text: str, depth: int) -> str:
    """A message that is itself the JSON of another one's error."""
    return (_quoted(text.strip(), depth - 1) if depth > 0 else None) or text


def _validation(item: object, depth: int) -> str:
    """One entry of FastAPI's list of validation errors."""
    if isinstance(item, dict) and "msg" in item:
        place = item.get("loc")
        where = (
            ".".join(str(part) for part in place[:_DEPTH] if isinstance(part, str | int))
            if isinstance(place, list)
            else ""
        )
        message = item["msg"] if isinstance(item["msg"], str) else _dumped(item["msg"])
        return f"{where}: {message}" if where else message
    if isinstance(item, dict):
        return (_message_in(item, depth) if depth > 0 else None) or _dumped(item)
    return item if isinstance(item, str) else _dumped(item)


def _flat(text: str) -> str:
    return " ".join(text.split())[:TEXT_LIMIT]
