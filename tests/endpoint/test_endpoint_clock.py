"""Stamps: where they come from, that they are true, and that a step of the wall clock does not spoil them."""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import Caps
from llmtop.endpoint import clock as clock_module
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import KernelTimeSocket, Stamper, StampingLoop, StampingSelector, open_socket
from llmtop.endpoint.trace import Trace

from .conftest import Recorder, Request, ScriptedServer, chat

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel stamps are Linux's")


def pair() -> tuple[socket.socket, socket.socket]:
    """A client socket of ours and its peer, connected over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = open_socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        client.setblocking(True)
        client.connect(listener.getsockname())
        peer, _ = listener.accept()
    return client, peer


@pytest.fixture
def stamping() -> Iterator[None]:
    """The kernel stamps packets already: it starts a moment after the first socket wants it."""
    with open_socket(socket.AF_INET, socket.SOCK_STREAM, 0):
        time.sleep(0.05)
        yield


@linux
@pytest.mark.usefixtures("stamping")
@pytest.mark.parametrize("read", ["recv", "recv_into"])
def test_the_kernels_stamp_is_when_the_bytes_came_not_when_they_were_read(read: str) -> None:
    client, peer = pair()
    with client, peer:
        stamper = Stamper(0)
        before = stamper.now_ns()
        peer.sendall(b"hello")
        after = stamper.now_ns()
        time.sleep(0.02)
        if read == "recv":
            assert client.recv(1 << 18) == b"hello"
        else:
            buffer = bytearray(100)
            assert client.recv_into(buffer) == 5
            assert buffer[:5] == b"hello"
        stamp = stamper.stamp_ns(client)
        assert before - 50_000 <= stamp <= after + 5_000_000
        assert stamper.source == "kernel"
        lag = stamper.take_lag()
        assert lag.reads == 1
        assert lag.p50_ms is not None
        assert lag.p50_ms >= 15


class Clocks:
    """A wall clock that may jump and be slewed beside a monotonic one; a look at either takes 100 ns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1_000_000_000_000
        self.wall_ns = 1_700_000_000_000_000_000
        self.slew_ppm = 0
        monkeypatch.setattr(clock_module, "perf_counter_ns", self.look)
        monkeypatch.setattr(clock_module, "time_ns", self.look_at_the_wall)

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        self.wall_ns += ns + ns * self.slew_ppm // 1_000_000

    def look(self) -> int:
        self.advance(100)
        return self.now_ns

    def look_at_the_wall(self) -> int:
        self.advance(100)
        return self.wall_ns


MS = 1_000_000
BOUND_NS = 101_000
"""What a clock may make a stamp wrong by: a tenth of a millisecond, and a microsecond of a sample."""


