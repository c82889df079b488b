"""One endpoint, from the point of view of somebody who sends it requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

import httpx
from msgspec import structs

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.endpoint import APIS, Dialect, Endpoint, EndpointInfo, RequestShape
from llmtop.domain.load import Caps
from llmtop.domain.places import pages_in
from llmtop.domain.request import HUNG_UP, Outcome
from llmtop.endpoint.access import Access
from llmtop.endpoint.bodies import RequestBodies
from llmtop.endpoint.caller import Caller
from llmtop.endpoint.calls import Calls
from llmtop.endpoint.clock import HTTPX, LagSample, Stamper
from llmtop.endpoint.connection import GRACE_S, ConnectionPool, Over
from llmtop.endpoint.embeddings import EmbeddingReader
from llmtop.endpoint.failures import FOREIGN, in_words
from llmtop.endpoint.question import JSON_BYTES, NoAnswer, ask
from llmtop.endpoint.reader import SETTLED_S, StreamReader
from llmtop.endpoint.responses import as_chat
from llmtop.endpoint.said import Said
from llmtop.endpoint.trace import Sink, Trace
from llmtop.endpoint.transport import KernelTransport
from llmtop.endpoint.wire import ResponseParser

YOUR_FIELD = "your own field"
"""Before the refusal of what the user has put into the body: such a field is never left out."""
_USUAL_ENDS = frozenset({None, "stop", "length"})


_OPEN_S = 1.0
"""For connections that are opened ahead: a request that finds none opens its own, which has a timeout of its own."""
_TOKENIZE_S = 5.0
"""For the server's own count of one text."""
_TOKEN_BYTES = 32
"""Of the answer for each letter: TGI tells text and place of every token."""
_SPECIAL_TOKENS = 64
"""That a count may have beyond one for each byte."""


class TimedOut(Exception):
    """A deadline of `Caps` has passed; the message says which."""


class HungUp(Exception):
    """The client wanted no more of an answer; the message says when."""


