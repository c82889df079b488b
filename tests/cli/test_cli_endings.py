"""How a command ends before its run has begun or beside it: signals, files that cannot be written, hung endpoints."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from ended import ran, result

from llmtop.cli import run
from llmtop.cli.main import main
from llmtop.domain.run import Ending, Event
from llmtop.domain.shown import Shown
from llmtop.errors import FileError
from llmtop.profiles import load_profile
from llmtop.wording.between import prompts_cut_by, several_replicas
from llmtop.wording.crew import joined
from llmtop.wording.endings import ENDED_BY, MORE_EVENTS, unseen_text
from llmtop.wording.sentences import WORKLOAD, held_loop

INTERRUPTED_AT = """
import os, signal, sys
module, number = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background have it ignored
class Import:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Import())
sys.argv = ["llmtop", "run", "smoke", "--sim"]
from llmtop.cli.entry import main
sys.exit(main())
"""
"""A signal to itself as soon as a module is about to be imported."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["llmtop.cli.main", "msgspec", "numpy"])
def test_a_signal_while_libraries_are_loaded_is_an_end_in_words(module: str, number: signal.Signals) -> None:
    words = [sys.executable, "-c", INTERRUPTED_AT, module, str(int(number))]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "llmtop: interrupted\n", "")


def test_a_signal_is_heard_while_an_endpoint_keeps_its_first_answer_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = [sys.executable, "-m", "llmtop", "run", "smoke", url]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
            silent.settimeout(60)
            first, _ = silent.accept()
            second, _ = silent.accept()  # the first only looks whether somebody listens
            os.kill(asked.pid, signal.SIGINT)
            _, said = asked.communicate(timeout=60)
        first.close()
        second.close()
    assert asked.returncode == 130, f"after 5 s the probe gives up, with exit code 3: {said}"
    assert "Traceback" not in said


@pytest.mark.parametrize("option", ["--junit", "--record"])
@pytest.mark.parametrize("where", ["no folder", "a folder", "below a file", "a long name"])
def test_what_cannot_be_written_is_said_before_anything_is_sent(
    option: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    paths = {"no folder": "no/x", "a folder": ".", "below a file": "file/x", "a long name": "n" * 300}
    path = str(tmp_path / paths[where])
    begun: list[object] = []
    monkeypatch.setattr(run, "SessionLink", begun.append)
    monkeypatch.setattr(run, "run_to_end", lambda *_, **__: result())
    made = option == "--record" and where == "no folder"
    assert main(["run", "smoke", "--sim", option, path]) == (0 if made else 2)
    assert len(begun) == made, "the folder of a run file is made"
    if not made:
        assert path[:200] in capsys.readouterr().err


def test_two_outputs_in_one_file_are_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SessionLink", lambda options: pytest.fail("a load has begun"))
    (tmp_path / "there").mkdir()
    words = ["--record", str(tmp_path / "same"), "--junit", str(tmp_path / "there" / ".." / "same")]
    assert main(["run", "smoke", "--sim", *words]) == 2
    assert "--junit and --record name the same file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize(("ok", "code"), [(True, 2), (False, 1)])
def test_a_verdict_that_cannot_be_written_loses_no_summary(
    ok: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = FileError("smoke.xml", "cannot be written: no room left")
    assert ran(monkeypatch, result(error=error, ok=ok)) == code
    out, err = capsys.readouterr()
    assert "the verdict" in out
    assert "run file: r.llmtop" in out
    assert "smoke.xml: cannot be written" in err


@pytest.mark.parametrize(
    ("ending", "code", "says"),
    [
        (Ending.RESTART, 3, "the server restarted at 00:02 of"),
        (Ending.HANG, 3, "the server hangs since 00:02 of"),
        (Ending.GONE, 3, "the endpoint went away at 00:02 of"),
        (Ending.BRAKE, 0, "braked at 00:02 of"),
    ],
)
def test_what_ended_a_run_is_said_with_when_and_why(
    ending: Ending, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(monkeypatch, result(ending), "--json") == code
    out, err = capsys.readouterr()
    assert says in err
    assert "so it said" in err
    assert (json.loads(out)["ending"], json.loads(out)["run_file"]) == (ending.value, "r.llmtop")
    assert ran(monkeypatch, result(ending)) == code
    assert "run was ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ok", "ending", "words", "says"),
    [
        (True, Ending.PLAN, (), "smoke: yes (exit code 0)"),
        (False, Ending.PLAN, (), "smoke: no (exit code 1)"),
        (None, Ending.PLAN, (), "smoke: not known (exit code 5)"),
        (None, Ending.PLAN, ("--unknown-ok",), "smoke: not known, which --unknown-ok takes for a yes (exit code 0)"),
        (None, Ending.GONE, (), "smoke: no answer, as the server fell away (exit code 3)"),
        (None, Ending.HAND, (), "smoke: no answer, as it was interrupted (exit code 130)"),
    ],
)
def test_the_last_line_of_a_run_is_its_answer_and_exit_code(
    ok: bool | None,
    ending: Ending,
    words: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = ran(monkeypatch, result(ending, ok=ok), *words)
    assert capsys.readouterr().out.splitlines()[-1] == says
    assert says.endswith(f"(exit code {code})")


def test_an_interrupted_run_says_so_in_its_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(monkeypatch, result(Ending.HAND)) == 130
    assert "interrupted at 00:03 of 00:" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("profiles --json >/dev/full", 2),
        ("locate >/dev/full", 2),  # little enough to fail only at the end
        ("locate >&-", 0),
        ("locate 2>&- >/dev/null", 0),
        ("profiles --no-such-word 2>&-", 2),
        ("profiles --no-such-word 2>/dev/full", 2),
        ("profiles | true", 0),
    ],
)
def test_streams_that_are_full_or_closed_change_no_exit_code_but_that_of_what_is_lost(words: str, code: int) -> None:
    line = f"set -o pipefail; {sys.executable} -m llmtop {words}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "Exception ignored" not in ended.stderr


