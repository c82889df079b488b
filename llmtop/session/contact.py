"""What is in touch with the endpoint: a client, scrapes and the load, and what is at work beside the load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ServerSnapshot
from llmtop.endpoint.client import EndpointClient
from llmtop.load.canary import CanaryLane
from llmtop.load.engine import LoadEngine
from llmtop.session.driving import canary_for, engine_for
from llmtop.session.journal import Journal
from llmtop.session.known import Known
from llmtop.session.meant import Meant
from llmtop.session.options import SessionOptions
from llmtop.session.scaling import Scaling, source_of
from llmtop.session.scraping import Scraping, see_it_drain
from llmtop.session.targets import Target
from llmtop.session.work import Work, cancelled
from llmtop.telemetry.kubectl import Kubectl
from llmtop.telemetry.scraper import Scraper


class Contact:
    """Made as a probe has found the endpoint, ended for a restart, and made anew.

    Args:
        on_start: hears that another process answers than before.
    """

    def __init__(self, known: Known, meant: Meant, journal: Journal, work: Work, on_start: Callable[[], None]) -> None:
        self.client: EndpointClient | None = None
        self.scraper: Scraper | None = None
        self.engine: LoadEngine | None = None
        self.canary: CanaryLane | None = None
        self.scraping = Scraping(journal, self._hear_of_dialect, on_start)
        self._known, self._meant, self._journal, self._work = known, meant, journal, work
        self._kubectl = Kubectl(known.endpoint.secret_variables)
        """Of all that is asked of a cluster; starts nothing before it is asked."""
        self._scaling: Scaling | None = None
        self._beside: tuple[asyncio.Task[None], ...] = ()
        """Scrapes, looks for replicas, the canary."""
        self._draining: asyncio.Task[None] | None = None
        self._hurried = False

    async def make(self, options: SessionOptions, target: Target, info: EndpointInfo) -> ServerSnapshot | None:
        """Client, scrapes and load, and what goes on beside the load.

        Returns:
            After a server was away, what its metrics say first; None: nothing, or nobody was away.
        """
        endpoint, origin_ns, begin = self._known.endpoint, self._journal.origin_ns, self._work.begin
        self.client = client = EndpointClient(endpoint, info, options.profile.caps, origin_ns)
        self._known.learn(client, info)
        scraped = replace(endpoint, model=info.model)
        self.scraper = scraper = Scraper(scraped, info.dialect, origin_ns, kubectl=self._kubectl)
        if self._meant.away is None:
            await scraper.reach()
        first = await scraper.scrape() if self._meant.away is not None else None
        told = first if scraper.fresh else None
        scraping = begin(self.scraping.run(scraper, target, endpoint))
        if self._scaling is None:
            self._scaling = Scaling(
                source_of(endpoint, info, self._kubectl),
                now_s=lambda: self._journal.t_s,
                renew=self._renew,
                waiting=lambda: self.scraping.waiting,
                tell=self._journal.tell,
            )
        self._beside = (scraping, begin(self._scaling.run(lambda: scraper.seen)))
        self.engine = await engine_for(
            options,
            endpoint,
            info,
            client,
            wanted=self._meant.point,
            origin_ns=origin_ns,
            tell=self._journal.tell,
        )
        begin(self.engine.run())
        self.canary = await canary_for(options, endpoint, info, self.engine, origin_ns=origin_ns)
        if self.canary is not None:
            self._beside = (*self._beside, begin(self.canary.run()))
        return told

    def _renew(self) -> int | None:
        """Have the load open new connections, if there is any."""
        return self.engine.renew() if self.engine is not None and self.engine.in_flight else 0

    def _hear_of_dialect(self, dialect: Dialect) -> None:
        clients = (self.client, None if self.canary is None else self.canary.client)
        self._known.heed(dialect, [client for client in clients if client is not None])

    def take(self) -> tuple[FactBatch, ...]:
        """What became known of the load, and beside it, since the last call."""
        beside = FactBatch(
            t_s=self._journal.t_s,
            canaries=() if self.canary is None else self.canary.take(),
            scaling=() if self._scaling is None else self._scaling.take(),
        )
        return (beside,) if self.engine is None else (self.engine.take(), beside)

    def heed_stop(self) -> None:
        """Where there is no load any more, nothing else of ours is in flight."""
        if self.canary is not None:
            self.canary.look()

    async def end(self, tick: Callable[[], None]) -> None:
        """End client, scrapes and load; the load that was commanded stays the one that is meant.

        Args:
            tick: takes what the load told at its end.
        """
        await cancelled(self._beside)
        if self.engine is not None:
            self._meant.point = self.engine.target
            await self.engine.close()
            tick()
        for part in (self.scraper, self.client):
            if part is not None:
                await part.close()

    async def drain(self, foreign: float, drain_s: float, pause_s: float) -> None:
        """Wait for the server, which has other requests `foreign` beside ours, until somebody is in a hurry."""
        if self.scraper is not None and not self._hurried:
            seeing = see_it_drain(self.scraper, self._journal, foreign, drain_s, pause_s)
            self._draining = asyncio.create_task(seeing)
            await asyncio.wait({self._draining})
            if not self._draining.cancelled():
                self._draining.result()

    def hurry(self) -> None:
        """Wait for the server no longer."""
        self._hurried = True
        if self._draining is not None:
            self._draining.cancel()

    async def close(self) -> None:
        for part in (self.scraper, self._scaling, self.client, self._kubectl):
            if part is not None:
                await part.close()
