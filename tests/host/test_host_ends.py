"""Runs without a screen against a server that hangs, leaves, comes back or never comes to an end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attended import until
from session_here import SessionHere

from llmtop.domain.endpoint import Endpoint, EndpointState
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ending
from llmtop.domain.slo import Slo
from llmtop.host import endings, headless
from llmtop.host import host as host_module
from llmtop.host.endings import EndWatch
from llmtop.host.headless import RunResult, run_to_end
from llmtop.host.review import assess_run
from llmtop.recording.reader import RunReader
from llmtop.session import session as session_module
from llmtop.session.options import SessionOptions

MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":" a"},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
SERVED = 7
"""Requests that are served before something happens; the first of them are the probe's."""


class Server:
    """Serves `SERVED` requests well, a token each 10 ms; then `then` happens, once, and what is asked next waits.

    With `endless`, what waits is given tokens for ever.
    """

    def __init__(self) -> None:
        self.then: Callable[[], object] = lambda: None
        self.missed: Callable[[], bool] = lambda: False
        """Whether whoever sends knows that it has left."""
        self.endless = False
        self._served = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
        except OSError:
            pass

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while line := stream.readline():
                    length = 0
                    while (header := stream.readline().strip()) != b"":
                        name, _, value = header.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                    stream.read(length)
                    self._respond(connection, line)
        except OSError:
            pass

    def _respond(self, connection: socket.socket, line: bytes) -> None:
        if line.startswith(b"GET /v1/models"):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(MODELS), MODELS))
        elif line.startswith(b"GET"):
            connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        else:
            self._served += 1
            waits = self._served > SERVED
            if self._served == SERVED + 1:
                self.then()
            if waits and not self.endless:
                time.sleep(60.0)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.sendall(head)
            for _ in range(6000 if waits else 4):
                time.sleep(0.01)
                connection.sendall(b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN))
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(END), END))

    def leave(self) -> None:
        """Everything breaks off, and nothing listens any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """Leave, and come back once that has been noticed."""
        self.leave()
        self._served = -1000
        threading.Thread(target=self._return, daemon=True).start()

    def _return(self) -> None:
        until(self.missed)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    yield served
    with contextlib.suppress(OSError):
        served.leave()


def ended(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending) -> RunResult:
    """A run of three users to its end, with limits that are a test's; what does not end it has no time to.

    All requests of its plan's one second are in flight long before that is over, and nothing is asked of how long the
    first tokens took.
    """
    lasting = ending in (Ending.RESTART, Ending.GONE)
    monkeypatch.setattr(endings, "RETURN_S", 0.5 if ending is Ending.GONE else 60.0)
    monkeypatch.setattr(endings, "SILENCE_S", 0.1 if ending is Ending.HANG else 60.0)
    monkeypatch.setattr(endings, "SLOWER", 0.0)
    monkeypatch.setattr(session_module, "RETURN_S", (0.1,))
    for module in (headless, host_module):
        monkeypatch.setattr(module, "LISTEN_S", 0.05)
    stage = Stage(name="hold", duration_s=60.0 if lasting else 1.0, shape=Hold(3))
    base = LoadPoint(concurrency=3, prompt_tokens=8, output_tokens=4)
    options = SessionOptions(
        endpoint=Endpoint(base_url=f"http://127.0.0.1:{server.port}"),
        profile=Profile(name="p", plan=LoadPlan(stages=(stage,), base=base)),
        run_file=str(path),
        patient=False,
    )
    link = SessionHere(options)
    server.missed = lambda: (frame := link.frame()) is not None and frame.endpoint.state is EndpointState.DOWN
    return run_to_end(link, Slo(), lambda shown: None, watch=EndWatch(drain_limit_s=0.5))


@pytest.mark.parametrize("ending", [Ending.HANG, Ending.PLAN, Ending.RESTART, Ending.GONE])
def test_what_ended_a_run_is_said_and_recorded(
    ending: Ending, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.endless = ending is Ending.PLAN
    if ending is Ending.RESTART:
        server.then = server.restart
    elif ending is Ending.GONE:
        server.then = server.leave
    path = tmp_path / "run.llmtop"
    result = ended(server, path, monkeypatch, ending)
    totals = result.frame.totals
    assert result.end.ending is ending
    assert totals.ok > 0
    if ending in (Ending.HANG, Ending.PLAN):
        assert (totals.errors, totals.cancelled) == (0, 3), "what is cut off when the plan is over is no error"
    with RunReader(path) as run:
        assert run.meta == result.meta
        assert run.meta.ending is ending
        assert run.meta.ended_s == result.facts.t_s
    assert assess_run(path, Slo())[0] == result.assessment, "judged now or later, a run has one verdict"
