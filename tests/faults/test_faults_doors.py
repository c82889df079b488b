"""Every door through which words come in from outside, with every kind of word that wants to be obeyed."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hostile import filled, texts
from trying import Misdeed, says, serving, whole

from llmtop.cli.main import main
from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.plain import KEPT, LONG
from llmtop.domain.run import RunMeta, safe_meta
from llmtop.endpoint.access import Access
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.refusals import refusal_text
from llmtop.endpoint.trace import Trace
from llmtop.errors import LlmtopError
from llmtop.telemetry.gpu import GpuReader
from llmtop.telemetry.scraper import Scraper

HOSTILE = {
    "escape": "a\x1b[2J\x1b[8;8Hmoved\x1b]0;title\x07",
    "clipboard": "a\x1b]52;c;cm0=\x07\x1b]52;c;cm0=\x1b\\",
    "eight bits": "a\x9b31m\x9d0;title\x9c\x90q\x84",
    "direction": "a\u202eb\u2066c\u2069d\u200f\u061c",
    "no width": "a\u200b\u200d\u2060\ufeff\U000e0041\u00ad",
    "lines": "a\rb\nc\u2028d\u2029e\x85f\x0bg\x0ch\x1ci",
    "nothing": "a\x00b\x7fc\x08d",
    "halves": "a\ud800b\udfffc",
    "no characters": "a\ufffe\uffff\ufdd0",
    "screen markup": "a[red]x[/red] [@click=app.bell]y[/] [/INST] [b",
    "page markup": "a</script><script>alert(1)</script>]]>&amp;\"'",
    "formula": "=cmd|'/C calc'!A0",
    "table": "a | b `c` **d** ![e](http://f/)",
    "long": "x" * 100_000,
    "long and hostile": "\x1b]52;c;\u202e" * 12_500,
}
EACH = pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)


def fit(text: str) -> bool:
    """Whether it can be shown and kept: every character prints, and each may stand as an escape of ten."""
    return text.isprintable() and len(text.encode()) <= 10 * KEPT


def all_fit(*values: Any) -> None:
    assert not [text[:200] for value in values for text in texts(value) if not fit(text)]


def in_a_header(words: str) -> str:
    """Of a text what can stand there."""
    kept = words.replace("\r", "").replace("\n", "").replace("\x00", "")
    return kept.encode("latin-1", "ignore").decode("latin-1")[:2000]


# ── A server's ────────────────────────────────────────────────────────────────────────────────────────────────────────


@EACH
def test_the_words_of_a_refusal_are_fit_whatever_they_are_wrapped_in(words: str) -> None:
    heard = Access(Endpoint(base_url="http://127.0.0.1:9")).heard
    quoted = json.dumps(words)
    raw = words.encode("utf-8", "surrogatepass")
    for body in (
        raw,
        b"<html><title>" + raw,
        b"<Error><Message>" + raw + b"</Message></Error>",
        b": " + raw + b"\n\n",
        f'{{"error": {{"message": {quoted}}}}}'.encode(),
        f'{{"detail": [{{"loc": [{quoted}], "msg": {quoted}}}]}}'.encode(),
        f'{{"title": {quoted}, "detail": {quoted}}}'.encode(),
        f"data: {quoted}\n\n".encode(),
    ):
        said = heard(refusal_text(body))
        assert said
        all_fit(said)


def answering(words: str) -> dict[str, Misdeed]:
    turns = iter(range(1000))
    error = {"error": {"message": words, "type": words, "code": words}}
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": words}]})
    bodies = (
        whole(500, json.dumps(error).encode()),
        whole(200, f"data: {json.dumps(error)}\n\n".encode(), kind="text/event-stream"),
        whole(200, f"data: {event}\n\ndata: [DONE]\n\n".encode(), kind="text/event-stream"),
        whole(200, f"data: {words[:2000]}\n\n".encode("utf-8", "surrogatepass"), kind="text/event-stream"),
        whole(302, b"").replace(b"\r\n", f"\r\nlocation: {in_a_header(words)}\r\n".encode("latin-1"), 1),
        whole(200, b"a").replace(b"\r\n", f"\r\ncontent-encoding: {in_a_header(words)}\r\n".encode("latin-1"), 1),
    )
    return {"/v1/chat/completions": lambda connection: connection.sendall(bodies[next(turns) % len(bodies)])}


class Deaf:
    def first_token(self, trace: Trace) -> None:
        pass

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        pass


@EACH
async def test_what_a_request_records_of_a_servers_words_is_fit(words: str) -> None:
    with serving(answering(words)) as server:
        client = EndpointClient(Endpoint(base_url=server.url, model="m"), None, Caps(), time.perf_counter_ns())
        told = []
        for _ in range(6):
            trace = Trace()
            await client.generate("hi", 4, "chat", trace, Deaf())
            told.append([trace.error or "", trace.finish_reason or ""])
        await client.close()
    all_fit(told)
    assert sum(bool(error) for error, _ in told) >= 4


@EACH
async def test_what_a_probe_and_a_scrape_find_is_fit(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.endpoint.reach.SECOND_LOOK_S", 0.2)
    label = words[:1000].encode("utf-8", "surrogatepass").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    label = label.replace(b"\n", b"\\n")
    page = (
        b'vllm:num_requests_running{engine="%b",model_name="m"} 1\n'
        b'DCGM_FI_DEV_GPU_UTIL{gpu="0",modelName="%b"} 1\n' % (label, label)
    )
    models = json.dumps({"data": [{"id": words, "owned_by": words}, {"id": "other" + words}]}).encode()
    header = f"\r\nserver: {in_a_header(words)}\r\n".encode("latin-1")
    paths: dict[str, Misdeed] = {
        "/v1/models": lambda connection: connection.sendall(whole(200, models).replace(b"\r\n", header, 1)),
        "/version": says(200, {"version": words}),
        "/metrics": says(200, page, kind="text/plain"),
    }
    with serving(paths) as server:
        endpoint = Endpoint(base_url=server.url)
        access = Access(endpoint)
        try:
            all_fit(access.shown(await probe(endpoint, Caps())))
        except LlmtopError as error:
            all_fit(str(error))
        scraper = Scraper(endpoint, Dialect.VLLM, 0)
        all_fit(await scraper.scrape(), scraper.gpus, scraper.missing or "")
        await scraper.close()


# ── This machine's ────────────────────────────────────────────────────────────────────────────────────────────────────


@EACH
def test_what_is_kept_of_a_run_is_fit(words: str) -> None:
    kept = safe_meta(filled(RunMeta, words))
    all_fit(kept)
    assert sum(len(text) >= len(words[:LONG]) for text in texts(kept)) > 5


@EACH
def test_the_name_of_a_board_is_fit(words: str) -> None:
    board = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: words,
        NVMLError=RuntimeError,
    )
    all_fit(GpuReader(board).read(0.0))


def doors_of_the_command(words: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """Command lines that are refused before anything is asked of a server."""
    for option in ("--label", "--model", "--header", "--api-key-env", "--metrics-url", "--slo", "--record", "--sim"):
        yield "run", "no such profile", option, words
    yield "run", words, "http://127.0.0.1:9"
    yield "run", "smoke", words
    yield "doctor", f"http://127.0.0.1:9/{words}"
    yield "doctor", f"http://{words}:9"
    yield "assess", words
    yield "predict", words
    yield words, "x"
    content: dict[str, Callable[[], str]] = {
        "p.toml": lambda: f"{json.dumps(words)} = 1\n",
        "q.toml": lambda: words,
        "t.csv": lambda: f"level,{words}\n1,{words}\n",
        "d.jsonl": lambda: f"{words}\n",
    }
    for name, write in content.items():
        (folder / name).write_bytes(write().encode("utf-8", "surrogatepass"))
    yield "run", str(folder / "p.toml"), "http://127.0.0.1:9"
    yield "run", str(folder / "q.toml"), "http://127.0.0.1:9"
    yield "assess", str(folder / "t.csv")


@EACH
def test_what_the_command_says_of_its_words_and_files_is_fit(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for arguments in doors_of_the_command(words[:4000], tmp_path):
        try:
            code: object = main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert code in (2, 3), (arguments, said)
        assert "Traceback" not in said.err
        assert said.err
        assert all(line.isprintable() and len(line) <= 10 * LONG for line in (said.out + said.err).split("\n"))


@EACH
def test_what_is_said_of_the_environment_is_fit(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = words.replace("\x00", "").encode("utf-8", "replace").decode()[:2000]
    monkeypatch.setattr(platform, "node", lambda: words)
    monkeypatch.setattr(socket, "gethostname", lambda: words)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LLMTOP_KEY"):
        monkeypatch.setitem(os.environ, name, value)
        for arguments in (["doctor", "http://127.0.0.1:9", "--api-key-env", "LLMTOP_KEY"], ["profiles"]):
            with contextlib.suppress(SystemExit):
                main(arguments)
            said = capsys.readouterr()
            assert "Traceback" not in said.err
            assert all(line.isprintable() for line in (said.out + said.err).split("\n"))
        monkeypatch.delitem(os.environ, name)
