"""Runs that go on: how they are listed, ended and named, and what is said of a word that stands for none."""

from __future__ import annotations

import json
import socket
import time

import pytest
from documented import drift
from msgspec.structs import replace

from llmtop.cli import attach, ls, stop
from llmtop.cli.main import main
from llmtop.cli.values import lasting as _lasting
from llmtop.domain.slo import Slo
from llmtop.errors import SessionLost
from llmtop.host import running as running_module
from llmtop.host.messages import PROTOCOL, Running
from llmtop.recording.writer import runs_directory
from llmtop.wording.running import ITS_PLAN, NOTHING_GOES_ON, detached_text, left_text

NOW = 1_800_000_000.0
LIVE = Running(
    name="20270115-080000-m",
    pid=7,
    version="0",
    protocol=PROTOCOL,
    started_at=NOW - 90,
    run_file="/r/20270115-080000-m.llmtop",
    label="night",
    endpoint="http://h:8000",
    load="32 in flight",
    headline="SLO OK",
    screens=1,
    holder="pts/3",
)
ALONE = replace(LIVE, name="20270115-070000-m", label=None, detached=True, screens=0, holder="", started_at=NOW - 4000)
SEEN = replace(LIVE, name="20270115-060000-m", label=None, detached=True, screens=2, holder="pts/4")
PLAN = replace(LIVE, name="20270115-050000-m", label=None, headless=True, screens=0, holder=ITS_PLAN)
MUTE = Running(name="20270115-040000-m", headline="it does not answer")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[Running]:
    """The runs that go on, as everybody sees them."""
    found: list[Running] = []
    for module in (ls, stop, running_module):
        monkeypatch.setattr(module, "running", lambda: tuple(found))
    monkeypatch.setattr(time, "time", lambda: NOW)
    return found


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of those that were asked to end; one that hangs does not."""
    names: list[str] = []

    def end(run: Running, say: object) -> None:
        names.append(run.name)
        if not run.pid:
            raise SessionLost(f"{run.name}: its process does not answer; is it stopped?")

    monkeypatch.setattr(stop, "stop", end)
    return names


# -- ls ---------------------------------------------------------------------------------------------------------------


def test_the_table_says_how_long_what_load_who_looks_and_the_headline(there, capsys):
    there += [LIVE, ALONE, SEEN, PLAN, MUTE]
    assert main(["ls"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split("  ") == ["20270115-080000-m (night)", "1 min 30 s", "32 in flight", "pts/3"]
    assert rows[1] == "    http://h:8000: SLO OK"
    assert rows[2].split()[-1] == "detached"
    assert rows[4].endswith("detached, 2 screens, wheel: pts/4")
    assert rows[6].endswith(f"wheel: {ITS_PLAN}")
    assert "it does not answer" in rows[9]
    starts = {row.index("in flight") for row in rows if "in flight" in row}
    assert len(starts) == 1


def test_without_a_run_it_is_one_line_and_no_failure(there, capsys):
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == f"{NOTHING_GOES_ON}\n"


def test_as_json_it_is_what_the_page_of_keys_says(there, capsys):
    there += [LIVE, PLAN]
    assert main(["ls", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert drift("llmtop ls --json", printed) == []
    assert [run["name"] for run in printed["running"]] == [LIVE.name, PLAN.name]
    there.clear()
    assert main(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["running"] == []


def test_what_a_run_says_of_itself_commands_no_terminal(there, capsys):
    there += [replace(LIVE, name="a\x1b[2J", endpoint="b\x1b]0;x\x07", headline="c\x9b1m", holder="\x1bc")]
    assert main(["ls"]) == 0
    assert not set("\x1b\x07\x9b") & set(capsys.readouterr().out)


# -- stop -------------------------------------------------------------------------------------------------------------


def test_it_ends_the_one_that_is_meant_and_says_where_its_file_is(there, stopped, capsys):
    there += [LIVE, ALONE]
    assert main(["stop", "night"]) == 0
    assert stopped == [LIVE.name]
    assert capsys.readouterr().out == f"ended {LIVE.name}: {LIVE.run_file}\n"


def test_of_several_none_is_ended_unnamed(there, stopped, capsys):
    there += [LIVE, ALONE]
    assert main(["stop"]) == 2
    said = capsys.readouterr().err
    assert LIVE.name in said
    assert ALONE.name in said
    assert stopped == []


def test_all_ends_all_also_those_behind_one_that_hangs(there, stopped, capsys):
    there += [LIVE, MUTE, ALONE]
    assert main(["stop", "--all"]) == 3
    assert stopped == [LIVE.name, MUTE.name, ALONE.name]
    told = capsys.readouterr()
    assert "does not answer" in told.err
    assert len(told.out.splitlines()) == 2


@pytest.mark.parametrize("words", [["stop"], ["stop", "--all"], ["stop", "x"], ["attach"]])
def test_where_nothing_goes_on_there_is_nothing_to_end_or_join(there, stopped, capsys, words, monkeypatch):
    monkeypatch.setattr(attach, "check_terminal", lambda instead: None)
    assert main(words) == 2
    assert NOTHING_GOES_ON in capsys.readouterr().err


def test_all_and_a_name_are_one_too_many(there, stopped, capsys):
    there += [LIVE]
    assert main(["stop", LIVE.name, "--all"]) == 2
    assert stopped == []


# -- attach -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "check_terminal", lambda instead: None)
    monkeypatch.setattr(attach, "state_of", lambda descriptor: None)
    monkeypatch.setattr("sys.stdin.fileno", lambda: 0)


def test_it_needs_a_terminal_and_says_what_does_not(there, capsys):
    there += [LIVE]
    assert main(["attach"]) == 2
    assert "`llmtop ls`" in capsys.readouterr().err


class Joined:
    """What `Attached.join` gives; keeps how it was asked."""

    slo = Slo()
    asked: tuple[Running, bool] | None = None
    closed = 0

    @classmethod
    def join(cls, run: Running, *, view: bool, terminal: object) -> Joined:
        cls.asked = run, view
        return cls()

    def close(self) -> None:
        type(self).closed += 1


@pytest.mark.parametrize(
    ("words", "alone_s", "view"),
    [
        ([], 7200.0, False),
        (["--view"], 7200.0, True),
        (["night", "--detached-for", "90s"], 90.0, False),
        (["last", "--detached-for", "2h", "--ascii", "--fps", "4"], 7200.0, False),
    ],
)
def test_it_joins_the_run_and_knows_how_long_that_may_be_left_alone(
    there, on_a_terminal, monkeypatch, words, alone_s, view
):
    there += [replace(LIVE, alone_s=7200.0)]
    driven = []
    monkeypatch.setattr(attach, "Attached", Joined)
    monkeypatch.setattr(attach, "drive", lambda attached, arguments, alone_s: driven.append(alone_s) or 0)
    closed = Joined.closed
    assert main(["attach", *words]) == 0
    assert driven == [alone_s]
    assert Joined.asked == (there[0], view)
    assert Joined.closed == closed + 1


def test_another_version_is_said_with_both_and_what_to_do(there, on_a_terminal, capsys):
    there += [replace(LIVE, version="9.9.9")]
    assert main(["attach"]) == 3
    said = capsys.readouterr().err
    for word in ("9.9.9", "llmtop stop"):
        assert word in said


def test_a_socket_at_which_nobody_listens_is_no_run(on_a_terminal, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    runs = runs_directory()
    runs.mkdir(parents=True)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(runs / "gone.sock"))
    door.close()
    (runs / "none.sock").write_text("no socket")
    for word in ("gone", "none", str(runs / "gone.sock"), str(runs / "none.sock")):
        assert main(["attach", word]) == 2
        assert NOTHING_GOES_ON in capsys.readouterr().err


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200.0), ("30min", 1800.0), ("90s", 90.0), ("90", 90.0), ("1.5h", 5400.0)]
)
def test_how_long_a_run_may_be_left_alone_is_written_as_durations_are(text: str, seconds: float) -> None:
    assert _lasting(text) == seconds


@pytest.mark.parametrize("text", ["0", "-1s", "2d", "soon", "1e9h", ""])
def test_another_length_is_refused_in_words(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--detached-for={text}"]) == 2
    assert "--detached-for" in capsys.readouterr().err


def test_what_is_said_on_leaving_can_be_copied_into_a_shell() -> None:
    for text in (detached_text("my run", 7200.0), left_text("my run")):
        assert "\n  llmtop attach 'my run'" in text
    assert "\n  llmtop stop 'my run'" in detached_text("my run", 7200.0)
    assert "2 h" in detached_text("my run", 7200.0)
