"""Once a second: ask a server what it is doing, on a connection that the load does not use.

The scraper never raises for what a server does. What it could not read is None in the snapshot, and `missing` says in
a sentence why, and which server flag closes the gap. Values of a server that stops answering stay, with their age.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Generator, Sequence
from time import perf_counter_ns
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.dialects.recognition import recognise_page
from llmtop.domain.endpoint import Dialect, Endpoint, safe_url
from llmtop.domain.plain import LIMIT, LONG, plain
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import FOLLOWS, PAGE_BYTES, Answer, Late, NoAnswer, NotConnected, Refused, ask
from llmtop.endpoint.refusals import is_html, refusal_text
from llmtop.telemetry.answers import LIVE_FIELDS, AnswerReader
from llmtop.telemetry.exposition import SERIES_LIMIT, TooManySeries
from llmtop.telemetry.gpu import exporter_steps, is_exporter_page
from llmtop.telemetry.identity import Answering, Identity
from llmtop.telemetry.signals import Interval, PageReader, PageValues, interval
from llmtop.telemetry.summary import Reading, is_of_engine, summarise
from llmtop.wording.between import several_replicas

MISSES_UNTIL_STALE = 3
TIMEOUT_S = 2.0
"""A page of vLLM takes 5 to 50 ms under load, and up to 0.6 s on a machine that is swamped."""
ACCEPT = "text/plain;version=0.0.4,*/*;q=0.1"
RETRY_REFUSED_S = 15.0
"""How long a page that was refused (404, a wrong key, HTML), or that is too much to be read, is left alone: only a
change of the server helps."""
RETRY_LATE_S = 5.0
"""How long a page is left alone that `MISSES_UNTIL_STALE` tries in a row have waited for: the pages of the other
replicas wait along."""
MEET_FIRST, MEET_EVERY = 8, 10
"""The first scrapes, and one in so many after them, end their connection: a balancer of connections would otherwise
give all of them to the replica that the first one met."""
T = TypeVar("T")


class Scraper:
    """Reads the metrics of one endpoint and of all its replicas.

    Args:
        endpoint: where; `metrics_urls` name the replicas' pages, else the dialect's usual path is asked.
        dialect: whose names to look for. A page that is plainly another dialect's is read as that one, and `dialect`
            says so.
        origin_ns: start of the run on the `perf_counter_ns` clock.
        period_s: how often `scrape` will be called.

    Raises UsageError as `Access`.
    """

    def __init__(self, endpoint: Endpoint, dialect: Dialect, origin_ns: int, period_s: float = 1.0) -> None:
        self.missing: str | None = None
        """None: metrics flow. Otherwise why they do not, and what to do about it."""
        self.restarted = False
        """The server started anew between the last two readings."""
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
        places = _places(endpoint, self._table)
        access = Access(endpoint)
        self._heard = access.heard
        self._client = access.stock_client(itertools.chain(*places))
        self._replicas = [_Replica(endpoint, urls, self._table) for urls in places or ((),)]

    @property
    def dialect(self) -> Dialect:
        """Whose names the pages have: the one that was told, unless all that were read are another one's."""
        seen = {replica.table.dialect for replica in self._replicas if replica.figures is not None}
        return seen.pop() if len(seen) == 1 else self._table.dialect

    async def scrape(self) -> ServerSnapshot:
        """Ask every replica once, all at the same time, and add up what they say."""
        asked_s = self._now_s()
        await asyncio.gather(*(replica.read(self._client, asked_s) for replica in self._replicas))
        if all(replica.gpus for replica in self._replicas):
            self._replicas.append(self._own_replica())
            await self._replicas[-1].read(self._client, asked_s)
        now_s = self._now_s()
        self.gpus = tuple(
            msgspec.structs.replace(gpu, name=self._heard(gpu.name))
            for replica in self._replicas
            for gpu in replica.gpus
        )
        engines = [replica for replica in self._replicas if not replica.gpus]
        self.restarted = any(replica.change is not None and replica.change.restarted for replica in engines)
        missing = _explain(engines)
        self.missing = None if missing is None else self._heard(missing, LONG)
        self.hidden = any(replica.hidden for replica in engines if replica.problem is not None)
        self.known = frozenset(field for replica in engines for field in replica.known)
        reads_s = [replica.read_s for replica in engines if replica.read_s is not None]
        read_s = max(reads_s, default=now_s)
        before, self.in_turn = self.in_turn, any(replica.who.several for replica in engines)
        told = any(replica.told_something for replica in engines)
        self.fresh = not before if self.in_turn else told
        age_s = 0.0 if self.fresh or not reads_s else now_s - read_s
        all_miss = all(replica.misses >= MISSES_UNTIL_STALE for replica in engines)
        self.stale_s = age_s if reads_s and all_miss else None
        if self.in_turn:
            return ServerSnapshot(t_s=now_s)
        snapshot = summarise(now_s, age_s, [replica.reading() for replica in engines])
        rows = tuple((self._heard(name), *figures) for name, *figures in snapshot.replicas)
        return msgspec.structs.replace(snapshot, replicas=rows)

    def _own_replica(self) -> _Replica:
        """The endpoint itself: all metrics URLs that were named are GPU exporters."""
        own = msgspec.structs.replace(self._endpoint, metrics_urls=())
        return _Replica(own, next(iter(_places(own, self._table)), ()), self._table)

    async def close(self) -> None:
        await self._client.aclose()

    def _now_s(self) -> float:
        return (perf_counter_ns() - self._origin_ns) / 1e9


