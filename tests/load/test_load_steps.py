"""Steps of users' own code: who holds the loop is named, what is ours or the machine's is not, and none is endless."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmtop.errors import UsersError
from llmtop.load import steps as module
from llmtop.load.steps import CALM_S, HELD_NS, IMPORT_S, LOOK_S, Steps, ends_within
from llmtop.workload.userfile import EndlessStep, load

TEXT = """
import asyncio
import time

def sleeps(seconds):
    time.sleep(seconds)

def computes(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass

def calls_ours(seconds):
    OURS(seconds)

def endless():
    while True:
        pass

async def run(what, *arguments):
    await asyncio.sleep(0)
    globals()[what](*arguments)
    await asyncio.sleep(0)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "users.py").write_text(TEXT)
    users = load(tmp_path / "users.py")
    told: list[tuple[int, str]] = []

    def drive(
        *arguments, patch: SimpleNamespace | None = None, calm: bool = False, times: int = 1
    ) -> list[tuple[int, str]]:
        async def whole() -> None:
            def held(took_ns: int, where: str) -> None:
                told.append((took_ns, where))

            steps = Steps(str(tmp_path), time.perf_counter_ns, held, calm=calm)
            steps.start()
            try:
                for _ in range(times):
                    await steps.through(users.run(*arguments), SimpleNamespace(over=False))
            finally:
                steps.close()

        asyncio.run(whole())
        return told

    return drive


@pytest.mark.parametrize(("what", "line"), [("sleeps", 6), ("computes", (9, 10, 11))])
def test_what_holds_the_loop_is_named_by_its_innermost_line(run, tmp_path: Path, what: str, line) -> None:
    lines = (line,) if isinstance(line, int) else line
    (told,) = run(what, 0.1)
    assert told[1] in [f"{tmp_path / 'users.py'}:{each} in {what}" for each in lines]
    assert told[0] >= HELD_NS


def test_as_long_as_no_step_was_long_it_looks_seldom_and_names_what_holds_the_loop_again(run) -> None:
    assert CALM_S >= 20 * LOOK_S
    named = run("sleeps", 0.06, calm=True, times=12)
    assert named, "what is done once is done again"
    assert {where.rpartition(" in ")[2] for _, where in named} == {"sleeps"}


def test_what_is_short_is_not_told(run) -> None:
    assert run("sleeps", 0.0) == []


def test_what_is_ours_is_not_told_as_the_users(run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = compile("import time\ndef ours(seconds):\n    time.sleep(seconds)\n", module.__file__, "exec")
    names: dict[str, object] = {}
    exec(source, names)
    sys.modules["_llmtop_users"].OURS = names["ours"]
    assert run("calls_ours", 0.05) == []


def test_time_in_which_the_thread_waited_for_a_core_is_nobodys(run, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter([0, 10 * HELD_NS, 10 * HELD_NS])
    monkeypatch.setattr(Steps, "_waited_ns", lambda _: next(waited))
    assert run("sleeps", 0.03) == []


def test_a_step_that_does_not_end_is_ended(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANGS_NS", 50_000_000)
    with pytest.raises(EndlessStep):
        run("endless")


def test_after_a_step_that_does_not_end_no_other_user_begins_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANGS_NS", 50_000_000)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "users.py").write_text(
        "async def run(began):\n    began.append(1)\n    while True:\n        pass\n    await x\n"
    )
    users, began = load(tmp_path / "users.py"), []

    async def whole() -> None:
        steps = Steps(str(tmp_path), time.perf_counter_ns, lambda took_ns, where: None)
        steps.start()
        visits = [asyncio.ensure_future(steps.through(users.run(began), SimpleNamespace(over=True))) for _ in range(3)]
        with pytest.raises(EndlessStep):
            await visits[0]
        await asyncio.sleep(0.01)
        for visit in visits[1:]:
            assert visit.cancel(), "it waits"
        assert {type(each) for each in await asyncio.gather(*visits, return_exceptions=True)} == {
            EndlessStep,
            asyncio.CancelledError,
        }
        steps.close()

    asyncio.run(whole())
    assert began == [1]


def test_a_file_whose_import_does_not_end_is_an_error_at_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "users.py").write_text("while True:\n    pass\nasync def run(user):\n    await user.pause(1)\n")
    with pytest.raises(UsersError, match=r"users.py:[12]: does not end and awaits nothing"), ends_within(0.05):
        load(tmp_path / "users.py")
    with ends_within(0.01):
        pass
    time.sleep(0.03)
    assert IMPORT_S >= 60, "a large library may be imported from a cold disk"


def test_the_thread_looks_often_enough_for_what_is_told() -> None:
    assert HELD_NS == 5_000_000
    assert LOOK_S * 1e9 * 2 <= HELD_NS
