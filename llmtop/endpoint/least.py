"""The least output length that a refusal asks for. Pure.

Servers complain of lengths in both directions, and of other lengths in the same words. A bound counts only where it is
said of the output length, and in a form that can mean nothing but a least: what is required (must be at least 16), what
is forbidden below it (cannot be less than 16), a range or a minimum. What is described (you requested at least 257,
8192 > 4096, is greater than 4096) and any talk of prompt, input or context tells nothing.
"""

from __future__ import annotations

import re

MOST = 1024
"""Least lengths above this are not asked for: that is another complaint."""
READ = 1000
"""Characters of a refusal that are looked at: what it is about stands at its beginning."""
UNTOLD = 0
"""As a least length: what was asked is too short, and no more is told."""

_FIELD = (
    r"max[_ ]?(?:completion|output|new|gen|generation)?[_ ]?tokens?|(?:output|completion|generated) (?:tokens|length)"
    r"|n(?:um)?_predict"
)
_OTHERWISE = (
    r"context|prompt|inputs?\b(?! should\b| validation\b|['\"])|input_(?!value\b|type\b)|messages|window|model_len"
    r"|thinking|budget|per minute|per day"
)
"""Another length is the matter. What pydantic and TGI call input is all that was sent."""
_CLAUSES = r"[;\n]|\.\s|,\s+(?!\d)|\b(?:and|but|while)\s+(?!\d)"

_WORDS = (
    rf"(?:{_FIELD}|an?|allowed|be|error|for|have|in|input|integer|invalid|is|its?|length|number|of|or"
    r"|param(?:eter)?|positive|required|set|size|strictly|supported|than|that|the|this|to|tokens|valid|validation|values?)\b"
)
_FILL = rf"(?:[\s:='\"`(*]|{_WORDS}){{0,40}}+"
"""What may stand between the parts of a bound and changes nothing of it; no `not` is in it."""
_MUST = (
    rf"(?<!not )(?<!n't )(?<!never )\b(?:must|should|shall|has to|have to|needs?|expect(?:s|ed)?|requires?|required"
    rf"|ensure|use|set|increase|raise)\b{_FILL}"
)
_MORE = r"(?:greater|more|larger|higher)"
_N = r"\s*(?P<n>\d{1,3}(?:,\d{3})+|\d+)(?![.,]?\d|\s*[k%])"
_NOT = (
    rf"(?:{_MUST}not|not allowed to|(?:may|can) ?not|can't|mustn't|shouldn't|(?<!is )(?<!are )(?<!was )no)\s+(?:be\s+)?"
)
_BOUNDS = (
    rf"{_MUST}(?:>=|=>|≥|(?:{_MORE} than or equal|equal to or {_MORE} than)(?: to)?|at least){_N}",
    rf"{_MUST}(?P<beyond>>|{_MORE} than|above|over|exceed){_N}",
    rf"{_MUST}{_N}\s+or (?:above|over|{_MORE})\b",
    rf"\b{_NOT}(?:(?:less|lower|smaller|fewer|shorter) than|below|under){_N}",
    rf"(?:^|[:(-]|(?:{_FIELD})['\"`]?)\s*(?:at least|>=|≥){_N}(?! too\b)",
    rf"\bmin(?:imum)?\b{_FILL}{_N}",
    rf"{_MUST}between{_N}\s*\Z",
    rf"(?:\b(?:range|within){_FILL}(?:from\b)?|\bbetween\b|{_MUST}(?:from|between)?)\s*\[?\s*(?P<n>\d+)"
    r"(?:\s*\(inclusive\))?\s*(?:,|and\b|to\b|-|–|\.\.+)\s*(?P<most>\d+)",
)
_BEFORE = rf"(?:\W|\d+\b|{_WORDS}|(?:api|below|endpoint|less|lower|model|msg|provider|server|small|too|you)\b)*+\Z"
"""What may stand before a bound whose clause names the output length behind it, or in the clause before."""
_TOO_SHORT = (
    r"\btoo (?:low|small|few|short)\b|(?:below|under|(?:less|lower|smaller|fewer) than)(?: the)?(?: allowed)? min"
)


def least_length(message: str) -> int | None:
    """The least output length that a refusal asks for, or UNTOLD; None: it complains of something else."""
    message = message[:READ]
    if not _said(_FIELD, message) or _said(_OTHERWISE, message):
        return None
    is_short = False
    is_about = False
    for clause in re.split(_CLAUSES, message, flags=re.I):
        is_about = _said(_FIELD, clause) or (is_about and "_" not in clause)
        if not is_about:
            continue
        if (told := _bound_in(clause)) is not None:
            return told if 1 < told <= MOST else None
        is_short = is_short or _said(_TOO_SHORT, clause)
    return UNTOLD if is_short else None


def _bound_in(clause: str) -> int | None:
    for found in (found for bound in _BOUNDS for found in re.finditer(bound, clause, re.I)):
        if not (_said(_FIELD, clause[: found.end()]) or re.match(_BEFORE, clause[: found.start()], re.I)):
            continue
        told = found.groupdict()
        least = int(told["n"].replace(",", ""))
        if least < int(told.get("most") or least + 1):
            return least + 1 if told.get("beyond") else least
    return None


def _said(pattern: str, text: str) -> bool:
    """By a pattern that is compiled when it is needed: most runs hear no refusal, and all would begin later for it."""
    return re.search(pattern, text, re.I) is not None
