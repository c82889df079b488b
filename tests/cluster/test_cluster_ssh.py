"""Load over SSH: hosts of loopback, whose load workers are real processes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from time import monotonic

import httpx
import psutil
import pytest
from msgspec.structs import replace

from llmtop import __version__
from llmtop.cluster import by_ssh, check_reaches
from llmtop.cluster.by_ssh import SshCrew, command_of
from llmtop.domain.crew import parse_crew
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.errors import SessionLost, UsageError
from llmtop.load import selftest
from llmtop.load.files import cores
from llmtop.simulator.server.process import SimulatorProcess
from tests.cluster.drives import PATIENCE_S, ROOT, SETUP, driven
from tests.cluster.ssh_hosts import Hosts, hosts

TALK = ("--ttft-ms=20", "--tpot-ms=10", "--tokens=30")
POINT = LoadPoint(concurrency=8, output_tokens=30)


def by_ssh_to(made: Hosts) -> str:
    """One load process on each host."""
    return f"ssh://{made.all}?processes=1"


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with hosts(tmp_path) as made:
        monkeypatch.setenv("HOME", str(made.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield made


async def test_two_hosts_drive_one_load_and_one_that_dies_is_replaced(two: Hosts) -> None:
    async with selftest.known_times(*TALK) as url, driven(url, by_ssh_to(two), POINT) as run:
        await run.until(lambda: run.engine.in_flight == 8)
        await run.until(lambda: run.ok > 20)
        run.engine.command(LoadPoint(concurrency=12, output_tokens=30))
        await run.until(lambda: run.engine.in_flight == 12)
        os.kill(run.pids[1], signal.SIGKILL)
        await run.until(lambda: run.events)
        await run.until(lambda: run.engine.in_flight == 12)
        run.engine.cut()
        await run.until(lambda: run.engine.in_flight == 0)
        await run.end()
    outcomes = Counter(record.outcome for record in run.requests)
    assert set(outcomes) == {Outcome.OK, Outcome.LOST, Outcome.CANCELLED}
    assert outcomes[Outcome.LOST] >= 6
    for record in run.requests:
        assert 0 < record.scheduled_ns <= record.end_ns <= run.engine._now()
        if record.outcome is Outcome.OK:  # durations are those of one clock, and no server is faster than it is
            assert record.ttft_s is not None
            assert record.tpot_s is not None
            assert 0.019 < record.ttft_s < 5.0
            assert 0.009 < record.tpot_s < 1.0
    assert {record.worker for record in run.requests} == {0, 1}
    assert f"(127.0.0.1:{run.pids[1]}) died by signal" in run.events[0].text
    assert all(abs(worker.offset_s) <= worker.error_s < 0.5 for worker in run.workers)
    assert all([await child.wait() is not None for child in two.children])


async def refused(text: str) -> str:
    """What is said of a crew that cannot be reached."""
    with pytest.raises(SessionLost) as caught:
        await SshCrew.reach(parse_crew(text))
    assert caught.value.exit_code == 3
    return str(caught.value)


async def nothing_is_left(made: Hosts) -> bool:
    """Whether all that was begun there ends."""
    async with asyncio.timeout(PATIENCE_S):
        for child in made.children:
            await child.wait()
    return True


async def test_a_host_without_llmtop_is_named_with_what_to_do_and_no_other_is_left_running(two: Hosts) -> None:
    (two.bin / "llmtop").unlink()
    said = await refused(f"ssh://{two.all}")
    assert "llmtop is not installed on 127.0.0.1" in said
    assert f"pip install 'llmtop=={__version__}' there" in said
    assert await nothing_is_left(two)


async def test_an_llmtop_in_a_users_own_folder_is_found(two: Hosts) -> None:
    own = two.home / ".local" / "bin"
    own.mkdir(parents=True)
    (two.bin / "llmtop").rename(own / "llmtop")
    crew = await SshCrew.reach(parse_crew(f"ssh://tester@{two.name(0)}"))
    assert crew.size == min(cores(), 8)
    await crew.close()
    (own / "llmtop").rename(own / "another")
    crew = await SshCrew.reach(parse_crew(f"ssh://tester@{two.name(0)}?llmtop=~/.local/bin/another&processes=3"))
    assert crew.size == 3
    await crew.close()
    assert await nothing_is_left(two)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('echo \'llmtop worker {"version":"0.0.9","pid":1,"cores":4}\'; cat; :', "is 0.0.9 and here it is"),
        (
            "echo llmtop: no command worker. >&2; exit 2; :",
            "with exit code 2: llmtop: no command worker. Is it",
        ),
        ("echo Please log in at the console; exit 0; :", "with exit code 0: Please log in at the console"),
    ],
)
async def test_another_version_there_is_said(two: Hosts, command: str, words: str) -> None:
    two.installed(command)
    said = await refused(f"ssh://{two.all}")
    assert words in said
    assert f"pip install 'llmtop=={__version__}' there" in said
    assert await nothing_is_left(two)


async def test_what_a_login_shell_says_first_is_passed_over(two: Hosts) -> None:
    script = (two.bin / "llmtop").read_text().splitlines()[1]
    two.installed("printf 'Welcome\\n\\0\\377\\n'; " + script.removesuffix(' "$@"'))
    crew = await SshCrew.reach(parse_crew(f"ssh://tester@{two.name(0)}?processes=1"))
    assert crew.size == 1
    await crew.close()


def test_the_library_logs_nothing() -> None:
    for name in ("asyncssh", "asyncssh.sftp"):
        assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL)


def test_what_only_this_machine_can_reach_is_refused_to_others() -> None:
    here, there = endpoint_from_url("http://127.0.0.1:8000"), endpoint_from_url("http://10.1.2.3:8000")
    for spec in ("ssh://h1", "ssh://127.0.0.1,h1", "dask://h1:8786"):
        with pytest.raises(UsageError, match=r"127\.0\.0\.1:8000 means another server on each of those hosts"):
            check_reaches(parse_crew(spec), here)
        with pytest.raises(UsageError, match="the simulated engine is on this machine alone"):
            check_reaches(parse_crew(spec), None)
        check_reaches(parse_crew(spec), there)
    for spec in ("2", "auto", "ssh://127.0.0.1,localhost", "ssh://[::1]:2222", "dask://localhost:8786"):
        check_reaches(parse_crew(spec), here)
        check_reaches(parse_crew(spec), None)


async def test_who_is_not_let_in_is_told_what_to_try_by_hand(two: Hosts) -> None:
    two.trust(other=True)
    said = await refused(f"ssh://tester@{two.name(0)}")
    assert f"the key of 127.0.0.1 is not known, or is not the known one: say once by hand ssh -p {two.ports[0]}" in said
    two.trust()
    (two.home / ".ssh" / "id_ed25519").unlink()
    said = await refused(f"ssh://tester@{two.name(0)}")
    assert "127.0.0.1 does not let tester in" in said
    assert f"ssh -p {two.ports[0]} tester@127.0.0.1 must work without a password" in said
    assert two.commands == []


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass
    writer.close()
    await writer.wait_closed()


async def test_hosts_are_what_the_users_own_file_says_they_are(two: Hosts) -> None:
    config = f"Host farm\n  HostName 127.0.0.1\n  Port {two.ports[1]}\n  User tester\n"
    (two.home / ".ssh" / "config").write_text(config)
    crew = await SshCrew.reach(parse_crew("ssh://farm?processes=1"))
    post = await crew.post(SETUP)
    assert post.name.startswith("farm:")
    await post.close()
    assert "died with exit code 0" in await post.fate()
    await crew.close()
    (two.home / ".ssh" / "config").write_text("Host farm\n  Port never\n")
    assert "farm: " in await refused("ssh://farm")


async def test_a_host_that_is_not_there_is_named(two: Hosts, unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"127.0.0.1:{unused_port} refuses connections" in await refused(f"ssh://{two.all},127.0.0.1:{unused_port}")
    assert "there is no host nobody.invalid" in await refused("ssh://nobody.invalid")
    monkeypatch.setattr(by_ssh, "CONNECT_S", 0.1)
    async with await asyncio.start_server(_say_nothing, "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        assert f"127.0.0.1:{port} does not answer within 0.1 s" in await refused(f"ssh://127.0.0.1:{port}")
    assert await nothing_is_left(two)


@pytest.mark.parametrize("path", ["a b", "x'y", 'x"y', "$HOME/x", "-c", "`id`", "x;y", "x\\y"])
def test_a_path_of_llmtop_is_a_path_and_no_command(path: str) -> None:
    with pytest.raises(UsageError, match="must be a path"):
        command_of(parse_crew(f"ssh://h?llmtop={path}"))


async def test_many_processes_of_a_host_have_several_connections(two: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd allows only so many sessions over each."""
    monkeypatch.setattr(by_ssh, "SESSIONS", 2)
    crew = await SshCrew.reach(parse_crew(f"ssh://tester@{two.name(0)}?processes=3"))
    posts = await asyncio.gather(*(crew.post(replace(SETUP, worker=number)) for number in range(3)))
    assert len(crew._hosts[0].connections) == 2
    assert len({post.name for post in posts}) == 3
    await crew.close()
    assert await nothing_is_left(two)


