"""Being let in: keys in any header, passwords and header values from the environment; what a refusal advises."""

from __future__ import annotations

import argparse
import base64
from typing import Any

import pytest

from llmtop.cli.options import ADD
from llmtop.cli.target import endpoint_of
from llmtop.domain.endpoint import Endpoint, safe_endpoint
from llmtop.endpoint.access import Access
from llmtop.endpoint.admission import admission_problem, is_port_of_tls
from llmtop.errors import UsageError

HERE = "http://127.0.0.1:1"
SECRET = "secret-word-1234"
PAIR = f"ann:{SECRET}"
BASIC = "Basic " + base64.b64encode(PAIR.encode()).decode()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", SECRET)
    monkeypatch.setenv("LLMTOP_TEST_PAIR", PAIR)
    monkeypatch.delenv("LLMTOP_TEST_UNSET", raising=False)


def endpoint(*words: str) -> Endpoint:
    parser = argparse.ArgumentParser()
    ADD["doctor"](parser)
    return endpoint_of(parser.parse_args([HERE, *words]), HERE)


KEY = ("--api-key-env", "LLMTOP_TEST_KEY")


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (KEY, {"authorization": f"Bearer {SECRET}"}),
        ((*KEY, "--api-key-header", "api-key"), {"api-key": SECRET}),
        ((*KEY, "--api-key-header", "Authorization"), {"authorization": SECRET}),
        (("--basic-auth", "env:LLMTOP_TEST_PAIR"), {"authorization": BASIC}),
        (
            ("--basic-auth", "env:LLMTOP_TEST_PAIR", *KEY, "--api-key-header", "x-api-key"),
            {"authorization": BASIC, "x-api-key": SECRET},
        ),
        (("--header", "X-Token=env:LLMTOP_TEST_KEY"), {"x-token": SECRET}),
        (("--header", "X-Tag: a=env:b", "--header", "X-Url:http://a"), {"x-tag": "a=env:b", "x-url": "http://a"}),
        ((*KEY, "--header", "Authorization: mine"), {"authorization": "mine"}),
    ],
)
async def test_what_lets_in_goes_to_the_endpoint_alone_and_is_never_shown(
    words: tuple[str, ...], sent: dict[str, str]
) -> None:
    named = endpoint(*words)
    access = Access(named)
    neutral = {"accept-encoding", "user-agent"}
    assert {name.lower(): value for name, value in access.headers if name.lower() not in neutral} == sent
    client = access.stock_client(("http://127.0.0.1:2/metrics",))
    for url, let_in in (("http://127.0.0.1:1/metrics", True), ("http://127.0.0.1:2/metrics", False)):
        request = client.build_request("GET", url)
        for hook in client.event_hooks["request"]:
            await hook(request)
        assert all((request.headers.get(name) == value) is let_in for name, value in sent.items())
    await client.aclose()
    kept = [
        value for value in (SECRET, BASIC.removeprefix("Basic ")) if any(value in header for header in sent.values())
    ]
    said = access.heard(" ".join(sent.values()))
    assert not any(value in text for value in kept for text in (repr(named), repr(safe_endpoint(named)), said))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--basic-auth", PAIR), "--basic-auth: write it as env:VAR"),
        (("--basic-auth", "env:"), "--basic-auth: write it as env:VAR"),
        (("--basic-auth", "env:LLMTOP_TEST_UNSET"), "--basic-auth LLMTOP_TEST_UNSET: this environment variable is not"),
        (("--basic-auth", "env:LLMTOP_TEST_KEY"), "LLMTOP_TEST_KEY: this environment variable does not hold user:pass"),
        (("--basic-auth", "env:LLMTOP_TEST_PAIR", *KEY), "--basic-auth: another option fills the header"),
        (("--api-key-header", "api-key"), "name the variable that holds the key with --api-key-env"),
        ((*KEY, "--api-key-header", "a b"), "no name of a header"),
        (("--header", "X-A=env:LLMTOP_TEST_UNSET"), "LLMTOP_TEST_UNSET: this environment variable is not set"),
        (("--header", f"X-A={SECRET}"), "NAME=env:VAR"),
        (("--header", "X-A=env:"), "NAME=env:VAR"),
        (("--header", "X-A:env:LLMTOP_TEST_KEY"), "write NAME=env:VAR"),
        (("--header", SECRET), "write it as NAME:VALUE"),
    ],
)
def test_what_cannot_be_meant_is_said_without_the_secret(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Access(endpoint(*words))
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "status", "told", "advice"),
    [
        ({}, 401, {}, "name that with --api-key-env"),
        ({}, 401, {"wants": "Bearer"}, "name that with --api-key-env"),
        ({}, 401, {"wants": 'Basic realm="llm"'}, "--basic-auth env:VAR"),
        ({"api_key_env": "K"}, 401, {"wants": "basic"}, "--basic-auth env:VAR"),
        ({}, 401, {"wants": "Bearer, Basic realm=x"}, "--api-key-env"),
        ({"basic_auth_env": "P"}, 401, {"wants": "Basic"}, "the user and password in P were refused"),
        ({"api_key_env": "K"}, 401, {}, "the key in K was refused"),
        ({"api_key_env": "K"}, 403, {}, "--api-key-header"),
        ({"api_key_env": "K", "api_key_header": "api-key"}, 401, {}, "another header than api-key"),
        ({}, 403, {"is_page": True}, "a proxy or gateway in front of the server"),
    ],
)
def test_a_refusal_advises_the_option_that_lets_in(
    fields: dict[str, Any], status: int, told: dict[str, Any], advice: str
) -> None:
    said = admission_problem(Endpoint(base_url=HERE, **fields), status, "no", **told)
    assert said.startswith(f"status {status} (no): ")
    assert advice in said


def test_every_command_that_takes_an_endpoint_takes_the_same_options() -> None:
    takes = {name for name in ADD if "--proxy" in _help_of(name)}
    assert takes == {"live", "run", "tune", "doctor", "knobs", "check", "traffic"}
    for name in takes:
        for option in ("--basic-auth", "--api-key-header", "--client-cert", "--client-key", "--header", "--ca-file"):
            assert option in _help_of(name)


def _help_of(command: str) -> str:
    made = argparse.ArgumentParser()
    ADD[command](made)
    return made.format_help()


@pytest.mark.parametrize(
    ("status", "said", "is_tls"),
    [
        (400, "<title>400 The plain HTTP request was sent to HTTPS port</title>", True),
        (497, "The plain HTTP request was sent to HTTPS port", True),
        (400, "Client sent an HTTP request to an HTTPS server.\n", True),
        (400, "You're speaking plain HTTP to an SSL-enabled server port.", True),
        (400, "Bad Request\r\nThis combination of host and port requires TLS.\r\n", True),
        (403, "403.4 - Forbidden: SSL is required to view this resource.", True),
        (426, "TLS required", True),
        (200, "TLS required", False),
        (400, "model is required", False),
    ],
)
def test_the_words_of_a_port_of_tls_are_known(status: int, said: str, is_tls: bool) -> None:
    assert is_port_of_tls(status, said.encode()) is is_tls
