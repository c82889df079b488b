"""The simulated server as a stranger finds it: who has no token turns no knob, and no client ends or stalls it."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from trying import COMMAND, Terminal, environment, tried

WELL_S = 3.0
KNOB = json.dumps({"knobs": {"max_num_seqs": 3}})


class Simulated:
    """`llmtop sim` on a free port, started by hand."""

    def __init__(self, home: Path, *words: str, before: Callable[[], None] | None = None, **more: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "sim", "--port", "0", *words],
            preexec_fn=before,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(home, more),
        )
        assert self.process.stdout is not None
        self.port: int = json.loads(self.process.stdout.readline())["port"]

    @property
    def said(self) -> str:
        """All that it wrote to stderr; ends it."""
        self.process.terminate()
        return self.process.communicate(timeout=20)[1].decode()

    @property
    def resident_mb(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def sends(self, data: bytes, limit_s: float = 5.0) -> bytes:
        """What comes back until it closes, or for as long as it says nothing new for `limit_s`."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.settimeout(limit_s)
            came = b""
            with contextlib.suppress(OSError):
                connection.sendall(data)
                while piece := connection.recv(65536):
                    came += piece
            return came

    def status(self, method: str, path: str, body: str = "", **headers: str) -> int:
        named = {"host": f"127.0.0.1:{self.port}", "content_type": "application/json", **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items() if value]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", f"content-length: {len(body)}", "connection: close", *lines])
        return int(self.sends(head.encode() + b"\r\n\r\n" + body.encode(), limit_s=30.0).split(b" ")[1])

    def is_well(self, tries: int = 1) -> None:
        """A good request is answered within `WELL_S`, at the latest the one of number `tries`."""
        asked = json.dumps({"prompt": "one two", "max_tokens": 1})
        for left in reversed(range(tries)):
            begun = time.monotonic()
            assert self.status("POST", "/v1/completions", asked) == 200
            took_s = time.monotonic() - begun
            if took_s < WELL_S:
                break
            assert left, f"{took_s:.1f} s"
        assert self.process.poll() is None

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def simulated(home: Path) -> Iterator[Simulated]:
    server = Simulated(home, LLMTOP_SIM_CONTROL_TOKEN="right", LLMTOP_SIM_API_KEY="key")
    yield server
    server.end()


def test_a_server_started_by_hand_lets_in_who_has_its_token_and_its_key(simulated: Simulated) -> None:
    both = {"x_llmtop_control_token": "right", "authorization": "Bearer key"}
    refused = [
        {"host": "evil.invalid"},
        {"host": "127.0.0.1:1"},
        {"host": ""},
        {"origin": "https://evil.invalid"},
        {"origin": "null", "content_type": "application/x-www-form-urlencoded"},
        {"sec_fetch_site": "cross-site"},
        {"x_llmtop_control_token": ""},
        {"x_llmtop_control_token": "wrong"},
        {"x_llmtop_control_token": "righ\xf6"},
        {"authorization": ""},
        {"authorization": "Bearer other"},
        {"content_type": "text/plain"},
    ]
    for each in refused:
        assert simulated.status("POST", "/llmtop/control", KNOB, **{**both, **each}) in (401, 403, 415), each
    asked = f"GET /llmtop/control HTTP/1.1\r\nhost: localhost:{simulated.port}\r\nauthorization: Bearer key\r\n"
    asked += "x-llmtop-control-token: right\r\nconnection: close\r\n\r\n"
    assert b'"max_num_seqs":32' in simulated.sends(asked.encode()), "nothing was turned"
    assert simulated.status("POST", "/llmtop/control", KNOB, **both) == 200
    assert b'"max_num_seqs":3,' in simulated.sends(asked.encode())
    assert simulated.status("GET", "/v1/models") == 401
    said = simulated.said
    assert "right" not in said
    assert "$LLMTOP_SIM_CONTROL_TOKEN" in said


@pytest.mark.faults
def test_the_line_that_a_server_prints_turns_a_knob_as_it_stands(home: Path) -> None:
    server = Simulated(home)
    try:
        assert server.process.stderr is not None
        line = server.process.stderr.readline().decode()
        found = re.search(r"curl (\S+) -H '(x-llmtop-control-token): (\S+)' -H '\S+ \S+' -d '(.+)'", line)
        assert found is not None, line
        assert found[1] == f"http://127.0.0.1:{server.port}/llmtop/control"
        assert server.status("POST", "/llmtop/control", found[4], x_llmtop_control_token=found[3]) == 200
        assert found[3] not in " ".join(psutil.Process(server.process.pid).cmdline())
    finally:
        server.end()


