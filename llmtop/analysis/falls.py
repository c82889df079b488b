"""Times in which a server went away and was started anew: what failed then is no answer of it to any load."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmtop.analysis.sessions import Requests
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.run import Chapter
from llmtop.meter.facts import Facts
from llmtop.wording.restarts import is_restart

FALL_S = 15.0
"""A restart is seen so long after its first broken connection at most: processes that are told apart by their counters
alone are known to be another after nine scrapes."""
_AWAY = (EndpointState.DOWN, EndpointState.CONNECTING)

Span = tuple[float, float]


def falls_of(facts: Facts, *, over: bool) -> list[Span]:
    """From the first connection that broke to the chapter of the new start, of each restart.

    The last one has no end while the run goes on and it is not known what became of the server.

    Args:
        over: the run is; what nobody saw come back then was no restart.
    """
    signs = _signs(facts)
    falls = []
    for chapter in restarts_of(facts):
        sign_s = min((since_s for since_s, until_s in signs if since_s <= chapter.t_s <= until_s), default=chapter.t_s)
        falls.append((_first_broken(facts, sign_s), chapter.t_s))
    if signs and math.isinf(signs[-1][1]) and not over:
        falls.append((_first_broken(facts, signs[-1][0]), math.inf))
    return falls


def of_this_start(facts: Facts, requests: Requests, *, over: bool) -> Requests:
    """The requests that a verdict of now may rest on: sent since the server's last start, and not as it went away."""
    falls = falls_of(facts, over=over)
    if not falls:
        return requests
    started_s = max((chapter.t_s for chapter in restarts_of(facts)), default=-math.inf)
    kept = requests.sent_s >= started_s
    for start_s, stop_s in falls:
        ended = requests.error & (requests.end_s >= start_s) & (requests.end_s < stop_s)
        kept &= ~(ended | ((requests.sent_s >= start_s) & (requests.sent_s < stop_s)))
    return requests.pick(kept)


def open_fall(facts: Facts) -> float:
    """From when on it is not known yet whether what failed was a restart; infinite: nobody is away."""
    signs = _signs(facts)
    return signs[-1][0] - FALL_S if signs and math.isinf(signs[-1][1]) else math.inf


def restarts_of(facts: Facts) -> Sequence[Chapter]:
    """The chapters that begin with a new start of the server."""
    return [chapter for chapter in facts.chapters if is_restart(chapter.text)]


def _signs(facts: Facts) -> list[Span]:
    """Times in which nobody was there, from the event that says so to the one that says that it is back."""
    signs: list[Span] = []
    up, since_s = False, None
    for event in facts.events:
        if event.state in _AWAY and up and since_s is None:
            since_s = event.t_s
        elif event.state is EndpointState.UP:
            if since_s is not None:
                signs.append((since_s, event.t_s))
            up, since_s = True, None
    return signs if since_s is None else [*signs, (since_s, math.inf)]


def _first_broken(facts: Facts, sign_s: float) -> float:
    """When the first request broke off of those that did shortly before the sign; the sign itself: none did."""
    table = facts.requests
    size = len(table)
    end_s, broken = np.array(table.column("end_s")[:size]), np.array(table.column("broken")[:size]) > 0
    lately = end_s[broken & (end_s > sign_s - FALL_S) & (end_s <= sign_s)]
    return float(lately.min(initial=sign_s))