class EndpointClient:
    """Sends requests to one endpoint and keeps their traces. To be used within one event loop.

    Args:
        endpoint: where, and how to be let in.
        info: what a probe has learned; None: only what `endpoint` says is known.
        caps: the timeouts.
        origin_ns: perf_counter_ns at the start of the run.

    Raises UsageError when the API key's variable or the CA file is missing.
    """

    def __init__(self, endpoint: Endpoint, info: EndpointInfo | None, caps: Caps, origin_ns: int) -> None:
        self.endpoint = endpoint
        self.caps = caps
        self.access = Access(endpoint)
        self.stamper = Stamper(origin_ns)
        self.dialect = info.dialect if info is not None else endpoint.dialect or Dialect.OPENAI
        model, shape = (endpoint.model or "", RequestShape()) if info is None else (info.model, info.request_shape)
        self.bodies = RequestBodies(self.table.request, model, shape)
        self._transport = KernelTransport(
            self.stamper,
            tls=self.access.tls,
            unix_path=endpoint.unix_socket,
            reuse=not self.table.quirks.closes_after_stream,
            addresses_of=endpoint.addresses_of,
        )
        self._stock: httpx.AsyncClient | None = None
        self._retired: list[httpx.AsyncClient] = []
        """Whose requests end, and which get no more."""
        self.calls = Calls(self.access)
        """For requests of users that are none to the model."""
        self.api = endpoint.api
        self._targets: dict[str, tuple[httpx.URL, httpx.Headers]] = {}
        self.use_root(endpoint.api.root if info is None or info.api_root is None else info.api_root)

    @property
    def _pool(self) -> ConnectionPool:
        return self._transport.pool(next(iter(self._targets.values()))[0])

    @property
    def apis(self) -> tuple[str, ...]:
        """Those that can be asked."""
        return tuple(self._targets)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where connections of the load have gone to, in turn; (): nowhere yet, or not by the own transport."""
        return () if self.access.uses_stock else self._pool.in_turn

    @property
    def table(self) -> DialectTable:
        return DIALECTS[self.dialect]

    @property
    def stamp_source(self) -> str:
        """Which clock stamps arrivals: kernel, select, protocol, or httpx (the task that got the bytes)."""
        return HTTPX if self.access.uses_stock else self.stamper.source

    def use(self, dialect: Dialect, model: str, shape: RequestShape) -> None:
        """Speak this dialect to this model from now on; `shape`: what is known of its requests."""
        self.dialect = dialect
        self.bodies = RequestBodies(self.table.request, model, shape)
        if self.table.quirks.closes_after_stream:
            self._pool.reuse = False

    def use_root(self, root: str | None) -> None:
        """Ask the API under this path of the base URL from now on."""
        self.api = structs.replace(self.api, root=root)
        self._targets = {api: self._target(api) for api in self.api.among(APIS)}

    async def open(self, count: int) -> None:
        """Have so many idle connections, as far as they can be had within a second, for as many requests at once.

        Never raises for what a server does. Stock httpx opens its connections with the requests.
        """
        if self.access.uses_stock:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_S):
                await self._transport.open(next(iter(self._targets.values()))[0], count)

    async def generate(
        self,
        prompt: str | Sequence[Any],
        output_tokens: int,
        api: str,
        trace: Trace,
        sink: Sink,
        caller: Caller | None = None,
        *,
        model: str | None = None,
        extra: bytes = b"",
        pinned: bool = True,
        words: Said | None = None,
        hang_up_s: float | None = None,
    ) -> None:
        """Send one request and follow its stream to the end.

        Args:
            caller: whose request it is.
            model: that is asked; None: the endpoint's.
            extra: fields of the body besides those of the dialect, as in `Prompt.extra`.
            pinned: as `Prompt.pinned`.
            words: takes what the answer says; None: nobody wants to know.
            hang_up_s: how long after it was sent the connection is closed, if the answer is not whole by then: the
                outcome is CANCELLED, and the error says so.

        Never raises for what a server does: `trace` says how it ended, in words that are fit to be shown. A cancelled
        call closes the connection, sets the outcome CANCELLED and raises CancelledError on.
        """
        try:
            for left in range(self.bodies.lessons, -1, -1):  # servers name one thing at a time that they refuse
                version = self.bodies.version
                body = self.bodies.body(prompt, output_tokens, api, model, extra, pinned)
                reader = self._reader(api, trace, sink, output_tokens, words)
                lost = await self._attempt(api, body, reader, caller, hang_up_s)
                reader.close(self.stamper.now_ns(), lost)
                if trace.outcome is Outcome.OK:
                    self.bodies.answered(version)
                    if reader.saw_several_tokens_per_event:
                        self.bodies.use_continuous_usage()
                refused = trace.outcome is Outcome.HTTP_ERROR
                if not (refused and self.bodies.learn(trace.status, trace.error or "", version) and left):
                    if refused and (name := self.bodies.blamed(trace.status, trace.error or "", extra)):
                        trace.error = f"{YOUR_FIELD} {name!r}: {trace.error}"
                    return
                trace.clear()
                if words is not None:
                    words.clear()
        except asyncio.CancelledError:
            _settle(trace, self.stamper.now_ns(), Outcome.CANCELLED, None)
            raise
        except HungUp as hung_up:
            _settle(trace, self.stamper.now_ns(), Outcome.CANCELLED, str(hung_up))
        except TimedOut as timeout:
            _settle(trace, self.stamper.now_ns(), Outcome.TIMEOUT, str(timeout))
        finally:
            if trace.error is not None:
                trace.error = self.access.heard(trace.error)
            if trace.finish_reason not in _USUAL_ENDS:
                trace.finish_reason = self.access.heard(str(trace.finish_reason))

    def _reader(self, api: str, trace: Trace, sink: Sink, output_tokens: int, words: Said | None) -> StreamReader:
        if api == "embeddings":
            return EmbeddingReader(trace, sink, self.stamper)
        return StreamReader(trace, sink, self.stamper, output_tokens, words, as_chat if api == "responses" else None)

    async def tokenize(self, text: str) -> int | None:
        """How many tokens `text` is, by the server's own tokenizer; None where it has none to ask."""
        tokenizer = self.table.tokenizer
        if tokenizer is None:
            return None
        payload = {tokenizer.text_field: text}
        if tokenizer.wants_model:
            payload["model"] = self.bodies.model
        try:
            answer = await ask(
                self.stock,
                tokenizer.path,
                limit_s=_TOKENIZE_S,
                limit_bytes=JSON_BYTES + _TOKEN_BYTES * len(text),
                method="POST",
                payload=payload,
            )
        except NoAnswer:
            return None
        told = answer.json if answer.status == 200 else None
        found = told.get(tokenizer.count_key) if tokenizer.count_key and isinstance(told, dict) else told
        count = len(found) if isinstance(found, list) else found
        most = len(text.encode("utf-8", "replace")) + _SPECIAL_TOKENS
        return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= most else None

    @property
    def stock(self) -> httpx.AsyncClient:
        """Stock httpx, for everything that is not load."""
        if self._stock is None:
            self._stock = self.access.stock_client(pages_in(self.endpoint.metrics_urls))
        return self._stock

    def renew(self) -> int | None:
        """Have the requests from now on open new connections; those that are in use end with their exchange.

        Returns:
            How many were kept until now; None: it cannot be said (stock httpx).
        """
        if not self.access.uses_stock:
            return self._transport.renew()
        if self._stock is not None:
            self._retired.append(self._stock)
            self._stock = None
        return None

    def take_lag(self) -> LagSample:
        """How far the client was behind the network since the last call."""
        return self.stamper.take_lag()

    async def close(self) -> None:
        """Close every connection; requests in flight end as lost connections."""
        await self._transport.aclose()
        await self.calls.close()
        for stock in (*self._retired, *((self._stock,) if self._stock is not None else ())):
            await stock.aclose()
        self._stock = None
        self._retired.clear()

    # One attempt

    async def _attempt(
        self, api: str, body: bytes, reader: StreamReader, caller: Caller | None, hang_up_s: float | None
    ) -> str | None:
        """Send `body` once. Returns why the answer was cut off, None when it was not. Raises TimedOut and HungUp."""
        try:
            if self.access.uses_stock:
                await self._until(hang_up_s, self._attempt_stock(self.stock, api, body, reader, caller))
                return None
            watch = _Deadlines(self.caps, reader, self.stamper, hang_up_s)
            extensions = {"receiver": reader, "timeout": {"connect": self.caps.connect_timeout_s}}
            if caller is not None and caller.own is not None:
                extensions["own"] = caller.own
            url, headers = self._target_for(api, caller)
            request = httpx.Request("POST", url, headers=headers, content=body, extensions=extensions)
            try:
                response = await self._transport.handle_async_request(request)
            finally:
                watch.stop()
            _keep(caller, response)
        except Over:
            pass
        except httpx.ConnectTimeout:
            raise TimedOut(f"connect timeout: no connection within {self.caps.connect_timeout_s:g} s") from None
        except FOREIGN as error:
            return in_words(error)
        except ValueError as error:
            if not self.access.uses_stock:
                raise
            return in_words(error)  # h11 lets it through for some heads
        return None

    async def _until(self, hang_up_s: float | None, attempt: Coroutine[Any, Any, None]) -> None:
        """Wait for an attempt by stock httpx, which shows no connection that could be closed from here."""
        try:
            async with asyncio.timeout(hang_up_s) as scope:
                await attempt
        except TimeoutError:
            if not scope.expired() or hang_up_s is None:
                raise
            raise HungUp(_hung_up(hang_up_s)) from None

    async def _attempt_stock(
        self, stock: httpx.AsyncClient, api: str, body: bytes, reader: StreamReader, caller: Caller | None
    ) -> None:
        """The same through stock httpx: stamps are taken when the task gets the bytes."""
        loop = asyncio.get_running_loop()
        trace, now_ns, caps = reader.trace, self.stamper.now_ns, self.caps
        total_at_s = loop.time() + caps.total_timeout_s
        url, headers = self._target_for(api, caller)
        timeout = httpx.Timeout(None, connect=caps.connect_timeout_s)
        reader.sent(now_ns(), connect_ns=0)
        try:
            async with asyncio.timeout(min(caps.first_token_timeout_s, caps.total_timeout_s)) as scope:
                async with stock.stream("POST", url, content=body, headers=headers, timeout=timeout) as response:
                    parser = ResponseParser()
                    parser.status = response.status_code
                    parser.headers = [(name.lower(), value) for name, value in response.headers.items()]
                    reader.head(parser, now_ns())
                    _keep(caller, response)
                    async for data in response.aiter_raw():
                        stamp_ns = now_ns()
                        reader.body(data, stamp_ns)
                        if reader.over:
                            return
                        if reader.whole_ns == stamp_ns:
                            settles_s = SETTLED_S if reader.done_ns is None else GRACE_S
                            scope.reschedule(min(loop.time() + settles_s, total_at_s))
                        elif trace.last_token_ns == stamp_ns and reader.done_ns is None:
                            scope.reschedule(min(loop.time() + caps.idle_timeout_s, total_at_s))
        except TimeoutError:
            if reader.whole_ns is not None:
                return
            raise TimedOut(_deadline(caps, trace, now_ns())[1]) from None

    def _target_for(self, api: str, caller: Caller | None) -> tuple[httpx.URL, httpx.Headers]:
        """Where a user's request of an API goes, and its headers."""
        url, headers = self._targets[api]
        if caller is None:
            return url, headers
        brought, named = caller.cookies.header, caller.header
        if "cookie" in headers:
            brought = ""
        if not brought and named is None:
            return url, headers
        own = [("Cookie", brought)] if brought else []
        if named is not None:
            own.append(named)
        return url, httpx.Headers([*headers.raw, *((name.encode(), value.encode()) for name, value in own)])

    def _target(self, api: str) -> tuple[httpx.URL, httpx.Headers]:
        """Where requests of an API go, and the headers that all of them have."""
        url = httpx.URL(self.api.url(self.endpoint.base_url, api))
        fixed = [
            ("Host", self.access.host_header),
            ("Accept", "application/json" if api == "embeddings" else "text/event-stream"),
            ("Content-Type", "application/json"),
        ]
        return url, httpx.Headers([*fixed, *self.access.headers])


