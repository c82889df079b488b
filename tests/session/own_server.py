"""A server to be started by a command, which misbehaves on order: `python own_server.py PORT --slots 8 --misdeed ...`.

It answers as vLLM does, as far as a probe asks; `/version` tells its slots.
"""

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STARTED_S = time.time()
EVENTS = [
    {"choices": [{"index": 0, "delta": {"content": "one "}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "two"}, "finish_reason": "length"}]},
]


class Handler(BaseHTTPRequestHandler):
    slots = 0
    not_ready = False

    def do_GET(self) -> None:
        if self.not_ready:
            self._answer(503, b'{"error": {"message": "loading"}}')
        elif self.path == "/v1/models":
            self._answer(200, json.dumps({"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]}).encode())
        elif self.path == "/version":
            self._answer(200, json.dumps({"version": "0.1", "max_num_seqs": self.slots}).encode())
        elif self.path == "/metrics":
            page = f'process_start_time_seconds {STARTED_S}\nvllm:num_requests_running{{model_name="m"}} 0\n'
            self._answer(200, page.encode(), "text/plain")
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.not_ready or not self.path.endswith("/completions"):
            self._answer(503 if self.not_ready else 404, b"{}")
            return
        lines = [*map(json.dumps, EVENTS), "[DONE]"]
        self._answer(200, "".join(f"data: {line}\n\n" for line in lines).encode(), "text/event-stream")

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing of requests."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--misdeed", default="")
    asked = parser.parse_args()
    if asked.misdeed == "dies":
        print("loading weights", flush=True)
        time.sleep(0.2)
        sys.exit("ValueError: \x1b[31mno kernel image\x1b[0m")
    if asked.misdeed == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if asked.misdeed in ("forks", "strays") and os.fork():
        if asked.misdeed == "forks":
            time.sleep(600)
        sys.exit(0)
    if asked.misdeed == "strays":
        os.setsid()
    if asked.misdeed == "chatters":
        for _ in range(100):
            os.write(1, (b"x" * 99 + b"\n") * 10_000)
        os.write(1, b"\xff\x00\x1b[2Jthe last line\n")
    Handler.slots = 32 if asked.misdeed == "ignores" else asked.slots
    Handler.not_ready = asked.misdeed == "never ready"
    ThreadingHTTPServer(("127.0.0.1", asked.port), Handler).serve_forever()


main()
