"""One replica of a service: its page of metrics, and what is known from it so far.

What a server does raises nothing here. What could not be read is None, and `problem` says in a sentence why, and which
server flag closes the gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import httpx

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.dialects.recognition import recognise_page
from llmtop.domain.endpoint import safe_url
from llmtop.domain.plain import LIMIT, plain
from llmtop.domain.samples import GpuSnapshot
from llmtop.endpoint.question import FOLLOWS, PAGE_BYTES, Answer, Late, NoAnswer, NotConnected, Refused, ask
from llmtop.endpoint.refusals import is_html, refusal_text
from llmtop.telemetry.answers import LIVE_FIELDS, AnswerReader
from llmtop.telemetry.exposition import SERIES_LIMIT, TooManySeries
from llmtop.telemetry.gpu import exporter_steps, is_exporter_page
from llmtop.telemetry.identity import Answering, Identity
from llmtop.telemetry.places import Found
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.signals import Interval, PageReader, PageValues, interval
from llmtop.telemetry.summary import Reading, is_of_engine
from llmtop.wording.between import several_replicas

MISSES_UNTIL_STALE = 3
TIMEOUT_S = 2.0
"""A page of vLLM takes 5 to 50 ms under load, and up to 0.6 s on a machine that is swamped."""
SERVED = ("generation_tokens_total", "requests_total")
"""Counters that move when a server has served."""
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


class Replica:
    """One server with its metrics page, and what is known from it so far.

    Args:
        key: what tells it from other replicas of the service.
        root: scheme, host, port and base path, where it is asked for JSON; empty: its place reads it.
        urls: where its page may be; only the one that has it counts, once that is known.
        model: the one that is driven.
    """

    def __init__(
        self, key: str, name: str, root: str, urls: tuple[str, ...], table: DialectTable, model: str | None
    ) -> None:
        self.key, self.name, self.table = key, name, table
        self.figures: PageValues | None = None
        """The last that were read, however old."""
        self.read_s: float | None = None
        self.since_s: float | None = None
        """When it was read first."""
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
        self.answers = AnswerReader(root, table, model)
        self.ready: bool | None = None
        """As its place says."""
        self.left_s: float | None = None
        """Since when its place lists it no more; None: it does."""
        self.served = False
        """It has generated something since it was first read, or was started anew."""
        self.is_kept = not (root or urls)
        """What is read is no page of its own but what its place has kept, and as old as that says."""
        self._first: PageValues | None = None
        self._page: bytes | None = None
        """What its place has kept of it, and has not been read yet."""
        self._page_age_s = 0.0
        self._silent = False
        """This scrape got no answer at all, not even a refusal."""
        self._model = model
        self._routed: str | None = None
        """Its page, where that is one of several models'."""
        self._urls = urls
        """Where its page may be; only the one that has it, once that is known."""
        self._reader = PageReader(table, model)
        self._wait_until_s = 0.0
        self._is_known = True
        """Whose page this scrape got."""
        self._asked = 0

    @property
    def gone(self) -> bool:
        """It counts as running nothing any more."""
        return self.left_s is not None or self.misses >= MISSES_UNTIL_STALE

    @property
    def answers_now(self) -> bool:
        """Its figures are those of now."""
        return self.read_s is not None and self.left_s is None and self.misses == 0

    @property
    def is_awaited(self) -> bool:
        """Whether it is to be said that it does not answer: one that is not ready yet, or has left, need not."""
        return self.left_s is None and self.ready is not False

    def seen(self, began_s: float) -> ReplicaSeen:
        """As this scrape saw it. `began_s` is when the run began, in Unix seconds: what a process that started later
        has served, it has served since then."""
        start_s = None if self.figures is None else self.figures.gauges.get("process_start_s")
        if start_s is not None and start_s >= began_s and self.figures is not None:
            self.served = self.served or any(self.figures.counters.get(name, 0.0) > 0 for name in SERVED)
        return ReplicaSeen(
            name=self.name,
            ready=self.ready,
            answers=self.answers_now,
            served=self.served,
            since_s=self.since_s,
            start_s=start_s,
            gone=self.gone,
        )

    def take(self, found: Found) -> None:
        """What its place says of it now."""
        self.left_s, self.ready, self.name = None, found.ready, found.name
        if self.is_kept:
            self._page, self._page_age_s, self.misses = found.page, found.age_s, 0
        elif found.url not in self._urls:  # it has moved, or a forward leads to it
            self._urls, self._routed, self._wait_until_s = (found.url,), None, 0.0
            self.answers = AnswerReader(root_of(found.url), self.table, self._model)

    def leave(self, now_s: float) -> None:
        """Its place lists it no more."""
        if self.left_s is None:
            self.left_s = now_s

    def miss(self) -> None:
        """Its place could not be asked."""
        if self.is_kept:
            self.misses += 1

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
            key=self.key,
            name=self.name,
            table=self.table,
            figures=self.figures,
            change=self.change,
            answers=self.answers.values,
            slots=self.answers.slots,
            gone=self.gone,
        )

    async def read(self, client: httpx.AsyncClient, now_s: float) -> None:
        """Try once. Afterwards `problem` is None and `figures` are new, or `problem` says why not."""
        self.change = None
        self._is_known = True
        if self.is_kept or self.left_s is not None:
            await self._read_kept(now_s)
            return
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

    async def _read_kept(self, now_s: float) -> None:
        page, self._page, self.problem = self._page, None, None
        self._is_known = page is not None and self.left_s is None
        if page is not None and self._is_known:
            await self._take_page(self.name, page, now_s - self._page_age_s)

    async def _read_page(self, client: httpx.AsyncClient, url: str, now_s: float) -> None:
        await self._take_page(url, await self._fetch(client, url, now_s), now_s)

    async def _take_page(self, url: str, page: bytes | None, now_s: float) -> None:
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
            self._first, self.served = None, False
        elif self.figures is not None:
            self.change = interval(self.figures, figures)
        self.figures, self.read_s = figures, now_s
        if self._first is None:
            self._first = figures
            self.since_s = now_s if self.since_s is None else self.since_s
        self.served = self.served or self._has_served(figures)

    def _has_served(self, now: PageValues) -> bool:
        """Whether it has generated anything since it was first read: nothing that it did before counts."""
        first = self._first.counters if self._first is not None else {}
        return any(now.counters.get(name, 0.0) > first.get(name, 0.0) for name in SERVED)

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


def root_of(url: str) -> str:
    """Where the server of a page is."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def _by_and_by(steps: Generator[None, None, T]) -> T:
    """What the steps come to; whatever else is on the loop, the load above all, has its turn after each."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


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
