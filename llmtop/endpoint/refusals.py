"""What servers say when they refuse, out of every shape they say it in.

{"error": {"message": "...", "type": ..., "code": ...}}    OpenAI, vLLM, SGLang, llama.cpp
{"error": "...", "error_type": ...}                        TGI; vLLM's 401
{"object": "error", "message": "..."}                      vLLM up to 0.10, LMDeploy, TensorRT-LLM
{"detail": "..."} or {"detail": [{"loc", "msg"}]}          FastAPI
[{"error": ...}]                                           Google's gateways
<html><title>...                                           proxies
"""

from __future__ import annotations

import json
import re
from typing import Any

TEXT_LIMIT = 4000
"""Characters of a server's message that are looked at: more than are shown, since secrets in it are hidden before it is
cut, or the half of one would stay."""

_READ = 4096
"""Characters of a web page without a title that are looked at."""
_DEPTH = 8
"""Messages within messages."""
_TITLE, _TITLE_END = re.compile("<title", re.IGNORECASE), re.compile("</title", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]+>")
_CODE = re.compile(r"<(script|style)\b", re.IGNORECASE)
_CODE_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}


def refusal_text(body: bytes) -> str:
    """The message inside an error body, on one line; empty when the body says nothing."""
    text = body.decode("utf-8", "replace").strip()
    if text[:1] in ("{", "["):
        try:
            found = message_of(json.loads(text))
        except (ValueError, RecursionError):
            found = None
        if found:
            return found
    if is_html(body):
        return _flat(_title(text) or _TAG.sub(" ", _without_code(text)[:_READ]))
    return _flat(text)


def message_of(answer: object) -> str | None:
    """The message inside a decoded error answer, on one line; None when it is no error."""
    found = _message(answer)
    return found if found is None else _flat(found)


def _message(answer: object) -> str | None:
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    if isinstance(error, str) and error:
        return error
    if isinstance(error, dict):
        return _message_in(error) or _dumped(error)
    if error:
        return _dumped(error)
    if answer.get("object") == "error" or "choices" not in answer:
        return _message_in(answer)
    return None


def is_html(body: bytes) -> bool:
    return body.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))


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


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header; None for the date form, which needs a wall clock."""
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 1e7 else None


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
    for key in ("message", "detail", "msg", "error", "reason"):
        value = fields.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list) and value:
            return "; ".join(_validation(item) for item in value[:_DEPTH])
        if isinstance(value, dict) and value:
            return (_message_in(value, depth - 1) if depth else None) or _dumped(value)
    return None


def _validation(item: object) -> str:
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
    return item if isinstance(item, str) else _dumped(item)


def _flat(text: str) -> str:
    return " ".join(text.split())[:TEXT_LIMIT]
