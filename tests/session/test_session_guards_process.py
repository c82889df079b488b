"""The session's process, taken apart: what a slow reader misses, what a gone host ends, what an exit code says."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from session_fakes import BASE

from llmtop import channel
from llmtop.domain.commands import AddMark, Command, Quit
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.load import LoadPlan
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ended, Ending, FactBatch, Told
from llmtop.errors import EndpointUnreachable, SessionLost, UsageError
from llmtop.meter.frames import FrameBuilder
from llmtop.session import messages, process
from llmtop.session.options import SessionOptions
from llmtop.session.process import BACKLOG_BYTES, Outlet

FRAME = FrameBuilder().frame(EndpointStatus(state=EndpointState.UP), max_concurrency=1)
FRAMED = messages.Framed(FRAME)
OPTIONS = SessionOptions(profile=Profile(name="p", plan=LoadPlan(stages=(), base=BASE)))


def told(size: int = 0) -> Told:
    return Told(ended=Ended("x" * size))


# ── The outlet ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Pipe:
    """A pipe to a reader that reads when it is told to."""

    def __init__(self) -> None:
        self.outgoing_fd, self.incoming_fd = reversed(os.pipe())
        self.outlet = Outlet(self.outgoing_fd)

    def rest(self) -> list[Any]:
        """All messages up to the end of the pipe."""
        with os.fdopen(self.incoming_fd, "rb") as stream:
            return [messages.decode_message(body) for body in iter(lambda: channel.read(stream), None)]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Outlet]:
    """An outlet that has not begun to write, so that all is backlog."""

    class Held(threading.Thread):
        def start(self) -> None:
            pass

    monkeypatch.setattr("llmtop.session.process.threading.Thread", Held)
    return lambda: Outlet(-1)


def test_messages_come_whole_and_in_order() -> None:
    pipe = Pipe()
    sent = [told(), FRAMED, told(5), FRAMED]
    for message in sent:
        pipe.outlet.put(message)
    pipe.outlet.close()
    assert pipe.rest() == sent


def test_a_message_does_not_wait_for_the_next_one() -> None:
    pipe = Pipe()
    with os.fdopen(pipe.incoming_fd, "rb") as stream:
        for size in (1, 2):
            pipe.outlet.put(told(size))
            body = channel.read(stream)
            assert body is not None
            assert messages.decode_message(body) == told(size)
        pipe.outlet.close()
        assert channel.read(stream) is None


def test_a_message_larger_than_the_pipe_comes_whole() -> None:
    pipe = Pipe()
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(pipe.rest()))
    reader.start()
    pipe.outlet.put(told(1 << 21))
    pipe.outlet.close()
    reader.join(30)
    assert got == [told(1 << 21)]


def test_a_slow_reader_misses_frames_and_no_facts(held: Callable[[], Outlet]) -> None:
    outlet = held()
    small = len(messages.packed(told()))
    full = told(2 * BACKLOG_BYTES - len(messages.packed(told(BACKLOG_BYTES))))
    assert len(messages.packed(full)) == BACKLOG_BYTES
    outlet.put(full)
    outlet.put(FRAMED)
    assert len(outlet._pieces) == 2, "so much is no backlog yet"
    for _ in range(3):
        outlet.put(FRAMED)
        outlet.put(told())
    assert [len(piece) for piece in outlet._pieces[2:]] == [small] * 3


def test_frames_come_again_when_the_reader_has_caught_up() -> None:
    pipe = Pipe()
    got: list[Any] = []
    big = told(BACKLOG_BYTES + 1)
    pipe.outlet.put(big)
    reader = threading.Thread(target=lambda: got.extend(pipe.rest()))
    reader.start()
    while not got and pipe.outlet._size:
        threading.Event().wait(0.001)
    pipe.outlet.put(FRAMED)
    pipe.outlet.close()
    reader.join(30)
    assert got == [big, FRAMED]


def test_a_reader_that_is_gone_ends_the_outlet_quietly() -> None:
    pipe = Pipe()
    os.close(pipe.incoming_fd)
    pipe.outlet.put(told())
    pipe.outlet.put(told())
    pipe.outlet.close()
    assert not pipe.outlet._thread.is_alive()


def test_a_reader_that_does_not_read_is_not_waited_for_long(held: Callable[[], Outlet]) -> None:
    outlet = held()
    waited: list[float] = []
    outlet._thread = types.SimpleNamespace(join=lambda timeout: waited.append(timeout))  # type: ignore[assignment]
    outlet.close()
    assert len(waited) == 1
    assert 0.5 <= waited[0] < 2.0, "a second of grace, and no host that hangs keeps the process"


def test_the_outlet_keeps_no_process_alive() -> None:
    pipe = Pipe()
    assert pipe.outlet._thread.daemon
    pipe.outlet.close()
    assert pipe.rest() == []


# ── What serves ───────────────────────────────────────────────────────────────────────────────────────────────────────


class FakeSession:
    """Tells one fact at a time, and writes down what it is asked."""

    error: Exception | None = None
    fails: Exception | None = None
    hangs = False

    def __init__(self) -> None:
        self.meta: Any = None
        self.commands: list[Command] = []
        self.drains_s: list[float] = []
        self.endings: list[Ending | None] = []
        self.taken = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stood_still(self, for_s: float, slept: bool) -> None: ...

    def frame(self) -> Any:
        return FRAME

    def take_facts(self) -> tuple[FactBatch, ...]:
        self.taken += 1
        return (FactBatch(t_s=float(self.taken)),)

    async def start(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.meta = "first"
        if self.fails is not None:
            self.failed.set_exception(self.fails)

    async def command(self, command: Command) -> None:
        self.commands.append(command)
        if isinstance(command, AddMark):
            self.meta = command.text

    async def close(self, drain_s: float, ending: Ending | None, why: str = "") -> None:
        self.drains_s.append(drain_s)
        self.endings.append(ending)


class Served:
    """Runs of `_serve` over a fake session that ticks often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[messages.Message] = []
        self.error: Exception | None = None
        """Raised by the start."""
        self.fails: Exception | None = None
        """What a part of the session raises."""
        self.hangs = False
        """Its start never ends."""
        self.session: FakeSession | None = None
        monkeypatch.setattr(process, "Session", self._made)
        monkeypatch.setattr(process, "TICK_S", 0.01)

    def _made(self, options: SessionOptions) -> FakeSession:
        assert options == OPTIONS
        self.session = FakeSession()
        self.session.error, self.session.fails, self.session.hangs = self.error, self.fails, self.hangs
        return self.session

    def put(self, message: messages.Message) -> None:
        self.told.append(message)

    @property
    def metas(self) -> list[object]:
        """Of all batches that were told, in order."""
        return [message.meta for message in self.told if isinstance(message, Told)]

    async def run(self, *commands: Command | None, wait_s: float = 0.0) -> FakeSession:
        queue: process.Commands = asyncio.Queue()
        serving = asyncio.create_task(process._serve(OPTIONS, queue, self))  # type: ignore[arg-type]
        for command in commands:
            await asyncio.sleep(wait_s)
            queue.put_nowait(command)
        await asyncio.wait_for(serving, 30)
        assert self.session is not None
        return self.session


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