def _keep(caller: Caller | None, response: httpx.Response) -> None:
    if caller is not None and "set-cookie" in response.headers:
        path = response.request.url.path
        caller.cookies.take(response.headers.get_list("set-cookie"), path)


class _Deadlines:
    """Watches one exchange. One timer, set to the next deadline; tokens do not touch it."""

    __slots__ = ("_caps", "_hang_up_s", "_reader", "_stamper", "_timer")

    def __init__(self, caps: Caps, reader: StreamReader, stamper: Stamper, hang_up_s: float | None) -> None:
        self._caps, self._reader, self._stamper, self._hang_up_s = caps, reader, stamper, hang_up_s
        wait_s = min(caps.first_token_timeout_s, caps.total_timeout_s, caps.idle_timeout_s)
        wait_s = wait_s if hang_up_s is None else min(wait_s, hang_up_s)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._stamper.now_ns()
        trace, connection = self._reader.trace, self._reader.connection
        at, text = _deadline(self._caps, trace, now)
        end: Exception = TimedOut(text)
        if self._hang_up_s is not None:
            hang_up_at = (trace.sent_ns if trace.sent_ns is not None else now) + round(self._hang_up_s * 1e9)
            if hang_up_at < at:
                at, end = hang_up_at, HungUp(_hung_up(self._hang_up_s))
        if now >= at and connection is not None:
            connection.fail(end if self._reader.whole_ns is None else Over())
        else:
            wait_s = min((at - now) / 1e9, self._caps.idle_timeout_s)  # a token now would start the idle time now
            self._timer = asyncio.get_running_loop().call_later(wait_s + 1e-3, self._look)


def _hung_up(after_s: float) -> str:
    return f"{HUNG_UP} {after_s:g} s after it was sent"


def _deadline(caps: Caps, trace: Trace, now_ns: int) -> tuple[int, str]:
    """When the exchange is to be given up, on the run clock, and the words for it."""
    sent = trace.sent_ns if trace.sent_ns is not None else now_ns
    total = sent + int(caps.total_timeout_s * 1e9)
    if trace.last_token_ns is None:
        at = sent + int(caps.first_token_timeout_s * 1e9)
        text = f"first-token timeout: no token within {caps.first_token_timeout_s:g} s"
        if trace.headers_ns is None:
            text += ", not even headers"
    else:
        at = trace.last_token_ns + int(caps.idle_timeout_s * 1e9)
        text = f"idle timeout: no token for {caps.idle_timeout_s:g} s after {trace.tokens_seen} tokens"
    if total <= at:
        return total, f"total timeout: not done within {caps.total_timeout_s:g} s, {trace.tokens_seen} tokens so far"
    return at, text


def _settle(trace: Trace, now_ns: int, outcome: Outcome, error: str | None) -> None:
    trace.end_ns = now_ns
    trace.outcome = outcome
    trace.error = error
    trace.output_tokens = trace.tokens_seen
