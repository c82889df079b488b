"""Rows of a file: each once and then the load ends, or again and again, which is said."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.domain.load import Caps, LoadPlan, LoadPoint, Ramp, Stage
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome
from llmtop.load.engine import LoadEngine
from llmtop.wording.sentences import ROWS_AGAIN, ROWS_SENT
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

ROWS = 20


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., PromptSource]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"row {number}", "max_tokens": number}) + "\n" for number in rows()))

    def made(*, repeat: bool, **more: Any) -> PromptSource:
        return PromptSource(Workload(source="jsonl", file=str(path), repeat=repeat), **more)

    return made


def rows() -> range:
    """The answer of each row is as long as its number."""
    return range(1, ROWS + 1)


def driven(lab: Any, prompts: PromptSource, load: LoadPoint | LoadPlan, seconds: float, answers: Any = None) -> Any:
    """The engine after so many seconds, and everything that it told."""
    lab.script = OneShot(prompts)
    engine = lab.engine(load, answers, Caps(stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(seconds)
        ends.append(engine.finished)

    ends: list[bool] = []
    lab.drive(engine, script)
    return ends[0], engine.take()


UP = Stage(name="up", duration_s=60.0, shape=Ramp(start=1.0, stop=8.0, unit="rate_rps"))
OPEN = LoadPlan(stages=(UP,), base=LoadPoint(concurrency=0))


@pytest.mark.parametrize("load", [LoadPoint(concurrency=3), LoadPoint(rate_rps=5.0, concurrency=None), OPEN])
def test_rows_that_do_not_come_again_are_sent_once_each_and_then_the_load_ends(
    lab: Any, source: Callable[..., PromptSource], load: LoadPoint | LoadPlan
) -> None:
    finished, told = driven(lab, source(repeat=False), load, 30.0)
    assert sorted(lab.client.asked) == list(rows())
    assert finished
    assert [event.text for event in told.events if "row" in event.text] == [ROWS_SENT]
    assert {record.outcome for record in told.requests} == {Outcome.OK}
    assert told.bins[-1].target == 0 == told.bins[-1].in_flight


def test_rows_that_failed_were_sent_too(lab: Any, source: Callable[..., PromptSource]) -> None:
    failing = lab.Answer(0.01, 0.0, outcome=Outcome.HTTP_ERROR, status=500)
    finished, told = driven(lab, source(repeat=False), LoadPoint(concurrency=4), 60.0, lambda _: failing)
    assert len(told.requests) == ROWS
    assert finished


def test_a_load_that_a_hand_takes_up_again_after_the_last_row_sends_nothing(
    lab: Any, source: Callable[..., PromptSource]
) -> None:
    lab.script = OneShot(source(repeat=False))
    engine: LoadEngine = lab.engine(LoadPoint(concurrency=3), None, Caps(stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(20.0)
        engine.command(LoadPoint(concurrency=8))
        await asyncio.sleep(5.0)

    lab.drive(engine, script)
    assert len(lab.client.asked) == ROWS
    assert engine.finished


def test_rows_that_come_again_are_sent_with_new_heads_and_that_is_said_once(
    lab: Any, source: Callable[..., PromptSource]
) -> None:
    finished, told = driven(lab, source(repeat=True), LoadPoint(concurrency=3), 30.0)
    counts = Counter(lab.client.asked)
    assert min(counts[number] for number in rows()) >= 2
    assert not finished
    assert [event.text for event in told.events if "row" in event.text] == [ROWS_AGAIN]


def test_workers_share_the_rows_of_a_file_and_each_ends_with_its_own(source: Callable[..., PromptSource]) -> None:
    point, texts = LoadPoint(concurrency=1), []
    for worker in range(3):
        prompts = source(repeat=False, start=worker, step=3)
        while not prompts.spent:
            texts.append(prompts.next(point).text)
    assert sorted(texts) == sorted(f"row {number}" for number in rows())
