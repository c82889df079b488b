"""What `--out` says is checked before anything starts, and what is wrong is said with the way out."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from sinks_fakes import SECRET

from llmtop.errors import FileError, UsageError
from llmtop.sinks import VARIABLES, check, opened
from llmtop.sinks.lines import Lines
from llmtop.sinks.otlp import Push
from llmtop.sinks.page import Page
from llmtop.sinks.specs import sink_of
from tests.ports import unused_port


def test_what_can_be_is_let_through_and_changes_nothing(tmp_path: Path) -> None:
    port, file = unused_port(), tmp_path / "a.jsonl"
    specs = [f"prometheus=127.0.0.1:{port}", "otlp=http://127.0.0.1:4318", f"json={file}", f"json={os.devnull}"]
    check(specs)
    check(specs)
    assert list(tmp_path.iterdir()) == []
    assert [type(sink_of(spec)) for spec in specs] == [Page, Push, Lines, Lines]
    assert [sink_of(spec).name for spec in specs[:2]] == [
        f"prometheus 127.0.0.1:{port}",
        "otlp http://127.0.0.1:4318/v1/metrics",
    ]
    assert opened([]) == []
    (flow,) = opened(specs)
    assert len(flow.states()) == len(specs)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("prometheus", "127.0.0.1:9464"),
        ("prometheus=9500", "127.0.0.1:9500"),
        ("prometheus=:9500", "127.0.0.1:9500"),
        ("PROMETHEUS=localhost:9500", "localhost:9500"),
        ("prometheus=[::1]:9500", "[::1]:9500"),
    ],
)
def test_an_address_may_be_short_and_is_this_machines_then(spec: str, name: str) -> None:
    assert sink_of(spec).name == f"prometheus {name}"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("promethus=1", "did you mean prometheus?"),
        ("csv=a", "'csv' is no kind of sink; use prometheus=127.0.0.1:9464, otlp=http://127.0.0.1:4318 or json=FILE"),
        ("", "is no kind of sink"),
        ("otlp", "does not say where to"),
        ("json=", "does not say where to"),
        ("prometheus=", "does not say where to"),
        ("prometheus=127.0.0.1", "write it like 127.0.0.1:9464"),
        ("prometheus=127.0.0.1:0", "write it like 127.0.0.1:9464"),
        ("prometheus=127.0.0.1:99999", "write it like 127.0.0.1:9464"),
        ("prometheus=http://127.0.0.1:9464", "write it like 127.0.0.1:9464"),
        ("prometheus=::1:9464", "write it like 127.0.0.1:9464"),
        ("prometheus=127.0.0.1:٣", "write it like 127.0.0.1:9464"),
        ("otlp=localhost", "write it like http://127.0.0.1:4318"),
        ("json=-", "standard output has the result of the run; name a file"),
        ("json=/dev/stdout", "standard output has the result of the run; name a file"),
        ("json=/dev/full", "that is no plain file; name a file"),
        ("json=/dev/fd/3", "name a file"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(spec: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        check([spec])
    assert str(refused.value).startswith("--out")
    assert said in str(refused.value)


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as refused:
            check([f"prometheus=127.0.0.1:{port}"])
    assert f"127.0.0.1:{port}: the port cannot be listened on: address already in use" in str(refused.value)
    assert "take another" in str(refused.value)


def test_an_address_beyond_this_machine_is_asked_for() -> None:
    spec = f"prometheus=0.0.0.0:{unused_port()}"
    with pytest.raises(UsageError, match="say --yes if it may"):
        check([spec])
    asked: list[str] = []

    def answer(yes: bool) -> bool:
        return yes

    with pytest.raises(UsageError, match="nothing was started"):
        check([spec], ask=lambda question: bool(asked.append(question)))
    assert "can be read from beyond this machine" in asked[0]
    check([spec], ask=lambda _: answer(True))
    check([spec], yes=True)


def test_a_name_of_this_machine_is_known_by_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    look_up = socket.getaddrinfo

    def found(host: str, *rest: object, **more: object) -> object:
        meant = {"here.test": "127.0.0.1", "elsewhere.test": "192.0.2.1"}.get(host, host)
        return look_up(meant, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    check([f"prometheus=here.test:{port}"])
    with pytest.raises(UsageError, match="beyond this machine"):
        check([f"prometheus=elsewhere.test:{port}"])


def test_the_same_place_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    monkeypatch.chdir(tmp_path)
    for one, two in (
        (f"prometheus=127.0.0.1:{port}", f"prometheus=:{port}"),
        ("otlp=http://h:4318", "otlp=http://h:4318/v1/metrics"),
        ("json=a.jsonl", f"json={tmp_path}/a.jsonl"),
    ):
        with pytest.raises(UsageError, match="the same place is named twice"):
            check([one, two])


def test_a_file_of_others_a_recording_and_a_place_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "run.llmtop").write_bytes(b"SQLite format 3\0")
    for path, said in (
        ("notes.txt", "is not as llmtop wrote it"),
        ("run.llmtop", "is a recording"),
        ("none/a.jsonl", "there is no folder"),
        ("", "is a folder"),
    ):
        with pytest.raises(FileError, match=said):
            check([f"json={tmp_path / path}"])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_headers_that_cannot_be_sent_are_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], SECRET)
    with pytest.raises(UsageError, match=VARIABLES[0]) as refused:
        check(["otlp=http://127.0.0.1:4318"])
    assert SECRET not in str(refused.value)


def test_a_file_that_the_run_writes_otherwise_is_no_sink(tmp_path: Path) -> None:
    path = tmp_path / "y.jsonl"
    check([f"json={path}"], taken={"--record": tmp_path / "x.llmtop"})
    with pytest.raises(UsageError, match=r"--out json and --record name the same file, .*: give two"):
        check([f"json={tmp_path}/./y.jsonl"], taken={"--junit": tmp_path / "z.xml", "--record": path})
