"""Users that are a Python file: the loads, counts and laws of built-in users, and what a visit adds to them."""

from __future__ import annotations

import asyncio
import math
import sys
import textwrap
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import LogNormal, Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.endpoint.access import Access
from llmtop.endpoint.calls import Calls
from llmtop.errors import UsersError
from llmtop.load.engine import LoadEngine
from llmtop.load.users import LONGEST_FAREWELL_NS
from llmtop.load.visits import EMPTY_VISIT_S, Visits
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot
from llmtop.workload.userfile import load

SECOND = 1_000_000_000
ONE_CHAT = "async def run(user):\n    await user.chat(user.text(user.prompt_tokens))\n"


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def visiting(lab, tmp_path: Path) -> Callable[..., None]:
    """Users of the lab are this file from now on."""

    def make(text: str, workload: Workload | None = None, workers: int = 1) -> None:
        path = tmp_path / "users.py"
        path.write_text(textwrap.dedent(text))
        prompts = PromptSource(workload or Workload())
        lab.script = OneShot(prompts)
        calls = Calls(Access(Endpoint(base_url="http://127.0.0.1:9")))
        lab.visits = Visits(load(path), prompts, calls, workers)

    return make


def closed(concurrency: int, **more) -> LoadPoint:
    return LoadPoint(concurrency=concurrency, **{"output_tokens": 20, **more})


def driven(lab, point: LoadPoint, seconds: float, answers=None, **more) -> FactBatch:
    engine = lab.engine(point, answers, **more)
    lab.drive(engine, lambda: asyncio.sleep(seconds))
    return engine.take()


def conserved(batch: FactBatch) -> None:
    sent, ok, errors, cancelled = (
        sum(getattr(each, name) for each in batch.bins) for name in ("sent", "ok", "errors", "cancelled")
    )
    assert sent == ok + errors + cancelled + batch.bins[-1].in_flight
    assert len(batch.requests) == sent


def stamps(record: RequestRecord) -> tuple[object, ...]:
    return (
        record.scheduled_ns,
        record.dispatched_ns,
        record.sent_ns,
        record.end_ns,
        record.asked_prompt_tokens,
        record.asked_output_tokens,
        record.outcome,
    )


@pytest.mark.parametrize("point", [closed(7), closed(5, think_time_s=0.3), LoadPoint(rate_rps=9, output_tokens=20)])
def test_users_of_one_chat_are_the_built_in_users(make_lab, visiting, lab, point: LoadPoint) -> None:
    """The same requests at the same instants, and the same counts in every bin."""
    built_in = make_lab()
    built_in.script = OneShot(PromptSource(Workload()))
    visiting(ONE_CHAT)
    expected, found = driven(built_in, point, 3.0), driven(lab, point, 3.0)
    assert len(expected.requests) > 20
    assert [stamps(record) for record in found.requests] == [stamps(record) for record in expected.requests]
    assert found.bins == expected.bins
    assert lab.client.said == built_in.client.said
    conserved(found)


@pytest.mark.parametrize("think_time_s", [0.0, 0.3])
def test_users_who_fail_wait_as_the_built_in_users_do(make_lab, visiting, lab, think_time_s: float) -> None:
    def answers(n: int):
        return lab.Answer(outcome=Outcome.TIMEOUT if n % 11 == 3 else Outcome.OK)

    built_in = make_lab()
    built_in.script = OneShot(PromptSource(Workload()))
    visiting(ONE_CHAT)
    point = closed(5, think_time_s=think_time_s)
    expected, found = driven(built_in, point, 4.0, answers), driven(lab, point, 4.0, answers)
    assert [record.outcome for record in found.requests] == [record.outcome for record in expected.requests]
    for one, other in zip(found.requests, expected.requests, strict=True):
        assert one.dispatched_ns == pytest.approx(other.dispatched_ns, abs=100)
    conserved(found)


def test_requests_have_a_name_and_their_place_in_a_visit(lab, visiting) -> None:
    visiting("""
        async def run(user):
            await user.chat("one", name="retrieve")
            await user.complete("two")
            await user.chat("three")
    """)
    records = driven(lab, closed(2), 3.0).requests
    by_session: dict[int | None, list[tuple[str | None, int | None]]] = {}
    for record in sorted(records, key=lambda record: record.dispatched_ns):
        by_session.setdefault(record.session, []).append((record.name, record.turn))
    whole = [("retrieve", 1), ("complete", 2), ("chat", 3)]
    assert len(by_session) >= 6
    assert all(said == whole[: len(said)] for said in by_session.values())
    assert sum(said == whole for said in by_session.values()) >= len(by_session) - 2


