"""A dead man's switch: load that nobody can see ends by itself, and nothing else does."""

from __future__ import annotations

import asyncio
import types

import pytest
from session_fakes import BASE

from llmtop.domain.commands import Quit, Seen
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.session.sight import STILL_S, UNSEEN_S, Sight, Stillness


def frame(load: int = 1, in_flight: int = 0) -> Frame:
    status = EndpointStatus(state=EndpointState.UP)
    return Frame(seq=0, t_s=0.0, endpoint=status, target=BASE.at("concurrency", load), in_flight=in_flight)


def lost_after(sight: Sight, shown: Frame, from_s: float, to_s: float, step_s: float = 0.25) -> float | None:
    """When `sight` calls the load lost, looking every `step_s`."""
    steps = round((to_s - from_s) / step_s)
    times = (from_s + step * step_s for step in range(steps + 1))
    return next((now_s for now_s in times if sight.lost(shown, now_s)), None)


def test_load_that_nobody_sees_is_lost_after_a_minute() -> None:
    assert UNSEEN_S == 60.0, "shorter, and a line that stutters ends runs; longer, and nobody answers for the load"
    assert lost_after(Sight(), frame(), 100.0, 200.0) == 160.0
    assert lost_after(Sight(), frame(load=0, in_flight=1), 100.0, 200.0) == 160.0


def test_a_word_that_it_is_seen_gives_it_all_its_time_again() -> None:
    sight = Sight()
    assert lost_after(sight, frame(), 0.0, 59.0) is None
    sight.seen()
    assert lost_after(sight, frame(), 59.25, 200.0) == 119.0


def test_without_load_there_is_nothing_to_be_seen() -> None:
    sight = Sight()
    assert lost_after(sight, frame(), 0.0, 59.0) is None
    assert lost_after(sight, frame(load=0), 59.25, 1000.0) is None
    assert lost_after(sight, frame(), 1000.25, 1059.75) is None


def test_time_in_which_the_session_itself_stood_still_is_no_time_without_a_look() -> None:
    sight = Sight()
    assert lost_after(sight, frame(), 0.0, 10.0) is None
    assert not sight.lost(frame(), 100_000.0)
    assert lost_after(sight, frame(), 100_000.25, 100_048.5) is None
    assert sight.lost(frame(), 100_049.25), "a second for the gap, and what was looked at"


@pytest.mark.parametrize("seen", [True, False])
async def test_a_session_that_is_told_so_goes_on_and_one_that_is_not_ends_in_order(
    seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_session_guards_process import OPTIONS, FakeSession, Served

    from llmtop.domain.run import Ending
    from llmtop.errors import SessionLost
    from llmtop.session import process

    served = Served(monkeypatch)
    monkeypatch.setattr(FakeSession, "frame", lambda self: frame())
    queue: process.Commands = asyncio.Queue()
    looks = 0

    def now_s() -> float:
        """Asked at each look: another twentieth of a second has passed."""
        nonlocal looks
        looks += 1
        if seen:
            queue.put_nowait(Seen())
        if looks == 40:
            queue.put_nowait(Quit())
        return looks / 20

    monkeypatch.setattr(process, "time", types.SimpleNamespace(monotonic=now_s, clock_gettime=lambda _: 0.0))
    serving = asyncio.create_task(process._serve(OPTIONS, queue, served, unseen_limit_s=0.2))  # type: ignore[arg-type]
    if seen:
        await serving
    else:
        with pytest.raises(SessionLost, match=r"nobody could see the load for 0\.2 s") as lost:
            await serving
        assert lost.value.exit_code == 130
    assert served.session is not None
    assert served.session.endings == [Ending.HAND if seen else Ending.UNSEEN]
    assert served.session.commands == []


@pytest.mark.parametrize("slept", [True, False])
def test_that_we_stood_still_is_noticed_once_and_whether_the_machine_slept(slept: bool) -> None:
    stillness, awake_s, always_s = Stillness(), 50.0, 700.0
    for _ in range(40):
        assert stillness.look(awake_s, always_s) is None
        awake_s, always_s = awake_s + STILL_S - 0.01, always_s + STILL_S - 0.01
    awake_s, always_s = awake_s + (0.2 if slept else 3600.0), always_s + 3600.0
    found = stillness.look(awake_s, always_s)
    assert found is not None
    assert found[0] == pytest.approx(3600.0 + STILL_S - 0.01)
    assert found[1] is slept
    assert stillness.look(awake_s, always_s) is None


async def test_a_session_that_stood_still_says_so_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_session_guards_process import OPTIONS, FakeSession, Served

    from llmtop.session import process

    served, told = Served(monkeypatch), asyncio.Event()
    said: list[tuple[float, bool]] = []
    clock = iter([0.0, 0.1, 100.1])
    last = [100.1]

    def shows(_: int) -> float:
        last[0] = next(clock, last[0])
        return last[0]

    def stood_still(self: FakeSession, for_s: float, slept: bool) -> None:
        said.append((for_s, slept))
        told.set()

    monkeypatch.setattr(process.time, "clock_gettime", shows)
    monkeypatch.setattr(FakeSession, "stood_still", stood_still)
    queue: process.Commands = asyncio.Queue()
    serving = asyncio.create_task(process._serve(OPTIONS, queue, served))  # type: ignore[arg-type]
    await asyncio.wait_for(told.wait(), 30)
    queue.put_nowait(Quit())
    await serving
    assert said == [(100.0, True)]
