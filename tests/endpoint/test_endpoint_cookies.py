"""Cookies that a router asks a user to bring back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.request import Outcome
from llmtop.endpoint.caller import Caller
from llmtop.endpoint.cookies import LONGEST, MOST, Cookies
from llmtop.endpoint.trace import Trace

from .conftest import Recorder, Request, chat, usage

PATH = "/v1/chat/completions"


def kept(*told: str, path: str = PATH) -> str:
    cookies = Cookies()
    cookies.take(told, path)
    return cookies.header


@pytest.mark.parametrize(
    ("told", "header"),
    [
        (["route=a; Path=/"], "route=a"),
        (["route=a; Path=/v1; HttpOnly; Secure; SameSite=Lax", "b=2"], "route=a; b=2"),
        (["route=a", "route=b"], "route=b"),
        (["route=a", "route=; Max-Age=0"], ""),
        (["route=a; Path=/v2"], ""),
        (["route=a; Path=/v1/chat/completions/"], ""),
        (["route=a; Path=/v1/chat"], "route=a"),
        (["no pair", "=x", "a b=c", "a=\x1b[2J", "a=b\r\nX: y", "ü=1"], ""),
        (["a=" + "x" * LONGEST], ""),
        ([f"c{n}=1" for n in range(MOST + 5)], "; ".join(f"c{n}=1" for n in range(MOST))),
    ],
)
def test_what_is_brought_back(told: list[str], header: str) -> None:
    assert kept(*told) == header


@given(st.lists(st.text(max_size=60), max_size=30))
def test_a_header_of_cookies_is_one_line_that_can_be_sent(told: list[str]) -> None:
    header = kept(*told)
    assert header.isascii()
    assert header.isprintable()
    assert len(header) <= MOST * (LONGEST + 2)


async def test_a_user_brings_its_cookies_back_and_nobody_elses(serve: Any, connect: Any) -> None:
    brought: list[str] = []

    async def script(request: Request) -> None:
        found = [line for line in request.head.splitlines() if line.lower().startswith("cookie:")]
        brought.append(found[0].partition(": ")[2] if found else "")
        await request.start_stream(f"Set-Cookie: route={len(brought)}; Path=/\r\n")
        await request.event(chat("a", "stop"))
        await request.event(usage(7, 1))
        await request.event("[DONE]")
        await request.end()

    server = await serve(script)
    client = connect(server.url)
    one, two = Caller(), Caller()
    for caller in (one, two, one, None, two):
        trace = Trace()
        await client.generate("hi", 1, "chat", trace, Recorder(), caller)
        assert trace.outcome is Outcome.OK
    assert brought == ["", "", "route=1", "", "route=2"]
