"""A page for Prometheus: text exposition 0.0.4, served at /metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmtop.sinks.figures import Figures
from llmtop.sinks.metrics import METRICS, Metric
from llmtop.sinks.pump import Undelivered

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
MOST_READERS = 8
"""At once; who comes beyond them is turned away."""
PATIENCE_S = 5.0
"""For one who asks slowly, or reads slowly."""
AGAIN_S = 1.0
"""How often the page is renewed and, where the port is taken, tried again."""


def page(figures: Figures) -> str:
    """All metrics of a run; empty before it is known what is driven."""
    if not figures.is_known:
        return ""
    labels = (("run", figures.run), ("endpoint", figures.endpoint), ("model", figures.model))
    return "\n".join(line for metric in METRICS for line in _lines(metric, figures, labels)) + "\n"


def _lines(metric: Metric, figures: Figures, labels: tuple[tuple[str, str], ...]) -> Iterator[str]:
    name = metric.prometheus
    yield f"# HELP {name} {metric.help}"
    yield f"# TYPE {name} {metric.kind}"
    if metric.kind != "histogram":
        for value, figure in metric.values(figures):
            own = (*labels, (metric.label, value)) if metric.label else labels
            yield f"{name}{_in_braces(own)} {_number(figure)}"
        return
    found = metric.histogram(figures)
    for bound, count in found.buckets:
        yield f"{name}_bucket{_in_braces((*labels, ('le', _number(bound))))} {count}"
    yield f"{name}_bucket{_in_braces((*labels, ('le', '+Inf')))} {found.count}"
    yield f"{name}_sum{_in_braces(labels)} {_number(found.sum)}"
    yield f"{name}_count{_in_braces(labels)} {found.count}"


def _in_braces(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float | None) -> str:
    return "NaN" if value is None else repr(float(value)).removesuffix(".0")


class Page:
    """Serves the newest figures from a thread of its own. Who reads slowly keeps nobody else waiting.

    Args:
        host: an address, by which the port is listened on.
        shown: how a user wrote both.
    """

    every_s = AGAIN_S

    def __init__(self, host: str, port: int, shown: str) -> None:
        self.name = f"prometheus {shown}"
        self._address = (host, port)
        self._text = ""
        self._server: _Server | None = None

    def deliver(self, figures: Figures) -> None:
        self._text = page(figures)
        if self._server is None:
            try:
                self._server = _Server(self._address, lambda: self._text)
            except OSError as error:
                raise Undelivered(unbound(error), "it is tried again every second") from None
            threading.Thread(target=self._server.serve_forever, name=self.name, daemon=True).start()

    def missing(self) -> str:
        """Scrapers take what they want; nobody can say what they missed."""
        return ""

    def end(self) -> None:
        """The last figures stay to be scraped as long as this process lives: somebody may still look at the run."""

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def unbound(error: OSError) -> str:
    """Why a port cannot be listened on."""
    return f"the port cannot be listened on: {(error.strerror or str(error)).lower()}"


def try_port(host: str, port: int) -> None:
    """Listen there for a moment. Raises OSError."""
    _Server((host, port), str).server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_READERS

    def __init__(self, address: tuple[str, int], text: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.text = text
        self._room = threading.BoundedSemaphore(MOST_READERS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """As that of sockets: HTTP's own asks for the name of this machine, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away is no matter of ours, and the screen is no place for a traceback."""


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server_version, sys_version = "llmtop", ""
    server: _Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        found = path == PATH
        body = self.server.text().encode() if found else f"llmtop: metrics are at {PATH}\n".encode()
        self.send_response(HTTPStatus.OK if path in (PATH, "/") else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", CONTENT_TYPE if found else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""
