"""Who is let in: the whole link, from a page of ours, and on a loopback address for this machine's names alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.web.gate import Gate, new_token

TOKEN = "s3cret-token_of.24-letters"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8010", "localhost:9000", "LocalHost", "[::1]:8010", "127.8.8.8"]
)
def test_the_whole_link_opens_under_this_machines_names(host: str) -> None:
    gate = Gate(TOKEN, here=True)
    assert gate.lets_in(f"/{TOKEN}/", host)
    assert gate.lets_in(f"/{TOKEN}/textual.js?x=1", host)


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:8010", "127.0.0.1.nip.io", "[", "10.0.0.1:8010"]
)
def test_a_foreign_name_that_leads_here_is_not_let_in(host: str | None) -> None:
    assert not Gate(TOKEN, here=True).lets_in(f"/{TOKEN}/", host)


def test_beyond_this_machine_any_name_may_lead_here_but_the_link_must_be_whole() -> None:
    gate = Gate(TOKEN, here=False)
    assert gate.lets_in(f"/{TOKEN}/", "lab.example:8010")
    assert not gate.lets_in("/", "lab.example:8010")


@given(st.text(max_size=40) | st.sampled_from([TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"{TOKEN}?", f"//{TOKEN}"]))
def test_no_other_path_is_let_in(path: str) -> None:
    if path.partition("/")[0] != TOKEN:
        assert not Gate(TOKEN, here=True).lets_in(f"/{path}", "127.0.0.1")


@pytest.mark.parametrize(
    ("origin", "host", "lets"),
    [
        ("http://127.0.0.1:8010", "127.0.0.1:8010", True),
        ("https://Lab.example", "lab.example", True),
        ("http://127.0.0.1:8011", "127.0.0.1:8010", False),
        ("http://evil.example", "127.0.0.1:8010", False),
        ("null", "127.0.0.1:8010", False),
        ("file://127.0.0.1:8010", "127.0.0.1:8010", False),
        (None, "127.0.0.1:8010", False),
        ("http://127.0.0.1:8010", None, False),
    ],
)
def test_only_a_page_of_ours_talks(origin: str | None, host: str | None, lets: bool) -> None:
    assert Gate.lets_talk(origin, host) is lets


def test_tokens_are_long_differ_and_need_no_quoting() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(each) == 32 and each.replace("-", "").replace("_", "").isalnum() for each in tokens)