class Way:
    """A TCP connection's way to a host, which can be cut so that neither end hears of it."""

    def __init__(self) -> None:
        self.cut = False
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, to: int) -> int:
        self._to = to
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, there[1]]
        await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            if not self.cut:
                writer.write(piece)
        if not self.cut:
            writer.close()

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()


@pytest.mark.faults
async def test_a_way_that_is_cut_leaves_no_load_there_and_its_share_to_the_others(two: Hosts) -> None:
    """Without a word: no end of a connection is seen on either side."""
    way = Way()
    two.ports[1] = await way.open(two.ports[1])
    two.trust()
    async with selftest.known_times(*TALK) as url, driven(url, by_ssh_to(two), POINT) as run:
        await run.until(lambda: run.engine.in_flight == 8)
        way.cut, cut_s = True, monotonic()
        gone = asyncio.create_task(two.children[1].wait())
        assert 1.4 < await run.until(lambda: run.events) < 2.2
        assert "is silent for 1." in run.events[0].text
        bins = len(run.bins)
        await run.until(lambda: len(run.bins) > bins + 2)
        await asyncio.wait_for(gone, PATIENCE_S)
        assert 2.9 < monotonic() - cut_s < 4.0, "its load has ended with its lease"
        await run.until(lambda: len(run.events) > 1)
        assert monotonic() - cut_s < 5.0
        assert "was lost: nothing was heard of it for 4." in run.events[1].text
        await run.until(lambda: run.engine.in_flight == 8)
        await run.end()
    await way.close()