class _Replica:
    """One server with its metrics page, and what is known from it so far."""

    def __init__(self, endpoint: Endpoint, urls: tuple[str, ...], table: DialectTable) -> None:
        root = endpoint.base_url
        if endpoint.metrics_urls:
            parts = urlsplit(urls[0])
            root = f"{parts.scheme}://{parts.netloc}"
        self.name = urlsplit(root).netloc.rpartition("@")[2]
        self.table = table
        self.figures: PageValues | None = None
        """The last that were read, however old."""
        self.read_s: float | None = None
        self.change: Interval | None = None
        """From the reading before to that of this scrape; None without both."""
        self.problem: str | None = None
        """Why this scrape got no page."""
        self.hidden = False
        """That is because something in front of it answers."""
        self.who = Identity()
        self.note: str | None = None
        """Why nothing is told of a page that is there."""
        self.misses = 0
        self.gpus: tuple[GpuSnapshot, ...] = ()
        """Its page is that of a GPU exporter."""
        self.answers = AnswerReader(root, table, endpoint.model)
        self._silent = False
        """This scrape got no answer at all, not even a refusal."""
        self._model = endpoint.model
        self._routed: str | None = None
        """Its page, where that is one of several models'."""
        self._urls = urls
        """Where its page may be; only the one that has it, once that is known."""
        self._reader = PageReader(table, endpoint.model)
        self._wait_until_s = 0.0
        self._is_known = True
        """Whose page this scrape got."""
        self._asked = 0

    @property
    def told_something(self) -> bool:
        """Whether this scrape learned what the server does now."""
        answers = self.answers
        live = answers.slots is not None or not LIVE_FIELDS.isdisjoint(answers.values)
        return self._is_known and (self.problem is None or (live and not self._silent))

    @property
    def known(self) -> set[str]:
        figures = self.figures
        fields = {*figures.gauges, *figures.counters, *figures.quotients} if figures is not None else set()
        return fields | self.answers.values.keys()

    def reading(self) -> Reading:
        return Reading(
            name=self.name,
            table=self.table,
            figures=self.figures,
            change=self.change,
            answers=self.answers.values,
            slots=self.answers.slots,
            gone=self.misses >= MISSES_UNTIL_STALE,
        )

    async def read(self, client: httpx.AsyncClient, now_s: float) -> None:
        """Try once. Afterwards `problem` is None and `figures` are new, or `problem` says why not."""
        self.change = None
        self._is_known = True
        if not self._urls:
            self.problem = _no_page(self.table)
        elif now_s >= self._wait_until_s:
            await self._find_page(client, now_s)
        else:
            self.misses += 1
        if not (self.gpus or self._silent):
            await self.answers.read(client, now_s)

    async def _find_page(self, client: httpx.AsyncClient, now_s: float) -> None:
        problems = []
        for url in self._urls:
            await self._read_page(client, url, now_s)
            if self.problem is None:
                self._urls = (url,)
                return
            problems.append((self._silent, self.problem))
        self._silent, self.problem = problems[0]
        self.misses += 1
        self.who.miss()

    async def _read_page(self, client: httpx.AsyncClient, url: str, now_s: float) -> None:
        page = await self._fetch(client, url, now_s)
        try:
            is_gpus = page is not None and is_exporter_page(page)
            self.gpus = await _by_and_by(exporter_steps(page, now_s)) if page is not None and is_gpus else ()
            if self.gpus:
                self.problem = None
                return
            figures = await self._understand(url, page, now_s) if page is not None else None
        except TooManySeries:
            self._refuse(
                f"{safe_url(url)}: has more than {SERIES_LIMIT} series of the metrics that are looked for", now_s
            )
            return
        if figures is None:
            return
        self.problem = None
        self.misses = 0
        self._attribute(url, figures, now_s)

    def _attribute(self, url: str, figures: PageValues, now_s: float) -> None:
        """Take what was read as this server's, if it is."""
        answering = self.who.take(figures)
        self._is_known = answering in (Answering.SAME, Answering.RESTARTED)
        if answering is Answering.SEVERAL:
            self.note = several_replicas(safe_url(url), len(self.who.starts))
        if not self._is_known:
            return
        if answering is Answering.RESTARTED:
            self.change = Interval(True, {}, {})
            self.answers.forget()
        elif self.figures is not None:
            self.change = interval(self.figures, figures)
        self.figures, self.read_s = figures, now_s

    async def _fetch(self, client: httpx.AsyncClient, url: str, now_s: float) -> bytes | None:
        """The page; None, with `problem` set, if there is none."""
        self._silent = True
        try:
            self._asked += 1
            last = self._asked <= MEET_FIRST or self._asked % MEET_EVERY == 0
            answer = await self._ask(client, self._routed or url, last)
            if _wants_model(answer) and self._model and not (self._routed or urlsplit(url).query):
                routed = f"{url}?{urlencode({'model': self._model})}"
                answer = await self._ask(client, routed, last)
                self._routed = routed if answer.status == httpx.codes.OK else None
        except Late as error:
            self.problem = f"{safe_url(url)}: {error}"
            if self.misses + 1 >= MISSES_UNTIL_STALE:
                self._wait_until_s = now_s + RETRY_LATE_S
        except NotConnected as error:
            self.problem = f"{safe_url(url)}: no connection ({error})"
        except Refused as error:
            self._silent = False
            self.hidden = error.altered
            self._refuse(f"{safe_url(url)}: {error}{f'; {OWN_PAGE}' if error.altered else ''}", now_s)
        except NoAnswer as error:
            self.problem = f"{safe_url(url)}: {error}"
        else:
            self._silent = False
            if answer.status == httpx.codes.OK and answer.body.lstrip()[:1] not in (b"<", b"{", b"["):
                return answer.body
            self.hidden = answer.status in _SHUT or httpx.codes.is_redirect(answer.status) or is_html(answer.body)
            self.problem = _refusal(url, answer, self.table)
            if not httpx.codes.is_server_error(answer.status) or answer.status == httpx.codes.NOT_IMPLEMENTED:
                self._wait_until_s = now_s + RETRY_REFUSED_S
        return None

    async def _ask(self, client: httpx.AsyncClient, url: str, last: bool) -> Answer:
        return await ask(
            client,
            url,
            limit_s=TIMEOUT_S,
            limit_bytes=PAGE_BYTES,
            accept=ACCEPT,
            last_of_connection=last,
            follows=FOLLOWS,
        )

    def _refuse(self, problem: str, now_s: float) -> None:
        self.problem = problem
        self._wait_until_s = now_s + RETRY_REFUSED_S

    async def _understand(self, url: str, page: bytes, now_s: float) -> PageValues | None:
        """Read the page, as another dialect's if it is one; None, with `problem` set, if no engine's."""
        figures = await _by_and_by(self._reader.steps(page))
        if is_of_engine(figures):
            return figures
        other = recognise_page(page)
        if other is not None and other is not self.table.dialect:
            self.table = DIALECTS[other]
            self._reader = PageReader(self.table, self._model)
            figures = await _by_and_by(self._reader.steps(page))
            if is_of_engine(figures):
                return figures
        self._refuse(f"{safe_url(url)}: none of the metrics of {self.table.title} are on it{_flag(self.table)}", now_s)
        return None


