"""Who answers at one address, scrape by scrape: one server, the same started anew, or several in turn.

A process tells itself apart by its start time, or else by counters that only grow. One that is not the process of
before is a server started anew if nobody answered in between, or if it stays; behind a load balancer the one of before
comes back. Until that is known a page belongs to nobody: no figure, no rate and no curve may rest on it.
"""

from __future__ import annotations

from enum import StrEnum

from llmtop.telemetry.signals import START_BLUR_S, PageValues, interval

STAYS = 3
"""Scrapes in a row by the same new process, after which it is the old one started anew. Behind a balancer that picks
one of two at random, a quarter of all new ones stay so long."""
STAYS_BY_COUNTS = 9
"""The same where processes are told by their counters alone: of up to eight that take turns, those that have counted
more each time look like one that counts on, until the turn is the first one's again."""
TURNS = 2
"""Times that the process of before came back, or a third one came, from which there are several: counters that fell and
rose may do so once by themselves. A start time that comes back does not."""
WITHIN = 60
"""Scrapes in which they must lie."""
MOST_STARTS = 64
"""Start times that are remembered, the newest."""


class Answering(StrEnum):
    """Whose page was read."""

    SAME = "same"
    UNSURE = "unsure"
    """Another process's: started anew, or another replica."""
    RESTARTED = "restarted"
    SEVERAL = "several"


class Identity:
    """What is known of those who answer at one address."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        """Start times of all that have answered, where they tell it."""
        self.several = False
        self._known: PageValues | None = None
        self._other: PageValues | None = None
        self._stayed = 0
        self._missed = False
        self._scrapes = 0
        self._turns: list[int] = []

    def miss(self) -> None:
        """A scrape got no answer."""
        self._missed = True

    def take(self, page: PageValues) -> Answering:
        """Whose page this is."""
        missed, self._missed = self._missed, False
        self._scrapes += 1
        came_back = self._remember(page.gauges.get("process_start_s"))
        if self.several or came_back:
            self.several = True
            return Answering.SEVERAL
        if self._known is None:
            return self._adopt(page, Answering.SAME)
        if _follows(self._known, page):
            if self._other is not None and self._turn():
                return Answering.SEVERAL
            return self._adopt(page, Answering.SAME)
        if self._other is None and missed:
            return self._adopt(page, Answering.RESTARTED)
        if self._other is not None and not _follows(self._other, page) and self._turn():
            return Answering.SEVERAL
        stays = self._other is not None and _follows(self._other, page)
        self._stayed = self._stayed + 1 if stays else 1
        self._other = page
        enough = STAYS_BY_COUNTS if "process_start_s" not in page.gauges else STAYS
        return self._adopt(page, Answering.RESTARTED) if self._stayed >= enough else Answering.UNSURE

    def _adopt(self, page: PageValues, answering: Answering) -> Answering:
        self._known, self._other, self._stayed = page, None, 0
        return answering

    def _turn(self) -> bool:
        """Somebody else's turn once more; whether that makes them several."""
        self._turns = [each for each in self._turns if each > self._scrapes - WITHIN]
        self._turns.append(self._scrapes)
        self.several = len(self._turns) >= TURNS
        return self.several

    def _remember(self, start_s: float | None) -> bool:
        """Keep a start time; whether it came back after another one."""
        if start_s is None or (self.starts and _same(self.starts[-1], start_s)):
            return False
        earlier = next((each for each in self.starts if _same(each, start_s)), None)
        if earlier is not None:
            self.starts.remove(earlier)
        self.starts = [*self.starts[1 - MOST_STARTS :], start_s]
        return earlier is not None


def _same(one_s: float, other_s: float) -> bool:
    return abs(one_s - other_s) <= START_BLUR_S


def _follows(before: PageValues, after: PageValues) -> bool:
    """Whether one process can have told the one page and then the other."""
    return not interval(before, after).restarted