@pytest.mark.faults
def test_two_servers_have_two_tokens_and_an_open_one_says_so(home: Path) -> None:
    said = [Simulated(home, "--host", "0.0.0.0").said for _ in range(2)]
    assert said[0] != said[1]
    assert all("Open to everybody" in each and "http://127.0.0.1:" in each for each in said)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--port", "70000"), 2, "65,535"),
        (("--port", "-1"), 2, "from 0 to"),
        (("--host", "no.such.name.invalid"), 2, "no.such.name.invalid:8000"),
        (("--host", "a" * 300), 2, "is no name or address"),
        (("--host", "a\u2603..b"), 2, "is no name or address"),
        (("--host", "256.0.0.1"), 2, "256.0.0.1"),
        (("--host", "192.0.2.1"), 2, "192.0.2.1:8000"),
        (("--fault", "hang=nan"), 2, "hang"),
        (("--fault", "hang=" + "9" * 5000), 2, "hang"),
        (("--set", "stream_interval=inf"), 2, "stream_interval"),
        (("--set", "stream_interval=" + "9" * 5000), 2, "stream_interval"),
    ],
    ids=lambda words: " ".join(words)[:24] if isinstance(words, tuple) else "",
)
def test_what_a_server_cannot_be_started_with_is_said(words: tuple[str, ...], code: int, says: str, home: Path) -> None:
    ended = tried("sim", *words, home=home, limit_s=20)
    ended.is_in_words(code)
    assert says in ended.err


@pytest.mark.faults
def test_a_port_that_is_taken_is_said(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = tried("sim", "--port", str(port), home=home)
    ended.is_in_words(2)
    assert f"cannot serve on 127.0.0.1:{port}" in ended.err


@pytest.mark.faults
def test_the_knobs_of_an_embedded_server_turn_from_the_cockpit_and_from_nowhere_else(home: Path) -> None:
    with Terminal(home=home) as terminal:
        terminal.until(b"TTFT")
        terminal.read(3.0)
        server = terminal.child("llmtop.simulator.server")
        port = next(each.laddr.port for each in server.net_connections() if each.status == "LISTEN")
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            head = f"POST /llmtop/control HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            stranger.sendall(f"{head}content-length: {len(KNOB)}\r\n\r\n{KNOB}".encode())
            assert stranger.recv(65536).startswith(b"HTTP/1.1 401")
        for each in terminal.family():
            with contextlib.suppress(psutil.Error):
                assert "CONTROL_TOKEN" not in " ".join([*each.environ(), *each.cmdline()])


@pytest.fixture
def open_server(home: Path) -> Iterator[Simulated]:
    server = Simulated(home, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 20_000)))
    yield server
    server.end()


@pytest.mark.faults
def test_clients_that_send_too_much_too_little_or_never_read_leave_it_well_and_small(open_server: Simulated) -> None:
    before_mb, port = open_server.resident_mb, open_server.port
    post = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
    open_server.sends(post + b"content-length: 104857600\r\n\r\n" + b"x" * 104857600)
    open_server.sends(post + b"transfer-encoding: chunked\r\n\r\n" + b"100000\r\n%b\r\n" % (b"x" * 0x100000) * 100)
    for body in (b"[" * 8_000_000, b'{"prompt":' + b"[" * 7_000_000, b'{"prompt":[' + b"[]," * 2_000_000 + b"[]]}"):
        open_server.sends(post + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body), limit_s=10)
    open_server.is_well()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(2000)]
        for number, each in enumerate(idle):
            each.sendall(b"" if number % 2 else post)
        greedy = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(20)]
        for each in greedy:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    each.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
        open_server.is_well(tries=5)  # while the twenty are sent what their sockets hold
        assert open_server.resident_mb < before_mb + 350
        time.sleep(16)
        open_server.is_well()
        assert len(psutil.Process(open_server.process.pid).net_connections()) < 50, "who has no more to say is gone"
    assert "Traceback" not in open_server.said


@pytest.mark.faults
def test_more_clients_than_descriptors_are_told_once_and_waited_for(home: Path) -> None:
    server = Simulated(home, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(4)
            assert psutil.Process(server.process.pid).cpu_times().user < 3
        time.sleep(2)
        server.is_well()
        assert server.said.count("connections wait: Too many open files") == 1
    finally:
        server.end()


@pytest.mark.faults
def test_the_module_itself_refuses_a_port_that_is_none(home: Path) -> None:
    command = (sys.executable, "-P", "-m", "llmtop.simulator.server")
    ended = tried("--port", "70000", home=home, command=command)
    ended.is_in_words(2)
    assert "65535" in ended.err
