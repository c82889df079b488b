"""The scheduler that is run in vLLM's process, in a vLLM that has as much of it as that needs."""

from __future__ import annotations

import http.client
import importlib.util
import json
import logging
import os
import random
import socket
import sys
import types
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import psutil
import pytest

SOURCE = resources.files("llmtop.session").joinpath("llmtop_knobs.py")


class Step:
    """As much of vLLM's scheduler as the knobs need: its limits, and a step that breaks where they do not hold."""

    def __init__(self, vllm_config: Any) -> None:
        self.vllm_config, self.scheduler_config = vllm_config, vllm_config.scheduler_config
        for name, value in vllm_config.limits.items():
            setattr(self, name, value)
        self.running: list[int] = list(range(vllm_config.runs))
        self.waiting = 100

    def schedule(self, throttle: bool = False) -> int:
        cap = getattr(self, "max_num_active_reqs", self.max_num_running_reqs)  # type: ignore[attr-defined]
        while self.waiting and len(self.running) < cap:
            self.waiting -= 1
            self.running.append(self.waiting)
        assert len(self.running) <= self.max_num_running_reqs  # type: ignore[attr-defined]
        return len(self.running)


class Ahead(Step):
    """The one that schedules asynchronously."""


LIMITS = {"max_num_running_reqs": 16, "max_num_active_reqs": 16, "max_num_scheduled_tokens": 2048}


def config(limits: dict[str, Any] = LIMITS, runs: int = 0, rank: int = 0, **scheduling: Any) -> Any:
    return types.SimpleNamespace(
        scheduler_config=types.SimpleNamespace(
            **{"async_scheduling": True, "enable_chunked_prefill": True, **scheduling}
        ),
        model_config=types.SimpleNamespace(served_model_name=["m", "alias"]),
        parallel_config=types.SimpleNamespace(data_parallel_index=rank, data_parallel_rank=0),
        limits=limits,
        runs=runs,
    )


