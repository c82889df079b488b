"""A little server whose answers are a table, in a thread: what is asked of it is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answers = dict[tuple[str, str], Any]
"""(method, path) -> what is answered: an object (200), (status, bytes), or what makes one of the wish that was sent."""


class Little:
    """Attributes: `asked`: (method, path, wish) in order; `headers`: of the last one."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: dict[str, str] = {}
        self.url = ""

    @property
    def changed(self) -> list[Any]:
        """What was sent by other methods than GET."""
        return [wish for method, _, wish in self.asked if method != "GET"]


@contextmanager
def little(answers: Answers, port: int = 0) -> Iterator[Little]:
    told = Little(answers)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            wish = json.loads(self.rfile.read(length)) if length else None
            told.asked.append((self.command, self.path, wish))
            told.headers = {name.lower(): value for name, value in self.headers.items()}
            answer = told.answers.get((self.command, self.path))
            if isinstance(answer, Callable):  # type: ignore[arg-type]
                answer = answer(wish)
            if answer is None:
                there = any(path == self.path for _, path in told.answers)
                answer = (405 if there else 404, b'{"detail":"no"}')
            status, body = answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode())
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, *words: Any) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *words: Any) -> None:
            """Whoever asked has not waited for the answer."""

    server = Server(("127.0.0.1", port), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
