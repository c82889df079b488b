"""What is typed, or stands at a port, where knobs of a server are to turn: a sentence says what would make it work."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest
from trying import Misdeed, endless, says, serving, streams, tried

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
    assert code == 2 or "--gate stands for fewer slots of any server" in ended.out


@pytest.mark.faults
def test_an_address_of_knobs_alone_is_no_server_to_look_at(home: Path) -> None:
    ended = tried("knobs", "--knobs-url", "http://127.0.0.1:9475", home=home)
    ended.is_in_words(2)
    assert "give the URL of that server, too" in ended.err


PROFILE = """
[load]
prompt_tokens = 64
output_tokens = 16
[[stage]]
duration = "6s"
shape = "hold"
concurrency = 2
"""


@pytest.mark.faults
def test_a_run_that_uses_none_of_it_asks_for_none_of_it_and_records_none_of_it(home: Path) -> None:
    """One question more than without: whether the server shows what turns."""
    answer = streams(*["word"] * 16, pause_s=0.03)
    (home / "short.toml").write_text(PROFILE)
    with serving({"/v1/chat/completions": answer, "/v1/completions": answer}) as server:
        ended = tried(
            "run", "short.toml", server.url, "--yes", "--record", "run.llmtop", home=home, cwd=home, limit_s=90
        )
    ended.is_in_words(0, 1, 4, 5)
    asked = [head.split(b" HTTP", 1)[0].decode() for head in server.asked]
    assert asked.count("GET /v1/runtime_config") == 1
    assert {line for line in asked if not line.startswith("GET ")} <= {
        *("POST /v1/chat/completions", "POST /v1/completions", "POST /tokenize")
    }
    with sqlite3.connect(home / "run.llmtop") as run:
        assert run.execute("select count(*) from canary").fetchone() == (0,)
        assert set(run.execute("select reason, gate from load_change")) == {("stage", None)}
        assert run.execute("select count(*) from mark").fetchone() == (0,)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.llmtop", b"", "not a run file of llmtop, or damaged"),
        ("run.llmtop", b"SQLite format 3\0" + bytes(4000), "not a run file of llmtop, or damaged"),
        ("results.json", json.dumps({"a": 1}).encode(), "is of no known format"),
        ("results.json", b"[" * 100_000, "results.json: "),
        ("levels.csv", b"", "levels.csv: table of levels: no column 'level'"),
        ("levels.csv", b"level,n,ttft_p50_s\n8,100,-5\n", "must be a number from 0"),
        (
            "levels.csv",
            b"level,n,ttft_p50_s,tpot_p50_s\n8,100,0.06,0.012\n",
            "no twin: no level tells TTFT, TPOT and the tokens",
        ),
    ],
)
def test_a_file_that_no_twin_can_be_made_of_says_why(name: str, content: bytes, said: str, home: Path) -> None:
    (home / name).write_bytes(content)
    ended = tried("predict", "--fit", name, "--set", "max_num_seqs=16", home=home, cwd=home)
    ended.is_in_words(2)
    assert said in ended.err
    assert name in ended.err
