"""When bytes arrived: the kernel's own stamp where there is one, else the best that can be had.

Three sources, best first:

    kernel    SO_TIMESTAMPNS: the time at which the last byte of the read reached the host (Linux, TCP). Nothing that
              this process does can spoil it.
    select    the time at which the loop's selector returned: later by the wake-up of the process (a `StampingLoop`).
    protocol  the time at which data_received was called: later by every socket that was served before it.

The kernel stamps with CLOCK_REALTIME, which may jump: NTP, settimeofday, a suspended machine. So each stamp is held
against the clock that stamped it at once: the distance of the two clocks must be what it was when it was measured last.
Where it is not, it is measured again, and whatever may have come before that has the time of its read, which is late by
the lag but never of another clock. Both clocks are slewed alike, so slewing changes nothing.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import struct
import sys
from time import perf_counter_ns, sleep, time_ns

from msgspec import Struct

KERNEL = "kernel"
SELECT = "select"
PROTOCOL = "protocol"
HTTPX = "httpx"
"""Stock httpx: the time at which a task got the bytes."""

READ_BYTES = 64 * 1024
"""Per read. asyncio asks for 256 KiB, which costs 20 us more a read in page faults."""

_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0
_RESAMPLE_NS = 1_000_000_000
_STEP_NS = 100_000
"""A change of the clocks' distance beyond this is a step: twenty bracketed samples agree within 1 us. No clock makes a
stamp more wrong than this."""
_SLEW = 1_000
"""One ns in so many may be slew, where a system slews its clocks apart: twice what NTP allows itself. It is no jump."""
_SLEWED_NS = 10_000_000_000
"""For so long at most: a change of 10 ms is a jump, however long nothing was read."""
_LAGS_SORTED = 4096
"""Lags of a sample that are sorted, of evenly spaced reads: all 20 000 of a busy second would hold the loop 3 ms."""


class KernelTimeSocket(socket.socket):
    """A TCP socket that remembers when the kernel received what it read last.

    It overrides what asyncio's selector transports read with, so a loop, TLS and flow control work as they are.

    Attributes:
        arrival_ns: CLOCK_REALTIME of the last byte of the last read; 0: not known.
    """

    arrival_ns: int = 0

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        data, ancillary, _, _ = self.recvmsg(READ_BYTES, _ANCILLARY_BYTES, flags)
        self._remember(ancillary)
        return data

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        view = memoryview(buffer)[: nbytes or None]
        size, ancillary, _, _ = self.recvmsg_into([view], _ANCILLARY_BYTES, flags)
        self._remember(ancillary)
        return size

    def _remember(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        if ancillary:
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            self.arrival_ns = seconds * 1_000_000_000 + nanoseconds
        else:
            self.arrival_ns = 0


def open_socket(family: int, type_: int, protocol: int) -> socket.socket:
    """A non-blocking client socket; one that has the kernel's stamps where the platform can."""
    if sys.platform == "linux" and family in (socket.AF_INET, socket.AF_INET6):
        stamped = KernelTimeSocket(family, type_, protocol)
        stamped.setblocking(False)
        try:
            stamped.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        except OSError:  # gVisor and other kernels without it: the read simply has no stamp
            stamped.close()
        else:
            return stamped
    plain = socket.socket(family, type_, protocol)
    plain.setblocking(False)
    return plain