def free_port() -> int:
    """The first of two that are free, where the kernel gives none to others who ask for any."""
    for port in random.SystemRandom().sample(range(20_000, 32_000, 2), 100):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise OSError("no two ports are free")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file, loaded where vLLM is this; its servers end with the test."""
    sched = {
        "scheduler": types.SimpleNamespace(Scheduler=Step),
        "async_scheduler": types.SimpleNamespace(AsyncScheduler=Ahead),
    }
    for name in ("vllm", "vllm.v1", "vllm.v1.core", "vllm.v1.core.sched"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["vllm"].__version__ = "0.99.0"  # type: ignore[attr-defined]
    for name, module in sched.items():
        monkeypatch.setitem(sys.modules, f"vllm.v1.core.sched.{name}", module)
    spec = importlib.util.spec_from_file_location("llmtop_knobs", str(SOURCE))
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    servers: list[Any] = []

    class Server(loaded._Server):  # type: ignore[misc, name-defined]
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            servers.append(self)

        def serve_forever(self, poll_interval: float = 0.01) -> None:
            super().serve_forever(poll_interval)

    monkeypatch.setattr(loaded, "_Server", Server)
    monkeypatch.setenv("LLMTOP_KNOBS_PORT", str(free_port()))
    yield loaded
    for server in servers:
        server.shutdown()
        server.server_close()


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask() -> Ask:
    def put(method: str = "GET", wish: Any = None, rank: int = 0, **headers: str) -> tuple[int, Any]:
        port = int(os.environ["LLMTOP_KNOBS_PORT"]) + rank
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = wish if isinstance(wish, bytes) else None if wish is None else json.dumps(wish).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, "/", body, {"Content-Type": "application/json", **named})
        answer = line.getresponse()
        told = answer.status, json.loads(answer.read())
        line.close()
        return told

    return put


def test_it_shows_who_it_is_and_what_it_turns(plugin: Any, ask: Ask) -> None:
    plugin.LiveScheduler(vllm_config=config())
    status, told = ask()
    assert status == 200
    assert told["knobs"] == {
        "max_num_seqs": {"value": 16, "most": 16},
        "max_num_batched_tokens": {"value": 2048, "most": 2048},
    }
    assert (told["llmtop_knobs"], told["model"], told["engine"], told["vllm"]) == (1, ["m", "alias"], 0, "0.99.0")
    assert told["pid"] == os.getpid()
    assert abs(told["starts"][0] - psutil.Process().create_time()) < 1.5


def test_a_turn_counts_from_the_next_step_on(plugin: Any, ask: Ask) -> None:
    scheduler = plugin.LiveScheduler(config())
    assert isinstance(scheduler, Ahead)
    assert scheduler.schedule() == 16
    assert ask("PATCH", {"max_num_seqs": 4, "max_num_batched_tokens": 64})[1]["knobs"]["max_num_seqs"]["value"] == 4
    assert (scheduler.max_num_active_reqs, scheduler.max_num_scheduled_tokens) == (16, 2048), "no step is under way"
    assert scheduler.schedule(throttle=True) == 16, "what runs is not stopped"
    assert (scheduler.max_num_active_reqs, scheduler.max_num_scheduled_tokens) == (4, 64)
    del scheduler.running[2:]
    assert scheduler.schedule() == 4
    ask("PATCH", {"max_num_seqs": 16})
    assert scheduler.schedule() == 16


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"max_num_seqs": 17}, "max_num_seqs takes a whole number from 1 to 16"),
        ({"max_num_seqs": 0}, "from 1 to 16"),
        ({"max_num_seqs": -1}, "from 1 to 16"),
        ({"max_num_seqs": 4.0}, "from 1 to 16"),
        ({"max_num_seqs": "4"}, "from 1 to 16"),
        ({"max_num_seqs": True}, "from 1 to 16"),
        ({"max_num_seqs": None}, "from 1 to 16"),
        ({"max_num_seqs": 4, "max_num_batched_tokens": 4096}, "max_num_batched_tokens takes"),
        ({"running": 4}, "no knob 'running': there are max_num_seqs, max_num_batched_tokens"),
        ({}, "an object is needed"),
        ([4], "an object is needed"),
        (b"{", "an object is needed"),
        (b"[" * 4000, "an object is needed"),
    ],
)
def test_what_cannot_be_turned_is_refused_and_turns_nothing(plugin: Any, ask: Ask, wish: Any, words: str) -> None:
    plugin.LiveScheduler(config())
    status, told = ask("PATCH", wish)
    assert status == 400
    assert words in told["error"]
    assert ask()[1]["knobs"]["max_num_seqs"]["value"] == 16


def test_a_web_page_and_a_flood_are_not_let_in(plugin: Any, ask: Ask) -> None:
    plugin.LiveScheduler(config())
    turn = {"max_num_seqs": 4}
    assert ask("GET", Host="evil.example")[0] == 403
    assert ask("PATCH", turn, Host="evil.example:9475")[0] == 403
    assert ask("PATCH", turn, Origin="http://127.0.0.1")[0] == 403
    assert ask("PATCH", turn, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask("PATCH", turn, Content_Type="text/plain")[0] == 415
    assert ask("PATCH", b" " * 5000)[0] == 413
    assert ask()[1]["knobs"]["max_num_seqs"]["value"] == 16
    assert ask("PATCH", turn, Host="localhost:9475")[0] == 200, "a tunnel may have another port"


def test_it_listens_on_loopback_alone_and_at_a_port_of_each_engine(plugin: Any, ask: Ask) -> None:
    scheduler = plugin.LiveScheduler(config(rank=1))
    port = int(os.environ["LLMTOP_KNOBS_PORT"]) + 1
    assert ask(rank=1)[1]["engine"] == 1
    heard = [each.laddr for each in psutil.Process().net_connections("tcp") if each.laddr and each.laddr.port == port]
    assert {each.ip for each in heard} == {"127.0.0.1"}
    assert scheduler.schedule() == 16


def test_where_the_port_is_taken_the_server_runs_and_its_log_says_so_once(
    plugin: Any, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    plugin.LiveScheduler(config())
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="vllm.llmtop_knobs"):
        second = plugin.LiveScheduler(config(LIMITS))
    assert second.schedule() == second.schedule() == 16
    (said,) = caplog.messages
    assert "no knob turns" in said
    assert "LLMTOP_KNOBS_PORT" in said


@pytest.mark.parametrize(
    "limits",
    [
        {"max_num_running_reqs": None, "max_num_scheduled_tokens": 2048},
        {"max_num_running_reqs": "16", "max_num_scheduled_tokens": 2048},
        {"max_num_running_reqs": True},
    ],
)
def test_a_version_with_other_names_runs_as_without_it(
    plugin: Any, caplog: pytest.LogCaptureFixture, limits: dict[str, Any]
) -> None:
    scheduler = plugin.LiveScheduler(config(limits))
    assert scheduler._llmtop_panel is None
    assert len(caplog.messages) == 1
    assert "the scheduler of vLLM 0.99.0 is not known; no knob turns" in caplog.messages[0]


def test_a_version_with_one_limit_for_room_and_admission_is_narrowed_as_requests_end(plugin: Any, ask: Ask) -> None:
    scheduler = plugin.LiveScheduler(config({"max_num_running_reqs": 16, "max_num_scheduled_tokens": 64}))
    assert scheduler.schedule() == 16
    ask("PATCH", {"max_num_seqs": 4})
    assert scheduler.schedule() == 16, "a step that finds more than its limit ends the engine"
    del scheduler.running[10:]
    assert (scheduler.schedule(), scheduler.max_num_running_reqs) == (10, 10)
    scheduler.running.clear()
    assert (scheduler.schedule(), scheduler.max_num_running_reqs) == (4, 4)


def test_tokens_turn_only_where_prompts_are_cut(plugin: Any, ask: Ask) -> None:
    plugin.LiveScheduler(config(enable_chunked_prefill=False))
    assert list(ask()[1]["knobs"]) == ["max_num_seqs"], "a prompt beyond the budget would wait for ever"


def test_a_server_that_does_not_schedule_ahead_keeps_its_scheduler(plugin: Any, ask: Ask) -> None:
    scheduler = plugin.LiveScheduler(vllm_config=config(async_scheduling=False))
    assert not isinstance(scheduler, Ahead)
    assert isinstance(scheduler, Step)
    ask("PATCH", {"max_num_seqs": 4})
    assert scheduler.schedule() == 4


def test_it_needs_nothing_but_vllm_and_the_standard_library() -> None:
    lines = SOURCE.read_text().splitlines()
    roots = {line.split()[1].partition(".")[0] for line in lines if line.lstrip().startswith(("import ", "from "))}
    assert roots - {"vllm"} <= sys.stdlib_module_names
