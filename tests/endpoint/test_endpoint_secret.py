"""What lets somebody in is hidden in every way in which a server may write it, and is sent to one origin."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from llmtop.domain.endpoint import Endpoint, safe_url
from llmtop.endpoint.access import Access
from llmtop.endpoint.secret import HEAD, HIDDEN, SHORTEST, Secrets, no_such_variable, of_header, of_url
from llmtop.errors import UsageError

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=SHORTEST, max_size=60)
AROUND = st.text(st.characters(min_codepoint=0x3B1, max_codepoint=0x3C9), min_size=1, max_size=20)
"""Letters that are in no secret."""


def ways(secret: str) -> list[str]:
    return [
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret, safe="").replace("%2F", "%2f"),
        quote(secret, safe="").replace("%3A", "%3a"),
        json.dumps(secret)[1:-1],
        html.escape(secret),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    ]


@given(SECRET, AROUND, AROUND)
@example("0000:/", "α", "α")
@example("%2f%2F:/", "α", "α")
def test_a_secret_is_hidden_however_it_is_written(secret: str, before: str, after: str) -> None:
    secrets = Secrets([secret])
    for written in ways(secret):
        assert secrets.mask(before + written + after + written) == before + HIDDEN + after + HIDDEN


@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=HEAD, max_size=60), st.data())
def test_a_secret_whose_end_was_cut_off_is_hidden_too(secret: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(HEAD, len(secret)))
    assert Secrets([secret]).mask(f"({secret[:cut]}…") == f"({HIDDEN}…"


def test_short_words_are_left_alone_and_nothing_is_hidden_where_there_is_no_secret() -> None:
    assert Secrets(["x" * (SHORTEST - 1)]).mask("x" * (SHORTEST - 1)) == "x" * (SHORTEST - 1)
    assert Secrets(["EMPTY"]).mask("the pool is EMPTY") == "the pool is EMPTY"
    assert Secrets().mask("anything") == "anything"


def test_what_is_heard_is_hidden_before_it_is_cut_and_made_plain() -> None:
    assert Secrets(["sk-12345678"]).heard("bad \x1b]52;c;aGk=\x07 key sk-12345678", 40) == (
        "bad \\x1b]52;c;aGk=\\x07 key ***"
    )
    assert "sk-1" not in Secrets(["sk-12345678"]).heard("x" * 395 + "sk-12345678")


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("X-Key", "abcdefgh", {"abcdefgh"}),
        ("Authorization", "Bearer abcdefgh", {"Bearer abcdefgh", "abcdefgh"}),
        ("Authorization", "Basic dXNlcjpwYXNz", {"Basic dXNlcjpwYXNz", "dXNlcjpwYXNz", "user:pass", "pass"}),
        ("Cookie", "a=1; session=xyz", {"a=1; session=xyz", "1", "xyz"}),
        ("Accept", "text/event-stream", set()),
    ],
)
def test_the_secrets_of_a_header(name: str, value: str, secrets: set[str]) -> None:
    assert set(of_header(name, value)) == secrets


def test_the_secrets_of_a_url() -> None:
    assert {"us%40er", "us@er", "pass", "us@er:pass", "tok en", "a=tok%20en"} <= {
        *of_url("http://us%40er:pass@h/?a=tok%20en")
    }
    assert "pass" in {*of_url("user:pass@proxy:3128")}
    assert {*of_url("http://h:1/p")} == set()
    assert {*of_url("http://[broken")} == set()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p@h:8000/a?b#c", "http://h:8000/a"),
        ("u:p@h:3128", "h:3128"),
        ("http://u:pa/ss@h/", "http://…"),
        ("http://u:pa?ss@h", "http://…"),
        ("https://u:p@[::1]:8/x", "https://[::1]:8/x"),
        ("/metrics", "/metrics"),
        ("http://h/p/@cf/x?y=http://z", "http://h/p/@cf/x"),
    ],
)
def test_a_url_is_shown_without_what_lets_somebody_in(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    assert safe_url(shown) == shown


def test_an_endpoint_shows_no_secret_of_its_own() -> None:
    endpoint = Endpoint(base_url="http://h?k=plant1", headers=(("X", "plant2"),), metrics_urls=("http://u:plant3@h/m",))
    access = Access(endpoint)
    for text in (repr(endpoint), str(endpoint), repr(access), pretty_repr([endpoint]), f"{endpoint}"):
        assert "plant" not in text


def test_a_key_that_is_named_as_its_own_variable_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hf_abcdef" not in no_such_variable("hf_abcdef")
    assert "MY_KEY" in no_such_variable("MY_KEY")
    monkeypatch.setenv("LLMTOP_TEST_KEY", "two\nlines-of-it")
    with pytest.raises(UsageError) as refused:
        Access(Endpoint(base_url="http://h", api_key_env="LLMTOP_TEST_KEY"))
    assert "lines" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "let_in"),
    [
        ("https://h:8443/metrics", True),
        ("https://H:8443/v1/models", True),
        ("https://h/metrics", False),
        ("http://h:8443/metrics", False),
        ("https://h:8000/metrics", False),
        ("https://h.evil:8443/metrics", False),
        ("https://other:8443/", False),
    ],
)
async def test_the_key_goes_to_the_endpoint_s_scheme_host_and_port_alone(
    url: str, let_in: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", "secret-key")
    client = Access(Endpoint(base_url="https://h:8443", api_key_env="LLMTOP_TEST_KEY")).stock_client()
    request = client.build_request("GET", url)
    for hook in client.event_hooks["request"]:
        await hook(request)
    assert ("authorization" in request.headers) is let_in
    await client.aclose()


async def test_a_port_that_goes_without_saying_is_the_same_port() -> None:
    client = Access(Endpoint(base_url="http://h", headers=(("X-Key", "abcdefgh"),))).stock_client()
    request = httpx.Request("GET", "http://h:80/metrics")
    for hook in client.event_hooks["request"]:
        await hook(request)
    assert request.headers["x-key"] == "abcdefgh"
    await client.aclose()
