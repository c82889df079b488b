"""Whether the server cuts prompts to its context: what it counts stays, however much more it is sent.

A tokenizer with other words than ours counts in proportion, and is learnt within a few answers. A gateway that tells
one number for every prompt tells a small one, and one that leaves out what a cache held tells how much that was.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from llmtop.meter.facts import Facts
from llmtop.wording.sentences import CUT

FEWEST = 8
"""Prompts that were cut."""
MOST = 0.9
"""Share of the prompts that were longer than what was counted, of which that much was counted."""
SAME = 0.02
"""Share of their length by which cut prompts differ: a server cuts between blocks, or keeps a template whole."""
LEAST_TOKENS = 256
"""No server has a shorter context."""


class Cut(Struct, frozen=True):
    """Lengths of prompts that were cut, in tokens."""

    used: float
    """What the server counted."""
    sent: float
    """Median of what was asked for."""


def cut_of(facts: Facts) -> Cut | None:
    """To what the server cuts the prompts since the last chapter; None: it does not, or that is not known."""
    table, size = facts.requests, len(facts.requests)
    since_s = max((chapter.t_s for chapter in facts.chapters), default=-np.inf)
    names = ("asked_prompt_tokens", "prompt_tokens", "cached_tokens", "ok", "sent_s")
    asked, counted, cached, ok, sent_s = (np.array(table.column(name)[:size]) for name in names)
    ended = (ok > 0) & (sent_s >= since_s)
    short = ended & (counted + np.nan_to_num(cached) < CUT * asked)
    if short.sum() < FEWEST:
        return None
    used = float(np.median(counted[short]))
    longer = ended & (asked > used / CUT)
    there = longer & (np.abs(counted - used) <= SAME * used)
    if used < LEAST_TOKENS or there.sum() < MOST * longer.sum():
        return None
    return Cut(used, float(np.median(asked[short])))
