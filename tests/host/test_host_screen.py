"""A real screen over a real host: each goes on without the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from host_fakes import Diary, FakeLink, batch, frame

from llmtop.domain.commands import SetLoad, Steer, StopLoad
from llmtop.domain.run import Told
from llmtop.domain.slo import Slo
from llmtop.host.host import Host
from llmtop.tui.app import LlmtopApp


def until(condition: Callable[[], bool]) -> None:
    """Blocks whatever loop it is called on, as a screen that hangs does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


async def test_a_screen_that_hangs_changes_nothing() -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(1.0)
    with Host(link, Slo(), outputs=[diary]) as host:
        async with LlmtopApp(host).run_test(size=(80, 24)) as pilot:
            until(lambda: "judged" in diary.heard)
            host.send(Steer())
            link.told.append(Told(batches=(batch(1.0),)))
            until(lambda: "tell 1" in diary.heard and any(isinstance(command, SetLoad) for command in link.sent))
            await pilot.press("x")
            await pilot.pause()
        assert link.sent[-1] == StopLoad()
        assert not host.shown().steering.running


async def test_a_screen_that_is_gone_changes_nothing_until_the_host_is_closed() -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(1.0)
    with Host(link, Slo(), outputs=[diary]) as host:
        async with LlmtopApp(host).run_test(size=(80, 24)):
            pass
        link.told.append(Told(batches=(batch(2.0),)))
        until(lambda: "tell 2" in diary.heard)
        assert link.closed == 0
    assert link.closed == 1
