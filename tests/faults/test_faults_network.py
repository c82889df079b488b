"""A server that answers beside the load as it likes: for ever, byte by byte, compressed, or with the wrong things."""

from __future__ import annotations

import functools
import itertools
import json
import signal
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trying import METRICS, ROOT, Misdeed, Tried, endless, says, serving, streams, tried, tried_here

SOON_S = 45.0
"""Less than any of these servers takes; a command gives up in 10 s, and begins late where the machine is busy."""
MEMORY_MB = 200.0
"""Of `doctor`; a run has two processes more."""
RUN = ("--duration", "3", "--peak", "2", "--output-tokens", "8", "--unknown-ok")
SLOWLY = {"/v1/chat/completions": streams(*["x"] * 8, pause_s=0.05)}
DONE = (0, 4)
"""On a busy machine the client may be the bottleneck: that is said, too."""
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@functools.cache
def packed(coding: str) -> bytes:
    """4 MB that become 4 GB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    block = bytes(1 << 20)
    whole = b"".join(itertools.chain((packer.compress(block) for _ in range(64)), (packer.flush(zlib.Z_FULL_FLUSH),)))
    return whole + (whole[10:] if coding == "gzip" else whole[2:]) * 63


def bomb(coding: str) -> Misdeed:
    """Made when it is first asked for."""
    return lambda connection: says(200, packed(coding), f"content-encoding: {coding}")(connection)


def raw(answer: bytes) -> Misdeed:
    return lambda connection: connection.sendall(answer)


MISDEEDS: dict[str, Misdeed] = {
    "endless body": endless(HEAD + b"\r\n", b"x" * 65536),
    "endless chunked body": endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "endless body of chunks of a byte": endless(CHUNKED, b"1\r\nx\r\n" * 1000),
    "a body that drips": endless(HEAD + b"\r\n", b"x", 0.5),
    "a head that drips": endless(HEAD, b"x", 0.5),
    "an endless head": endless(HEAD, b"x-more: " + b"y" * 1000 + b"\r\n"),
    "an endless line of a head": endless(HEAD + b"x-more: ", b"y" * 1000),
    "endless informational answers": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "endless trailers": endless(CHUNKED + b"0\r\n", b"x-more: y\r\n" * 100),
    "less than promised": endless(HEAD + b"content-length: 99999999\r\n\r\n", b" ", 0.5),
    "a length of 5000 digits": raw(HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\nx"),
    "one line of 100 MB": endless(HEAD + b"content-length: 100000000\r\n\r\n", b"x" * 65536),
    "a gzip bomb": bomb("gzip"),
    "a deflate bomb": bomb("deflate"),
    "another coding": says(200, b"x" * 100, "content-encoding: br"),
    "a redirect to itself": says(302, b"", "location: /v1/models"),
    "a refusal without an end": endless(b"HTTP/1.1 500 X\r\n\r\n", b"x" * 65536),
    "nothing": lambda connection: time.sleep(60),
    "an end at once": lambda connection: None,
    "another protocol": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
}
QUICK = ("endless body", "a head that drips", "a gzip bomb", "a length of 5000 digits")
JSON_PATHS = ("/version", "/get_server_info", "/server_info", "/props", "/info", "/health", "/api/version", "/slots")


def chosen(names: tuple[str, ...] = QUICK) -> list[object]:
    """All misdeeds, those outside of `names` by hand only."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.faults) for name in MISDEEDS]


def is_bounded(ended: Tried, *codes: int, limit_s: float, memory_mb: float = MEMORY_MB) -> None:
    ended.is_in_words(*codes)
    assert ended.wall_s < limit_s, f"took {ended.wall_s:.1f} s"
    assert ended.peak_mb < memory_mb, f"took {ended.peak_mb:.0f} MB"


