"""Secrets stay secret, also where a server repeats them, and go to nobody but the endpoint's own origin."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from trying import METRICS, Misdeed, Server, Terminal, family, says, serving, streams, tried, tried_here, whole

from llmtop.cli.main import main

KEY = "sk-plant-3f9a/b+c=d"
HEADER = "hdr-plant-81c2 with blank"
COOKIE = "ck-plant-77aa"
USER, PASSWORD = "mu-plant-52d1", "mp-plant:9e0b"
QUERY = "mq-plant-64fe"
PROXY_USER, PROXY_PASSWORD = "pu-plant-1c1c", "pp-plant-2d2d"
PLANTED = (KEY, HEADER, COOKIE, USER, PASSWORD, QUERY, PROXY_USER, PROXY_PASSWORD)
PAIRS = (f"{USER}:{PASSWORD}", f"{PROXY_USER}:{PROXY_PASSWORD}")
WRITTEN = tuple(
    {
        form
        for secret in (*PLANTED, *PAIRS)
        for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("="))
    }
)
"""As one would look for them."""
ECHO = " ".join(WRITTEN)
"""What a server says that repeats all it was told."""

ENVIRONMENT = {
    "PLANTED_KEY": KEY,
    "HTTPS_PROXY": f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:9",
}


def options(server: Server) -> list[str]:
    page = f"http://{quote(USER)}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/metrics?token={QUERY}"
    headers = (f"X-Secret: {HEADER}", f"Cookie: theme=light; session={COOKIE}")
    return [
        server.url,
        "--api-key-env",
        "PLANTED_KEY",
        "--metrics-url",
        page,
        *(x for h in headers for x in ("--header", h)),
    ]


def held(text: str | bytes) -> list[str]:
    """The secrets that are in it."""
    raw = text.encode() if isinstance(text, str) else text
    return [form for form in WRITTEN if form.encode() in raw]


def held_in(folder: Path) -> dict[str, list[str]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): found for path in files if (found := held(path.read_bytes()))}


PAGE = (
    METRICS
    + "".join(
        f'vllm:num_requests_running{{engine="{number} {form}",model_name="{form}"}} 1\n'
        for number, form in enumerate(WRITTEN)
    ).encode()
)


def failing(connection: socket.socket) -> None:
    """One after another, every way to fail, each with all secrets."""
    number = failing.asked = getattr(failing, "asked", 0) + 1  # type: ignore[attr-defined]
    # The first two are the probe's.
    way = 0 if number <= 2 else number % 5
    message = {"error": {"message": ECHO, "type": ECHO, "code": ECHO}, "object": "error"}
    if way == 0:
        streams("one", " two", ECHO)(connection)
    elif way == 1:
        says(500, message, f"server: {ECHO}")(connection)
    elif way == 2:
        event = b"event: error\ndata: " + json.dumps(message).encode() + b"\n\n"
        connection.sendall(whole(200, event, kind="text/event-stream"))
    elif way == 3:
        says(302, b"", f"location: http://127.0.0.1/{ECHO.replace(' ', '')}")(connection)
    else:
        end = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": ECHO}]}
        connection.sendall(whole(200, b"data: " + json.dumps(end).encode() + b"\n\n", kind="text/event-stream"))


@pytest.fixture
def echoing() -> Iterator[Server]:
    failing.asked = 0  # type: ignore[attr-defined]
    models = [{"id": f"m {ECHO}", "owned_by": "vllm"}, {"id": ECHO, "owned_by": ECHO}]
    paths: Mapping[str, Misdeed] = {
        "/v1/models": says(200, {"data": models}, f"server: uvicorn {ECHO}", f"set-cookie: a={COOKIE}"),
        "/version": says(200, {"version": f"0.10.0 {ECHO}"}),
        "/metrics": says(200, PAGE, kind="text/plain"),
        "/v1/chat/completions": failing,
        "/v1/completions": failing,
    }
    with serving(paths) as server:
        yield server


@pytest.mark.faults
def test_no_secret_that_a_server_repeats_is_shown_or_kept_by_a_run(echoing: Server, home: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text(
        f'[endpoint]\nurl = "{echoing.url}/v1?key={QUERY}"\n'
        '[[stage]]\nshape = "hold"\nduration = "2s"\nconcurrency = 2\n'
    )
    children: dict[int, str] = {}

    def watch(process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            for child in family(process.pid)[1:]:
                try:
                    children[child.pid] = " ".join((*child.cmdline(), *child.environ().values()))
                except psutil.Error:
                    continue
            time.sleep(0.1)

    own = options(echoing)[1:]  # the URL is the profile's
    out = tmp_path / "out"
    out.mkdir()
    junit, record = out / "j.xml", out / "r.llmtop"
    ran = tried(
        "run", str(profile), *own, "--json", "--junit", str(junit), "--record", str(record), "--unknown-ok",
        home=home, more=ENVIRONMENT, during=watch,
    )  # fmt: skip
    assert ran.code in (0, 1, 4), ran.said[-2000:]
    assert "Traceback" not in ran.said
    assert not held(ran.said)
    assert not [line for line in children.values() if held(line)]
    assert any("llmtop" in line for line in children.values())
    for suffix in ("html", "md", "json", "csv"):
        written = tried("report", str(record), "-o", str(out / f"r.{suffix}"), home=home, more=ENVIRONMENT)
        written.is_in_words(0)
        assert not held(written.said)
    assert not {**held_in(out), **held_in(home)}
    sent = b"\n".join(echoing.asked)
    assert sent.count(f"Bearer {KEY}".encode()) > 3, "it is used"
    assert f"token={QUERY}".encode() in sent
    assert base64.b64encode(PAIRS[0].encode()) in sent


def test_no_secret_that_a_server_repeats_is_shown_by_the_doctor(echoing: Server, home: Path) -> None:
    for more in ((), ("--json",)):
        looked = tried_here("doctor", *options(echoing), *more, home=home, more=ENVIRONMENT)
        looked.is_in_words(0)
        assert not held(looked.said)
        assert "***" in looked.out


REFUSALS = {
    "a key that is refused": says(401, {"error": {"message": f"bad key {ECHO}"}}),
    "a redirect": says(307, b"", f"location: http://127.0.0.1/?key={ECHO.replace(' ', '&')}"),
    "a web page": says(200, f"<html><title>{ECHO}</title></html>".encode(), kind="text/html"),
    "not ready": says(503, ECHO.encode(), kind="text/plain"),
    "no HTTP": lambda connection: connection.sendall(ECHO.encode() + b"\r\n\r\n"),
    "no header": lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + ECHO.encode() + b"\r\n\r\n"),
    "no model": says(200, {"data": [{"id": ECHO}]}),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", REFUSALS)
def test_no_secret_is_in_a_refusal(name: str, home: Path) -> None:
    paths = ("/v1/models", "/v1/chat/completions", "/v1/completions")  # one API that answers would be enough
    with serving(dict.fromkeys(paths, REFUSALS[name])) as server:
        more = ("--model", "another") if name == "no model" else ()
        looked = tried_here("doctor", *options(server), *more, home=home, more=ENVIRONMENT)
        looked.is_in_words(3)
        assert not held(looked.said)


@pytest.mark.faults
def test_no_secret_reaches_the_screen(echoing: Server, home: Path) -> None:
    with Terminal(*options(echoing), "--concurrency", "2", home=home, more=ENVIRONMENT, size=(160, 50)) as cockpit:
        cockpit.until(b"TTFT")
        cockpit.read(6.0)
        cockpit.send(b"q")
        assert cockpit.code() in (0, 3)
        assert not held(cockpit.written)
    assert not held_in(home)


@pytest.mark.parametrize(
    "words",
    [
        ("http://127.0.0.1:1", "--api-key-env", KEY),
        ("http://127.0.0.1:1", "--header", f"Bearer {KEY}"),
        ("http://127.0.0.1:1", "--header", f"X-Key: {KEY}\nX: {KEY}"),
        ("http://127.0.0.1:1", "--metrics-url", f"http://u:{KEY}@127.0.0.1:1/metrics"),
        ("http://127.0.0.1:1", "--metrics-url", f"http://{PASSWORD}@127.0.0.1:99999/"),
        (f"http://{USER}:{PASSWORD}@127.0.0.1:1",),
        (f"http://{USER}:{QUERY}@127.0.0.1:99999",),
        (f"ftp://{USER}:{QUERY}@127.0.0.1",),
        (f"http://{USER}:mp-plant/9e0b@127.0.0.1:1",),
        (f"http://127.0.0.1:port?key={QUERY}",),
    ],
)
def test_what_is_given_in_the_wrong_way_is_not_shown(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) in (2, 3)
    said = "".join(capsys.readouterr())
    assert not held(said), said
    assert "mp-plant" not in said


def test_the_key_goes_to_no_other_port_of_the_endpoint_s_host(home: Path) -> None:
    with serving() as server, serving() as exporter:
        looked = tried_here(
            "doctor", server.url, "--api-key-env", "PLANTED_KEY", "--header", f"X-Secret: {HEADER}",
            "--metrics-url", f"{exporter.url}/metrics", home=home, more=ENVIRONMENT,
        )  # fmt: skip
        looked.is_in_words(0)
        assert held(b"\n".join(server.asked))
        assert exporter.asked
        assert not held(b"\n".join(exporter.asked))


def test_the_key_follows_no_redirect(home: Path) -> None:
    with serving() as elsewhere:
        paths = {path: says(307, b"", f"location: {elsewhere.url}{path}") for path in ("/v1/models", "/metrics")}
        with serving(paths) as server:
            tried_here("doctor", server.url, "--api-key-env", "PLANTED_KEY", home=home, more=ENVIRONMENT).is_in_words(3)
            assert held(b"\n".join(server.asked))
            assert not elsewhere.asked


def test_a_proxy_that_is_asked_for_a_tunnel_learns_its_own_password_alone(home: Path) -> None:
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(whole(407, ECHO.encode()))

    threading.Thread(target=serve, daemon=True).start()
    proxy = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:{listening.getsockname()[1]}"
    with listening:
        looked = tried_here(
            "doctor", "https://llm.invalid", "--api-key-env", "PLANTED_KEY", "--header", f"X-Secret: {HEADER}",
            home=home, more={**ENVIRONMENT, "HTTPS_PROXY": proxy},
        )  # fmt: skip
    looked.is_in_words(3)
    assert not held(looked.said), looked.said
    told = held(b"\n".join(asked))
    assert told
    assert set(told) <= {base64.b64encode(PAIRS[1].encode()).decode().rstrip("=")}