@linux
@given(
    reads=st.lists(
        st.tuples(
            st.integers(0, 3_000 * MS),  # until the bytes come
            st.integers(0, 40 * MS),  # until they are read
            st.sampled_from([0, 0, 0, -7_200_000 * MS, 3_600_000 * MS, 60_000 * MS, -50 * MS, 50 * MS, -MS, -150_000]),
            st.booleans(),  # whether the jump is before they come
        ),
        max_size=25,
    ),
    slew_ppm=st.sampled_from([0, 0, 500, -500]),
    others=st.booleans(),
)
def test_no_jump_of_the_wall_clock_makes_a_stamp_wrong(
    reads: list[tuple[int, int, int, bool]], slew_ppm: int, others: bool
) -> None:
    """A stamp is right within the bound, or between the arrival and its read: it is late by the lag, never early."""
    with pytest.MonkeyPatch.context() as patch:
        clocks = Clocks(patch)
        clocks.slew_ppm = slew_ppm
        stamper = Stamper(clocks.now_ns)
        with KernelTimeSocket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            jumps = 0
            for wait_ns, lag_ns, jump_ns, before in [(0, 0, 0, True), *reads]:
                clocks.advance(wait_ns)
                clocks.wall_ns += jump_ns if before else 0
                came_ns, sock.arrival_ns = clocks.now_ns - stamper.origin_ns, clocks.wall_ns
                clocks.advance(lag_ns // 2)
                if others:  # another socket, whose bytes came since, is read first
                    arrival_ns, sock.arrival_ns = sock.arrival_ns, clocks.wall_ns
                    stamper.stamp_ns(sock)
                    sock.arrival_ns = arrival_ns
                clocks.wall_ns += 0 if before else jump_ns
                clocks.advance(lag_ns - lag_ns // 2)
                stamp = stamper.stamp_ns(sock)
                assert came_ns - BOUND_NS <= stamp <= clocks.now_ns - stamper.origin_ns
                jumps += abs(jump_ns) >= 50 * MS
            sample = stamper.take_lag()
            if not any(abs(jump_ns) < 50 * MS and jump_ns for _, _, jump_ns, _ in reads):
                assert sample.jumps == jumps
                told = sum(jump_ns for _, _, jump_ns, _ in reads)
                slewed = sum(wait_ns + lag_ns for wait_ns, lag_ns, _, _ in reads) // 1_000 + MS
                assert abs(sample.jumped_ns - told) <= slewed
            assert stamper.take_lag().jumps == 0


@linux
def test_bytes_that_came_before_a_jump_and_are_read_after_others_are_not_taken_for_older(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two sockets hold bytes from before the jump; the second is read when the clocks' new distance is known."""
    for jump_ns in (3_600_000 * MS, -3_600_000 * MS, 50 * MS, -50 * MS):
        clocks = Clocks(monkeypatch)
        stamper = Stamper(clocks.now_ns)
        with KernelTimeSocket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.arrival_ns = clocks.wall_ns
            stamper.stamp_ns(sock)
            came_ns, sock.arrival_ns = clocks.now_ns - stamper.origin_ns, clocks.wall_ns
            clocks.advance(5 * MS)
            clocks.wall_ns += jump_ns
            for _ in range(2):
                assert came_ns - BOUND_NS <= stamper.stamp_ns(sock) <= clocks.now_ns - stamper.origin_ns
                clocks.advance(MS)
            sock.arrival_ns = clocks.wall_ns
            assert abs(stamper.stamp_ns(sock) - (clocks.now_ns - stamper.origin_ns)) < BOUND_NS
        assert stamper.take_lag().jumps == 1


@linux
def test_a_stamp_is_never_later_than_the_look() -> None:
    stamper = Stamper(0)
    with KernelTimeSocket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        for ahead_ns in (0, 10_000, 40_000):
            sock.arrival_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) + ahead_ns
            stamp = stamper.stamp_ns(sock)
            assert stamp <= stamper.now_ns()


def test_without_the_kernel_the_selectors_return_is_the_stamp() -> None:
    async def read() -> tuple[int, int, str]:
        loop = asyncio.get_running_loop()
        stamper = Stamper(0)
        stamper.attach(loop)
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.send(b"x")
            await loop.sock_recv(a, 1)
            time.sleep(0.01)  # noqa: ASYNC251 (the loop is meant to be blocked)
            return stamper.stamp_ns(a), stamper.now_ns(), stamper.source

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        stamp, now, source = runner.run(read())
    assert source == "select"
    assert now - stamp >= 10_000_000


def test_without_either_the_look_is_the_stamp_and_lag_is_not_known() -> None:
    stamper = Stamper(0)
    with socket.socket() as plain:
        before = stamper.now_ns()
        assert before <= stamper.stamp_ns(plain) <= stamper.now_ns()
    assert stamper.source == "protocol"
    assert stamper.take_lag().p99_ms is None


def test_a_nap_is_short_and_leaves_timers_and_streams_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(clock_module, "sleep", naps.append)
    sockets = [socket.socket() for _ in range(16)]
    selector = StampingSelector()
    try:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        assert selector._next_nap_s(selector.BUSY_PER_S - 1) == 0
        assert selector._next_nap_s(4_000) == pytest.approx(16 / 4_000 / 4)  # a quarter of a stream's gap
        for one in sockets[4:]:
            selector.unregister(one)
        assert selector._next_nap_s(4_000) == pytest.approx(4 / 4_000 / 4)
        selector._nap_s, selector.WINDOW_NS = 10.0, 10**18
        selector.select(0)
        assert not naps
        selector.select(0.001)  # a timer is due
        assert naps == [0.001]
    finally:
        selector.close()
        for one in sockets:
            one.close()


def test_naps_are_only_taken_once_the_kernel_stamps() -> None:
    selector = StampingSelector()
    try:
        selector.WINDOW_NS = 0
        selector._seen = 10**9
        selector.select(0)
        assert selector._nap_s == 0
        selector.may_gather = True
        selector.register(peer := socket.socket(), selectors.EVENT_READ)
        selector._seen = 10**9
        selector.select(0)
        assert selector._nap_s > 0
        peer.close()
    finally:
        selector.close()


def test_what_came_during_a_nap_is_not_held_against_the_client() -> None:
    async def read() -> float | None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StampingLoop)
        stamper = Stamper(0)
        stamper.attach(loop)
        with KernelTimeSocket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.arrival_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            time.sleep(0.01)  # noqa: ASYNC251 (stands for a nap of the selector)
            loop.selector.awake_ns = time.perf_counter_ns()
            stamper.stamp_ns(sock)
        return stamper.take_lag().max_ms

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        lag_ms = runner.run(read())
    assert lag_ms is not None
    assert lag_ms < 9


@linux
def test_stamps_hold_while_the_loop_is_blocked() -> None:
    """The loop sleeps 30 ms on every token: arrival times do not move."""

    async def script(request: Request) -> None:
        await request.start_stream()
        for index in range(8):
            await request.event(chat("a", "stop" if index == 7 else None))
            await asyncio.sleep(0.02)
        await request.end()

    class Hog(Recorder):
        def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
            super().tokens(trace, n, stamp_ns, gap_ns)
            if len(self.arrivals) == 2:
                time.sleep(0.03)

    async def drive() -> Hog:
        server = ScriptedServer(script)
        await server.start()
        client = EndpointClient(
            Endpoint(base_url=server.url), EndpointInfo(dialect=Dialect.VLLM, model="m"), Caps(), time.perf_counter_ns()
        )
        hog = Hog()
        await client.generate("x", 8, "chat", Trace(), hog)
        await client.close()
        await server.close()
        return hog

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        hog = runner.run(drive())
    assert hog.total == 8
    stamps = [stamp for _, stamp, _ in hog.arrivals]
    assert stamps == sorted(stamps)


@linux
def test_a_stream_keeps_its_figures_while_the_wall_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sockets; the kernel's clock and the process's jump together, by hours and by 50 ms, between the tokens."""
    ahead_ns, written_ns, jumps = [0], list[int](), [3_600_000 * MS, -50 * MS, -7_200_000 * MS, 50 * MS, 1 * MS]
    real_time_ns, remember = time.time_ns, KernelTimeSocket._remember
    monkeypatch.setattr(clock_module, "time_ns", lambda: real_time_ns() + ahead_ns[0])

    def remember_ahead(self: KernelTimeSocket, ancillary: list[tuple[int, int, bytes]]) -> None:
        remember(self, ancillary)
        self.arrival_ns += ahead_ns[0] if self.arrival_ns else 0

    monkeypatch.setattr(KernelTimeSocket, "_remember", remember_ahead)

    async def script(request: Request) -> None:
        await request.start_stream()
        for index in range(20):
            if index % 4 == 2:
                ahead_ns[0] += jumps[index // 4]
            await asyncio.sleep(0.008)
            written_ns.append(time.perf_counter_ns())
            await request.event(chat("a", "stop" if index == 19 else None))
        await request.end()

    async def drive() -> tuple[Recorder, Trace, int, int]:
        server = ScriptedServer(script)
        await server.start()
        origin_ns = time.perf_counter_ns()
        info = EndpointInfo(dialect=Dialect.VLLM, model="m")
        client = EndpointClient(Endpoint(base_url=server.url), info, Caps(), origin_ns)
        heard, trace = Recorder(), Trace()
        await client.generate("x", 20, "chat", trace, heard)
        seen = client.take_lag().jumps
        await client.close()
        await server.close()
        return heard, trace, origin_ns, seen

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        heard, trace, origin_ns, seen = runner.run(drive())
    assert trace.sent_ns < trace.first_token_ns  # type: ignore[operator]
    if len(heard.arrivals) == 20:
        for (_, stamp_ns, gap_ns), written in zip(heard.arrivals, written_ns, strict=True):
            assert -MS < stamp_ns + origin_ns - written < 40 * MS
            assert gap_ns is None or 0 <= gap_ns < 60 * MS
    assert seen >= 4