@pytest.mark.faults
async def test_a_connection_that_ends_is_told_at_once(two: Hosts) -> None:
    async with selftest.known_times(*TALK) as url, driven(url, by_ssh_to(two), POINT) as run:
        await run.until(lambda: run.engine.in_flight == 8)
        two.connections[0].abort()
        assert await run.until(lambda: run.events) < 1.0
        assert "was lost: the connection is closed; " in run.events[0].text
        await run.until(lambda: run.engine.in_flight == 8)
        await asyncio.wait_for(two.children[0].wait(), PATIENCE_S)
        await run.end()


@pytest.mark.faults
async def test_one_that_is_stopped_for_a_while_is_named_and_its_requests_are_counted(two: Hosts) -> None:
    async with selftest.known_times(*TALK) as url, driven(url, by_ssh_to(two), POINT) as run:
        await run.until(lambda: run.engine.in_flight == 8)
        os.kill(run.pids[0], signal.SIGSTOP)
        assert 1.4 < await run.until(lambda: run.events) < 2.2
        ok = sum(b.ok for b in run.bins)
        await run.until(lambda: sum(b.ok for b in run.bins) > ok + 8)
        os.kill(run.pids[0], signal.SIGCONT)
        assert await run.until(lambda: len(run.events) > 1) < 1.0
        await run.until(lambda: run.engine.in_flight == 8)
        run.engine.cut()
        assert await run.until(lambda: run.engine.in_flight == 0) < 1.0
        await run.end()
    assert ["silent" in run.events[0].text, "heard again" in run.events[1].text] == [True, True]
    assert {record.outcome for record in run.requests} <= {Outcome.OK, Outcome.CANCELLED}


def running_there(url: str) -> float:
    """Requests that the simulated server works on."""
    page = httpx.get(f"{url}/metrics", trust_env=False).text
    (figure,) = re.findall(r"^vllm:num_requests_running\S* (\S+)$", page, re.M)
    return float(figure)


@pytest.mark.faults
async def test_a_session_that_is_killed_leaves_no_load_and_a_key_is_in_no_list_of_processes(
    two: Hosts, tmp_path: Path
) -> None:
    """As a user starts it: rows of a file here, a key of the environment, and then kill -9."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "tell me of {number}", "output_tokens": 400}}\n' for number in range(50)))
    profile = tmp_path / "mine.toml"
    profile.write_text(
        f'question = "hold"\n[workload]\nsource = "jsonl"\nfile = "{rows}"\n'
        '[[stage]]\nname = "hold"\nduration = "60s"\nshape = "hold"\nconcurrency = 8\n'
    )
    server = await SimulatorProcess.start(api_key="s3cret-of-mine")
    words = ["run", str(profile), server.base_url, "--api-key-env", "MY_KEY", "--record", str(tmp_path / "a.llmtop")]
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llmtop",
        *words,
        "--workers",
        f"ssh://{two.all}?processes=1",
        env={**os.environ, "MY_KEY": "s3cret-of-mine", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.to_thread(running_there, server.base_url) < 8:
                assert run.returncode is None, await run.stderr.read()
                await asyncio.sleep(0.1)
        for child in two.children:
            for process in (psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)):
                seen = Path(f"/proc/{process.pid}")
                assert b"s3cret" not in (seen / "cmdline").read_bytes() + (seen / "environ").read_bytes()
        assert all("s3cret" not in command for command in two.commands)
        (session,) = (
            process
            for process in psutil.Process(run.pid).children(recursive=True)
            if "llmtop.session.process" in process.cmdline()
        )
        session.kill()
        killed_s = monotonic()
        async with asyncio.timeout(4.0):
            while await asyncio.to_thread(running_there, server.base_url) > 0:
                await asyncio.sleep(0.05)
        print(f"no load {monotonic() - killed_s:.2f} s after the session was killed")
        assert await nothing_is_left(two)
        assert await asyncio.wait_for(run.wait(), PATIENCE_S) == 3
        said = (await run.stderr.read()).decode()
        assert "Traceback" not in said
        assert "has ended unasked (status -9)" in said
    finally:
        if run.returncode is None:
            run.kill()
        await server.close()