@pytest.mark.parametrize("name", chosen())
def test_a_list_of_models_that_is_none_is_given_up_in_words(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.endpoint.probe._ASK_S", 0.5)
    monkeypatch.setattr("llmtop.endpoint.reach.SECOND_LOOK_S", 0.2)
    with serving({"/v1/models": MISDEEDS[name]}) as server:
        ended = tried_here("doctor", server.url, home=home)
    is_bounded(ended, 3, limit_s=SOON_S)
    assert f"{server.url}/v1/models: " in ended.err


@pytest.mark.faults
@pytest.mark.parametrize("name", chosen(()))
def test_other_answers_are_done_without(home: Path, name: str) -> None:
    with serving(dict.fromkeys(JSON_PATHS, MISDEEDS[name])) as server:
        ended = tried("doctor", server.url, home=home)
    is_bounded(ended, 0, limit_s=SOON_S)
    assert "✓ server figures" in ended.out


@pytest.mark.faults
@pytest.mark.parametrize("name", chosen(()))
def test_a_run_goes_on_without_metrics(home: Path, tmp_path: Path, name: str) -> None:
    with serving({"/metrics": MISDEEDS[name], **SLOWLY}) as server:
        doctor = tried("doctor", server.url, home=home)
        ended = tried("run", "smoke", server.url, *RUN, "--record", str(tmp_path / "r.llmtop"), home=home)
    is_bounded(doctor, 0, limit_s=SOON_S)
    assert "✗ server figures" in doctor.out
    assert f"{server.url}/metrics" in doctor.out
    is_bounded(ended, *DONE, limit_s=SOON_S, memory_mb=2.5 * MEMORY_MB)


@pytest.mark.faults
@pytest.mark.parametrize("command", [("doctor",), ("run", "smoke")])
@pytest.mark.parametrize("path", ["/v1/models", "/version", "/metrics"])
def test_ctrl_c_is_heard_while_an_answer_drips(home: Path, path: str, command: tuple[str, ...]) -> None:
    def interrupt(process: subprocess.Popen[bytes]) -> None:
        time.sleep(2.0)
        process.send_signal(signal.SIGINT)

    with serving({path: MISDEEDS["a body that drips"]}) as server:
        ended = tried(*command, server.url, home=home, during=interrupt)
    is_bounded(ended, 130, limit_s=5.0, memory_mb=2.5 * MEMORY_MB)


Body = bytes | Callable[[], bytes]
"""Large ones are made by whoever asks for them: every process of a test run reads this file."""


def made(body: Body) -> bytes:
    return body() if callable(body) else body


ODD: dict[str, Body] = {
    "nested deeply": b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"data":[{"id":"m\xff"}]}',
    "no UTF-8 at all": b"\xff\xfe\x00\x01",
    "half a character": b'{"data":[{"id":"m\\ud800"}]}',
    "a byte order mark": b"\xef\xbb\xbf" + b'{"data":[{"id":"m"}]}',
    "owned by a list": b'{"data":[{"id":"m","owned_by":["vllm"]}]}',
    "owned by an object": b'{"data":[{"id":"m","owned_by":{"vllm":1}}]}',
    "a number for an id": b'{"data":[{"id":5}]}',
    "an object for an id": b'{"data":[{"id":{}}]}',
    "a long id": b'{"data":[{"id":"' + b"m" * 100_000 + b'"}]}',
    "an absurd length": b'{"data":[{"id":"m","max_model_len":1e300,"owned_by":"vllm"}]}',
    "a length of 5000 digits": b'{"data":[{"id":"m","max_model_len":' + b"9" * 5000 + b',"owned_by":"vllm"}]}',
    "NaN for a length": b'{"data":[{"id":"m","max_model_len":NaN,"owned_by":"vllm"}]}',
    "an empty list": b'{"data":[]}',
    "no list": b'{"data":{"id":"m"}}',
    "a text": b'"m"',
    "100,000 models": lambda: json.dumps(
        {"data": [{"id": f"m{i}", "owned_by": "vllm"} for i in range(100_000)]}
    ).encode(),
    "a million values": lambda: b'{"data":[' + b"{}," * 1_200_000 + b"{}]}",
    "a key twice": b'{"data":1,"data":[{"id":"m","id":"n"}]}',
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "nested deeply" else pytest.mark.faults) for name in ODD]
)
def test_an_odd_list_of_models_makes_no_traceback(home: Path, name: str) -> None:
    with serving({"/v1/models": says(200, made(ODD[name]))}) as server:
        ended = tried_here("doctor", server.url, home=home)
    is_bounded(ended, 0, 3, limit_s=SOON_S)


