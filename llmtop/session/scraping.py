"""Pages of metrics once a second, beside the load: their facts, and what is odd about them in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.samples import ServerSnapshot
from llmtop.session.journal import Journal
from llmtop.session.targets import Target
from llmtop.telemetry.gpu import GpuReader
from llmtop.telemetry.scraper import Scraper
from llmtop.wording.between import IN_TURN
from llmtop.wording.knobs import replicas_text
from llmtop.wording.replicas import started_anew

EVERY_S = 1.0


class Scraping:
    """Of one server after the other: what was seen last stays known when it goes.

    Args:
        on_dialect: hears that the pages are another dialect's than they were taken for.
        on_start: hears that another process answers than before.
    """

    def __init__(self, journal: Journal, on_dialect: Callable[[Dialect], None], on_start: Callable[[], None]) -> None:
        self.seen: ServerSnapshot | None = None
        """The last scrape that told something."""
        self._journal, self._on_dialect, self._on_start = journal, on_dialect, on_start
        self._gpus = GpuReader()

    @property
    def waiting(self) -> float:
        return (self.seen and self.seen.waiting) or 0.0

    async def run(self, scraper: Scraper, target: Target, endpoint: Endpoint) -> None:
        """Scrape until cancelled."""
        gpus_are_its = not endpoint.simulated and endpoint.is_here
        tell, dialect, lacking, said = self._journal.tell, scraper.dialect, None, None
        while True:
            started_s = self._journal.t_s
            self._keep(await scraper.scrape(), scraper, target)
            if scraper.dialect is not dialect:
                dialect = scraper.dialect
                self._on_dialect(dialect)
            for name in scraper.anew:
                tell("server", started_anew(name), "warning")
            missing = None if scraper.in_turn else scraper.missing
            stays = missing == lacking and bool(endpoint.metrics_urls)
            if missing is not None and missing != said and (scraper.partly or stays):
                said = missing
                tell("server", missing, "warning")
            lacking = missing
            said = None if missing is None else said
            if scraper.restarted:
                self._on_start()
            if scraper.in_turn and scraper.fresh:
                tell("server", scraper.missing or IN_TURN, "warning")
                if target.bank is not None:
                    target.bank.withdraw(replicas_text())
            self._journal.gpus.extend(scraper.gpus)
            if gpus_are_its and not scraper.gpus:
                self._journal.gpus.extend(await asyncio.to_thread(self._gpus.read, self._journal.t_s))
            await asyncio.sleep(max(0.0, EVERY_S - (self._journal.t_s - started_s)))

    def _keep(self, snapshot: ServerSnapshot, scraper: Scraper, target: Target) -> None:
        if scraper.fresh:
            self.seen = snapshot if scraper.in_turn else target.over(snapshot)
            self._journal.scraped.append(self.seen)


async def see_it_drain(scraper: Scraper, journal: Journal, foreign: float, drain_s: float, pause_s: float) -> None:
    """Wait until the server's own count is back to what was there beside us; say so if it does not come back."""
    if drain_s <= 0 or (scraper.missing is not None and not scraper.partly):
        return
    deadline_s = journal.t_s + drain_s
    while journal.t_s < deadline_s:
        snapshot = await scraper.scrape()
        journal.scraped.append(snapshot)
        left = None if snapshot.running is None else snapshot.running + (snapshot.waiting or 0.0)
        if left is None:
            return
        if left <= foreign:
            journal.tell("load", "the server has drained")
            return
        await asyncio.sleep(pause_s)
    journal.tell("load", f"{drain_s:g} s after all of ours were cancelled the server still has {left:g}", "warning")
