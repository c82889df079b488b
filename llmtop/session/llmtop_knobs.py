"""Turn the limits of vLLM's scheduler while it runs. One file, the standard library alone, made for vLLM's own process.

    llmtop knobs --print > llmtop_knobs.py
    PYTHONPATH=. vllm serve MODEL ... --scheduler-cls llmtop_knobs.LiveScheduler

Each engine listens on 127.0.0.1 alone, at port 9475 (LLMTOP_KNOBS_PORT) plus its data-parallel rank. GET shows its
knobs, each with the value that stands and the most that it takes; PATCH with {"max_num_seqs": 32} turns some. A knob
takes whole numbers from 1 to what the server was started with: its buffers and graphs are made for that. A lower number
of sequences drains: nothing that runs is stopped. Web pages are not let in.

On a vLLM whose scheduler has other names, and where the port is taken, the server runs as if this were not there; its
log says so once.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

try:
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
except ImportError:  # versions before asynchronous scheduling
    AsyncScheduler = Scheduler

VERSION = 1
"""Of what is said here."""
HOST = "127.0.0.1"
PORT = 9475
PORT_VARIABLE = "LLMTOP_KNOBS_PORT"
MOST_BYTES = 4096
"""Of a wish."""
SILENCE_S = 5.0
"""After which somebody who says nothing is hung up on."""
ANCESTORS = 8
_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_log = logging.getLogger("vllm.llmtop_knobs")


class Knob:
    """One limit: where it was told to stand, and the most that it takes."""

    def __init__(self, value: int, most: int, put: Callable[[Any, int], None]) -> None:
        self.value, self.most, self.put = value, most, put


def knobs_of(scheduler: Any) -> dict[str, Knob]:
    """Those that a scheduler has; none: its names are not known."""
    knobs: dict[str, Knob] = {}
    most: Any = getattr(scheduler, "max_num_running_reqs", None)
    admitted: Any = getattr(scheduler, "max_num_active_reqs", None)
    if _is_limit(most) and isinstance(getattr(scheduler, "running", None), list):
        if _is_limit(admitted):
            knobs["max_num_seqs"] = Knob(admitted, most, _admit)
        else:
            knobs["max_num_seqs"] = Knob(most, most, _narrow)
    tokens: Any = getattr(scheduler, "max_num_scheduled_tokens", None)
    config = getattr(scheduler, "scheduler_config", None)
    cuts = getattr(config, "enable_chunked_prefill", False) and not getattr(config, "disable_chunked_mm_input", False)
    if knobs and _is_limit(tokens) and cuts:  # a prompt that is not cut and exceeds the budget would wait for ever
        knobs["max_num_batched_tokens"] = Knob(tokens, tokens, _budget)
    return knobs


def _is_limit(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 1


def _admit(scheduler: Any, value: int) -> None:
    scheduler.max_num_active_reqs = value


def _narrow(scheduler: Any, value: int) -> None:
    """Where one limit is both room and admission, a step must never find more running than it says."""
    scheduler.max_num_running_reqs = max(value, len(scheduler.running))


def _budget(scheduler: Any, value: int) -> None:
    scheduler.max_num_scheduled_tokens = value


class Panel:
    """The knobs of one engine, and who it is."""

    def __init__(self, scheduler: Any, knobs: dict[str, Knob]) -> None:
        self.knobs = knobs
        self.engine = _rank(scheduler)
        self._scheduler = scheduler
        self._who = {
            "llmtop_knobs": VERSION,
            "model": _models(scheduler),
            "vllm": _version(),
            "pid": os.getpid(),
            "starts": starts(os.getpid()),
            "engine": self.engine,
        }

    def apply(self) -> None:
        """Between two steps, in the engine's own thread: within one, the limits must stand."""
        for knob in self.knobs.values():
            knob.put(self._scheduler, knob.value)

    def told(self) -> dict[str, Any]:
        knobs = {name: {"value": knob.value, "most": knob.most} for name, knob in self.knobs.items()}
        return {**self._who, "knobs": knobs}

    def turn(self, wishes: Any) -> str:
        """Turn all that is wished for, or nothing; why not, in words."""
        if not isinstance(wishes, dict) or not wishes:
            return 'an object is needed, e.g. {"max_num_seqs": 32}'
        for name, value in wishes.items():
            if name not in self.knobs:
                return f"no knob {str(name)[:60]!r}: there are {', '.join(self.knobs)}"
            most = self.knobs[name].most
            if not _is_limit(value) or value > most:
                return f"{name} takes a whole number from 1 to {most}, what the server was started with"
        for name, value in wishes.items():
            self.knobs[name].value = value
        return ""