class StampingSelector(selectors.DefaultSelector):
    """A selector that notes when it returned, and that gathers what is ready when much is going on.

    Waking up costs more than reading a socket (45 us with cold caches, against 8). Where the kernel stamps arrivals it
    does not matter when they are read, so above `BUSY_PER_S` ready sockets a second a wait begins with a nap, and
    sockets are read by the dozen. A nap ends with the next timer, after 4 ms at most, and after a quarter of the mean
    time between two reads of one socket: two chunks of one stream seldom fall into one read, and the end of a request
    is noticed late by a small part of its length only.

    Attributes:
        returned_ns: perf_counter_ns at the end of the last wait.
        awake_ns: the same, of the last nap: what came before it was left waiting on purpose.
        may_gather: set once arrivals are known to be stamped by the kernel.
        punctual: set while something is to be sent at the very moment of the next timer: epoll counts whole
            milliseconds and rounds them up, so what is left after them is slept.
    """

    BUSY_PER_S = 2_000
    GATHERED = 16
    """Sockets that a nap is meant to gather."""
    LONGEST_NAP_S = 0.004
    WINDOW_NS = 50_000_000
    """Of the rate on which the naps are based."""

    returned_ns: int = 0
    awake_ns: int = 0
    may_gather: bool = False
    punctual: bool = False
    _nap_s: float = 0.0
    _seen: int = 0
    _behind: int = 0
    _window_start_ns: int = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._nap_s and (timeout is None or timeout > 0):
            nap_s = self._nap_s - (perf_counter_ns() - self.returned_ns) / 1e9
            if nap_s > 0:
                sleep(nap_s if timeout is None else min(nap_s, timeout))
                timeout = timeout if timeout is None else max(timeout - nap_s, 0)
                self.awake_ns = perf_counter_ns()
                if timeout == 0 and self.punctual:
                    return []
        if self.punctual and self.may_gather and timeout:
            ready = self._select_sharply(timeout)
        else:
            ready = super().select(timeout)
        self.returned_ns = now = perf_counter_ns()
        self._seen += len(ready)
        span = now - self._window_start_ns
        if span > self.WINDOW_NS:
            self._nap_s = self._next_nap_s(self._seen * 1e9 / span) if self.may_gather else 0.0
            self._seen, self._window_start_ns = 0, now
        return ready

    def _select_sharply(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Until `timeout` has passed, to a tenth of a millisecond.

        What comes in the last part of one is read next time: the kernel stamps it, and what is due goes first.
        """
        due_ns = perf_counter_ns() + round(timeout * 1e9)
        ready = super().select(max(0.0, (int(timeout * 1e3) - 0.5) / 1e3))  # rounded up, that is the whole ones
        if not ready and (rest_ns := due_ns - perf_counter_ns()) > 0:
            sleep(rest_ns / 1e9)
            self.awake_ns = perf_counter_ns()
        return ready

    def note(self, ready: int, watched: int) -> None:
        """One of the file descriptors here stands for `watched` sockets, `ready` of which were found ready."""
        self._seen += ready
        self._behind = watched

    def _next_nap_s(self, ready_per_s: float) -> float:
        if ready_per_s < self.BUSY_PER_S:
            return 0.0
        sockets = len(self.get_map()) + self._behind
        return min(self.LONGEST_NAP_S, self.GATHERED / ready_per_s, sockets / ready_per_s / 4)


class StampingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with a `StampingSelector`. Use: `asyncio.Runner(loop_factory=StampingLoop)`."""

    def __init__(self) -> None:
        self.selector = StampingSelector()
        super().__init__(self.selector)


class LagSample(Struct, frozen=True):
    """How far the client was behind the network since the sample before.

    Lag is the time between a byte's arrival (the best stamp there is; the end of the nap in which it came) and the
    moment it was looked at; None where stamp and look are the same thing.
    """

    reads: int = 0
    coalesced: int = 0
    """Reads that held more than one token event."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    jumps: int = 0
    """Of the wall clock."""
    jumped_ns: int = 0
    """By how much the wall clock went ahead in them, all together; below 0: it was set back."""


def _realtime_to_perf_counter_ns() -> int:
    """perf_counter_ns - CLOCK_REALTIME: the narrowest of 20 bracketed readings (error below 1 us)."""
    narrowest = distance = 0
    for turn in range(20):
        before = perf_counter_ns()
        real = time_ns()
        width = perf_counter_ns() - before
        if turn == 0 or width < narrowest:
            narrowest, distance = width, before + width // 2 - real
    return distance


class Stamper:
    """Gives every read its arrival on the run clock, and keeps account of the lag.

    Attributes:
        source: where the last stamp came from.
        unstamped: reads without a stamp by the kernel.
    """

    def __init__(self, origin_ns: int) -> None:
        self.origin_ns = origin_ns
        self.source = KERNEL if sys.platform == "linux" else PROTOCOL
        self.unstamped = 0
        self.coalesced = 0
        self._shift_ns = 0
        self._sampled_ns = 0
        self._resample_at_ns = 0
        self._since_ns = 0
        """Stamps are believed from here on: before it, the clocks had another distance."""
        self._jumps = self._jumped_ns = 0
        self._lags_ns: list[int] = []
        self._selector: StampingSelector | None = None
        self._reads = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Learn what the running loop offers."""
        self._selector = loop.selector if isinstance(loop, StampingLoop) else None

    def now_ns(self) -> int:
        """The run clock."""
        return perf_counter_ns() - self.origin_ns

    def stamp_ns(self, sock: socket.socket) -> int:
        """Arrival, on the run clock, of what `sock` read last. To be called once per read, at its very start."""
        now = perf_counter_ns() - self.origin_ns
        self._reads += 1
        arrival = sock.arrival_ns if type(sock) is KernelTimeSocket else 0
        if arrival:
            ahead = time_ns() + self._shift_ns - now
            if not -_STEP_NS < ahead < _STEP_NS or now >= self._resample_at_ns:
                self._resample(now)
            self.source = KERNEL
            stamp = arrival + self._shift_ns
            if stamp < self._since_ns:
                return now
        elif self._selector is not None:
            self._selector.may_gather = False
            self.unstamped += 1
            stamp = self._selector.returned_ns - self.origin_ns
            self.source = SELECT
        else:
            self.source = PROTOCOL
            return now
        if stamp > now:
            stamp = now
        due = stamp
        if self._selector is not None and self._selector.awake_ns - self.origin_ns > stamp:
            due = self._selector.awake_ns - self.origin_ns
        self._lags_ns.append(now - due)
        return stamp

    def take_lag(self) -> LagSample:
        """The lag since the last call."""
        lags, self._lags_ns = self._lags_ns, []
        reads, coalesced, self._reads, self.coalesced = self._reads, self.coalesced, 0, 0
        jumps, jumped_ns, self._jumps, self._jumped_ns = self._jumps, self._jumped_ns, 0, 0
        if not lags:
            return LagSample(reads, coalesced, jumps=jumps, jumped_ns=jumped_ns)
        ordered = sorted(lags[:: len(lags) // _LAGS_SORTED + 1])
        p50, p99 = (ordered[int(len(ordered) * share)] / 1e6 for share in (0.50, 0.99))
        return LagSample(reads, coalesced, p50, p99, max(lags) / 1e6, jumps, jumped_ns)

    def _resample(self, now: int) -> None:
        shift = _realtime_to_perf_counter_ns() - self.origin_ns
        change = shift - self._shift_ns
        if self._resample_at_ns and abs(change) > _STEP_NS:
            self._since_ns = now
            if abs(change) > _STEP_NS + min(now - self._sampled_ns, _SLEWED_NS) // _SLEW:
                self._jumps += 1
                self._jumped_ns -= change
        self._shift_ns, self._sampled_ns = shift, now
        if self._selector is not None:
            self._selector.may_gather = True
        self._resample_at_ns = now + _RESAMPLE_NS
