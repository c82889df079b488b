"""Messages arrive whole or not at all, and a child never outlives its parent."""

from __future__ import annotations

import asyncio
import io
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop import channel
from llmtop.errors import SessionLost, UsageError
from tests.waiting import until_gone

bodies = st.lists(st.binary(max_size=300), max_size=5)


async def received(data: bytes) -> list[bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while (body := await channel.receive(reader)) is not None:
        found.append(body)
    return found


def read(data: bytes) -> list[bytes]:
    stream, found = io.BytesIO(data), []
    while (body := channel.read(stream)) is not None:
        found.append(body)
    return found


@settings(deadline=None, max_examples=50)
@given(sent=bodies, cut=st.integers(0, 400))
def test_both_readers_give_the_bodies_that_came_whole(sent: list[bytes], cut: int) -> None:
    pieces = [channel.framed(body) for body in sent]
    data = b"".join(pieces)
    kept = data[: max(0, len(data) - cut)]
    whole = [body for place, body in enumerate(sent) if len(b"".join(pieces[: place + 1])) <= len(kept)]
    assert read(kept) == whole
    assert asyncio.run(received(kept)) == whole


def test_a_length_that_no_message_has_is_damage_and_is_not_waited_for() -> None:
    printed = struct.pack("<I", channel.MOST_BYTES + 1) + b"Warning: something printed"
    with pytest.raises(SessionLost, match="no message"):
        read(printed)
    with pytest.raises(SessionLost, match="no message"):
        asyncio.run(received(printed))


def test_a_message_that_no_reader_would_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MOST_BYTES", 3)
    assert channel.framed(b"abc")[-3:] == b"abc"
    with pytest.raises(ValueError, match="4 bytes"):
        channel.framed(b"abcd")


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    """A module that children can run; its name."""
    (folder / "childs_play.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    return "childs_play"


ECHO = """
import os, sys
from llmtop import channel
out = os.fdopen(channel.claim_stdout(), "wb")
print("a print that belongs to nobody", flush=True)
while (body := channel.read(sys.stdin.buffer)) is not None:
    out.write(channel.framed(os.environ["MOOD"].encode() + body)); out.flush()
"""


def test_messages_cross_whatever_a_child_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = channel.Child(module(tmp_path, monkeypatch, ECHO), environment={"MOOD": "merry "})
    child.send(channel.framed(b"one") + channel.framed(b"two"))
    assert channel.read(child.stdout) == b"merry one"
    assert channel.read(child.stdout) == b"merry two"
    assert child.alive
    assert child.said() == "a print that belongs to nobody"
    child.end()
    assert child.wait() == 0
    child.send(b"into the void")


async def test_messages_cross_on_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = channel.Child(module(tmp_path, monkeypatch, ECHO), environment={"MOOD": ""})
    reader, writer = await child.streams()
    writer.write(channel.framed(b"x" * 300_000))
    assert await channel.receive(reader) == b"x" * 300_000
    await child.close()
    assert await channel.receive(reader) is None
    assert child.wait() == 0


def test_a_child_that_does_not_go_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = channel.Child(module(tmp_path, monkeypatch, "import time\nprint(1, flush=True)\ntime.sleep(60)"))
    assert child.stdout.readline() == b"1\n"
    begun = time.monotonic()
    child.end(0.1)
    assert child.wait() == -9
    assert time.monotonic() - begun < 30


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(tmp_path, monkeypatch, ECHO)
    script = (
        "import time; from llmtop import channel\n"
        f"child = channel.Child({name!r}, environment={{'MOOD': ''}})\n"
        "child.send(channel.framed(b'hi')); channel.read(child.stdout)\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    package = str(Path(channel.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{package}"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until_gone(child)


@pytest.mark.parametrize(
    ("kept", "theirs", "none"), [("/x/compiled", "/x/compiled", False), ("compiled", None, False), (None, None, True)]
)
def test_a_child_keeps_bytecode_where_its_parent_does_but_not_by_the_working_directory(
    kept: str | None, theirs: str | None, none: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(tmp_path, monkeypatch, "import sys; print(sys.pycache_prefix, sys.dont_write_bytecode)")
    monkeypatch.setattr(sys, "pycache_prefix", kept if kept is None or kept[0] != "/" else f"{tmp_path}{kept}")
    monkeypatch.setattr(sys, "dont_write_bytecode", none)
    child = channel.Child(name)
    assert child.stdout.read().decode().strip() == f"{theirs and f'{tmp_path}{theirs}'} {none}"
    child.end()


async def test_a_server_tells_its_port_or_why_it_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import sys\nkind = sys.argv[1]\n"
        "if kind == 'good': print('{\"port\": 81}', flush=True); sys.stdin.read()\n"
        "else: sys.exit(print('context\\nzork is not known', file=sys.stderr) or int(kind))"
    )
    name = module(tmp_path, monkeypatch, source)
    server = await channel.Server.launch(name, "good")
    assert server.base_url == "http://127.0.0.1:81"
    await server.close()
    assert not server.alive
    with pytest.raises(UsageError, match=r"^zork is not known$"):
        await channel.Server.launch(name, str(UsageError.exit_code))
    with pytest.raises(SessionLost, match="exit code 7 before it was ready: context"):
        await channel.Server.launch(name, "7")


async def test_a_file_in_the_working_directory_is_not_run_in_place_of_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("msgspec", "asyncio", "h2"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was run')\n")
    monkeypatch.chdir(tmp_path)
    server = await channel.Server.launch("llmtop.simulator.server", "--port", "0", "--die-with-parent")
    try:
        assert server.port > 0
    finally:
        await server.close()


LOOK = """
import json, os, sys
print(json.dumps([sorted(os.environ), sys.argv[1:], len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else 4]))
"""


def test_a_child_sees_what_it_is_handed_and_what_every_process_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MY_SECRET", "HTTPS_PROXY", "PYTHONSTARTUP", "PYTHONHOME_", "LC_TIME", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LD_LIBRARY_PATH", ":.:/usr/lib:rel")
    kept = open(os.devnull)  # noqa: SIM115, PTH123 - a descriptor that a careless child would inherit
    os.set_inheritable(kept.fileno(), True)
    child = channel.Child(module(tmp_path, monkeypatch, LOOK), "a b", environment={"MOOD": "x=y\nz"})
    names, arguments, descriptors = json.loads(child.stdout.readline())
    child.end()
    kept.close()
    assert {"PATH", "MOOD", "LC_TIME"} <= set(names)
    assert not set(names) & {"MY_SECRET", "HTTPS_PROXY", "PYTHONSTARTUP", "SSL_CERT_FILE"}
    assert arguments == ["a b"]
    assert descriptors == 4, "its three streams, and the folder that is being listed"
    assert channel.machine_environment()["LD_LIBRARY_PATH"] == "/usr/lib"


def test_who_reaches_out_is_handed_proxies_certificates_and_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MY_SECRET", "OTHER_SECRET", "https_proxy", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "x")
    handed = channel.outward_environment("MY_SECRET")
    assert {"MY_SECRET", "https_proxy", "SSL_CERT_FILE"} <= handed.keys()
    assert not handed.keys() & {"OTHER_SECRET", "PATH"}


def test_an_interpreter_that_cannot_be_started_again_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SessionLost, match=r"cannot be started again \(No such file"):
        channel.Child("llmtop.session.process")
