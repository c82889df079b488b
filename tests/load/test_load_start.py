"""Users that start together: in one instant, level by level, as the load tools do that begin a run for each level."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmtop.domain.load import LoadPoint


def test_users_that_start_together_send_in_one_instant_and_stay_in_step(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=8, output_tokens=10), lambda _: lab.Answer(0.1, 0.1), start="together")

    async def script() -> None:
        await asyncio.sleep(4.0)

    lab.drive(engine, script)
    waves = [lab.client.starts_s[at : at + 8] for at in range(0, 24, 8)]
    assert all(max(wave) - min(wave) < 0.001 for wave in waves)
    assert set(lab.client.asked) == {10}, "no first answer is cut"


def test_those_who_start_together_wait_until_there_is_a_connection_for_each(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=8, output_tokens=10), lambda _: lab.Answer(0.1, 0.1), start="together")
    lab.client.opening_s = 0.7

    async def script() -> None:
        await asyncio.sleep(0.6)
        assert (lab.client.opened, lab.client.started) == ([8], 0)
        await asyncio.sleep(0.6)
        assert lab.client.started == 8
        assert max(lab.client.starts_s) - min(lab.client.starts_s) < 0.001

    lab.drive(engine, script)
    assert lab.client.opened == [8], "once for a level, not for each request"


def test_a_run_that_ends_while_connections_are_opened_sends_nothing(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=8, output_tokens=10), lambda _: lab.Answer(0.1, 0.1), start="together")
    lab.client.opening_s = 3600.0

    async def script() -> None:
        await asyncio.sleep(0.5)

    lab.drive(engine, script)
    assert lab.client.started == 0


@pytest.mark.parametrize("users", [3, 12])
def test_another_level_begins_together_when_all_of_the_one_before_have_ended(lab: Any, users: int) -> None:
    engine = lab.engine(LoadPoint(concurrency=8, output_tokens=10), lambda _: lab.Answer(0.1, 0.1), start="together")
    seen: list[int] = []

    async def script() -> None:
        await asyncio.sleep(2.5)
        begun = lab.client.started
        engine.command(LoadPoint(concurrency=users, output_tokens=10))
        while lab.client.started == begun:
            seen.append(lab.client.running)
            await asyncio.sleep(0.01)
        assert lab.client.starts_s[begun:] == pytest.approx([lab.client.starts_s[begun]] * users, abs=0.001)

    lab.drive(engine, script)
    assert seen[0] == 8
    assert seen[-1] == 0


def test_a_load_of_nothing_and_a_cut_end_it_as_ever(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=8, output_tokens=10), lambda _: lab.Answer(0.1, 0.1), start="together")

    async def script() -> None:
        await asyncio.sleep(1.5)
        engine.cut()
        await asyncio.sleep(0.1)
        assert engine.in_flight == 0
        engine.command(LoadPoint(concurrency=4, output_tokens=10))
        await asyncio.sleep(0.1)
        assert engine.in_flight == 4
        engine.command(LoadPoint(concurrency=0, output_tokens=10))
        await asyncio.sleep(2.0)
        assert engine.in_flight == 0

    lab.drive(engine, script)
