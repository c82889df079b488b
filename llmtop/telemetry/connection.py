"""The connection that scrapes use: stock httpx, apart from the load's, with the endpoint's key, headers and TLS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx

from llmtop.dialects import DialectTable
from llmtop.domain.endpoint import Endpoint, is_loopback

KEEPALIVE_S = 4.0
"""vLLM closes idle connections after 5 s: never write into one that is about to be closed."""


def open_client(endpoint: Endpoint, urls: Iterable[str]) -> httpx.AsyncClient:
    """A client for the endpoint's own pages and for `urls`.

    Loopback never goes through a proxy of the environment; a unix socket serves the endpoint's own address only.
    Pages are asked for uncompressed: to compress one costs the server's event loop more than to send it.
    """
    limits = httpx.Limits(keepalive_expiry=KEEPALIVE_S)
    secure = any(url.startswith("https:") for url in (endpoint.base_url, *urls))
    verify: ssl.SSLContext | bool = _tls_context(endpoint) if secure else False
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {
        f"all://{_bracketed(host)}": None
        for host in {urlsplit(url).hostname or "" for url in (endpoint.base_url, *urls)}
        if is_loopback(host)
    }
    if endpoint.unix_socket:
        origin = urlsplit(endpoint.base_url)
        mounts[f"{origin.scheme}://{origin.netloc}"] = httpx.AsyncHTTPTransport(
            uds=endpoint.unix_socket, verify=verify, limits=limits
        )
    return httpx.AsyncClient(
        verify=verify,
        limits=limits,
        mounts=mounts,
        headers={"accept": "text/plain;version=0.0.4,application/json;q=0.9,*/*;q=0.1", "accept-encoding": "identity"},
    )


def metrics_urls(endpoint: Endpoint, table: DialectTable) -> tuple[tuple[str, ...], ...]:
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
        places.append(f"{parts.scheme}://{_bracketed(parts.hostname or '')}:{table.metrics_port}/metrics")
    return (tuple(places),) if places else ()


def headers_for(url: str, endpoint: Endpoint) -> dict[str, str]:
    """The endpoint's key and extra headers, for its own host only: an exporter elsewhere must not learn the key."""
    if urlsplit(url).hostname != urlsplit(endpoint.base_url).hostname:
        return {}
    headers = dict(endpoint.headers)
    key = os.environ.get(endpoint.api_key_env) if endpoint.api_key_env else None
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
