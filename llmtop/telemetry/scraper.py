"""Once a second: ask a server what it is doing, on a connection that the load does not use.

The scraper never raises for what a server does. What it could not read is None in the snapshot, and `missing` says in
a sentence why, and which server flag closes the gap. Values of a server that stops answering stay, with their age.
Replicas may come and go: places that list them are looked at again while the run goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from time import perf_counter_ns
from urllib.parse import urlsplit

import msgspec

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.endpoint import Dialect, Endpoint, host_and_port, safe_url
from llmtop.domain.places import DnsName, KubeService, asked_in, pages_in, place_in, places_in
from llmtop.domain.plain import LONG
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.endpoint.access import Access
from llmtop.errors import SessionLost
from llmtop.telemetry.kept_pods import KeptPods
from llmtop.telemetry.kubectl import Kubectl
from llmtop.telemetry.kubernetes import ServicePods
from llmtop.telemetry.places import USUAL_PAGE, Lookout, NameAddresses, Place
from llmtop.telemetry.replica import OWN_PAGE, Replica, root_of
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.summary import Totals, summarise
from llmtop.wording import replicas as words

__all__ = ["OWN_PAGE", "Scraper"]

FORGOTTEN_S = 60.0
"""How long a replica that left keeps its row."""


class Scraper:
    """Reads the metrics of one endpoint and of all its replicas.

    Args:
        endpoint: where; `metrics_urls` name the replicas' pages or places that list them, else the dialect's usual path
            is asked.
        dialect: whose names to look for. A page that is plainly another dialect's is read as that one, and `dialect`
            says so.
        origin_ns: start of the run on the `perf_counter_ns` clock.
        period_s: how often `scrape` will be called.
        kubectl: what asks a cluster, which somebody else closes; None: one of its own.

    Raises UsageError as `Access`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dialect: Dialect,
        origin_ns: int,
        period_s: float = 1.0,
        kubectl: Kubectl | None = None,
    ) -> None:
        self.missing: str | None = None
        """None: metrics flow. Otherwise why they do not, and what to do about it."""
        self.partly = False
        """Of some replicas they flow."""
        self.restarted = False
        """The server, or all its replicas, started anew between the last two readings."""
        self.anew: tuple[str, ...] = ()
        """Names of the replicas that started anew between the last two readings while others went on."""
        self.seen: tuple[ReplicaSeen, ...] = ()
        """The replicas of the last scrape, those that left a short while ago included; () where there is one server
        alone that no place has listed."""
        self.in_turn = False
        """Several servers are known to answer at one address: what they show is nobody's, and the first snapshot since
        then, which has no figure, says that those of before are not known any more."""
        self.stale_s: float | None = None
        """Age of the values once `MISSES_UNTIL_STALE` tries in a row got nothing; None while they are fresh."""
        self.hidden = False
        """Something in front of the engine answers in the place of its page, or alters it."""
        self.fresh = False
        """The last snapshot holds something that was read for it."""
        self.known: frozenset[str] = frozenset()
        """Fields of `ServerSnapshot` that the server exports, whether they have a value yet or not."""
        self.gpus: tuple[GpuSnapshot, ...] = ()
        """From those metrics URLs that turned out to be GPU exporters."""
        self.period_s = period_s
        self._origin_ns = origin_ns
        self._endpoint = endpoint
        self._table = DIALECTS[dialect]
        access = Access(endpoint)
        self._heard = access.heard
        self._keeps_kubectl = kubectl is None
        self._kubectl = Kubectl(endpoint.secret_variables) if kubectl is None else kubectl
        self._usual = _usual_pages(endpoint, self._table)
        self._client = access.stock_client((*asked_in(endpoint.metrics_urls), *self._usual))
        self._lookouts = [Lookout(safe_url(url), self._place(url, access)) for url in places_in(endpoint.metrics_urls)]
        pages = pages_in(endpoint.metrics_urls)
        self._replicas = {url: self._new(url, _name_among(url, pages), url) for url in pages}
        if not endpoint.metrics_urls:
            self._add_own()
        self._began_s = time.time() - (perf_counter_ns() - origin_ns) / 1e9
        self._totals = Totals(self._began_s)

    def _place(self, url: str, access: Access) -> Place:
        place, shown = place_in(url), safe_url(url)
        path = self._table.metrics_path or USUAL_PAGE
        if isinstance(place, DnsName):
            return NameAddresses(shown, place, path)
        if isinstance(place, KubeService):
            return ServicePods(shown, place, path, self._kubectl)
        assert place is not None
        return KeptPods(shown, place, self._table, self._client, access)

    @property
    def dialect(self) -> Dialect:
        """Whose names the pages have: the one that was told, unless all that were read are another one's."""
        seen = {replica.table.dialect for replica in self._replicas.values() if replica.figures is not None}
        return seen.pop() if len(seen) == 1 else self._table.dialect

    async def reach(self) -> None:
        """Look for replicas before anything is driven. Raises SessionLost where none of what was named tells of any."""
        await self._look()
        problems = [lookout.place.problem for lookout in self._lookouts if lookout.place.problem is not None]
        if problems and not self._replicas:
            raise SessionLost(self._heard(problems[0], LONG))

    async def _look(self) -> None:
        asked_s = self._now_s()
        await asyncio.gather(*(lookout.turn(asked_s) for lookout in self._lookouts))
        for lookout in self._lookouts:
            self._follow(lookout, self._now_s())

    async def scrape(self) -> ServerSnapshot:
        """Ask every replica once, all at the same time, and add up what they say."""
        await self._look()
        asked_s = self._now_s()
        await asyncio.gather(*(replica.read(self._client, asked_s) for replica in self._replicas.values()))
        if self._replicas and all(replica.gpus for replica in self._replicas.values()):
            await self._add_own().read(self._client, asked_s)
        now_s = self._now_s()
        self.gpus = tuple(
            msgspec.structs.replace(gpu, name=self._heard(gpu.name))
            for replica in self._replicas.values()
            for gpu in replica.gpus
        )
        engines = [replica for replica in self._replicas.values() if not replica.gpus]
        self._explain(engines)
        self.hidden = any(replica.hidden for replica in engines if replica.problem is not None)
        self.known = frozenset(field for replica in engines for field in replica.known)
        reads_s = [replica.read_s for replica in engines if replica.read_s is not None]
        read_s = max(reads_s, default=now_s)
        before, self.in_turn = self.in_turn, any(replica.who.several for replica in engines)
        told = any(replica.told_something for replica in engines)
        self.fresh = not before if self.in_turn else told
        kept = any(replica.is_kept for replica in engines)
        age_s = 0.0 if (self.fresh and not kept) or not reads_s else now_s - read_s
        all_miss = all(replica.gone for replica in engines)
        self.stale_s = age_s if reads_s and all_miss else None
        snapshot = self._summed(now_s, age_s, engines)
        self.restarted = self._totals.restarted
        self._see(engines)
        return ServerSnapshot(t_s=now_s) if self.in_turn else snapshot

    def _summed(self, now_s: float, age_s: float, engines: Sequence[Replica]) -> ServerSnapshot:
        snapshot = summarise(now_s, age_s, [replica.reading() for replica in engines], self._totals)
        rows = tuple((self._heard(name), *figures) for name, *figures in snapshot.replicas)
        return msgspec.structs.replace(snapshot, replicas=rows)

    def _follow(self, lookout: Lookout, now_s: float) -> None:
        """Have the replicas that a place lists, and let go of those that it lists no more."""
        mine = {key: each for key, each in self._replicas.items() if key.startswith(f"{lookout.url} ")}
        if lookout.looked is False:
            for replica in mine.values():
                replica.miss()
        if lookout.looked:
            for found in lookout.found:
                key = f"{lookout.url} {found.key}"
                mine.pop(key, None)
                if key not in self._replicas:
                    self._replicas[key] = self._new(key, found.name, found.url)
                self._replicas[key].take(found)
            for replica in mine.values():
                replica.leave(now_s)
        for key, replica in tuple(self._replicas.items()):
            if replica.left_s is not None and now_s - replica.left_s > FORGOTTEN_S:
                del self._replicas[key]

    def _new(self, key: str, name: str, url: str) -> Replica:
        urls = (url,) if url else ()
        return Replica(key, name, root_of(url) if url else "", urls, self._table, self._endpoint.model)

    def _add_own(self) -> Replica:
        """The endpoint itself."""
        endpoint = self._endpoint
        name = _host_of(endpoint.base_url)
        own = Replica("", name, endpoint.base_url, self._usual, self._table, endpoint.model)
        self._replicas[own.key] = own
        return own

    def _explain(self, engines: Sequence[Replica]) -> None:
        """Say why figures are missing, if they are, and whether of all."""
        note = next((replica.note for replica in engines if replica.note is not None), None)
        awaited = [replica for replica in engines if replica.is_awaited]
        problems = [replica.problem for replica in awaited if replica.problem is not None]
        places = [lookout.place.problem for lookout in self._lookouts if lookout.place.problem is not None]
        self.partly = note is None and any(replica.answers_now for replica in engines)
        missing = note
        if note is None and problems and len(problems) < len(awaited):
            missing = words.pages_missing(len(problems), len(awaited), problems[0])
        elif note is None:
            missing = next(iter((*problems, *places)), None)
            if missing is None and not awaited and self._lookouts:
                missing = words.nobody_there(self._lookouts[0].url)
        self.missing = None if missing is None else self._heard(missing, LONG)

    def _see(self, engines: Sequence[Replica]) -> None:
        """Which replicas there are, and which of them started anew without the others."""
        alone = len(engines) < 2 and not self._lookouts
        started = (each for each in engines if each.change is not None and each.change.restarted)
        self.anew = () if self.restarted else tuple(self._heard(each.name) for each in started)
        self.seen = () if alone else tuple(replica.seen(self._began_s) for replica in engines)

    async def close(self) -> None:
        for lookout in self._lookouts:
            await lookout.close()
        if self._keeps_kubectl:
            await self._kubectl.close()
        await self._client.aclose()

    def _now_s(self) -> float:
        return (perf_counter_ns() - self._origin_ns) / 1e9


def _host_of(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _name_among(url: str, pages: Sequence[str]) -> str:
    """By its host and port, and by its path where others are there, too."""
    host = _host_of(url)
    alone = sum(_host_of(page) == host for page in set(pages)) == 1
    return host if alone else f"{host}{urlsplit(url).path}"


def _usual_pages(endpoint: Endpoint, table: DialectTable) -> tuple[str, ...]:
    """Where a dialect has the metrics of a server; () if it has none.

    Of several addresses, the first that has a page counts: trtllm-serve has one beside its API, and Triton on a port of
    its own.
    """
    places = []
    if table.metrics_path is not None:
        places.append(endpoint.base_url + table.metrics_path)
    if table.metrics_port is not None:
        parts = urlsplit(endpoint.base_url)
        places.append(f"{parts.scheme}://{host_and_port(parts.hostname or '', table.metrics_port)}/metrics")
    return tuple(places)