def _rank(scheduler: Any) -> int:
    config = getattr(getattr(scheduler, "vllm_config", None), "parallel_config", None)
    ranks = (getattr(config, name, None) for name in ("data_parallel_index", "data_parallel_rank"))
    return next((rank for rank in ranks if isinstance(rank, int) and 0 <= rank < 1024), 0)


def _models(scheduler: Any) -> list[str]:
    config = getattr(getattr(scheduler, "vllm_config", None), "model_config", None)
    served = getattr(config, "served_model_name", None) or getattr(config, "model", None) or ""
    return [str(name) for name in (served if isinstance(served, (list, tuple)) else [served])]


def _version() -> str:
    import vllm

    return str(getattr(vllm, "__version__", ""))


def starts(pid: int) -> list[float]:
    """When a process and those it descends from were started, in seconds since 1970: the page of metrics of one of them
    says the same of its own. [] where there is no /proc."""
    found: list[float] = []
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        booted = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
        for _ in range(ANCESTORS):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found.append(booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"))
            pid = int(fields[1])
            if pid <= 1:
                break
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return found


def _decoded(body: bytes) -> Any:
    """None: no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "llmtop_knobs", ""
    timeout = SILENCE_S
    panel: Panel

    def do_GET(self) -> None:
        if self._lets_in():
            self._answer(200, self.panel.told())

    def do_PATCH(self) -> None:
        if not self._lets_in():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > MOST_BYTES:
            self._answer(413, {"error": f"at most {MOST_BYTES} bytes, and their number, are taken"})
        elif self.headers.get_content_type() != "application/json":
            self._answer(415, {"error": "only application/json is taken"})
        else:
            problem = self.panel.turn(_decoded(self.rfile.read(int(length))))
            self._answer(400 if problem else 200, {"error": problem} if problem else self.panel.told())

    def _lets_in(self) -> bool:
        """A page that a browser shows can send requests here, under its own name or as somebody else."""
        host = self.headers.get("Host", "").strip().lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        page = "Origin" in self.headers or self.headers.get("Sec-Fetch-Site", "none") != "none"
        if page or name not in _OWN_NAMES:
            self._answer(403, {"error": "web pages are not let in: use http://127.0.0.1 and this port"})
            return False
        return True

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Says nothing of requests."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *words: Any) -> None:
        """Somebody who hangs up is nothing for the log of the server."""


def open_panel(scheduler: Any) -> Panel | None:
    """The knobs of a scheduler, listening; None: there are none, which the log says. Raises nothing."""
    try:
        knobs = knobs_of(scheduler)
        if not knobs:
            _log.warning("llmtop's knobs: the scheduler of vLLM %s is not known; no knob turns", _version())
            return None
        panel = Panel(scheduler, knobs)
        port = int(os.environ.get(PORT_VARIABLE) or PORT) + panel.engine
        handler = type("Handler", (_Handler,), {"panel": panel})
        server = _Server((HOST, port), handler)
        threading.Thread(target=server.serve_forever, name="llmtop_knobs", daemon=True).start()
        _log.info("llmtop's knobs: %s turn at http://%s:%d", ", ".join(knobs), HOST, port)
        return panel
    except Exception as error:  # whatever is wrong here, the server is to run
        _log.warning("llmtop's knobs: no knob turns: %s (another port: %s)", error, PORT_VARIABLE)
        return None


class _Live:
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._llmtop_panel = open_panel(self)

    def schedule(self, *args: Any, **named: Any) -> Any:
        if self._llmtop_panel is not None:
            self._llmtop_panel.apply()
        return super().schedule(*args, **named)  # type: ignore[misc]


class LivePlainScheduler(_Live, Scheduler):  # type: ignore[misc]
    """For a server that does not schedule ahead."""


class LiveScheduler(_Live, AsyncScheduler):  # type: ignore[misc]
    """What to name as the scheduler's class."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        config = named.get("vllm_config", args[0] if args else None)
        if getattr(getattr(config, "scheduler_config", None), "async_scheduling", True) is False:
            return LivePlainScheduler(*args, **named)
        return super().__new__(cls)
