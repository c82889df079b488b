"""How one is let in: key, headers, TLS, proxies; and stock httpx set up with them, for all that is not load."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from msgspec import structs

from llmtop.domain.endpoint import Endpoint, EndpointInfo, safe_url
from llmtop.domain.plain import LIMIT, plain
from llmtop.endpoint.connection import Origin
from llmtop.endpoint.lookedup import LookedUp
from llmtop.endpoint.secret import HEADER_NAME, Secrets, key_in, of_header, of_url
from llmtop.errors import UsageError

KEEPALIVE_S = 4.0
"""vLLM closes idle connections after 5 s: never write into one that is about to be closed."""
_NEUTRAL = (("Accept-Encoding", "identity"), ("User-Agent", "llmtop"))
"""Sent to everybody. Uncompressed: to compress a page costs the server's event loop more than to send it."""


class Access:
    """What an `Endpoint` says about being let in, resolved: the key read, the certificates loaded.

    Attributes:
        headers: sent with every request to the endpoint's own origin: scheme, host and port.
        tls: of the endpoint's address; None: it is not spoken to by TLS.
        proxy: the proxy that the environment names for this endpoint; None: none.
        secrets: everything that lets somebody in here, at its pages of metrics or at a proxy.

    Raises UsageError when the key's variable or the CA file is not there, a header cannot be sent, or a URL is none.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        for url in (endpoint.base_url, *endpoint.metrics_urls):
            _check(url)
        private = list(endpoint.headers)
        key = key_in(endpoint.api_key_env)
        if key is not None and not any(name.lower() == "authorization" for name, _ in private):
            private.insert(0, ("Authorization", f"Bearer {key}"))
        _check_headers(private)
        self.secrets = Secrets(itertools.chain(() if key is None else (key,), _secrets_of(endpoint, private)))
        own = {name.lower() for name, _ in private}
        self._private = private
        self.headers = [(name, value) for name, value in _NEUTRAL if name.lower() not in own] + private
        parts = urlsplit(endpoint.base_url)
        self._own = _origin_of(httpx.URL(endpoint.base_url))
        self._scheme, self._host = parts.scheme, parts.hostname or "localhost"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.host_header = parts.netloc
        secure = any(url.startswith("https:") for url in (endpoint.base_url, *endpoint.metrics_urls))
        self._context = self._tls_context() if secure else None
        self.tls = self._context if parts.scheme == "https" else None
        self.proxy = None if endpoint.unix_socket else self._proxy_for(parts.scheme, self._host)

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
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S)
        origins = [urlsplit(url) for url in (self.endpoint.base_url, *urls)]
        proxies = [self.proxy, *(self._proxy_for(parts.scheme, parts.hostname or "") for parts in origins[1:])]
        # Loading the system's certificates takes 20 ms and more: only where they are looked at.
        tls_to_proxy = any((proxy or "").startswith("https://") for proxy in proxies)
        verify: ssl.SSLContext | bool = self._context if self._context is not None else tls_to_proxy
        direct = LookedUp(httpx.AsyncHTTPTransport(verify=verify, limits=limits), self.endpoint.addresses_of)
        mounts: dict[str, httpx.AsyncBaseTransport | None] = {
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}": direct
            for parts, proxy in zip(origins, proxies, strict=True)
            if proxy is None
        }
        if self.endpoint.unix_socket is not None:
            own = f"{self._scheme}://{self.host_header}"
            mounts[own] = httpx.AsyncHTTPTransport(uds=self.endpoint.unix_socket, verify=verify, limits=limits)
        return httpx.AsyncClient(
            base_url=self.endpoint.base_url,
            headers=_NEUTRAL,
            limits=limits,
            timeout=httpx.Timeout(10.0, pool=None),
            verify=verify,
            mounts=mounts,
            cookies=CookieJar(DefaultCookiePolicy(netscape=False, rfc2965=False)),
            event_hooks={"request": [self._let_in]},
            follow_redirects=False,
            trust_env=any(proxy is not None for proxy in proxies),
        )

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

    def _tls_context(self) -> ssl.SSLContext:
        endpoint = self.endpoint
        if endpoint.ca_file is not None:
            try:
                context = ssl.create_default_context(cafile=endpoint.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"CA file {endpoint.ca_file}: {error.strerror or error}") from None
        else:
            context = httpx.create_ssl_context()
        if endpoint.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        """The proxy that the environment names for a host; this machine has none, whatever it is called.

        What is called localhost is not asked of a proxy either (RFC 6761): that would be the proxy's own machine.
        """
        proxies = getproxies()
        found = proxies.get(scheme) or proxies.get("all")
        local = self.endpoint.has_here(host) or host == "localhost" or host.endswith(".localhost")
        return None if not found or local or proxy_bypass(host) else found


def _check(url: str) -> None:
    """Raise UsageError unless a URL can be asked. A parser's words are not shown: they quote what it holds."""
    try:
        parts, port = httpx.URL(url), urlsplit(url).port
        can = parts.scheme in ("http", "https") and parts.host and port != 0
    except (httpx.InvalidURL, ValueError):
        can = False
    if not can:
        raise UsageError(f"URL {plain(safe_url(url))}: nothing can be asked there; write it like http://host:port/path")


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Raises UsageError for a header that cannot be sent; its value is not shown."""
    for name, value in headers:
        if not HEADER_NAME.fullmatch(name):
            raise UsageError("--header: what stands before the colon is no name of a header")
        if not (value.isascii() and value.replace("\t", " ").isprintable()):
            raise UsageError(f"header {name}: its value has characters that no header can have")


def _secrets_of(endpoint: Endpoint, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        yield from of_header(name, value)
    for url in (endpoint.base_url, *endpoint.metrics_urls, *getproxies().values()):
        yield from of_url(url)


def _origin_of(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """Scheme, host and port; a port that the scheme implies is None."""
    return url.scheme, url.raw_host, url.port