def test_what_comes_after_an_answer_begins_with_all_that_was_said(lab, visiting) -> None:
    visiting("""
        async def run(user):
            first = await user.chat([{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}])
            assert first.ok and first.text == "answer 1", first.text
            second = await user.chat("why", after=first, temperature=0.2)
            await user.complete(" and", after=await user.complete("once"))
            await user.pause(100)
    """)
    driven(lab, closed(1), 3.0)
    start = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}]
    asked = {"role": "assistant", "content": "answer 1"}
    assert list(lab.client.said[0]) == start
    assert list(lab.client.said[1]) == [*start, asked, {"role": "user", "content": "why"}]
    assert lab.client.said[2:] == ["once", "onceanswer 3 and"]
    assert lab.client.carried[1]["extra"] == b',"temperature":0.2'


def test_the_hand_steers_the_lengths_of_a_file(lab, visiting) -> None:
    visiting("""
        async def run(user):
            await user.chat(user.text(user.prompt_tokens))
            await user.chat("short", output_tokens=3)
            await user.pause(0.5)
    """)
    engine = lab.engine(closed(1, prompt_tokens=50), lambda _: lab.Answer(0.1, 0.0, prompt_tokens=50))

    async def script() -> None:
        await asyncio.sleep(0.6)
        engine.command(closed(1, prompt_tokens=70, output_tokens=9))
        await asyncio.sleep(1.0)

    lab.drive(engine, script)
    asked = [(record.asked_prompt_tokens, record.asked_output_tokens) for record in engine.take().requests]
    assert asked[:4] == [(50, 20), (1, 3), (70, 9), (1, 3)]


def test_lengths_are_drawn_as_the_workload_says(lab, visiting) -> None:
    visiting(ONE_CHAT, Workload(prompt=LogNormal(0.5), output=LogNormal(0.5)))
    records = driven(lab, closed(8, prompt_tokens=100, output_tokens=20), 10.0, lambda _: lab.Answer(0.1, 0.0)).requests
    prompts, outputs = ([getattr(r, f"asked_{side}_tokens") for r in records] for side in ("prompt", "output"))
    assert len(set(prompts)) > 50
    assert sum(prompts) / len(prompts) == pytest.approx(100, rel=0.1)
    assert sum(outputs) / len(outputs) == pytest.approx(20, rel=0.1)


def test_in_flight_are_requests_and_neither_pauses_nor_users(lab, visiting) -> None:
    visiting("""
        import asyncio
        async def run(user):
            await asyncio.gather(*(user.chat("x", output_tokens=1) for _ in range(3)))
            await user.pause(1.0)
            async with asyncio.TaskGroup() as group:
                group.create_task(user.chat("y", output_tokens=1))
                group.create_task(user.chat("z", output_tokens=1))
            await user.pause(1.0)
    """)
    engine = lab.engine(closed(1), lambda _: lab.Answer(0.1, 0.0))
    levels = []

    async def script() -> None:
        for at_s in (0.05, 0.15, 1.05, 1.15, 2.05, 2.25):
            await asyncio.sleep(at_s - lab.loop.time())
            levels.append((engine.in_flight, lab.client.running, lab.client.started))

    lab.drive(engine, script)
    assert levels == [(3, 3, 3), (0, 0, 3), (0, 0, 3), (2, 2, 5), (0, 0, 5), (3, 3, 8)]
    batch = engine.take()
    conserved(batch)
    assert sorted((record.session, record.turn) for record in batch.requests)[:5] == [(0, turn) for turn in range(1, 6)]


