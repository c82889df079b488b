"""How one is let in: key, headers, TLS, proxies; and stock httpx set up with them, for all that is not load."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from urllib.parse import urlsplit

import httpx
from msgspec import structs

from llmtop.domain.endpoint import Endpoint, EndpointInfo, safe_url
from llmtop.domain.places import asked_in
from llmtop.domain.plain import LIMIT, plain
from llmtop.endpoint.connection import Origin
from llmtop.endpoint.lookedup import LookedUp
from llmtop.endpoint.proxies import Proxy, named_proxies, proxy_for
from llmtop.endpoint.secret import HEADER_NAME, Secrets, basic_in, key_in, of_header, of_url
from llmtop.endpoint.tls import context_for
from llmtop.errors import UsageError

if "sniffio" not in sys.modules and find_spec("sniffio") is None:
    # httpcore tries to import it some ten times for every request, and where it is not there each of them searches all
    # of sys.path, on the loop that measures: two fifths of what a request costs.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

KEEPALIVE_S = 4.0
"""vLLM closes idle connections after 5 s: never write into one that is about to be closed."""
_NEUTRAL = (("Accept-Encoding", "identity"), ("User-Agent", "llmtop"))
"""Sent to everybody. Uncompressed: to compress a page costs the server's event loop more than to send it."""


class Access:
    """What an `Endpoint` says about being let in, resolved: the key read, the certificates loaded.

    Attributes:
        headers: sent with every request to the endpoint's own origin: scheme, host and port.
        tls: of the endpoint's address; None: it is not spoken to by TLS.
        proxy: the one that its requests go through; None: none.
        secrets: everything that lets somebody in here, at its pages of metrics or at a proxy.

    Raises UsageError when a variable or a file that is named is not there, a header cannot be sent, or a URL, be it
    that of a proxy, is none.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        urls = (endpoint.base_url, *asked_in(endpoint.metrics_urls))
        for url in urls:
            _check(url)
        private = _private_headers(endpoint)
        _check_headers(private)
        self.secrets = Secrets(_secrets_of(endpoint, private))
        own = {name.lower() for name, _ in private}
        self._private = private
        self.headers = [(name, value) for name, value in _NEUTRAL if name.lower() not in own] + private
        parts = urlsplit(endpoint.base_url)
        self._own = _origin_of(httpx.URL(endpoint.base_url))
        self._scheme, self._host = parts.scheme, parts.hostname or "localhost"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.host_header = parts.netloc
        proxies = [proxy_for(endpoint, url) for url in urls]
        self.proxy = proxies[0]
        if any(url.startswith("https:") for url in (*urls, *(proxy.url for proxy in proxies if proxy is not None))):
            _ = self._context  # what is wrong with its files is to be said before anything is sent
        self.tls = self._context if parts.scheme == "https" else None

    def __repr__(self) -> str:
        return f"Access({safe_url(self.endpoint.base_url)!r})"

    @property
    def origin(self) -> Origin:
        addresses = self.endpoint.addresses_of(self._host)
        return Origin(self._host, self._port, self.tls, self.endpoint.unix_socket, addresses)

    @property
    def uses_stock(self) -> bool:
        """Whether load goes through stock httpx: asked for, or a proxy is in the way."""
        return self.endpoint.transport == "httpx" or self.proxy is not None

    def stock_client(self, urls: Iterable[str] = ()) -> httpx.AsyncClient:
        """Stock httpx for the endpoint and `urls`, without its caps: 100 connections would queue silently inside it.

        The key and the extra headers go to the endpoint's own origin only: an exporter elsewhere must not learn them.
        Loopback never goes through a proxy of the environment; a unix socket serves the endpoint's own address only.
        Cookies are not kept: a server could make every further request longer, and they go to every port of a host.
        """
        targets = {_origin_of(httpx.URL(url)): url for url in (self.endpoint.base_url, *urls)}
        routes: dict[_Where, httpx.AsyncBaseTransport] = {}
        ways: dict[str | None, httpx.AsyncBaseTransport] = {}
        for origin, url in targets.items():
            proxy = proxy_for(self.endpoint, url)
            way = None if proxy is None else proxy.url
            if way not in ways:
                ways[way] = self._transport(targets.values(), proxy)
            routes[origin] = ways[way]
        if self.endpoint.unix_socket is not None:
            routes[self._own] = self._transport(targets.values(), None, unix_path=self.endpoint.unix_socket)
        return httpx.AsyncClient(
            base_url=self.endpoint.base_url,
            headers=_NEUTRAL,
            timeout=httpx.Timeout(10.0, pool=None),
            transport=Routes(routes, ways.get(None) or self._transport(targets.values(), None)),
            cookies=CookieJar(DefaultCookiePolicy(netscape=False, rfc2965=False)),
            event_hooks={"request": [self._let_in]},
            follow_redirects=False,
            trust_env=False,
        )

    def _transport(
        self, urls: Iterable[str], proxy: Proxy | None, unix_path: str | None = None
    ) -> httpx.AsyncBaseTransport:
        """Stock connections without httpx's caps, straight or through a proxy."""
        # Loading the certificates takes 20 ms and more: only where they are looked at.
        secure = any(url.startswith("https:") for url in (*urls, "" if proxy is None else proxy.url))
        verify = self._context if secure else _NOTHING_SECURE
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S)
        if proxy is not None:
            over = self._context if proxy.url.startswith("https:") else None
            through = httpx.Proxy(proxy.url, ssl_context=over)
            return httpx.AsyncHTTPTransport(verify=verify, limits=limits, proxy=through, trust_env=False)
        straight = httpx.AsyncHTTPTransport(verify=verify, limits=limits, uds=unix_path, trust_env=False)
        return straight if unix_path is not None else LookedUp(straight, self.endpoint.addresses_of)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return context_for(self.endpoint)

    async def _let_in(self, request: httpx.Request) -> None:
        """Give a request to the endpoint's own origin the headers that let it in."""
        if _origin_of(request.url) != self._own:
            return
        # What stands before the @ of a URL that was named with it is meant for that page.
        private = [(n, v) for n, v in self._private if n.lower() != "authorization" or not request.url.userinfo]
        names = {name.lower() for name, _ in private}
        kept = [(name, value) for name, value in request.headers.multi_items() if name.lower() not in names]
        request.headers = httpx.Headers([*kept, *private])

    def heard(self, text: str, limit: int = LIMIT) -> str:
        """What came from the network as text, fit to be shown and kept; see `Secrets.heard`."""
        return self.secrets.heard(text, limit)

    def shown(self, info: EndpointInfo) -> EndpointInfo:
        """What a probe has found, with its model's name fit to be shown instead of as it is sent."""
        return structs.replace(info, model=self.heard(info.model))