BIG_PAGES: dict[str, Body] = {
    "10 MB": lambda: METRICS + b"foreign_total 1\n" * 650_000,
    "100,000 label sets": lambda: (
        METRICS + b"".join(b'vllm:num_requests_running{engine="%d"} 1\n' % number for number in range(100_000))
    ),
    "4 MB of foreign lines": lambda: (
        METRICS + b"".join(b'foreign_total{a="%d"} 1\n' % number for number in range(140_000))
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", BIG_PAGES)
def test_a_page_of_metrics_is_read_or_done_without(home: Path, name: str) -> None:
    with serving({"/metrics": says(200, made(BIG_PAGES[name]), kind="text/plain"), **SLOWLY}) as server:
        ended = tried("run", "smoke", server.url, *RUN, home=home)
    is_bounded(ended, *DONE, limit_s=SOON_S, memory_mb=2.5 * MEMORY_MB)


# ── What a name claims ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hosts() -> Iterator[Path]:
    """The hosts file of this machine, put back as it was."""
    path = Path("/etc/hosts")
    before = path.read_bytes()
    try:
        path.write_bytes(before)
    except OSError:
        pytest.skip("the hosts file cannot be written")
    yield path
    path.write_bytes(before)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["evil.localhost", "mine.test"])
def test_a_name_that_only_claims_to_be_this_machine_is_asked_about(home: Path, hosts: Path, name: str) -> None:
    hosts.write_bytes(hosts.read_bytes() + f"\n192.0.2.1 {name}\n".encode())
    ended = tried("run", "smoke", f"http://{name}:8000", "--duration", "1", home=home)
    ended.is_in_words(2)
    assert f"{name} is not this machine" in ended.err


@pytest.mark.faults
def test_an_address_that_was_looked_at_is_the_one_that_is_loaded(home: Path, hosts: Path) -> None:
    before = hosts.read_bytes()
    hosts.write_bytes(before + b"\n127.0.0.1 mine.test\n")

    with serving(SLOWLY) as server:

        def rebind(_: subprocess.Popen[bytes]) -> None:
            while not server.asked:
                time.sleep(0.02)
            hosts.write_bytes(before + b"\n127.0.0.9 mine.test\n")

        url = f"http://mine.test:{server.port}"
        ended = tried("run", "smoke", url, *RUN, home=home, during=rebind)
    ended.is_in_words(*DONE)
    assert b"mine.test" in server.asked[-1], "the Host is that of the URL"


@pytest.fixture
def slow_names(tmp_path: Path) -> dict[str, str]:
    """An environment in which the look-up of a name takes a minute."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import socket, time\n"
        "own = socket.getaddrinfo\n"
        "def slow(host, *more, **options):\n"
        "    if host == 'slow.test' and not options.get('flags'):\n"
        "        time.sleep(60)\n"
        "    return own(host, *more, **options)\n"
        "socket.getaddrinfo = slow\n"
    )
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.mark.faults
@pytest.mark.parametrize("transport", ["auto", "httpx"])
def test_a_look_up_that_hangs_is_given_up_in_words(home: Path, slow_names: dict[str, str], transport: str) -> None:
    ended = tried("doctor", "http://slow.test:8000", "--transport", transport, home=home, more=slow_names)
    is_bounded(ended, 3, limit_s=SOON_S)
    assert "slow.test:8000" in ended.err


@pytest.mark.faults
@pytest.mark.parametrize("after_s", [1.0, 4.0])
def test_ctrl_c_is_heard_during_a_look_up(home: Path, slow_names: dict[str, str], after_s: float) -> None:
    def interrupt(process: subprocess.Popen[bytes]) -> None:
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)

    ended = tried("doctor", "http://slow.test:8000", home=home, more=slow_names, during=interrupt)
    is_bounded(ended, 130, limit_s=after_s + 1.5)
