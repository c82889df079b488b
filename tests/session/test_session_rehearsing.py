"""One user of a Python file on the simulated engine: what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.rehearsed import Rehearsal
from llmtop.endpoint.probe import probe
from llmtop.errors import UsageError, UsersError
from llmtop.session.rehearsing import rehearse
from llmtop.simulator.server.serving import serve
from llmtop.workload.examples import NAMES, users_file
from llmtop.workload.userfile import load

POINT = LoadPoint(concurrency=1, prompt_tokens=96, output_tokens=4)
QUICK = {"bandwidth_gb_s": 1e5, "peak_tflops": 1e5, "step_ms": 0.2, "per_sequence_us": 0.0, "api_in_ms": 0.1}


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve("laptop", knobs=dict(QUICK), stop=stop, on_ready=ready.set_result))
    yield f"http://127.0.0.1:{await ready}"
    stop.set()
    await serving


async def rehearsed(path: Path | str, base_url: str, *, visits: int = 1, within_s: float = 30.0) -> Rehearsal:
    endpoint = Endpoint(base_url=base_url, simulated=True)
    info = await probe(endpoint, Caps())
    return await rehearse(load(path), endpoint, info, POINT, visits=visits, within_s=within_s)


def written(folder: Path, body: str) -> Path:
    path = folder / "users.py"
    path.write_text(f"import asyncio\nasync def run(user):\n    {body}\n")
    return path


async def test_everything_that_a_user_does_is_seen_in_its_order(tmp_path: Path, base_url: str) -> None:
    path = written(
        tmp_path,
        "first = await user.chat(user.text(user.prompt_tokens), name='ask')\n"
        "    await user.pause(0.05)\n"
        "    await user.http('GET', '/v1/models', name='look')\n"
        "    await user.chat('And why?', after=first, output_tokens=2)",
    )
    told = await rehearsed(path, base_url, visits=2)
    assert [(act.kind, act.name, act.visit, act.turn) for act in told.acts] == [
        (kind, name, visit, turn)
        for visit in (1, 2)
        for kind, name, turn in (
            ("request", "ask", 1),
            ("pause", "", None),
            ("call", "look", None),
            ("request", "chat", 2),
        )
    ]
    ask, pause, _, why = told.acts[:4]
    assert (ask.prompt_tokens, ask.output_tokens, ask.cached_tokens, why.output_tokens) == (96, 4, 0, 2)
    assert pause.took_s == pytest.approx(0.05, abs=0.04)
    assert ask.at_s + ask.took_s <= pause.at_s
    assert why.cached_tokens is not None
    assert why.cached_tokens >= 80, "whole blocks of what was said before"


async def test_turns_that_go_on_are_found_in_the_prefix_cache_by_all_users_at_once(
    tmp_path: Path, base_url: str
) -> None:
    path = tmp_path / "users.py"
    path.write_text(
        "import asyncio\n"
        "async def talk(user):\n"
        "    answer = await user.chat(user.text(160))\n"
        "    for _ in range(2):\n"
        "        answer = await user.chat(user.text(16), after=answer)\n"
        "async def run(user):\n"
        "    await asyncio.gather(*(talk(user) for _ in range(8)))\n"
    )
    told = await rehearsed(path, base_url)
    new = [act for act in told.acts if (act.prompt_tokens or 0) < 170]
    gone_on = [act for act in told.acts if act not in new]
    assert (len(new), len(gone_on)) == (8, 16)
    assert all(act.cached_tokens == 0 for act in new)
    assert all((act.cached_tokens or 0) >= 160 for act in gone_on)


@pytest.mark.parametrize("name", NAMES)
async def test_every_example_runs_and_asks_the_model_several_times(
    name: str, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = load(users_file(name))
    for constant in ("READ_S", "TOOL_S"):
        if constant in file.run.__globals__:
            monkeypatch.setitem(file.run.__globals__, constant, 0.001)
    endpoint = Endpoint(base_url=base_url, simulated=True)
    told = await rehearse(file, endpoint, await probe(endpoint, Caps()), POINT, visits=3, within_s=30.0)
    assert told.ok
    assert not [note for note in told.notes if "held the loop" not in note]
    assert len(told.of("request")) >= 4
    assert any(act.cached_tokens for act in told.of("request"))
    assert bool(told.of("call")) is (name == "rag")


async def test_an_exception_names_its_line(tmp_path: Path, base_url: str) -> None:
    path = written(tmp_path, "await user.chat('hi', output_tokens=1)\n    raise ValueError('no idea')")
    with pytest.raises(UsersError, match=r"users.py:4 in run.*ValueError: no idea"):
        await rehearsed(path, base_url)


async def test_a_visit_that_does_not_end_is_ended(tmp_path: Path, base_url: str) -> None:
    path = written(tmp_path, "await user.chat('hi', name='ask')\n    await asyncio.sleep(1000)")
    with pytest.raises(
        UsageError, match=r"visit 1 has not ended within 0.3 s .*; the last that ended was request 1 ask"
    ):
        await rehearsed(path, base_url, within_s=0.3)
