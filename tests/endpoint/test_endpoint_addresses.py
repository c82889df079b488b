"""A name is this machine's only if all its addresses are, and those are connected to, whatever it comes to mean."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from llmtop.domain.endpoint import Endpoint, is_loopback, safe_endpoint
from llmtop.domain.load import Caps
from llmtop.endpoint.access import Access
from llmtop.endpoint.addresses import look_up, pinned
from llmtop.endpoint.probe import probe
from llmtop.errors import EndpointUnreachable, UsageError
from llmtop.telemetry.scraper import Scraper

from .conftest import DATA, Request, stream_ok

HERE = ("::1", "127.0.0.1")


class Names:
    """A resolver that a test turns."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.asked: list[str] = []
        self.pause_s = 0.0
        self._own = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *more: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if options.get("flags", 0) & socket.AI_NUMERICHOST or name.replace(".", "").isdecimal() or ":" in name:
            return self._own(host, port, *more, **options)
        self.asked.append(name)
        time.sleep(self.pause_s)
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in self.known[name] for found in self._own(address, port, type=socket.SOCK_STREAM)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    return made


async def serves(request: Request) -> None:
    """An endpoint that is vLLM, and its page of metrics."""
    if request.path == "/v1/models":
        await request.answer(200, {"data": [{"id": "m", "owned_by": "vllm"}]})
    elif request.method == "POST":
        await stream_ok(request)
    else:
        await request.answer(200, b"vllm:num_requests_running 3\n", content_type="text/plain")


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost", False),
        ("evil.localhost", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_only_an_address_is_loopback(address: str, here: bool) -> None:
    assert is_loopback(address) is here


@pytest.mark.parametrize(
    ("host", "addresses", "here"),
    [
        ("localhost", HERE, True),
        ("LOCALHOST", HERE, True),
        ("localhost.", HERE, True),
        ("mine.test", ("127.0.0.1",), True),
        ("bücher.test", ("127.0.0.1",), True),
        ("localhost", ("192.0.2.1",), False),
        ("evil.localhost", ("192.0.2.1",), False),
        ("evil.localhost", ("127.0.0.1", "192.0.2.1"), False),
        ("evil.localhost", (), False),
        ("zero.test", ("0.0.0.0",), False),
        ("mapped.test", ("::ffff:127.0.0.1",), True),
    ],
)
def test_a_name_is_here_only_if_all_its_addresses_are(
    names: Names, host: str, addresses: tuple[str, ...], here: bool
) -> None:
    if addresses:
        names.known[host.lower().encode("idna").decode()] = addresses
    found = pinned(Endpoint(base_url=f"http://{host}:8000"))
    assert found.is_here is here
    assert safe_endpoint(found).addresses == ()


@pytest.mark.parametrize(("host", "here"), [("127.1", True), ("2130706433", True), ("0x7f.1", True), ("0", False)])
def test_short_forms_of_an_address_count_as_what_they_mean(host: str, here: bool) -> None:
    assert pinned(Endpoint(base_url=f"http://{host}:8000")).is_here is here


def test_a_socket_is_here() -> None:
    assert pinned(Endpoint(base_url="http://localhost", unix_socket="/s")).is_here


@pytest.mark.parametrize("transport", ["auto", "httpx"])
async def test_load_probe_and_scrapes_connect_to_what_was_looked_at(
    names: Names, serve: Any, connect: Any, transport: str
) -> None:
    server = await serve(serves)
    port = int(server.url.rpartition(":")[2])
    names.known["mine.test"] = HERE  # the server listens on the second of them only
    metrics = (f"http://mine.test:{port}/metrics",)
    endpoint = pinned(Endpoint(base_url=f"http://mine.test:{port}", metrics_urls=metrics, transport=transport))
    names.known["mine.test"] = ("192.0.2.1",)
    names.asked.clear()
    info = await probe(endpoint, Caps())
    scraper = Scraper(endpoint, info.dialect, 0)
    snapshot = await scraper.scrape()
    await scraper.close()
    assert snapshot.running == 3
    assert names.asked == [], "nobody looks it up again"
    assert all(f"host: mine.test:{port}" in request.head.lower() for request in server.requests)


@pytest.mark.parametrize("transport", ["auto", "httpx"])
async def test_tls_asks_for_the_certificate_of_the_name(
    names: Names, serve: Any, transport: str, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "loopback.pem", DATA / "loopback.key")
    asked: list[str] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    server = await serve(serves, tls=context)
    port = server.url.rpartition(":")[2]
    names.known["mine.test"] = ("127.0.0.1",)
    endpoint = pinned(Endpoint(base_url=f"https://mine.test:{port}", insecure=True, transport=transport))
    await probe(endpoint, Caps())
    assert set(asked) == {"mine.test"}


def test_a_proxy_is_not_asked_for_what_is_here_and_is_for_what_only_claims_to_be(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.known = {"mine.test": HERE, "other.test": ("192.0.2.1",)}
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert Access(pinned(Endpoint(base_url="http://mine.test"))).proxy is None
    assert Access(pinned(Endpoint(base_url="http://other.test"))).proxy is not None
    assert Access(Endpoint(base_url="http://127.0.0.1")).proxy is None


def test_a_resolver_that_hangs_is_not_waited_for(names: Names) -> None:
    names.known, names.pause_s = {"mine.test": HERE}, 1.0
    began = time.monotonic()
    assert not pinned(Endpoint(base_url="http://mine.test"), limit_s=0.1).is_here
    assert time.monotonic() - began < 0.9


async def test_a_look_up_can_be_cancelled(names: Names) -> None:
    names.known, names.pause_s = {"mine.test": HERE}, 0.5
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await look_up("mine.test", 80)
    assert time.monotonic() - began < 0.4
    names.pause_s = 0.0
    assert {address[0] for *_, address in await look_up("mine.test", 80)} == set(HERE)


@pytest.mark.parametrize("transport", ["auto", "httpx"])
async def test_a_name_that_has_no_address_is_told_in_words(names: Names, transport: str) -> None:
    with pytest.raises(EndpointUnreachable, match="Name or service not known"):
        await probe(pinned(Endpoint(base_url="http://no.test:8000", transport=transport)), Caps())


async def test_a_name_that_cannot_be_one_is_told_in_words() -> None:
    with pytest.raises(OSError, match="no name of a host"):
        await look_up("a..b", 80)


@pytest.mark.parametrize(
    "url", ["http://ｌocalhost:1", "http://a\x00b", "http://a:99999", "ftp://a", "http://", "http://[a"]
)
def test_a_url_that_cannot_be_asked_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        Access(Endpoint(base_url="http://127.0.0.1:1", metrics_urls=(url,)))
