"""The message inside a refusal, whatever a server makes of it."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.endpoint.question import REFUSAL_BYTES
from llmtop.endpoint.refusals import INFLATED, TEXT_LIMIT, message_of, refusal_text

KEY = st.sampled_from(["error", "message", "detail", "msg", "loc", "object", "reason", "choices"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers() | st.just("error"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_no_answer_crashes_the_search_for_a_message(answer: Any) -> None:
    found = message_of(answer)
    assert found is None or found
    assert len(refusal_text(json.dumps(answer).encode())) <= TEXT_LIMIT


@pytest.mark.parametrize("key", ["error", "message", "detail"])
def test_messages_within_messages_end(key: str) -> None:
    for depth in (5, 300, 900, 100_000):
        body = f'{{"{key}":' * depth + '"x"' + "}" * depth
        assert len(refusal_text(body.encode())) <= TEXT_LIMIT
        nested: Any = "x"
        for _ in range(min(depth, 50_000)):
            nested = {key: [nested] if key == "detail" else nested}
        assert message_of(nested) is None or message_of(nested)


@pytest.mark.parametrize(
    "piece", ["<script", "<style>", "<title>", "<title", "<", "<a", "</title>", "<script></style>", "{", "[", " ", "\n"]
)
@pytest.mark.parametrize("start", ["<html>", "<!doctype html><title>", '{"error":"', ""])
def test_a_refusal_is_read_in_no_time(start: str, piece: str) -> None:
    body = (start + piece * REFUSAL_BYTES)[:REFUSAL_BYTES].encode()
    began = time.process_time()
    refusal_text(body)
    assert time.process_time() - began < 0.25


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<html><head><TITLE lang=x> 502  Bad\nGateway </TITLE>", "502 Bad Gateway"),
        ("<html><title>über</title>", "über"),
        ("<html><title>never closed <p>word</p>", "never closed word"),
        ("<html><script>x</script><p>word</p>", "word"),
        ("<html><title></title><p>word</p>", "word"),
    ],
)
def test_a_web_page_is_told_by_its_title_or_its_words(page: str, title: str) -> None:
    assert refusal_text(page.encode()) == title


def test_fields_that_are_refused_are_named() -> None:
    detail = [{"loc": ["body", 0, "x"], "msg": "no"}, {"loc": 5, "msg": {"a": 1}}, "text", 7]
    assert refusal_text(json.dumps({"detail": detail}).encode()) == 'body.0.x: no; {"a": 1}; text; 7'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"title": "Too Many Requests", "detail": "90 a minute", "status": 429}', "Too Many Requests: 90 a minute"),
        ('{"errors": [{"message": "no such route"}, {"message": "nor this"}]}', "no such route; nor this"),
        ('{"errors": ["quota", "spent"]}', "quota; spent"),
        ('{"error": {"errors": [{"message": "deep"}]}}', "deep"),
        ('{"error": true, "message": "the queue is full"}', "the queue is full"),
        ('{"error": "Too Many Requests", "message": "ten a minute"}', "Too Many Requests: ten a minute"),
        ('{"error": "same", "message": "same"}', "same"),
        ('{"error": "invalid_token", "error_description": "it is over"}', "invalid_token: it is over"),
        ('{"message": "{\\"error\\": {\\"message\\": \\"behind the gateway\\"}}"}', "behind the gateway"),
        (
            '{"error": {"message": "Provider returned error", "metadata": {"raw": "{\\"detail\\": \\"busy\\"}"}}}',
            "Provider returned error: busy",
        ),
        ('{"faultstring": "spike arrest"}', "spike arrest"),
        ('{"Message": "User is not authorized"}', "User is not authorized"),
        ('{"base_resp": {}, "code": 7, "reason": "why"}', "why"),
        (
            "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>less, please</Message></Error>",
            "SlowDown: less, please",
        ),
        ("<problem>what <b>it</b> is</problem>", "what it is"),
        ('data: {"error": {"message": "in an event"}}\n\n', "in an event"),
        ('event: error\ndata: {"message": "named"}\n\n', "named"),
        ("event: error\n: worker lost\n\n", "worker lost"),
        (": upstream is gone\n\n", "upstream is gone"),
        ("error code: 1020", "error code: 1020"),
        ('\ufeff{"message": "after a mark"}', "after a mark"),
        ("<head><title>Access denied | Cloudflare</title></head>", "Access denied | Cloudflare"),
        ("<!-- a comment --><html><title>503</title>", "503"),
        ("upstream connect error", "upstream connect error"),
        ('{"base_resp": {"status_code": 1002, "status_msg": "ten a minute"}}', "ten a minute"),
        ('{"fault": {"faultstring": "spike arrest", "detail": {"errorcode": "x"}}}', "spike arrest"),
        ('{"error_code": 18, "error_msg": "too many at once"}', "too many at once"),
        ('{"Error": {"Code": "Slow", "Message": "slow down"}}', "slow down"),
        ('{"error": ["one", {"message": "two"}]}', "one; two"),
        ('"only a text"', "only a text"),
        ('"{\\"error\\": {\\"message\\": \\"in a text\\"}}"', "in a text"),
        ('{"error": {"message": "the \\u00fcbel of bei', "the übel of bei"),
        ('{"object":"error","message":"cut \\', "cut"),
        ("<html><title>Don&#39;t &amp; go</title>", "Don't & go"),
        ("<?xml version='1.0'?><!DOCTYPE html><html><head><title>Tomcat</title></head><body>x</body>", "Tomcat"),
        ('data: {"error": {"message": "and done"}}\n\ndata: [DONE]\n\n', "and done"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress], ids=["plain", "gzip", "deflate"])
def test_a_message_is_found_in_every_shape_compressed_or_not(body: str, text: str, pack: Any) -> None:
    assert refusal_text(pack(body.encode())) == text


@pytest.mark.parametrize("body", [bytes(range(256)), b"\x28\xb5\x2f\xfd" + bytes(60), b"\x8b\x05\x80\xff\xfe\x03" * 9])
def test_what_is_no_text_is_said_to_be_none(body: bytes) -> None:
    assert refusal_text(body) == f"{len(body)} bytes that are no text: compressed, perhaps"


def test_a_word_in_another_encoding_is_a_text_all_the_same() -> None:
    assert refusal_text('{"message": "sechzehn"}'.encode("utf-16")) == "sechzehn"
    assert refusal_text('{"message": "grün und blau"}'.encode("latin-1")).startswith("gr")


def test_what_is_compressed_is_unpacked_within_bounds_and_may_be_cut_or_broken() -> None:
    bomb = gzip.compress(b"a" * 50_000_000)
    began = time.process_time()
    assert refusal_text(bomb) == "a" * TEXT_LIMIT
    assert time.process_time() - began < 0.25
    assert INFLATED < 1 << 20
    whole = gzip.compress(b'{"message": "the end of it is lost"}' + bytes(range(256)) * 20)
    assert "the end of it is lost" in refusal_text(whole[:-300])
    assert refusal_text(b"\x1f\x8b\x08broken") in ("", "what it says is compressed, and broken")
