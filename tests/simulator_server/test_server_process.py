"""The servers as children: ready when started, said why when not, never an orphan."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import llmtop
from llmtop.errors import UsageError
from llmtop.simulator.server.process import ScheduleProcess, SimulatorProcess
from tests.waiting import runs, until_gone

ROOT = str(Path(llmtop.__file__).parent.parent)


async def ask(port: int, path: str, *headers: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "connection: close", *headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_serves_with_knobs_faults_and_key_and_ends_when_closed() -> None:
    process = await SimulatorProcess.start(
        "laptop", {"max_num_seqs": 5, "enable_prefix_caching": False}, 3, faults={"http_429": 0.25}, api_key="k"
    )
    try:
        assert process.base_url == f"http://127.0.0.1:{process.port}"
        let_in = (f"x-llmtop-control-token: {process.control_token}", "authorization: Bearer k")
        state = await ask(process.port, "/llmtop/control", *let_in)
        assert b'"max_num_seqs":5' in state
        assert b'"http_429":0.25' in state
        assert (await ask(process.port, "/v1/models")).startswith(b"HTTP/1.1 401")
        assert process.alive
    finally:
        await process.close()
    assert not process.alive
    with pytest.raises(OSError, match="onnect"):
        await ask(process.port, "/health")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"preset": "nope"}, "nope: no such preset; use one of laptop"),
        ({"knobs": {"zork": 1}}, "knob 'zork' is not known"),
        ({"knobs": {"stream_interval": 0}}, "stream_interval"),
        ({"faults": {"zork": 1.0}}, "fault 'zork' is not known"),
        ({"faults": {"restart": 1.0}}, "nothing to restart yet"),
    ],
)
async def test_what_is_wrong_is_told_in_the_childs_words(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        await SimulatorProcess.start(**arguments)  # type: ignore[arg-type]


async def test_a_port_that_is_taken_is_told() -> None:
    first = await SimulatorProcess.start()
    try:
        with pytest.raises(Exception, match=f"cannot serve on 127.0.0.1:{first.port}: .*in use"):
            await SimulatorProcess.start(port=first.port)
    finally:
        await first.close()


async def test_a_child_dies_with_an_owner_that_is_killed() -> None:
    script = (
        "import asyncio\n"
        "from llmtop.simulator.server.process import ScheduleProcess, SimulatorProcess\n"
        "async def main():\n"
        "    a = await SimulatorProcess.start(); b = await ScheduleProcess.start()\n"
        "    print(a.pid, b.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in (await owner.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(map(runs, pids))
    owner.kill()
    await owner.wait()
    await asyncio.to_thread(until_gone, *pids)


async def test_a_term_signal_ends_it_well() -> None:
    process = await SimulatorProcess.start()
    os.kill(process.pid, signal.SIGTERM)
    await asyncio.to_thread(until_gone, process.pid)
    await process.close()


async def test_starting_imports_nothing_heavy() -> None:
    script = "import sys, llmtop.simulator.server\nprint({'numpy', 'httpx', 'textual', 'psutil'} & set(sys.modules))"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert done.stdout.strip() == b"set()"


async def test_an_unknown_variant_of_the_schedule_is_told() -> None:
    with pytest.raises(UsageError, match="unknown variant zork; known: multi, split"):
        await ScheduleProcess.start(variants=("zork",))