def test_what_was_left_out_of_a_file_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = run._Progress(load_profile("smoke"), search=False)
    told = Event(0.1, "load", f"{WORKLOAD}mine.csv: 1 of 2 rows left out: 1 without tokens", "warning")
    frame = msgspec.structs.replace(result().frame, events=(told, Event(0.2, "load", "the server has drained")))
    for _ in range(2):
        progress.tell(frame)
    assert capsys.readouterr().err == f"llmtop: 00:00 {told.text}\n"


@pytest.mark.parametrize("over", [True, False])
def test_what_went_wrong_is_said_once_with_its_time(over: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is of severity warning or error, and what became of replicas and load hosts; not how the run ended,
    which is said elsewhere.
    """
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: over, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    progress = run._Progress(load_profile("smoke"), search=False)
    events = (
        Event(7.2, "client", "load worker 1 (wA:4711) died", "error"),
        Event(8.0, "server", "replica pod-3 is ready: 2 of 3"),
        Event(8.5, "server", "kubectl is forbidden\x1b[2J", "warning"),
        Event(9.0, "client", "load worker 1 (wA:4711) died", "error"),
        Event(9.2, "client", joined("h3", 2, 6)),
        Event(9.5, "load", "the server has drained"),
        Event(9.9, "load", ENDED_BY[Ending.BRAKE], "warning"),
        Event(9.9, "load", unseen_text(60), "warning"),
    )
    for upto in range(len(events) + 1):
        progress.tell(msgspec.structs.replace(result().frame, events=events[:upto]))
    said = screen.getvalue().replace("\r\x1b[K", "").splitlines()
    assert "\x1b" not in "".join(said)
    assert [line.split(" ", 3)[1] for line in said] == ["00:07", "00:08", "00:08", "00:09"]
    assert ["wA:4711" in said[0], "pod-3" in said[1], "forbidden" in said[2], "load host h3" in said[3]] == [True] * 4


def test_a_run_in_which_all_goes_wrong_says_a_bearable_part_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    progress = run._Progress(load_profile("smoke"), search=False)
    for number in range(2 * run.MOST_EVENTS):
        told = Event(number, "client", f"load worker {number} died", "error")
        progress.tell(msgspec.structs.replace(result().frame, events=(told,)))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == run.MOST_EVENTS + 1
    assert said[-1].endswith(MORE_EVENTS)


def test_that_servers_answer_in_turn_is_not_said_as_event_and_as_note(capsys: pytest.CaptureFixture[str]) -> None:
    progress = run._Progress(load_profile("smoke"), search=False)
    text = several_replicas("http://h/metrics", 2)
    progress.tell(msgspec.structs.replace(result().frame, events=(Event(3.0, "server", text, "warning"),)))
    progress._tell_notes((text,))
    assert capsys.readouterr().err == f"llmtop: 00:03 {text}\n"


def test_users_code_that_holds_the_loop_is_named_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    progress = run._Progress(load_profile("smoke"), search=False)
    told = Event(1.4, "client", held_loop("/home/me/rag.py:4 in run", 51.2), "warning")
    progress.tell(msgspec.structs.replace(result().frame, events=(told,)))
    assert "rag.py:4 in run held the loop for 51 ms" in capsys.readouterr().err


@pytest.mark.parametrize(("term", "over"), [("xterm", True), ("dumb", False)])
def test_progress_is_written_over_only_where_a_cursor_moves(
    term: str, over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", term)
    progress = run._Progress(load_profile("smoke"), search=False)
    progress.show(Shown(frame=result().frame))
    progress.end()
    assert ("\x1b" in screen.getvalue()) is over
    assert screen.getvalue().endswith("\n") is not over


def test_figures_of_other_prompts_or_servers_are_said_at_once_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = run._Progress(load_profile("smoke"), search=False)
    notes = (prompts_cut_by(512, 2000, None), several_replicas("http://h/metrics", 2), "something else")
    for _ in range(2):
        progress._tell_notes(notes)
    assert capsys.readouterr().err == f"llmtop: {notes[0]}\nllmtop: {notes[1]}\n"


def test_progress_that_nobody_can_read_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        progress = run._Progress(load_profile("smoke"), search=False)
        progress.show(Shown(frame=result().frame))
        progress.end()
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
