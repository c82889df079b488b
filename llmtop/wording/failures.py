"""How failures are told: one form on the screen, in a line of progress, in a report and in a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.failures import MOST_NAMES, FailureGroup
from llmtop.domain.request import Outcome
from llmtop.wording.figures import TEXT, Figures, clock

ALL_FAIL = "all fail"
_HOW = {Outcome.HTTP_ERROR: "no answer"}


def failure(group: FailureGroup, figures: Figures = TEXT) -> str:
    """What happened: `HTTP 429 "slow down please", the server asks to wait 2 s`; `stream error "out of memory"`."""
    return f"{_what(group)}{_wait(group, figures)}"


def failure_seen(group: FailureGroup, figures: Figures = TEXT) -> str:
    """With how often and when: `HTTP 429 "slow down please" ×12, first 00:03, last 00:41`."""
    return f"{_what(group)} ×{figures.whole(group.count)}{_when(group)}{_wait(group, figures)}"


def _what(group: FailureGroup) -> str:
    if group.outcome is None:
        return "failures of other kinds"
    if group.outcome is Outcome.HTTP_ERROR and group.status is not None:
        what = f"HTTP {group.status}"
    else:
        what = _HOW.get(group.outcome, group.outcome.replace("_", " "))
    said = f' "{group.text}"' if group.text else ""
    return f"{what}{said}{_of(group.names)}"


def _of(names: Sequence[str]) -> str:
    """` (answer, search)`: what the requests were called, where they have names."""
    return f" ({', '.join(names)}{', ...' if len(names) == MOST_NAMES else ''})" if names else ""


def all_failed(groups: Sequence[FailureGroup]) -> str:
    """`all 12 requests failed: HTTP 429 "slow down please"`; of several kinds the most frequent.

    Args:
        groups: the most frequent first; none: nothing is known of why.
    """
    if not groups:
        return "all requests failed"
    count = sum(group.count for group in groups)
    who = "the one request" if count == 1 else f"all {TEXT.whole(count)} requests"
    return f"{who} failed{', most often' if len(groups) > 1 else ''}: {failure(groups[0])}"


def all_fail(group: FailureGroup | None) -> str:
    """`all fail: HTTP 429 "slow down please"`; None: nothing is known of why."""
    return ALL_FAIL if group is None else f"{ALL_FAIL}: {failure(group)}"


def mostly(group: FailureGroup) -> str:
    """`mostly HTTP 429 "slow down please"`: of the failures that a limit is missed by."""
    return f"mostly {failure(group)}"


def no_text(group: FailureGroup) -> str:
    """`no answer had text: 3 tokens, none with text: special tokens`"""
    return f"no answer had text: {group.text}"


def _when(group: FailureGroup) -> str:
    first, last = clock(group.first_s), clock(group.last_s)
    return f", at {first}" if first == last else f", first {first}, last {last}"


def _wait(group: FailureGroup, figures: Figures) -> str:
    if not group.retry_after_s:
        return ""
    return f", the server asks to wait {figures.duration(group.retry_after_s)}"
