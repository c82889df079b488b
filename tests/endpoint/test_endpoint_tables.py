"""URLs, refusals and request bodies: small things that are all data or pure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, RequestShape
from llmtop.endpoint.bodies import RequestBodies
from llmtop.endpoint.refusals import refusal_text
from llmtop.endpoint.urls import endpoint_from_url, normalise_url
from llmtop.errors import UsageError


@pytest.mark.parametrize(
    ("dialect", "index"), [(dialect, index) for dialect in Dialect for index in range(len(DIALECTS[dialect].errors))]
)
def test_every_error_body_of_a_table_is_understood(dialect: Dialect, index: int) -> None:
    example = DIALECTS[dialect].errors[index]
    assert refusal_text(example.body.encode()) == example.message


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("8000", "http://127.0.0.1:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://localhost:8000"),
        (" http://h:8000/ ", "http://h:8000"),
        ("http://h:80/v1", "http://h"),
        ("https://h:443/v1/chat/completions", "https://h"),
        ("h:443", "https://h"),
        ("https://h/api/v1/", "https://h/api"),
        ("http://h/llm/a", "http://h/llm/a"),
        ("http://h:8000/metrics", "http://h:8000"),
        ("http://h/v1/models", "http://h"),
        ("::1", "http://[::1]"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("http://[fe80::1]:8000/v1", "http://[fe80::1]:8000"),
        ("HTTP://Host:8000", "http://host:8000"),
        ("unix:/run/llm.sock", "http://localhost"),
        ("http://bücher.example:8000", "http://xn--bcher-kva.example:8000"),
        ("http://my_host./ä b", "http://my_host./%C3%A4%20b"),
    ],
)
def test_urls_as_people_type_them(text: str, url: str) -> None:
    assert normalise_url(text) == url
    assert normalise_url(url) == url
    assert endpoint_from_url(text).base_url == url


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "http://",
            "ftp://h",
            "http://h:99999",
            "http://h:x",
            "http://a b",
            "http://u:p@h",
            "unix:",
            "http://[::1",
        ),
        *("http://a..b", "http://" + "a" * 64, "http://" + "a." * 200, "http://h/" + "a" * 5000, "http://a\x07b/"),
        *("http://a\nb", "http://u:p@h/\x1b[2J", "h\0"),
    ],
)
def test_urls_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        normalise_url(text)
    assert "p@" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_unix_sockets_have_a_path() -> None:
    assert endpoint_from_url("unix:/run/llm.sock").unix_socket == "/run/llm.sock"
    assert endpoint_from_url("unix:///run/llm.sock", model="m").unix_socket == "/run/llm.sock"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b"plain words\n", "plain words"),
        (b'{"error": {"code": 5}}', '{"code": 5}'),
        (b'{"detail": [{"loc": ["body", 0], "msg": "bad"}, "worse"]}', "body.0: bad; worse"),
        (b'[{"error": {"message": "listed"}}]', "listed"),
        (b'{"error": {"message": {"detail": "deep"}}}', "deep"),
        (b"{broken", "{broken"),
        (b"<html><body><h1>Bad</h1><p>Gateway</p></body></html>", "Bad Gateway"),
        ("{" + '"error": "' + "x" * 5000 + '"}', "x" * 4000),
    ],
)
def test_refusals_of_every_shape(body: bytes | str, text: str) -> None:
    assert refusal_text(body.encode() if isinstance(body, str) else body) == text


@given(st.binary(max_size=300))
def test_any_body_gives_a_text(body: bytes) -> None:
    assert len(refusal_text(body)) <= 4000


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "detail", "msg", "loc", "object"]), inner, max_size=3
            )
        ),
    )
)
def test_any_json_gives_a_text(answer: Any) -> None:
    assert isinstance(refusal_text(json.dumps(answer).encode()), str)


@given(prompt=st.text(max_size=50), tokens=st.integers(1, 10**6), dialect=st.sampled_from(list(Dialect)))
def test_bodies_are_json_with_what_the_dialect_knows(prompt: str, tokens: int, dialect: Dialect) -> None:
    fields = DIALECTS[dialect].request
    for api in ("chat", "completions"):
        body = json.loads(RequestBodies(fields, "m", RequestShape()).body(prompt, tokens, api))
        assert body["model"] == "m"
        assert body["stream"] is True
        assert body[fields.max_tokens] == tokens
        assert body.get(fields.min_tokens or "", tokens) == tokens
        assert (body["messages"][0]["content"] if api == "chat" else body["prompt"]) == prompt


@pytest.mark.parametrize(
    ("status", "message", "dropped"),
    [
        (400, "Unrecognized request argument supplied: ignore_eos", {"ignore_eos"}),
        (422, "body.stream_options: Extra inputs are not permitted", {"stream_options"}),
        (422, "unknown fields in request", {"ignore_eos", "min_tokens", "stream_options"}),
        (400, "maximum context length is 2048 tokens", set()),
        (500, "ignore_eos broke me", set()),
        (None, "ignore_eos", set()),
    ],
)
def test_what_a_refusal_teaches(status: int | None, message: str, dropped: set[str]) -> None:
    bodies = RequestBodies(DIALECTS[Dialect.VLLM].request, "m", RequestShape())
    assert bodies.learn(status, message, bodies.version) is bool(dropped)
    assert set(bodies.shape.dropped) == dropped
    body = json.loads(bodies.body("x", 3, "chat"))
    assert not dropped & set(body)
    assert not bodies.learn(status, message, bodies.version)
