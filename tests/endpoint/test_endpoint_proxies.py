"""Which proxy a request goes through, whatever the environment holds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmtop
from llmtop.domain.endpoint import Endpoint, safe_endpoint
from llmtop.domain.load import Caps
from llmtop.endpoint import proxies
from llmtop.endpoint.access import Access
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.proxies import proxy_for, spares
from llmtop.errors import EndpointError, LlmtopError, UsageError
from llmtop.wording.refused import PROXY_LOGIN

PROXY = "http://proxy.test:3128"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
ODD = (
    *(
        "fe80::/10",
        "[::1]",
        "[::1]:8000",
        "::1",
        "10.0.0.0/8",
        "*",
        ".corp.test",
        "*.corp.test",
        "a:b:c",
        "[",
        "]",
        "/",
    ),
    *(
        "localhost,127.0.0.1,::1",
        " , ",
        "http://[",
        "socks5h://127.0.0.1:1",
        "socks4://h:1",
        "127.0.0.1:3128",
        "http://",
    ),
    *("http://h:99999", "http://u:p@h:1", "http://h:0", "\x1b[31m", "\udcff", "http://\udcff:1", "x" * 3000, "ftp://h"),
)
WORDS = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_characters="\0"), max_size=30))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@settings(max_examples=150, deadline=None)
@given(
    environment=st.dictionaries(st.sampled_from(NAMES), WORDS),
    url=st.sampled_from(("http://llm.test", "https://llm.test:8443", "http://[fd00::1]:8000", "http://10.1.2.3")),
)
def test_nothing_in_the_environment_raises_anything_but_our_errors(environment: dict[str, str], url: str) -> None:
    encoded = {name: os.fsdecode(value.encode("utf-8", "surrogateescape")) for name, value in _sendable(environment)}
    with mock.patch.dict(os.environ, encoded):
        for asked in (url, "http://127.0.0.1:8000", "http://localhost:1", "http://localhost.:1", "http://0.0.0.0:1"):
            problem = None
            try:
                Access(Endpoint(base_url=asked, insecure=True)).stock_client(("http://127.0.0.2/metrics",))
            except LlmtopError as error:
                problem = str(error)
            assert problem is None or asked == url, "this machine is asked without a look at proxies"
            assert problem is None or problem.isprintable()


def _sendable(environment: dict[str, str]) -> list[tuple[str, str]]:
    """What an environment can hold: surrogates stand for bytes that are no UTF-8."""

    def can(value: str) -> bool:
        try:
            return bool(os.fsencode(value)) or not value
        except UnicodeEncodeError:
            return False

    return [(name, value) for name, value in environment.items() if can(value)]


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "spared"),
    [
        ("*", "llm.test", 80, True),
        ("a.test, *", "llm.test", 80, True),
        ("llm.test", "llm.test", 80, True),
        ("LLM.Test.", "llm.test", 80, True),
        ("corp.test", "llm.corp.test", 80, True),
        (".corp.test", "llm.corp.test", 80, True),
        (".corp.test", "corp.test", 80, True),
        ("*.corp.test", "llm.corp.test", 80, True),
        ("corp.test", "evilcorp.test", 80, False),
        ("llm.test:8000", "llm.test", 8000, True),
        ("llm.test:8000", "llm.test", 80, False),
        ("http://llm.test/", "llm.test", 80, True),
        ("a.test b.test", "b.test", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3/8", "10.9.9.9", 80, True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 80, True),
        ("10.0.0.0/99", "10.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("1.2.3", "10.1.2.3", 80, False),
        ("fe80::/10", "fe80::1%eth0", 80, True),
        ("[fd00::]/8", "fd00::1", 80, True),
        ("fe80::/10", "llm.test", 80, False),
        ("fd00::1", "fd00:0::1", 80, True),
        ("[fd00::1]", "fd00::1", 80, True),
        ("[fd00::1]:8000", "fd00::1", 8000, True),
        ("[fd00::1]:8000", "fd00::1", 80, False),
        ("[", "llm.test", 80, False),
        ("", "llm.test", 80, False),
        (".", "llm.test", 80, False),
        ("\x1b,\udcff", "llm.test", 80, False),
        ("bücher.test", "xn--bcher-kva.test", 80, True),
    ],
)
def test_whom_no_proxy_spares(no_proxy: str, host: str, port: int, spared: bool) -> None:
    assert spares(no_proxy, host, port) is spared


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"HTTP_PROXY": PROXY}, "http://llm.test", (PROXY, "HTTP_PROXY")),
        ({"HTTP_PROXY": PROXY}, "https://llm.test", None),
        ({"ALL_PROXY": PROXY}, "https://llm.test", (PROXY, "ALL_PROXY")),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://b:1"}, "https://llm.test", (PROXY, "https_proxy")),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, "https://llm.test", None),
        ({"HTTP_PROXY": " proxy.test:3128 "}, "http://llm.test", (PROXY, "HTTP_PROXY")),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "llm.test:8000"}, "http://llm.test:8000", None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "llm.test:8000"}, "http://llm.test:9400", (PROXY, "HTTP_PROXY")),
        ({"HTTP_PROXY": "nonsense://", "ALL_PROXY": "["}, "http://[::1]:8000", None),
    ],
)
def test_which_variable_names_the_proxy(
    environment: dict[str, str], url: str, proxy: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(Endpoint(base_url=url), url)
    assert (found and (found.url, found.named_by)) == proxy
    assert proxy_for(Endpoint(base_url=url, proxy="none"), url) is None


def test_the_proxy_of_the_option_is_for_the_endpoint_and_for_pages_beyond_this_machine() -> None:
    far = Endpoint(base_url="http://llm.test", proxy=PROXY)
    assert [proxy_for(far, url) is not None for url in ("http://llm.test/metrics", "https://b.test")] == [True, True]
    assert proxy_for(far, "http://127.0.0.1:9400/metrics") is None
    here = Endpoint(base_url="http://127.0.0.1:8000", proxy=PROXY)
    assert proxy_for(here, "http://127.0.0.1:8000/metrics") is not None, "it was asked for"
    assert proxy_for(Endpoint(base_url="http://localhost", unix_socket="/s", proxy=PROXY), "http://localhost") is None


@pytest.mark.parametrize("value", ["socks4://h:1", "http://", "http://h:0", "http://h:x", "a b", "ftp://h", "", "\x1b"])
def test_what_is_no_proxy_is_said_with_who_names_it(value: str) -> None:
    with pytest.raises(UsageError, match=r"--proxy .*: (is no URL of a proxy|a proxy is asked by).*--proxy none"):
        Access(Endpoint(base_url="http://llm.test", proxy=value))


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_without_its_library_is_said(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    monkeypatch.setenv("all_proxy", f"{scheme}://user:secret-word@127.0.0.1:1")
    with pytest.raises(UsageError, match=r"^all_proxy .*SOCKS is not installed.*pip install socksio") as caught:
        Access(Endpoint(base_url="http://llm.test"))
    assert "secret-word" not in str(caught.value)


def test_user_and_password_of_a_proxy_are_secrets() -> None:
    endpoint = Endpoint(base_url="http://llm.test", proxy="http://user:secret-word@proxy.test:1")
    access = Access(endpoint)
    assert access.proxy is not None
    shown = (repr(endpoint), str(safe_endpoint(endpoint)), access.proxy.shown, access.heard("told secret-word"))
    assert not any("secret-word" in text for text in shown)
    assert access.proxy.shown == "the proxy http://proxy.test:1 that --proxy names"


async def test_load_and_scrapes_go_through_the_proxy_that_is_named_and_no_other(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: Any) -> None:
        await request.answer(200, {"proxied": True})

    named, dead = await serve(answer), "http://127.0.0.1:1"
    for name in ("http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
    client: EndpointClient = connect(
        "http://llm.test:8000", proxy=named.url, metrics_urls=("http://exporter.test:9400/metrics",)
    )
    assert (await client.stock.get("/v1/models")).json() == {"proxied": True}
    assert (await client.stock.get("http://exporter.test:9400/metrics")).json() == {"proxied": True}
    assert [request.path for request in named.requests] == [
        "http://llm.test:8000/v1/models",
        "http://exporter.test:9400/metrics",
    ]


@pytest.mark.parametrize("url", ["http://llm.test:8000", "https://llm.test:8000"])
@pytest.mark.parametrize("model", [None, "m"])
async def test_a_proxy_that_lets_nobody_in_is_what_is_blamed(serve: Any, url: str, model: str | None) -> None:
    async def locked(request: Any) -> None:
        await request.answer(407, b"", headers='Proxy-Authenticate: Basic realm="x"\r\nConnection: close\r\n')

    proxy = await serve(locked)
    with pytest.raises(EndpointError) as caught:
        await probe(Endpoint(base_url=url, proxy=proxy.url, model=model), Caps(connect_timeout_s=2.0))
    assert PROXY_LOGIN in str(caught.value)
    assert "or name a model" not in str(caught.value)


def test_httpx_is_never_let_near_the_environment() -> None:
    made = re.compile(r"httpx\.(?:AsyncClient|AsyncHTTPTransport)\(((?:[^()]|\([^()]*\))*)\)")
    root = Path(llmtop.__file__).parent
    calls = [call for file in root.rglob("*.py") for call in made.findall(file.read_text(encoding="utf-8"))]
    assert len(calls) >= 3
    assert all("trust_env=False" in call for call in calls), "it would read NO_PROXY, and passwords from ~/.netrc"


async def test_a_password_of_netrc_is_not_sent(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def answer(request: Any) -> None:
        await request.answer(200, {})

    (tmp_path / "netrc").write_text("default login ann password secret-word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = await serve(answer)
    await connect(server.url).stock.get("/v1/models")
    assert "authorization" not in server.requests[0].head.lower()
