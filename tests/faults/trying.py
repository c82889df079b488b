"""What a fault needs: the command as a user starts it, in a home of its own, and a server that misbehaves on order."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock

import psutil

from llmtop.cli.main import main
from tests.waiting import lives

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-P", "-c", "import sys; from llmtop.cli.entry import main; sys.exit(main())")
"""As the console script does."""
WATCH_S = 0.05
LEFT_S = 3.0
"""For processes that end with the command, a moment after it."""


class Tried:
    """How a command ended."""

    def __init__(self, code: int | None, out: str, err: str, wall_s: float, peak_mb: float, left: int) -> None:
        self.code = code
        """None: it had to be killed when its time was over."""
        self.out, self.err = out, err
        self.wall_s, self.peak_mb = wall_s, peak_mb
        """Resident memory of the command and all that it started."""
        self.left = left
        """Processes of it that were still there a moment after its end; they are killed."""

    @property
    def said(self) -> str:
        return self.out + self.err

    def is_in_words(self, *codes: int) -> None:
        """It ended by itself with one of `codes`, in words, and left nothing running."""
        assert self.code is not None, f"not ended after {self.wall_s:.0f} s: {self.said[-500:]}"
        assert "Traceback" not in self.said, self.said[-3000:]
        assert self.code in codes, (self.code, self.said[-1000:])
        assert self.left == 0, f"{self.left} processes are left"


def environment(home: Path, more: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This process's environment with a home of its own; None takes a variable away."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LLMTOP_", "PYTEST_"))}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    asked: dict[str, str | None] = {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        **(more or {}),
    }
    return {name: value for name, value in {**kept, **asked}.items() if value is not None}


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started, also in sessions of their own."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def resident_mb(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss / 1e6
    return total


def living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if lives(each)]


def end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def tried(
    *arguments: str,
    home: Path,
    more: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    limit_s: float = 60.0,
    before: Callable[[], None] | None = None,
    during: Callable[[subprocess.Popen[bytes]], None] | None = None,
    stdin: bytes = b"",
    command: Sequence[str] = COMMAND,
) -> Tried:
    """Run `llmtop ARGUMENTS` to its end, or kill it and all that it started after `limit_s`.

    Args:
        before: in the child, before the command begins (limits, umask, closed descriptors).
        during: beside it, in a thread, with its process.
    """
    started = time.monotonic()
    with subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home, more),
        cwd=cwd,
        preexec_fn=before,
    ) as process:
        seen: dict[int, psutil.Process] = {}
        peak_mb = [0.0]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_S):
                now = family(process.pid)
                seen.update((each.pid, each) for each in now)
                peak_mb[0] = max(peak_mb[0], resident_mb(now))

        watching = threading.Thread(target=watch)
        watching.start()
        if during is not None:
            threading.Thread(target=during, args=(process,), daemon=True).start()
        code: int | None
        try:
            out, err = process.communicate(stdin, timeout=limit_s)
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            over.set()
            watching.join()
        if code is None:
            end([*family(process.pid), *seen.values()])
            out, err = process.communicate()
        wall_s = time.monotonic() - started
        left = [each for each in seen.values() if each.pid != process.pid]
        deadline = time.monotonic() + LEFT_S
        while living(left) and time.monotonic() < deadline:
            time.sleep(WATCH_S)
        left = living(left)
        end(left)
    return Tried(code, out.decode(errors="replace"), err.decode(errors="replace"), wall_s, peak_mb[0], len(left))


LIBRARIES_MB = 55.0
"""What a command takes before it does anything."""


def tried_here(*arguments: str, home: Path, more: Mapping[str, str | None] | None = None) -> Tried:
    """As `tried`, in this process, and so without a start: for what a command says where its process is not tried.

    An exception of the command is one here.
    """
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    out, err = io.StringIO(), io.StringIO()
    started, begun_mb = time.monotonic(), resident_mb([psutil.Process()])
    _forget_peak()
    with (
        mock.patch.dict(os.environ, environment(home, more), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main(list(arguments))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    wall_s, taken_mb = time.monotonic() - started, _peak_mb() - begun_mb
    left = living([each for each in psutil.Process().children(recursive=True) if each.pid not in before])
    end(left)
    return Tried(code, out.getvalue(), err.getvalue(), wall_s, LIBRARIES_MB + taken_mb, len(left))


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Of this process, since it was forgotten; what it has now where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else resident_mb([psutil.Process()])


class Terminal:
    """`llmtop ARGUMENTS` on a terminal of its own; at the end of its `with`, all that is left of it is killed."""

    def __init__(
        self,
        *arguments: str,
        home: Path,
        more: Mapping[str, str | None] | None = None,
        size: tuple[int, int] = (80, 24),
        controlling: bool = True,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.fd, self.slave = pty.openpty()
        """Both ends; `slave` stays open, so that its settings can be looked at after the command has gone."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.settings = termios.tcgetattr(self.slave)
        slave = self.slave

        def take() -> None:
            os.setsid()
            if controlling:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(home, more),
            preexec_fn=take,
        )
        self.written = b""
        self._seen: dict[int, psutil.Process] = {}

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        end([*self.family(), *self._seen.values()])
        self.process.wait()
        for descriptor in (self.fd, self.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def family(self) -> list[psutil.Process]:
        """All its processes that were ever seen, those that live and those that do not."""
        self._seen.update((each.pid, each) for each in family(self.process.pid))
        return list(self._seen.values())

    def child(self, module: str) -> psutil.Process:
        """Its process that runs `module`."""
        for each in self.family():
            with contextlib.suppress(psutil.Error):
                if any(module in word for word in each.cmdline()):
                    return each
        raise AssertionError(f"no process runs {module}")

    def read(self, for_s: float) -> bytes:
        """What comes within this time; kept in `written`, too."""
        came, deadline = b"", time.monotonic() + for_s
        while (left_s := deadline - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left_s)[0]:
                try:
                    chunk = os.read(self.fd, 65536)
                except OSError:
                    break
                if not chunk:
                    break
                came += chunk
        self.written += came
        return came

    def until(self, sign: bytes, limit_s: float = 30.0) -> None:
        """Read until `sign` has come."""
        deadline = time.monotonic() + limit_s
        while sign not in self.written:
            assert time.monotonic() < deadline, f"{sign!r} has not come: {self.written[-2000:]!r}"
            self.read(0.1)

    def send(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def hang_up(self) -> None:
        """As a dropped connection does: both ends are gone for us."""
        self.family()
        os.close(self.slave)
        os.close(self.fd)

    def code(self, limit_s: float = 30.0) -> int | None:
        """Its exit code, reading along; None: it has not ended in time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                while self.read(0.1):
                    pass
                return self.process.returncode
            self.read(0.1)
        return None

    def gone(self, limit_s: float = 30.0) -> bool:
        """Whether nothing of it is left within this time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.process.poll()
            if not living(self.family()):
                return True
            time.sleep(WATCH_S)
        return False

    def is_restored(self) -> None:
        """The terminal is as it was: its settings, and every mode that was switched on is off again."""
        assert termios.tcgetattr(self.slave) == self.settings, "stty differs"
        for mode in (b"1049", b"1000", b"1002", b"1003", b"1006", b"1015", b"1004", b"2004"):
            on, off = self.written.rfind(b"\x1b[?%bh" % mode), self.written.rfind(b"\x1b[?%bl" % mode)
            assert on <= off, f"mode {mode.decode()} is left on"
        hidden, shown = self.written.rfind(b"\x1b[?25l"), self.written.rfind(b"\x1b[?25h")
        assert hidden <= shown, "the cursor is left hidden"


# ── Servers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

Misdeed = Callable[[socket.socket], None]
"""Answers one request as it likes; the connection is closed when it returns."""


def whole(status: int, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    head = [
        f"HTTP/1.1 {status} X",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def says(status: int, body: bytes | object, *headers: str, kind: str = "application/json") -> Misdeed:
    """Answers with this; anything but bytes goes as JSON."""
    told = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda connection: connection.sendall(whole(status, told, *headers, kind=kind))


def streams(*tokens: str, pause_s: float = 0.0, model: str = "m", usage: bool = True) -> Misdeed:
    """A stream of events with one token each, and usage at its end."""

    def answer(connection: socket.socket) -> None:
        def event(**fields: object) -> None:
            connection.sendall(b"data: " + json.dumps({"model": model, "choices": [], **fields}).encode() + b"\n\n")

        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for token in tokens:
            choice = {"index": 0, "delta": {"content": token}, "text": token, "finish_reason": None}
            event(choices=[choice])
            time.sleep(pause_s)
        last = {"index": 0, "delta": {}, "text": "", "finish_reason": "length"}
        event(choices=[last])
        if usage:
            count = {"prompt_tokens": 10, "completion_tokens": len(tokens), "total_tokens": 10 + len(tokens)}
            connection.sendall(
                b"data: " + json.dumps({"model": model, "choices": [], "usage": count}).encode() + b"\n\n"
            )
        connection.sendall(b"data: [DONE]\n\n")

    return answer


def endless(start: bytes, piece: bytes, pause_s: float = 0.0) -> Misdeed:
    """Says `start`, then `piece` again and again."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            if pause_s:
                time.sleep(pause_s)

    return answer


METRICS = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 1
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="m"} 0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="m"} 0.1
"""

GOOD: dict[str, Misdeed] = {
    "/v1/models": says(200, {"object": "list", "data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]}),
    "/version": says(200, {"version": "0.10.0"}),
    "/metrics": says(200, METRICS, kind="text/plain"),
    "/v1/chat/completions": streams("one", " two", " three"),
    "/v1/completions": streams("one", " two", " three"),
}
"""A small server that is as it should be; the rest is answered with 404."""


class Server:
    """A server on loopback, a thread for each connection. `asked` has the heads (and bodies) of all requests."""

    def __init__(self, paths: Mapping[str, Misdeed], host: str = "127.0.0.1") -> None:
        self._paths = {**GOOD, **paths}
        self.asked: list[bytes] = []
        self._listening = socket.create_server((host, 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.open = 0
        """Connections that are being answered."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        self.open += 1
        with contextlib.suppress(OSError), connection:
            asked = b""
            while b"\r\n\r\n" not in asked:
                piece = connection.recv(65536)
                if not piece:
                    return
                asked += piece
            head, _, body = asked.partition(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    while len(body) < int(line.partition(b":")[2]):
                        body += connection.recv(65536)
            self.asked.append(head + b"\r\n\r\n" + body)
            path = head.split(b" ")[1].decode().partition("?")[0]
            self._paths.get(path, says(404, {"error": {"message": "not found"}}))(connection)
            connection.shutdown(socket.SHUT_WR)
        self.open -= 1

    def close(self) -> None:
        self._listening.close()


@contextlib.contextmanager
def serving(paths: Mapping[str, Misdeed] | None = None, host: str = "127.0.0.1") -> Iterator[Server]:
    """A `GOOD` server, but for `paths`."""
    server = Server(paths or {}, host)
    try:
        yield server
    finally:
        server.close()
