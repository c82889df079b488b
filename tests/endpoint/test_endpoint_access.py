"""One way to be let in, for load, probe and scrapes alike: the key, the certificates, the proxies."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps
from llmtop.endpoint.access import Access
from llmtop.endpoint.probe import probe
from llmtop.telemetry.scraper import Scraper

from .conftest import DATA, Request, stream_ok

PEM = DATA / "loopback.pem"
PAGE = b"vllm:num_requests_running 3\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", " secret-key\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


async def answer(request: Request) -> None:
    """An endpoint that is vLLM, and its page of metrics."""
    if request.path == "/v1/models":
        await request.answer(200, {"data": [{"id": "m", "owned_by": "vllm"}]})
    elif request.method == "POST":
        await stream_ok(request)
    else:
        await request.answer(200, PAGE, content_type="text/plain")


def authorization(request: Request) -> str | None:
    lines = [line for line in request.head.split("\r\n") if line.lower().startswith("authorization:")]
    return lines[0].partition(": ")[2] if lines else None


def tls_of(client: httpx.AsyncClient) -> ssl.SSLContext:
    way = client._transport.way_to(client.base_url)  # type: ignore[attr-defined]
    context = way._inner._pool._ssl_context
    assert isinstance(context, ssl.SSLContext)
    return context


async def scrape(endpoint: Endpoint) -> str | None:
    """Why there are no metrics."""
    scraper = Scraper(endpoint, (await probe(endpoint, Caps())).dialect, 0)
    await scraper.scrape()
    await scraper.close()
    return scraper.missing


async def test_the_key_is_the_same_for_load_probe_and_scrapes(serve: Any, connect: Any) -> None:
    server = await serve(answer)
    assert await scrape(Endpoint(base_url=server.url, api_key_env="LLMTOP_TEST_KEY")) is None
    assert {authorization(request) for request in server.requests} == {"Bearer secret-key"}
    assert {request.method for request in server.requests} == {"GET", "POST"}


async def test_an_exporter_elsewhere_learns_neither_key_nor_headers(serve: Any) -> None:
    server, exporter = await serve(answer), await serve(answer)
    page = exporter.url.replace("127.0.0.1", "localhost") + "/metrics"
    endpoint = Endpoint(
        base_url=server.url, api_key_env="LLMTOP_TEST_KEY", headers=(("X-Team", "a"),), metrics_urls=(page,)
    )
    assert await scrape(endpoint) is None
    assert len(exporter.requests) >= 2, "the probe and the scrape"
    assert {authorization(request) for request in exporter.requests} == {None}
    assert not any("x-team" in request.head.lower() for request in exporter.requests)
    assert all("x-team: a" in request.head.lower() for request in server.requests)


async def test_a_page_that_is_named_with_a_password_gets_that_and_not_the_key(serve: Any) -> None:
    server = await serve(answer)
    page = server.url.replace("http://", "http://user:pass@") + "/metrics"
    client = Access(Endpoint(base_url=server.url, api_key_env="LLMTOP_TEST_KEY")).stock_client((page,))
    await client.get(page)
    await client.get("/metrics")
    await client.aclose()
    basic = "Basic " + base64.b64encode(b"user:pass").decode()
    assert [authorization(request) for request in server.requests] == [basic, "Bearer secret-key"]


async def test_scrapes_trust_what_the_load_trusts(serve: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM, DATA / "loopback.key")
    server = await serve(answer, tls=context)
    assert await scrape(Endpoint(base_url=server.url, ca_file=str(PEM))) is None
    assert await scrape(Endpoint(base_url=server.url, insecure=True)) is None
    plain = await serve(answer)
    page = (f"{server.url}/metrics",)
    assert await scrape(Endpoint(base_url=plain.url, ca_file=str(PEM), metrics_urls=page)) is None
    strict = Scraper(Endpoint(base_url=server.url), (await probe(Endpoint(base_url=plain.url), Caps())).dialect, 0)
    await strict.scrape()
    await strict.close()
    assert "certificate" in (strict.missing or "").lower()


async def test_there_is_one_tls_context() -> None:
    access = Access(Endpoint(base_url="https://127.0.0.1:1", ca_file=str(PEM)))
    client = access.stock_client(("https://127.0.0.1:2/metrics",))
    assert tls_of(client) is access.tls is access.origin.tls
    await client.aclose()


async def test_a_unix_socket_is_not_the_way_to_another_port_of_this_machine(serve: Any, tmp_path: Path) -> None:
    own = await serve(answer, path=str(tmp_path / "s"))
    exporter = await serve(answer)
    page = exporter.url.replace("127.0.0.1", "localhost") + "/metrics"
    client = Access(Endpoint(base_url="http://localhost", unix_socket=str(tmp_path / "s"))).stock_client((page,))
    await client.get(page)
    await client.get("/metrics")
    await client.aclose()
    assert (len(exporter.requests), len(own.requests)) == (1, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
async def test_loopback_is_reached_without_the_environments_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    access = Access(Endpoint(base_url=f"http://{host}:8000"))
    assert not access.uses_stock
    await access.stock_client((f"http://{host}:9400/metrics",)).aclose()