async def test_commands_are_carried_out_in_order_until_the_one_to_quit(served: Served) -> None:
    session = await served.run(AddMark("a"), AddMark("b"), Quit(), AddMark("late"))
    assert session.commands == [AddMark("a"), AddMark("b")]


async def test_every_fact_is_told_once_and_a_frame_with_it_to_the_end(served: Served) -> None:
    session = await served.run(AddMark("a"), Quit(), wait_s=0.03)
    assert served.told[0] == FRAMED
    pairs = list(zip(served.told[1::2], served.told[2::2], strict=True))
    assert len(pairs) == session.taken >= 3
    assert [frame for _, frame in pairs] == [FRAMED] * len(pairs)
    times = [batch.t_s for facts, _ in pairs if isinstance(facts, Told) for batch in facts.batches]
    assert times == [float(i) for i in range(1, len(pairs) + 1)]


async def test_what_is_known_of_the_run_is_told_when_it_changes_and_only_then(served: Served) -> None:
    session = await served.run(AddMark("other"), Quit(), wait_s=0.03)
    assert [meta for meta in served.metas if meta is not None] == ["first", "other"]
    assert served.metas[0] == "first"
    assert len(served.metas) == session.taken > 2


async def test_an_orphan_does_not_wait_as_long_for_the_server_to_drain(served: Served) -> None:
    orphan = await served.run(AddMark("a"), None)
    asked = await served.run(AddMark("a"), Quit())
    assert (await served.run(Quit(patient=False))).drains_s == orphan.drains_s
    assert orphan.commands == asked.commands == [AddMark("a")]
    (short_s,), (long_s,) = orphan.drains_s, asked.drains_s
    assert 0.0 < short_s < 2.0 < long_s < 10.0


