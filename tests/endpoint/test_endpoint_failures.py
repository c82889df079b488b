"""Whatever httpx, ssl and the system raise on a request's way ends in our own errors, or in an outcome."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome
from llmtop.endpoint import client, control
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import NoAnswer, ask
from llmtop.endpoint.trace import Trace
from llmtop.errors import LlmtopError
from llmtop.telemetry.scraper import Scraper

from .conftest import Recorder


def below(kind: type[BaseException]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        if child.__module__.partition(".")[0] in ("httpx", "ssl", "socket", "builtins", "_ssl"):
            yield child
            yield from below(child)


def raised() -> list[Exception]:
    request = httpx.Request("GET", "http://h")
    found: list[Exception] = [httpx.InvalidURL("no"), httpx.CookieConflict("two"), httpx.StreamError("s")]
    found += [OSError(number, "as the system says") for number in sorted(errno.errorcode)]
    found += [ValueError("as h11"), UnicodeError("as idna"), RuntimeError("as anyio")]
    for kind in {*below(httpx.HTTPError), *below(httpx.StreamError), *below(OSError), ssl.SSLError}:
        if kind is httpx.HTTPStatusError:
            found.append(kind("x", request=request, response=httpx.Response(500)))
        elif issubclass(kind, httpx.StreamError) and kind is not httpx.StreamError:
            found.append(kind())
        else:
            found.append(kind("x") if issubclass(kind, httpx.HTTPError) else kind(1, "x"))
    wrapped = httpx.ReadError("")
    wrapped.__cause__ = ssl.SSLError(1, "x")
    return [*found, wrapped]


class Failing(httpx.AsyncBaseTransport):
    """Raises `error` before an answer, or in the middle of one."""

    def __init__(self, error: Exception, *, late: bool) -> None:
        self._error = error
        self._late = late

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._late:
            raise self._error
        return httpx.Response(200, stream=_Cut(self._error))


class _Cut(httpx.AsyncByteStream):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __aiter__(self) -> Any:
        yield b"data: {"
        raise self._error


@pytest.mark.parametrize("late", [False, True])
async def test_every_failure_on_the_way_ends_in_an_error_of_ours(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Endpoint(base_url="http://127.0.0.1:1")
    for error in raised():
        way = Failing(error, late=late)
        monkeypatch.setattr(Access, "_transport", lambda self, *_, way=way, **__: way)
        async with Access(here).stock_client() as stock:
            with pytest.raises(NoAnswer) as no_answer:
                await ask(stock, "/v1/models", limit_s=1.0, limit_bytes=1000)
        assert str(no_answer.value), repr(error)
        with pytest.raises(LlmtopError):
            await control.control(here, "GET", "/x")
        scraper = Scraper(here, Dialect.VLLM, 0)
        await scraper.scrape()
        await scraper.close()
        assert scraper.missing, repr(error)


@pytest.mark.parametrize(("transport", "late"), [("auto", False), ("httpx", False), ("httpx", True)])
async def test_every_failure_of_a_request_of_the_load_is_an_outcome(
    transport: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in raised():
        if not isinstance(error, client.FOREIGN if transport == "auto" else (*client.FOREIGN, ValueError)):
            continue
        way = Failing(error, late=late)
        monkeypatch.setattr(Access, "_transport", lambda self, *_, way=way, **__: way)
        endpoint = Endpoint(base_url="http://127.0.0.1:1", model="m", dialect=Dialect.VLLM, transport=transport)
        asked = client.EndpointClient(endpoint, None, Caps(), 0)
        if transport == "auto":
            monkeypatch.setattr(asked._transport, "handle_async_request", way.handle_async_request)
        trace = Trace()
        await asked.generate("hello", 2, "chat", trace, Recorder())
        await asked.close()
        assert trace.outcome in (Outcome.HTTP_ERROR, Outcome.TRUNCATED, Outcome.TIMEOUT), repr(error)
        assert trace.error, repr(error)