def test_what_a_visit_sends_at_once_is_bound_by_what_may_be_in_flight(lab, visiting) -> None:
    visiting("""
        import asyncio
        async def run(user):
            await asyncio.gather(*(user.chat("x") for _ in range(8)))
    """)
    batch = driven(lab, closed(3), 4.0, caps=Caps(max_concurrency=5, stop_error_ratio=None))
    assert lab.client.peak == 5
    assert len([event for event in batch.events if "wait for others" in event.text]) == 1
    assert all(record.sent_ns - record.scheduled_ns < SECOND // 100 for record in batch.requests if record.sent_ns)
    conserved(batch)


def test_a_visit_is_finished_before_its_user_leaves(lab, visiting) -> None:
    visiting("""
        async def run(user):
            for _ in range(4):
                await user.chat("x")
                await user.pause(0.1)
    """)
    engine = lab.engine(closed(6))

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.command(closed(0))
        await asyncio.sleep(0.9)
        assert engine.in_flight == 0

    lab.drive(engine, script)
    sessions: dict[int | None, int] = {}
    batch = engine.take()
    for record in batch.requests:
        sessions[record.session] = sessions.get(record.session, 0) + 1
    assert set(sessions.values()) == {4}
    assert {record.outcome for record in batch.requests} == {Outcome.OK}


@pytest.mark.parametrize("body", ["await user.chat('x')", "await asyncio.gather(*(user.chat('x') for _ in range(3)))"])
def test_who_turns_the_load_down_does_not_wait_for_visits_that_never_end(lab, visiting, body: str) -> None:
    visiting(f"""
        import asyncio
        async def run(user):
            while True:
                {body}
                await user.pause(2.0)
    """)
    engine = lab.engine(closed(6), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.command(closed(2))
        await asyncio.sleep(LONGEST_FAREWELL_NS / 1e9 - 0.5)
        before = len(asyncio.all_tasks())
        await asyncio.sleep(3.0)
        assert len(asyncio.all_tasks()) == before - 4
        started = lab.client.started
        await asyncio.sleep(10.0)
        assert lab.client.started > started
        assert len(asyncio.all_tasks()) == before - 4

    lab.drive(engine, script)
    batch = engine.take()
    conserved(batch)
    assert LONGEST_FAREWELL_NS == 30 * SECOND


def test_between_visits_a_user_that_thinks_is_gone_at_once(lab, visiting) -> None:
    visiting(ONE_CHAT)
    engine = lab.engine(closed(8, think_time_s=100.0), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(1.0)
        users = len(asyncio.all_tasks())
        engine.command(closed(0))
        await asyncio.sleep(0.001)
        assert len(asyncio.all_tasks()) <= users - 8

    lab.drive(engine, script)


@pytest.mark.parametrize(
    "body",
    [
        "await user.chat('x')",
        "await asyncio.gather(*(user.chat('x') for _ in range(3)))",
        "asyncio.create_task(user.chat('x')); await user.pause(1000)",
    ],
)
def test_a_cut_cancels_visits_that_will_not_hear_of_it(lab, visiting, body: str) -> None:
    visiting(f"""
        import asyncio
        async def run(user):
            while True:
                try:
                    {body}
                except BaseException:
                    pass
    """)
    engine = lab.engine(closed(4), lambda _: lab.Answer(100.0))

    async def script() -> None:
        await asyncio.sleep(1.02)
        tasks = len(asyncio.all_tasks())
        assert engine.in_flight >= 4
        engine.cut()
        await asyncio.sleep(0.001)
        assert engine.in_flight == lab.client.running == 0
        assert len(asyncio.all_tasks()) <= tasks - 4
        started = lab.client.started
        await asyncio.sleep(5.0)
        assert lab.client.started == started

    lab.drive(engine, script)
    batch = engine.take()
    conserved(batch)
    assert Outcome.CANCELLED in {record.outcome for record in batch.requests}


def test_an_arrival_is_a_visit(lab, visiting) -> None:
    visiting("""
        async def run(user):
            await user.chat("x")
            await user.chat("y")
    """)
    batch = driven(
        lab, LoadPoint(rate_rps=5, burstiness=math.inf, output_tokens=5), 4.0, lambda _: lab.Answer(0.1, 0.0)
    )
    firsts = [record for record in batch.requests if record.turn == 1]
    assert len({record.session for record in firsts}) == len(firsts) >= 18
    assert all(after.scheduled_ns - before.scheduled_ns == SECOND // 5 for before, after in pairwise(firsts))
    conserved(batch)


def test_a_failure_is_an_answer_and_its_user_waits_before_the_next(lab, visiting) -> None:
    visiting("""
        async def run(user):
            answer = await user.chat("x")
            assert user.number or not answer.ok and answer.status == 503 and answer.text == ""
            assert (await user.chat("y", after=answer)).ok
            await user.pause(100)
    """)
    busy = lab.Answer(0.1, 0.0, Outcome.HTTP_ERROR, 503, retry_after_s=4.0)
    first, second = driven(lab, closed(1), 8.0, lambda n: lab.Answer() if n else busy).requests
    assert 4.0 <= (second.scheduled_ns - first.end_ns) / SECOND <= 5.0
    assert list(lab.client.said[1]) == [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]


def test_of_several_that_fail_at_once_one_is_counted(lab, visiting) -> None:
    visiting("""
        import asyncio
        async def run(user):
            await asyncio.gather(*(user.chat("x") for _ in range(20)))
    """)
    records = driven(lab, closed(1), 1.0, lambda n: lab.Answer(0.05, 0.0, Outcome.TIMEOUT if n < 20 else Outcome.OK))
    dispatched = sorted({record.dispatched_ns for record in records.requests})
    assert 0.05 <= (dispatched[1] - dispatched[0]) / SECOND - 0.05 <= 0.15


def ended_by(lab, engine: LoadEngine) -> str:
    with pytest.raises(UsersError) as raised:
        lab.drive(engine, lambda: asyncio.sleep(5.0))
    return str(raised.value)


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ("helper([])", "4 in helper", "IndexError: list index out of range"),
        ("await asyncio.gather(user.chat('x'), aside())", "7 in aside", "KeyError: 'nothing'"),
        ("asyncio.create_task(aside()); await user.pause(0.1)", "7 in aside", "KeyError: 'nothing'"),
        ("asyncio.create_task(leaves()); await user.pause(0.1)", "10 in leaves", "SystemExit: 3"),
        ("sys.exit(7)", "14 in run", "SystemExit: 7"),
        ("await user.pause(-1)", "14 in run", "pause(-1): a pause has a number of seconds, 0 or more"),
        ("await user.chat('x', stream=False)", "14 in run", "stream = ... is not for the file to set"),
        ("await user.chat('x', odd=asyncio)", "14 in run", "a field of the request cannot be written as JSON"),
        ("await user.chat('x', output_tokens=0)", "14 in run", "output_tokens = 0 must be a whole number, 1 or more"),
        ("await user.http('GET', 'ftp://x')", "14 in run", "url = 'ftp://x': write it like http://host:port/path"),
        ("raise asyncio.CancelledError", "14 in run", "CancelledError"),
    ],
)
def test_what_a_file_raises_ends_the_run_with_file_line_and_function(
    lab, visiting, tmp_path: Path, body: str, where: str, words: str
) -> None:
    visiting(f"""import asyncio
import sys
def helper(values):
    return values[0]
async def aside():
    await asyncio.sleep(0)
    {{}}["nothing"]
async def leaves():
    await asyncio.sleep(0)
    sys.exit(3)
async def run(user):
    await user.chat("first")
    if user.number == 1:
        {body}
""")
    engine = lab.engine(closed(4))
    said = ended_by(lab, engine)
    assert said.startswith(f"{tmp_path / 'users.py'}:{where}: {words}")
    batch = engine.take()
    conserved(batch)
    assert len(batch.requests) >= lab.client.started
    assert Outcome.OK in {record.outcome for record in batch.requests}


def test_an_api_that_the_endpoint_has_not_is_told_at_its_line(lab, visiting, monkeypatch: pytest.MonkeyPatch) -> None:
    visiting("async def run(user):\n    await user.complete('x')\n")
    lab.engine(closed(1))
    monkeypatch.setattr(type(lab.client), "apis", ("chat",))
    said = ended_by(lab, lab.engine(closed(1)))
    assert said.endswith("users.py:2 in run: the endpoint has no API for completions, only for chat")


def test_a_visit_without_a_request_neither_spins_nor_ends_the_run(lab, visiting) -> None:
    visiting("""
        VISITS = []
        async def run(user):
            VISITS.append(1)
            if len(VISITS) % 3 == 0:
                await user.chat("x")
    """)
    batch = driven(lab, closed(1), 6.0, lambda _: lab.Answer(0.1, 0.0))
    visits = len(sys.modules["_llmtop_users"].VISITS)
    assert 6.0 / (EMPTY_VISIT_S + 0.04) <= visits <= 6.0 / (2 * EMPTY_VISIT_S / 3) + 2
    assert len([event for event in batch.events if "without any request" in event.text]) == 1


def test_visits_that_never_ask_anything_end_the_run(lab, visiting) -> None:
    visiting("async def run(user):\n    if user.number > 99:\n        await user.chat('x')\n")
    engine = lab.engine(closed(1))
    with pytest.raises(UsersError, match="100 visits have ended, and none has asked the model anything"):
        lab.drive(engine, lambda: asyncio.sleep(30.0))


def test_the_words_of_another_text_teach_nothing_of_ours(lab, visiting) -> None:
    visiting("""
        async def run(user):
            await user.chat("a text that llmtop has not written")
            answer = await user.chat(user.text(60))
            await user.chat(user.text(60), after=answer)
    """)
    heard: list[tuple[int, int]] = []
    calibration = lab.visits.prompts.calibration
    calibration.learn = lambda asked, counted, source: heard.append((asked, counted))
    driven(lab, closed(1), 1.0, lambda _: lab.Answer(0.1, 0.0, prompt_tokens=61))
    assert set(heard) == {(60, 61)}


def test_who_draws_what_is_of_seed_and_number_alone(lab, visiting, make_lab) -> None:
    text = """
        async def run(user):
            await user.chat("x", output_tokens=user.random.randint(1, 40))
    """
    asked: list[dict[int | None, int]] = []
    for concurrency in (3, 3, 5):
        visiting(text)
        fresh = make_lab()
        fresh.script, fresh.visits = lab.script, lab.visits
        records = driven(fresh, closed(concurrency), 0.03).requests
        asked.append({record.session: record.asked_output_tokens for record in records})
    assert asked[0] == asked[1] == {key: asked[2][key] for key in asked[0]}
