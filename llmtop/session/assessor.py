"""Opinions while a run goes on: one object that a screen or a headless run asks once a second, from one thread."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from llmtop.analysis import assess
from llmtop.analysis.search import CapacitySearch
from llmtop.domain.commands import Command, SetLoad, StopLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment, SearchProgress
from llmtop.meter import Facts

FULL_EVERY_S = 5.0
"""Intervals cost a bootstrap; they are renewed this often."""


class Assessor:
    """Judges facts, remembers the judgement before, and steers a capacity search if one is on.

    Args:
        meta: asked each time, because a run learns about its endpoint after its start; None: not known yet.
        send: where a search sends its load; None: nothing can be searched (a recording).
    """

    def __init__(
        self, meta: Callable[[], RunMeta | None], slo: Slo, send: Callable[[Command], None] | None = None
    ) -> None:
        self.slo = slo
        self.progress: SearchProgress | None = None
        """Of the search that is on, or the last word of the one that has ended; None: there was none."""
        self._meta = meta
        self._send = send
        self._search: CapacitySearch | None = None
        self._ended: CapacitySearch | None = None
        self._base: LoadPoint | None = None
        self._refusal = ""
        self._full_at_s = 0.0

    def __call__(self, facts: Facts, previous: Assessment | None = None, *, full: bool | None = None) -> Assessment:
        """All opinions over the facts so far. `full` None: with intervals every `FULL_EVERY_S`."""
        meta = self._meta()
        if meta is None:
            return previous or Assessment()
        if previous is not None and facts.t_s < previous.t_s:
            previous, self._full_at_s = None, 0.0
        if full is None:
            full = facts.t_s >= self._full_at_s
        if full:
            self._full_at_s = facts.t_s + FULL_EVERY_S
        self._steer(facts)
        assessment = assess(facts, meta, self.slo, now_s=facts.t_s, previous=previous, full=full)
        search = self._search or self._ended
        if search is not None and search.tested and self._same_load(facts):
            assessment = replace(assessment, capacity=search.capacity)
        return assessment

    def _same_load(self, facts: Facts) -> bool:
        """Whether the load is still of the lengths that were searched."""
        if self._base is None or not facts.changes:
            return False
        now = facts.changes[-1].point
        return replace(now, concurrency=None, rate_rps=None) == replace(self._base, concurrency=None, rate_rps=None)

    @property
    def running(self) -> bool:
        """Whether a search has the wheel."""
        return self._search is not None

    @property
    def text(self) -> str:
        """What the search does or has found; why it could not start."""
        return self.progress.text if self.progress is not None else self._refusal

    def start(self) -> None:
        """Begin a capacity search, if there is something to search; else `text` says why not."""
        meta = self._meta()
        if self._send is None:
            self._refusal = "a recording has no capacity to search for"
        elif meta is None or meta.info is None:
            self._refusal = "the endpoint is not connected yet"
        elif self._search is None:
            self._base = meta.profile.plan.base
            self._search = CapacitySearch(self.slo, self._base, max_concurrency=meta.profile.caps.max_concurrency)
            self.progress = None

    def stop(self) -> None:
        """End the search where it stands; what it has measured stays among the facts."""
        if self._search is not None:
            self._search.stop()
            self._ended, self._search = self._search, None

    def _steer(self, facts: Facts) -> None:
        if self._search is None or self._send is None:
            return
        wanted = self.progress.point if self.progress is not None else None
        self.progress = self._search.next(facts, facts.t_s)
        if self.progress.point is None:
            self._ended, self._search = self._search, None
            self._send(StopLoad())
        elif self.progress.point != wanted:
            self._send(SetLoad(self.progress.point, "search"))
