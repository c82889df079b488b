"""Display hysteresis: a verdict on the screen must not flicker with every new request."""

from __future__ import annotations

import re

import msgspec

from llmtop.domain.verdicts import CliffVerdict, Kind

NEW_REQUESTS = 10
"""Verdicts are computed again after so many new requests; two computations in a row must agree to change a kind."""

HOLD = 0.2
"""Figures of a shown sentence stay as they are while the present ones are within this share of them."""
_FIGURE = re.compile(r"\d+(?:\.\d+)?")


def steady(shown: str, fresh: str) -> str:
    """The sentence to show: the one shown if only its figures differ, and each by `HOLD` at most."""
    if _FIGURE.sub("#", shown) != _FIGURE.sub("#", fresh):
        return fresh
    pairs = zip(map(float, _FIGURE.findall(shown)), map(float, _FIGURE.findall(fresh)), strict=True)
    return shown if all(abs(now - before) <= HOLD * before for before, now in pairs) else fresh


def settled(shown: CliffVerdict, raw_before: CliffVerdict, raw: CliffVerdict) -> CliffVerdict:
    """The verdict to show.

    A settled verdict changes its kind only if two successive computations agree; its marker moves only if the new place
    leaves the interval shown, or if the interval halves.

    Args:
        shown: what the screen shows.
        raw_before: what the last computation said, which may not have been shown.
        raw: what this computation says.
    """
    if shown.kind is Kind.INSUFFICIENT:
        return raw
    if raw.kind is not shown.kind:
        return raw if raw_before.kind is raw.kind else shown
    if (shown.metric, shown.stat, shown.axis) != (raw.metric, raw.stat, raw.axis):
        return raw
    if raw.at is None or raw.low is None or raw.high is None:
        return raw
    if shown.low is None or shown.high is None or not shown.low <= raw.at <= shown.high:
        return raw
    if raw.high - raw.low <= 0.5 * (shown.high - shown.low):
        return raw
    return msgspec.structs.replace(raw, at=shown.at, low=shown.low, high=shown.high)