async def _by_and_by(steps: Generator[None, None, T]) -> T:
    """What the steps come to; whatever else is on the loop, the load above all, has its turn after each."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def _places(endpoint: Endpoint, table: DialectTable) -> tuple[tuple[str, ...], ...]:
    """Where the metrics of each replica may be: as named, else where the dialect has them; empty if it has none.

    Of several addresses for one replica, the first that has a page counts: trtllm-serve has one beside its API, and
    Triton on a port of its own.
    """
    if endpoint.metrics_urls:
        return tuple((url,) for url in endpoint.metrics_urls)
    places = []
    if table.metrics_path is not None:
        places.append(endpoint.base_url + table.metrics_path)
    if table.metrics_port is not None:
        parts = urlsplit(endpoint.base_url)
        host = parts.hostname or ""
        places.append(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{table.metrics_port}/metrics")
    return (tuple(places),) if places else ()


def _explain(replicas: Sequence[_Replica]) -> str | None:
    note = next((replica.note for replica in replicas if replica.note is not None), None)
    problems = [replica.problem for replica in replicas if replica.problem is not None]
    if note is not None or not problems:
        return note
    if len(problems) < len(replicas):
        return f"{len(problems)} of {len(replicas)} metrics pages are missing: {problems[0]}"
    return problems[0]


_NOT_ASKED_RIGHT = (httpx.codes.NOT_FOUND, httpx.codes.UNPROCESSABLE_ENTITY)
_SHUT = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
OWN_PAGE = "name the engine's own page with --metrics-url http://HOST:PORT/metrics"


def _wants_model(answer: Answer) -> bool:
    """Whether a page is one of several models', as those of llama.cpp's router are, and wants to know which."""
    if answer.status == httpx.codes.BAD_REQUEST:
        return True
    return answer.status in _NOT_ASKED_RIGHT and "model" in refusal_text(answer.body).lower()


def _refusal(url: str, answer: Answer, table: DialectTable) -> str:
    status, url = answer.status, safe_url(url)
    if status in _SHUT:
        return (
            f"{url}: HTTP {status}, it wants an API key, or is hidden: name the variable that holds one with "
            f"--api-key-env, or {OWN_PAGE}"
        )
    if httpx.codes.is_redirect(status) and answer.location:
        return f"{url}: HTTP {status}, sent on to {plain(answer.location, LIMIT)}: give that address itself"
    if is_html(answer.body):
        return f"{url}: HTTP {status} and a web page: something in front of the engine answers; {OWN_PAGE}"
    if status == httpx.codes.OK:
        return f"{url}: answers, but not with metrics in the Prometheus format{_flag(table)}"
    said = plain(refusal_text(answer.body), LIMIT)
    return f"{url}: HTTP {status}{f' ({said})' if said else ''}{_flag(table)}"


def _no_page(table: DialectTable) -> str:
    return f"{table.title} has no metrics page{_flag(table)}"


def _flag(table: DialectTable) -> str:
    """What to change at the server, as the end of a sentence."""
    return f": {table.advice.enable_metrics}" if table.advice.enable_metrics else ""
