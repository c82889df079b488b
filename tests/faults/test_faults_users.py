"""Users that are a Python file: what is wrong with it is one line and exit code 2, and what was measured stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trying import tried

from llmtop.domain.request import Outcome
from llmtop.domain.run import FactBatch
from llmtop.recording.reader import RunReader

pytestmark = pytest.mark.faults
PLAN = '[[stage]]\nshape = "hold"\nduration = 4\nconcurrency = 4\n'
LATE = """
N = 0
async def run(user):
    global N
    answer = await user.chat(user.text(20), output_tokens=4, name="ask")
    N += 1
    if N > 12:
        raise KeyError("enough")
"""


@pytest.fixture
def plan(home: Path) -> str:
    path = home / "plan.toml"
    path.write_text(PLAN)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "users.py: cannot be read: No such file or directory"),
        ("async def run(user)\n", "users.py:1: is not Python"),
        ("x = 1\n", "users.py: has no run"),
        ("def run(user):\n    pass\n", "users.py:1: run is not async"),
        ("async def run(user):\n    user.chat('x')\n", "users.py:1: run awaits nothing"),
        ("import nowhere\nasync def run(user):\n    await user.chat('x')\n", "users.py:1: ModuleNotFoundError"),
        ("async def run(user):\n    await user.chatt('x')\n", "users.py:2 in run: AttributeError"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_users_is_refused(
    home: Path, plan: str, text: str | None, said: str, workers: int
) -> None:
    path = home / "users.py"
    if text is not None:
        path.write_text(text)
    ended = tried("run", plan, "--sim", "--users", str(path), "--workers", str(workers), home=home, limit_s=30)
    ended.is_in_words(2)
    assert said in ended.err
    profile = home / "own.toml"
    profile.write_text(f'{PLAN}[workload]\nsource = "python"\nfile = "{path.name}"\n')
    if workers == 1 and text in (None, "x = 1\n"):
        ended = tried("run", str(profile), "--sim", home=home, limit_s=30)
        ended.is_in_words(2)
        assert said in ended.err


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_visit_ends_the_run_and_all_that_ended_is_recorded(home: Path, plan: str, workers: int) -> None:
    path, record = home / "users.py", home / "run.llmtop"
    path.write_text(LATE)
    more = ("--users", str(path), "--workers", str(workers), "--record", str(record), "--json")
    ended = tried("run", plan, "--sim", *more, home=home, limit_s=40)
    ended.is_in_words(2)
    sentence = f"{path}:8 in run: KeyError: 'enough'; what was measured until then lies in {record}"
    assert sentence in ended.err
    told = json.loads(ended.out)
    assert (told["exit_code"], told["error"]) == (2, sentence)
    with RunReader(record) as run:
        assert run.complete
        batches: list[FactBatch] = list(run.batches())
    requests = [each for batch in batches for each in batch.requests]
    sent = sum(each.sent for batch in batches for each in batch.bins)
    assert len(requests) == sent >= 13
    assert {each.outcome for each in requests} <= {Outcome.OK, Outcome.CANCELLED}
    events = [event for batch in batches for event in batch.events]
    assert any(event.severity == "error" and "KeyError: 'enough'" in event.text for event in events)


def test_a_visit_that_does_not_end_and_awaits_nothing_is_ended_and_named(home: Path, plan: str) -> None:
    path = home / "users.py"
    path.write_text("async def run(user):\n    await user.chat('x', output_tokens=2)\n    while True:\n        pass\n")
    ended = tried("run", plan, "--sim", "--users", str(path), home=home, limit_s=60)
    ended.is_in_words(2)
    assert "in run: does not end and awaits nothing" in ended.err


def test_what_blocks_is_named_in_the_recording_and_is_lag_of_the_client(home: Path, plan: str) -> None:
    path, record = home / "users.py", home / "run.llmtop"
    path.write_text(
        "import time\n"
        "def parse(text):\n"
        "    time.sleep(0.06)\n"
        "async def run(user):\n"
        "    parse((await user.chat('x', output_tokens=4)).text)\n"
    )
    ended = tried("run", plan, "--sim", "--users", str(path), "--record", str(record), home=home, limit_s=40)
    ended.is_in_words(0, 1, 4, 5)
    with RunReader(record) as run:
        batches = list(run.batches())
    texts = [event.text for batch in batches for event in batch.events if event.kind == "client"]
    assert any(text.startswith(f"{path}:3 in parse held the loop for ") for text in texts)
    assert len([text for text in texts if "in parse" in text]) == 1
    assert max(sample.loop_lag_ms for batch in batches for sample in batch.client) > 30
