"""How one is let in: key, headers, TLS, proxies; and stock httpx set up with them."""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint.connection import Origin
from llmtop.errors import UsageError


class Access:
    """What an `Endpoint` says about being let in, resolved: the key read, the certificates loaded.

    Attributes:
        headers: sent with every request.
        proxy: the proxy that the environment names for this endpoint; None: none.

    Raises UsageError when the key's variable or the CA file is not there.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._key: str | None = None
        headers = [("Accept-Encoding", "identity"), ("User-Agent", "llmtop")]
        if endpoint.api_key_env is not None:
            self._key = os.environ.get(endpoint.api_key_env, "").strip()
            if not self._key:
                raise UsageError(f"--api-key-env {endpoint.api_key_env}: this environment variable is not set")
            headers.append(("Authorization", f"Bearer {self._key}"))
        own = {name.lower() for name, _ in endpoint.headers}
        self.headers = [(name, value) for name, value in headers if name.lower() not in own] + list(endpoint.headers)
        parts = urlsplit(endpoint.base_url)
        self._scheme, self._host = parts.scheme, parts.hostname or "localhost"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.base_path = parts.path.rstrip("/")
        self.host_header = parts.netloc
        self.tls = self._tls_context() if parts.scheme == "https" else None
        self.proxy = None if endpoint.unix_socket else _proxy_for(parts.scheme, self._host)

    def __repr__(self) -> str:
        return f"Access({self.endpoint.base_url!r})"

    @property
    def origin(self) -> Origin:
        return Origin(self._host, self._port, self.tls, self.endpoint.unix_socket)

    @property
    def uses_stock(self) -> bool:
        """Whether load goes through stock httpx: asked for, or a proxy is in the way."""
        return self.endpoint.transport == "httpx" or self.proxy is not None

    def stock_client(self) -> httpx.AsyncClient:
        """Stock httpx without its caps: 100 connections would queue silently inside the client."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)
        # Loading the system's certificates takes 20 ms and more: only where they are looked at.
        tls_to_proxy = (self.proxy or "").startswith("https://")
        verify: ssl.SSLContext | bool = self.tls if self.tls is not None else tls_to_proxy
        transport = None
        if self.endpoint.unix_socket is not None:
            transport = httpx.AsyncHTTPTransport(uds=self.endpoint.unix_socket, verify=verify, limits=limits)
        return httpx.AsyncClient(
            base_url=self.endpoint.base_url,
            headers=self.headers,
            limits=limits,
            timeout=httpx.Timeout(10.0, pool=None),
            verify=verify,
            transport=transport,
            follow_redirects=False,
            trust_env=self.proxy is not None,
        )

    def mask(self, text: str) -> str:
        """`text` without the key: some servers repeat it in their errors."""
        return text.replace(self._key, "***") if self._key else text

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


def _proxy_for(scheme: str, host: str) -> str | None:
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return None if not found or host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host) else found
