"""Visitors' processes beside a real run: what they are shown, and that none outlives who let it in."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import psutil
import pytest

pytest.importorskip("aiohttp", reason="the extra web is not installed")
pytest.importorskip("textual_serve", reason="the extra web is not installed")

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType


async def read_until(socket: ClientWebSocketResponse, word: bytes) -> bytes:
    drawn = b""
    while word not in drawn:
        message = await socket.receive(30)
        assert message.type is WSMsgType.BINARY, (message, drawn[-300:])
        drawn += bytes(message.data)
    return drawn


async def test_a_visitor_leaves_with_q_and_the_others_with_the_server_whatever_ends_it_and_the_run_goes_on(
    run: Any, server: tuple[subprocess.Popen[str], str]
) -> None:
    process, link = server
    origin = "/".join(link.split("/")[:3])
    place = f"{link}screen/?width=120&height=40"
    async with (
        ClientSession() as session,
        session.ws_connect(place, headers={"Origin": origin}) as one,
        session.ws_connect(place, headers={"Origin": origin}) as two,
    ):
        for socket in (one, two):
            drawn = await read_until(socket, b"TTFT p95")
            assert b"SIMULATED" in drawn
            assert b"VIEW" in drawn
        viewers = psutil.Process(process.pid).children()
        assert len(viewers) == 2
        await one.send_json(["stdin", "q"])
        while (message := await one.receive(30)).type is WSMsgType.BINARY:
            pass
        assert message.type is WSMsgType.CLOSE
        run.wait_for(lambda: [each.is_running() for each in viewers].count(True) == 1)
        run.goes_on()

        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert psutil.wait_procs(viewers, 30)[1] == []
        run.goes_on()
