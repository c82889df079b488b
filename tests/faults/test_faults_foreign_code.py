"""A folder of somebody else's is no library: nothing that lies in the working directory is ever run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from trying import ROOT, Terminal, family, serving, tried

LATE = (
    *("msgspec", "asyncio", "numpy", "httpx", "h2", "textual", "tiktoken", "psutil", "plotext", "platformdirs"),
    *("json", "signal", "types", "runpy", "typing", "struct", "__future__", "argparse", "importlib", "pathlib"),
)
"""What is imported once the command has begun."""
EARLY = ("re", "llmtop", "sitecustomize", "usercustomize", "encodings")
"""What an interpreter, or the script that starts the command, imports before."""
START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from llmtop.cli.entry import main; sys.exit(main())"
SELF_CONTAINED = (sys.executable, "-P", "-c", START)
"""As the console script of an installation does: no PYTHONPATH is needed."""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose modules leave a trace when they are run."""
    folder = tmp_path / "download"
    folder.mkdir()
    trap = "import posix\nf = posix.open(%r, posix.O_CREAT | posix.O_WRONLY | posix.O_APPEND)\nposix.write(f, b'%s ')\n"
    for name in (*LATE, *EARLY):
        (folder / f"{name}.py").write_text(trap % (str(tmp_path / "ran"), name))
    for name in ("llmtop", "encodings", "yaml"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(trap % (str(tmp_path / "ran"), name))
    for name in ("smoke.toml", "laptop.toml", ".env", "pyproject.toml", "llmtop.toml"):
        (folder / name).write_text("not = [toml\nSSL_CERT_FILE=/nowhere\n")
    for name in ("python", "python3", "uname", "git", "nvidia-smi"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path / 'ran'}\n")
        (folder / name).chmod(0o755)
    return folder


def ran(hostile: Path) -> str:
    """What of the folder was run."""
    trace = hostile.parent / "ran"
    return trace.read_text() if trace.exists() else ""


def only_late(hostile: Path) -> None:
    """Take away what no program can keep out when PYTHONPATH names the folder: it is imported before the program."""
    for name in EARLY:
        (hostile / f"{name}.py").unlink()
    for name in ("llmtop", "encodings"):
        (hostile / name / "__init__.py").unlink()
        (hostile / name).rmdir()


RUN = ("run", "smoke", "--sim", "--duration", "1", "--peak", "2", "--output-tokens", "8", "--unknown-ok")


SECRETS = {
    "OPENAI_API_KEY": "sk-secret-1",
    "HF_TOKEN": "sk-secret-2",
    "LLMTOP_SIM_API_KEY": "sk-secret-3",
    "LLMTOP_SIM_CONTROL_TOKEN": "sk-secret-4",
    "HTTPS_PROXY": "http://u:sk-secret-5@127.0.0.1:9",
    "MY_OWN": "sk-secret-6",
}


def test_a_run_in_a_strangers_folder_runs_nothing_of_it_and_its_children_show_no_secret(
    hostile: Path, home: Path
) -> None:
    seen: dict[str, str] = {}

    def look(process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            for child in family(process.pid)[1:]:
                with contextlib.suppress(psutil.Error):
                    seen[" ".join(child.cmdline())] = " ".join(child.environ().values())
            time.sleep(0.1)

    words = (*RUN, "--workers", "2", "--api-key-env", "MY_OWN")
    more = {"PYTHONPATH": None, **SECRETS}
    ended = tried(*words, home=home, cwd=hostile, command=SELF_CONTAINED, more=more, during=look)
    ended.is_in_words(0)
    assert ran(hostile) == ""
    for module in ("llmtop.session.process", "llmtop.load.worker", "llmtop.simulator.server"):
        assert any(module in line for line in seen), module
    assert not [line for line, values in seen.items() if "sk-secret" in line + values]


@pytest.mark.faults
def test_an_empty_entry_of_pythonpath_is_not_the_working_directory(hostile: Path, home: Path) -> None:
    only_late(hostile)
    ended = tried(*RUN, home=home, cwd=hostile, more={"PYTHONPATH": f":{ROOT}", "PATH": f":.:{os.environ['PATH']}"})
    ended.is_in_words(0)
    assert ran(hostile) == ""


@pytest.mark.faults
@pytest.mark.parametrize("pythonpath", ["", ":", ".", "./:..", "FULL"])
@pytest.mark.parametrize(
    "words",
    [(*RUN, "--workers", "2"), ("predict", "laptop"), ("doctor", "URL"), ("profiles",), ("locate",), ("sim", "--list")],
    ids=lambda words: words[0],
)
def test_no_command_imports_what_a_relative_pythonpath_names(
    words: tuple[str, ...], pythonpath: str, hostile: Path, home: Path
) -> None:
    if pythonpath:
        only_late(hostile)
    named = str(ROOT) if pythonpath == "FULL" else pythonpath
    with serving() as server:
        asked = [server.url if word == "URL" else word for word in words]
        ended = tried(*asked, home=home, cwd=hostile, command=SELF_CONTAINED, more={"PYTHONPATH": named})
    ended.is_in_words(0)
    assert ran(hostile) == ""


@pytest.mark.faults
@pytest.mark.parametrize("pythonpath", [None, ".:"])
def test_the_cockpit_in_a_strangers_folder_runs_nothing_of_it(
    pythonpath: str | None, hostile: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pythonpath:
        only_late(hostile)
    monkeypatch.chdir(hostile)
    with Terminal(home=home, command=SELF_CONTAINED, more={"PYTHONPATH": pythonpath}) as terminal:
        terminal.until(b"TTFT")
        terminal.read(3.0)
        assert len(terminal.family()) >= 3
        terminal.send(b"q")
        terminal.read(1.0)
    assert ran(hostile) == ""


@pytest.mark.faults
def test_the_module_started_safely_runs_nothing_of_the_folder(hostile: Path, home: Path) -> None:
    """Without -P, `python -m llmtop` takes the folder's own llmtop: Python has done it before we can refuse."""
    words = ("-P", "-m", "llmtop")
    more = {"PYTHONPATH": str(ROOT)}
    ended = tried(*words, *RUN, home=home, cwd=hostile, command=(sys.executable,), more=more)
    ended.is_in_words(0)
    assert ran(hostile) == ""
