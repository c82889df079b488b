"""Requests of users that are none to the model: a search, a tool. Bounded in time and bytes, and never raising for what
a server does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx
from msgspec import Struct, field, structs

from llmtop.endpoint.access import KEEPALIVE_S, Access
from llmtop.endpoint.failures import FOREIGN, in_words
from llmtop.endpoint.proxies import proxy_for
from llmtop.endpoint.question import MIB, json_of
from llmtop.endpoint.tls import context_for
from llmtop.errors import UsageError

MOST_BYTES = 16 * MIB
"""Of a body that is kept: what a search gives to a prompt has far less."""
MOST_S = 600.0
"""The longest time that one may be granted."""
REDIRECTS = 5


class Reply(Struct, frozen=True):
    """What one request came to."""

    status: int | None = None
    """None: nobody answered, or not all of it came in time."""
    content: bytes = b""
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status is not None and self.status < 400

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The decoded body. Raises ValueError where it is no JSON."""
        found = json_of(self.content)
        if found is None and self.content.strip() != b"null":
            raise ValueError(f"the reply (status {self.status}) is no JSON")
        return found


class Calls:
    """Sends them. The endpoint's key and headers go to its own origin alone, and no redirect is followed from there."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._own = httpx.URL(access.endpoint.base_url)
        self._others: dict[str | None, httpx.AsyncClient] = {}
        """By the proxy that they go through; None: straight."""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one and read its answer to the end. Raises UsageError for what is no URL and what is no time."""
        where = self.where(url)
        if not 0 < timeout_s <= MOST_S:
            raise UsageError(f"timeout_s = {timeout_s!r} must be a number of seconds up to {MOST_S:g}")
        try:
            async with asyncio.timeout(timeout_s):
                client = await self._client_for(where)
                request = client.build_request(
                    method, where, params=params, json=json, content=content, headers=headers, timeout=None
                )
                return await self._read(client, await client.send(request, stream=True))
        except TimeoutError:
            return Reply(error=f"no whole answer within {timeout_s:g} s")
        except FOREIGN as error:
            return Reply(error=self._access.heard(in_words(error)))

    def where(self, url: str) -> httpx.URL:
        """The whole URL; a path is one of the endpoint's own host. Raises UsageError."""
        try:
            found = httpx.URL(url) if "://" in url else self._own.join(url)
            if found.scheme in ("http", "https") and found.host and urlsplit(url).port != 0:
                return found
        except (httpx.InvalidURL, ValueError, TypeError, AttributeError):
            pass
        raise UsageError(f"url = {url!r}: write it like http://host:port/path, or as a path of the endpoint's own host")

    async def close(self) -> None:
        for client in (self.__dict__.pop("_to_own", None), *self._others.values()):
            if client is not None:
                await client.aclose()
        self._others.clear()

    async def _read(self, client: httpx.AsyncClient, response: httpx.Response) -> Reply:
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    return Reply(error=f"its body has more than {MOST_BYTES // MIB} MiB")
        finally:
            await response.aclose()
        return Reply(response.status_code, bytes(body), headers=dict(response.headers))

    async def _client_for(self, url: httpx.URL) -> httpx.AsyncClient:
        if (url.scheme, url.host, url.port) == (self._own.scheme, self._own.host, self._own.port):
            return self._to_own
        proxy = proxy_for(self._access.endpoint, str(url))
        way = None if proxy is None else proxy.url
        if way not in self._others:
            trusted = structs.replace(self._access.endpoint, client_cert=None, client_key=None)
            context = await asyncio.to_thread(context_for, trusted)  # reading the authorities takes 20 ms and more
            if way not in self._others:
                self._others[way] = self._made(way, context)
        return self._others[way]

    def _made(self, way: str | None, context: ssl.SSLContext) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"User-Agent": "llmtop"},
            verify=context,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S),
            proxy=way,
            cookies=CookieJar(DefaultCookiePolicy(netscape=False, rfc2965=False)),
            follow_redirects=True,
            max_redirects=REDIRECTS,
            trust_env=False,
        )

    @cached_property
    def _to_own(self) -> httpx.AsyncClient:
        return self._access.stock_client()


def host_of(url: httpx.URL) -> str:
    """Host and port, as they stand in the URL."""
    return urlsplit(str(url)).netloc.rpartition("@")[2]