@pytest.mark.parametrize("last", [None, Quit(patient=False)])
async def test_a_session_that_drains_hurries_for_whom_waits_no_longer_and_for_nobody_else(
    last: Command | None, monkeypatch: pytest.MonkeyPatch, served: Served
) -> None:
    hurried = asyncio.Event()

    async def drain(self: FakeSession, drain_s: float, ending: Ending | None, why: str) -> None:
        await hurried.wait()

    monkeypatch.setattr(FakeSession, "close", drain)
    monkeypatch.setattr(FakeSession, "hurry", lambda self: hurried.set(), raising=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(served.run(Quit(), Quit(), AddMark("late")), 0.1)
    assert not hurried.is_set()
    await served.run(Quit(), last)
    assert hurried.is_set()


async def test_a_bug_in_the_session_ends_the_run_in_order(served: Served) -> None:
    served.fails = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        await served.run()
    assert served.session is not None
    assert len(served.session.drains_s) == 1
    assert len(served.metas) == 1, "what it knew is told after the close"


async def test_a_session_that_cannot_start_is_closed_and_its_facts_are_told(served: Served) -> None:
    served.error = EndpointUnreachable("http://h", "nobody")
    with pytest.raises(EndpointUnreachable):
        await served.run()
    assert served.session is not None
    assert (len(served.session.drains_s), len(served.metas)) == (1, 1)


async def test_asked_to_quit_while_it_starts_it_ends_there(served: Served) -> None:
    served.hangs = True
    session = await served.run(Quit(Ending.HAND), wait_s=0.03)
    assert (session.meta, session.endings) == (None, [Ending.HAND])
    assert FRAMED in served.told[:2], "that it lives is shown meanwhile"


async def test_how_the_run_ended_goes_to_the_session_with_the_wish_to_quit(served: Served) -> None:
    assert (await served.run(Quit(Ending.BRAKE))).endings == [Ending.BRAKE]
    assert (await served.run(None)).endings == [None], "nobody is left to say so"


# ── The process ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Main:
    """One run of `main` on this stdin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stdin: bytes, error: BaseException | None = None) -> None:
        incoming_fd, outgoing_fd = os.pipe()
        self.options: list[SessionOptions] = []

        async def run(options: SessionOptions, outlet: Outlet) -> None:
            self.options.append(options)
            if error is not None:
                raise error

        monkeypatch.setattr(process, "_main", run)
        monkeypatch.setattr(channel, "claim_stdout", lambda: outgoing_fd)
        monkeypatch.setattr(process.sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(stdin)))
        self.outlets: list[Outlet] = []
        monkeypatch.setattr(process, "Outlet", lambda fd: self.outlets.append(Outlet(fd)) or self.outlets[-1])
        self.code = process.main()
        self.outlets[0].close()
        with os.fdopen(incoming_fd, "rb") as stream:
            self.told = [messages.decode_message(body) for body in iter(lambda: channel.read(stream), None)]


def test_a_run_that_ends_as_asked_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    main = Main(monkeypatch, messages.packed(OPTIONS))
    assert (main.options, main.code, main.told) == ([OPTIONS], 0, [Told(ended=Ended())])


@pytest.mark.parametrize(
    ("error", "code"), [(EndpointUnreachable("http://h", "nobody"), 3), (UsageError("no such thing"), 2)]
)
def test_what_a_user_can_mend_is_told_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    main = Main(monkeypatch, messages.packed(OPTIONS), error)
    assert (main.code, main.told) == (code, [Told(ended=Ended(str(error), code))])
    assert capsys.readouterr().err == ""


def test_a_bug_is_told_as_such_and_logged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main = Main(monkeypatch, messages.packed(OPTIONS), ZeroDivisionError("a bug"))
    (end,) = main.told
    assert isinstance(end, Told)
    assert end.ended is not None
    assert main.code == end.ended.exit_code == 3
    assert "log" in (end.ended.error or "")
    assert "a bug" in capsys.readouterr().err


def test_without_options_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    main = Main(monkeypatch, b"")
    assert (main.options, main.code, main.told) == ([], 2, [])


async def test_the_end_of_stdin_is_the_last_command(monkeypatch: pytest.MonkeyPatch) -> None:
    body = messages.packed(AddMark("a")) + messages.packed(Quit())
    monkeypatch.setattr(process.sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(body)))
    queue: process.Commands = asyncio.Queue()
    process._listen(queue, lambda call, value: call(value))
    assert [queue.get_nowait() for _ in range(queue.qsize())] == [AddMark("a"), Quit(), None]


async def test_a_damaged_stdin_ends_the_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"\xff" * 9)))
    queue: process.Commands = asyncio.Queue()
    with pytest.raises(SessionLost):
        process._listen(queue, lambda call, value: call(value))
    assert queue.get_nowait() is None


async def test_the_listener_hands_commands_over_and_keeps_no_process_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(messages.packed(AddMark("a")))))
    got: list[Command | None] = []
    daemons: list[bool] = []

    async def serve(options: SessionOptions, commands: process.Commands, outlet: Outlet) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            assert asyncio.get_running_loop().remove_signal_handler(number), "asked to end by a signal, it ends"
        got.extend([await commands.get(), await commands.get()])

    class Listener(threading.Thread):
        def start(self) -> None:
            daemons.append(self.daemon)
            super().start()

    monkeypatch.setattr(process, "_serve", serve)
    monkeypatch.setattr("llmtop.session.process.threading.Thread", Listener)
    await process._main(OPTIONS, None)  # type: ignore[arg-type]
    assert got == [AddMark("a"), None]
    assert daemons == [True]
