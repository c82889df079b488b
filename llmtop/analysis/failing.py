"""Runs in which nothing ended well: they say why, and nothing of where latency bends or what binds."""

from __future__ import annotations

from llmtop.domain.failures import FailureGroup
from llmtop.domain.request import Outcome
from llmtop.meter.facts import Facts
from llmtop.wording import failures

MOST = 0.5
"""Share of the failures from which one kind of them is told as what they mostly are."""


def all_failed(facts: Facts) -> bool:
    """Whether requests have failed and none has ended well."""
    table = facts.requests
    if facts.answered or table.column("ok").any() or _textless(facts) is not None:
        return False
    return bool(table.column("error").any())


def why_all_failed(facts: Facts) -> str:
    """`all 12 requests failed: HTTP 429 "slow down please"`; of a run where `all_failed`."""
    return failures.all_failed(facts.failures.groups())


def what_all_get(facts: Facts) -> str:
    """`all fail: HTTP 429 "slow down please"`, without a count: a line that stands as long as this is so."""
    groups = facts.failures.groups()
    return failures.all_fail(groups[0] if groups else None)


def dominating(facts: Facts) -> str:
    """`mostly HTTP 429 "slow down please"`; empty where no kind of failure is most of them."""
    groups = [group for group in facts.failures.groups() if group.outcome not in (Outcome.TEXTLESS, Outcome.LOST)]
    if not groups or groups[0].outcome is None or groups[0].count < MOST * sum(each.count for each in groups):
        return ""
    return failures.mostly(groups[0])


def without_text(facts: Facts) -> str:
    """`no answer had text: 3 tokens, none with text: special tokens`; empty where one had, or none came."""
    group = _textless(facts)
    return "" if facts.answered or group is None else failures.no_text(group)


def _textless(facts: Facts) -> FailureGroup | None:
    """The most frequent answers without text, which are no failures."""
    return next((group for group in facts.failures.groups() if group.outcome is Outcome.TEXTLESS), None)
