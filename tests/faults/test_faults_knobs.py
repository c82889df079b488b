"""What is typed, or stands at a port, where knobs of a server are to turn: a sentence says what would make it work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from trying import Misdeed, endless, says, serving, tried

SCHEDULER = "start it with llmtop's scheduler (`llmtop knobs` says how)"
PORTS: dict[str, tuple[Misdeed, str]] = {
    "a page": (says(200, b"<html>hi</html>", kind="text/html"), "not as llmtop's scheduler does (no knobs in it)"),
    "other JSON": (says(200, {"status": "ok"}), "not as llmtop's scheduler does (no knobs in it)"),
    "a gateway": (says(502, b"<html>bad gateway</html>"), "not as llmtop's scheduler does (status 502)"),
    "no HTTP": (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n"), "gives no answer"),
    "silence": (lambda connection: time.sleep(9), "no answer within 2 s"),
    "no end": (endless(b"HTTP/1.1 200 OK\r\n\r\n{", b"x" * 65536), "has more than 16 kB"),
    "the closed door": (lambda connection: None, "gives no answer"),
}


@pytest.mark.faults
@pytest.mark.parametrize("port", PORTS)
def test_a_port_that_answers_something_else_is_no_scheduler(port: str, home: Path) -> None:
    misdeed, why = PORTS[port]
    with serving() as server, serving({"/": misdeed}) as other:
        ended = tried("knobs", server.url, "--knobs-url", other.url, home=home)
    ended.is_in_words(1)
    assert why in ended.out
    assert "name the address of its knobs with --knobs-url" in ended.out
    assert SCHEDULER in ended.out


@pytest.mark.faults
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ((), 1, SCHEDULER),
        (("--knobs-url", "http://127.0.0.1:9"), 1, "http://127.0.0.1:9 cannot be reached (connection refused"),
        (("--knobs-url", "http://127.0.0.1:99999"), 2, "write it like http://host:port/path"),
        (("--knobs-url", "ftp://127.0.0.1"), 2, "write it like http://127.0.0.1:9475"),
        (("--knobs-url", ""), 2, "write it like http://127.0.0.1:9475"),
    ],
)
def test_a_server_without_any_way_says_what_would_give_it_one(
    more: tuple[str, ...], code: int, said: str, home: Path
) -> None:
    with serving() as server:
        ended = tried("knobs", server.url, *more, home=home)
    ended.is_in_words(code)
    assert said in ended.said


@pytest.mark.faults
def test_an_address_of_knobs_alone_is_no_server_to_look_at(home: Path) -> None:
    ended = tried("knobs", "--knobs-url", "http://127.0.0.1:9475", home=home)
    ended.is_in_words(2)
    assert "give the URL of that server, too" in ended.err
