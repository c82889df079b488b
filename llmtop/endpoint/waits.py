"""How long a server asks to wait, out of every header that servers say it in.

retry-after-ms, x-ms-retry-after-ms               OpenAI, Azure: milliseconds
Retry-After: 2 | 0.5 | 2 seconds | Wed, 21 Oct 2026 07:28:00 GMT    RFC 9110: seconds, or a date; some send fractions
x-ratelimit-reset-requests, -tokens: 6m0s         OpenAI, Groq: a duration; others: seconds, or an epoch
anthropic-ratelimit-*-reset: 2026-01-27T12:00:30Z    Anthropic: a time (RFC 3339)
(x-)ratelimit-reset, x-rate-limit-reset           IETF's draft: seconds; OpenRouter, GitHub: an epoch, in ms or s
RateLimit: "default";r=0;t=11 | limit=9, remaining=0, reset=11    IETF's later drafts
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from llmtop.domain.request import TURNED_AWAY

LONGEST_S = 1e7
"""What asks for more is no request to wait, but a mistake: four months."""

_EPOCH = 1e9
"""Numbers from here on are times since 1970 instead of seconds to wait, and a thousandfold of it milliseconds."""
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_WORD = re.compile(r"(\d+(?:\.\d+)?)\s*(?:s|secs?|seconds?)", re.IGNORECASE)
_IN_ONE = re.compile(r"(?:^|[;,\s])(r|remaining|t|reset)=(\d{1,18})")
_RESET = re.compile(r"(?:x-|anthropic-)?rate-?limit(?:-[a-z-]+)?-reset(?:-[a-z-]+)?")


def wait_s(status: int, headers: Iterable[tuple[str, str]], now_s: float) -> float | None:
    """Seconds that a refusal asks to wait before the next request; None: it does not say.

    What tells when a limit is reset counts only where that limit refuses: its `remaining` is 0, or none is told, of
    which the soonest is taken.

    Args:
        headers: names in lower case.
        now_s: the wall clock, Unix seconds. A `Date` of the server's is used instead where it sends one, as its other
            times are by that clock.
    """
    told = dict(reversed(list(headers)))
    served_s = _date_s(told.get("date", ""))
    now_s = now_s if served_s is None else served_s
    milliseconds = _number(told.get("retry-after-ms", told.get("x-ms-retry-after-ms", "")))
    asked = None if milliseconds is None else milliseconds / 1e3
    if asked is None:
        asked = _span_s(told.get("retry-after", told.get("x-retry-after", "")), now_s)
    if asked is None and status in TURNED_AWAY:
        asked = _reset_s(told, now_s)
    return asked if asked is not None and asked < LONGEST_S else None


def _reset_s(told: dict[str, str], now_s: float) -> float | None:
    for name, value in _IN_ONE.findall(told.get("ratelimit", "")):
        told.setdefault("ratelimit-reset" if name in ("t", "reset") else "ratelimit-remaining", value)
    resets = {name: _span_s(value, now_s) for name, value in told.items() if _RESET.fullmatch(name)}
    known = {name: seconds for name, seconds in resets.items() if seconds is not None}
    spent = [s for name, s in known.items() if _number(told.get(name.replace("reset", "remaining"), "")) == 0]
    unsaid = [s for name, s in known.items() if name.replace("reset", "remaining") not in told]
    return max(spent) if spent else min(unsaid, default=None)


def _span_s(value: str, now_s: float) -> float | None:
    """Seconds from now; None: nothing that can be read. What is over is no wait."""
    value = value.strip()
    word = _WORD.fullmatch(value)
    number = _number(word[1] if word else value)
    if number is not None:
        if number < _EPOCH:
            return number
        return max(0.0, number / (1e3 if number >= 1e3 * _EPOCH else 1.0) - now_s)
    parts = _PARTS.findall(value)
    if parts and "".join(amount + unit for amount, unit in parts) == value:
        return float(sum(float(amount) * _UNITS[unit] for amount, unit in parts))
    at_s = _date_s(value)
    return None if at_s is None else max(0.0, at_s - now_s)


def _number(value: str) -> float | None:
    """A number from 0 on in plain digits."""
    return float(value) if re.fullmatch(r"\s*\d{1,18}(\.\d{0,9})?\s*", value, re.ASCII) else None


def _date_s(value: str) -> float | None:
    """Unix seconds of a date, of HTTP's form or RFC 3339's; one without a zone is UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(value.strip())
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
