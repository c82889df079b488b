"""The event loop with exact timers still is an event loop."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

import llmtop
from llmtop.simulator.server.loop import ExactSelector, new_event_loop


@pytest.mark.parametrize("timeout", [None, 0, 0.5, -1.0])
def test_what_is_ready_is_reported_whatever_the_timeout(timeout: float | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ExactSelector() as selector:
        selector.register(ours, selectors.EVENT_READ, "mine")
        theirs.send(b"x")
        ((key, events),) = selector.select(timeout)
    assert (key.data, events) == ("mine", selectors.EVENT_READ)


def test_nothing_ready_ends_with_the_timeout_and_not_before() -> None:
    with ExactSelector() as selector:
        start_s = perf_counter()
        assert selector.select(0.0123) == []
        assert perf_counter() - start_s >= 0.0123


def test_timers_run_in_order_and_not_too_early() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        start_s, fired = loop.time(), []
        for delay_s in (0.0031, 0.0012, 0.0205):
            loop.call_later(delay_s, lambda delay_s=delay_s: fired.append((delay_s, loop.time() - start_s)))
        await asyncio.sleep(0.03)
        assert [delay_s for delay_s, _ in fired] == [0.0012, 0.0031, 0.0205]
        assert all(after_s >= delay_s - 1e-6 for delay_s, after_s in fired)
        return fired

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert len(runner.run(main())) == 3


@pytest.mark.parametrize(("error", "code"), [("ZeroDivisionError", 1), ("ConnectionResetError", 7)])
def test_an_error_in_a_callback_ends_the_server_unless_it_is_a_clients_socket(error: str, code: int) -> None:
    script = f"""
import asyncio, sys
from llmtop.simulator.server.loop import run

async def main(stop):
    def fail():
        raise {error}
    loop = asyncio.get_running_loop()
    loop.call_soon(fail)
    loop.call_later({0.05 if code == 7 else 20}, stop.set)
    await stop.wait()
    return 7

sys.exit(run(main, die_with_parent=False))
"""
    root = str(Path(llmtop.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == code
    assert error in done.stderr.decode()