def _check(url: str) -> None:
    """Raise UsageError unless a URL can be asked. A parser's words are not shown: they quote what it holds."""
    try:
        parts, port = httpx.URL(url), urlsplit(url).port
        can = parts.scheme in ("http", "https") and parts.host and port != 0
    except (httpx.InvalidURL, ValueError):
        can = False
    if not can:
        raise UsageError(f"URL {plain(safe_url(url))}: nothing can be asked there; write it like http://host:port/path")


def _private_headers(endpoint: Endpoint) -> list[tuple[str, str]]:
    """What lets in, as it is sent. A header that is given as such stands for the one that a key would make.

    Raises UsageError for a variable that is not set, and for two that would be one header.
    """
    named = [(name, key_in(variable, f"--header {name}=env:") or "") for name, variable in endpoint.headers_env]
    private = [*endpoint.headers, *named]
    given = {name.lower() for name, _ in private}
    key, basic = key_in(endpoint.api_key_env), basic_in(endpoint.basic_auth_env)
    if endpoint.api_key_header is not None and key is None:
        raise UsageError("--api-key-header: name the variable that holds the key with --api-key-env")
    header = endpoint.api_key_header or "Authorization"
    if basic is not None:
        if "authorization" in given or (key is not None and header.lower() == "authorization"):
            raise UsageError(
                "--basic-auth: another option fills the header Authorization; give one, or send the key "
                "in a header of its own with --api-key-header"
            )
        private.insert(0, ("Authorization", basic))
    if key is not None and header.lower() not in given:
        private.insert(0, (header, key if endpoint.api_key_header is not None else f"Bearer {key}"))
    return private


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Raises UsageError for a header that cannot be sent; its value is not shown."""
    for name, value in headers:
        if not HEADER_NAME.fullmatch(name):
            raise UsageError("--header: what stands before the colon is no name of a header")
        if not (value.isascii() and value.replace("\t", " ").isprintable()):
            raise UsageError(f"header {name}: its value has characters that no header can have")


def _secrets_of(endpoint: Endpoint, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for variable in endpoint.secret_variables:
        yield key_in(variable) or ""
    for name, value in headers:
        yield from of_header(name, value)
    asked = endpoint.api.url(endpoint.base_url, "models")
    for url in (asked, *endpoint.metrics_urls, *named_proxies(endpoint)):
        yield from of_url(url)


_Where = tuple[str, bytes, int | None]
"""Scheme, host and port; a port that the scheme implies is None."""
_NOTHING_SECURE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Of connections without TLS: it trusts nobody."""


def _origin_of(url: httpx.URL) -> _Where:
    return url.scheme, url.raw_host, url.port


class Routes(httpx.AsyncBaseTransport):
    """Sends each request the way of its origin, and one to an origin that nobody named straight."""

    def __init__(self, routes: dict[_Where, httpx.AsyncBaseTransport], straight: httpx.AsyncBaseTransport) -> None:
        self._routes = routes
        self._straight = straight

    def way_to(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        return self._routes.get(_origin_of(url), self._straight)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises what the transport of that way raises."""
        return await self.way_to(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        for transport in {self._straight, *self._routes.values()}:
            await transport.aclose()
