"""A file of users: what is refused without executing it, and where what it raises is told to be."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from llmtop.errors import FileError, UsersError
from llmtop.workload.userfile import EndlessStep, check, fault, is_own, load, note

GOOD = "async def run(user):\n    await user.chat('x')\n"


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rag.py"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "async def run(user, times=3):\n    async with user.x:\n        pass\n",
        "async def run(*users):\n    async for _ in users:\n        pass\n",
        "def wrap(f):\n    return f\n@wrap\ndef run(user): ...\n",
        "from helper import run\n",
        "if True:\n    async def run(user):\n        await user.chat('x')\n",
        "async def _visit(user):\n    await user.chat('x')\nrun = _visit\n",
        "\ufeff" + GOOD,
    ],
)
def test_what_may_be_users_passes(file: Path, text: str) -> None:
    file.write_text(text)
    assert check(str(file)) == file


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("def run(user)\n    pass\n", ":1", "is not Python: expected ':'"),
        ("x = 1\n\nclass run: pass\n", "", "has no run"),
        ("", "", "has no run"),
        ("\nimport os\ndef run(user):\n    return 1\n", ":3", "run is not async"),
        ("async def run():\n    await x\n", ":1", "run is called with the user alone"),
        ("async def run(user, other):\n    await x\n", ":1", "run is called with the user alone"),
        ("async def run(user, *, other):\n    await x\n", ":1", "run is called with the user alone"),
        ("async def run(user):\n    user.chat('x')\n", ":1", "run awaits nothing"),
        ("async def run(user):\n    yield await user.chat('x')\n", ":1", "run yields"),
        ("a = " + "(" * 300 + "1" + ")" * 300 + "\n", "", "is not Python"),
    ],
)
def test_what_cannot_be_users_is_refused_with_its_line(file: Path, text: str, line: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(FileError) as raised:
        check(str(file))
    assert str(raised.value).startswith(f"{file}{line}")
    assert problem in str(raised.value)


def test_a_file_that_is_looked_at_is_not_executed(file: Path) -> None:
    file.write_text("raise SystemExit\n" + GOOD)
    check(str(file))


def test_a_file_is_imported_with_its_neighbours_and_leaves_nothing_beside_it(file: Path) -> None:
    (file.parent / "neighbour_of_users.py").write_text("GREETING = 'hello'\n")
    (file.parent / "msgspec.py").write_text("raise RuntimeError('the installed one comes first')\n")
    file.write_text("import msgspec\nfrom neighbour_of_users import GREETING\n" + GOOD)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        made = load(str(file))
    finally:
        sys.dont_write_bytecode = before
    assert asyncio.iscoroutinefunction(made.run)
    assert sys.path[-1] == str(file.parent)
    assert {path.name for path in file.parent.iterdir()} == {"neighbour_of_users.py", "msgspec.py", "rag.py"}


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("import nowhere_at_all\n", ":1", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("from . import helper\n", ":1", "ImportError: attempted relative import"),
        ("def f():\n    return 1 / 0\nf()\n", ":2 in f", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", ":1", "SystemExit: 3"),
        ("raise ValueError('a\\n\\x1b[31mb')\n", ":1", "ValueError: a \\x1b[31mb"),
    ],
)
def test_what_an_import_raises_is_told_at_its_line(file: Path, text: str, where: str, words: str) -> None:
    file.write_text(text + GOOD)
    with pytest.raises(UsersError) as raised:
        load(str(file))
    assert str(raised.value).startswith(f"{file}{where}: {words}")


@pytest.mark.parametrize("text", ["run = 3\n", "async def _r(a, b): ...\nrun = _r\n", "import asyncio as run\n"])
def test_what_is_found_to_be_no_run_only_when_it_is_there_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(FileError, match=r"async def run\(user\)"):
        load(str(file))


def test_of_a_group_the_first_is_told_and_of_an_error_that_says_nothing_its_kind(file: Path) -> None:
    file.write_text("def f():\n    raise KeyError\n" + GOOD)
    made = load(str(file))
    inner = None
    try:
        sys.modules["_llmtop_users"].f()
    except KeyError as error:
        inner = error
    group = BaseExceptionGroup("several", [ExceptionGroup("more", [inner])])
    assert str(fault(group, made.path)) == f"{file}:2 in f: KeyError"
    assert "does not end and awaits nothing" in str(fault(EndlessStep(), made.path))


def test_code_that_was_installed_below_the_folder_is_not_the_users() -> None:
    assert is_own("/home/a/rag.py", "/home/a")
    assert is_own("/home/a/lib/tools.py", "/home/a")
    assert not is_own("/home/ab/rag.py", "/home/a")
    assert not is_own("/home/a/.venv/lib/python3.11/site-packages/httpx/_client.py", "/home/a")


def test_a_note_says_which_file_it_was(file: Path) -> None:
    file.write_text(GOOD)
    first = note(str(file))
    file.write_text(GOOD + "\n# changed\n")
    assert first.startswith("users are rag.py, 2 lines, sha256 ")
    assert note(str(file)).split("sha256")[1] != first.split("sha256")[1]
