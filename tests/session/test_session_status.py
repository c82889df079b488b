"""How an endpoint is shown, and what a run drives, without any server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace
from session_fakes import INFO

from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState, Finding, RequestShape
from llmtop.domain.profile import Profile
from llmtop.domain.run import RunMeta
from llmtop.session import targets
from llmtop.session.options import SessionOptions
from llmtop.session.status import endpoint_label, endpoint_status, info_changes, run_name, settings_of
from llmtop.session.targets import Given, Simulated, target_of

META = RunMeta(
    llmtop_version="1",
    started_at=0.0,
    endpoint=Endpoint(base_url="http://h:8000/base", model="asked"),
    profile=Profile(name="p"),
    host="here",
)


@pytest.mark.parametrize(
    ("endpoint", "label"),
    [
        (Endpoint(base_url="http://h:8000/base"), "h:8000/base"),
        (Endpoint(base_url="http://h", unix_socket="/run/s"), "/run/s"),
        (Endpoint(base_url="odd"), "odd"),
        (Endpoint(base_url=""), ""),
    ],
)
def test_an_endpoint_is_called_by_where_it_is(endpoint: Endpoint, label: str) -> None:
    assert endpoint_label(replace(META, endpoint=endpoint)) == label


def test_before_a_probe_only_what_was_asked_for_is_shown() -> None:
    shown = endpoint_status(META, EndpointState.CONNECTING, 1.0, None)
    assert (shown.label, shown.model, shown.since_s) == ("h:8000/base", "asked", 1.0)
    assert (shown.dialect, shown.server, shown.max_model_len, shown.stamp_source) == (None, None, None, None)


def test_after_a_probe_what_it_found_is_shown() -> None:
    info = replace(INFO, server="vLLM 0.11", max_model_len=512)
    meta = replace(META, info=info, stamp_source="kernel", preset="laptop")
    shown = endpoint_status(meta, EndpointState.UP, 2.0, "old")
    assert (shown.state, shown.model, shown.dialect, shown.server) == (EndpointState.UP, "m", Dialect.VLLM, "vLLM 0.11")
    assert (shown.max_model_len, shown.stamp_source, shown.preset, shown.last_error) == (512, "kernel", "laptop", "old")
    assert not shown.simulated


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ()),
        ({"model": "other"}, ("model m → other",)),
        ({"max_model_len": 512}, ("max_model_len not told → 512",)),
        ({"max_model_len": 512, "flags": (("max_model_len", "512"),)}, ("max_model_len not told → 512",)),
        ({"flags": (("kv_cache_dtype", "fp8"),)}, ("kv_cache_dtype not told → fp8",)),
        ({"server": "vLLM 0.32.0"}, ("server not told → vLLM 0.32.0",)),
        ({"apis": ("completions",)}, ("apis chat and completions → completions",)),
        ({"apis": ()}, ("apis chat and completions → none",)),
        ({"findings": (Finding("a", True, "b"),), "models": ("m", "lora")}, ()),
        ({"request_shape": RequestShape(least_tokens=16)}, ()),
        (
            {"dialect": Dialect.SGLANG, "has_usage": True},
            ("dialect vllm → sglang", "has_usage False → True"),
        ),
    ],
)
def test_what_load_and_verdicts_rest_on_is_told_when_it_changes(changed: dict[str, Any], told: tuple[str, ...]) -> None:
    assert info_changes(INFO, replace(INFO, **changed)) == told


def test_what_is_not_told_any_more_is_said() -> None:
    before: EndpointInfo = replace(INFO, max_num_seqs=8)
    assert info_changes(before, INFO) == ("max_num_seqs 8 → not told",)


# ── Targets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        (None, Simulated),
        (Endpoint(base_url="", simulated=True), Simulated),
        (Endpoint(base_url="http://h", simulated=True), Given),
        (Endpoint(base_url="http://h"), Given),
        (Endpoint(base_url=""), Given),
    ],
)
def test_only_a_simulated_engine_that_runs_nowhere_yet_is_started(endpoint: Endpoint | None, kind: type) -> None:
    assert type(target_of(SessionOptions(profile=Profile(name="p"), endpoint=endpoint))) is kind


class FakeProcess:
    control_token = "a-token"

    def __init__(self, port: int) -> None:
        self.port, self.base_url, self.closed = port or 4321, f"http://127.0.0.1:{port or 4321}", False

    async def close(self) -> None:
        self.closed = True


class Launched:
    """What is started, and what is asked of it; it echoes the last settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts: list[tuple[str, dict[str, Any], int, int]] = []
        self.processes: list[FakeProcess] = []
        self.asked: list[tuple[str, str, str, object]] = []
        self.answer: object = {"knobs": {"max_num_seqs": 8}, "faults": {"hang": 0}, "scaling": {"scales": False}}
        monkeypatch.setattr(targets, "SimulatorProcess", self)
        monkeypatch.setattr(targets, "control", self.control)

    async def start(self, preset: str, knobs: Mapping[str, Any], seed: int, *, port: int) -> FakeProcess:
        self.starts.append((preset, dict(knobs), seed, port))
        self.processes.append(FakeProcess(port))
        return self.processes[-1]

    async def control(self, endpoint: Endpoint, method: str, path: str, payload: object = None) -> object:
        assert ("x-llmtop-control-token", "a-token") in endpoint.headers
        self.asked.append((endpoint.base_url, method, path, payload))
        return self.answer


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    return Launched(monkeypatch)


async def test_the_simulated_engine_starts_anywhere_and_is_asked_what_turns(launched: Launched) -> None:
    options = SessionOptions(profile=Profile(name="p"), preset="laptop", knobs={"jitter": 0.5}, seed=3)
    target = target_of(options)
    endpoint = await target.start()
    assert launched.starts == [("laptop", {"jitter": 0.5}, 3, 0)]
    assert (endpoint.base_url, endpoint.simulated) == ("http://127.0.0.1:4321", True)
    assert not endpoint.headers, "the token goes to the control alone"
    assert launched.asked == [(endpoint.base_url, "GET", "/llmtop/control", None)]
    assert (target.knobs, target.faults) == ({"max_num_seqs": 8.0}, {"hang": 0.0})
    await target.close()
    await target.close()
    assert launched.processes[0].closed


@pytest.mark.parametrize(
    ("wish", "asked", "done"),
    [
        (SetKnob("max_num_seqs", 4.0), {"knobs": {"max_num_seqs": 4.0}}, "max_num_seqs set to 4"),
        (InjectFault("hang", True), {"faults": {"hang": True}}, "fault hang on"),
        (InjectFault("hang", False), {"faults": {"hang": False}}, "fault hang off"),
    ],
)
async def test_a_wish_is_passed_on_and_what_was_done_is_said(
    launched: Launched, wish: SetKnob | InjectFault, asked: object, done: str
) -> None:
    target = target_of(SessionOptions(profile=Profile(name="p")))
    endpoint = await target.start()
    launched.answer = {"knobs": {"max_num_seqs": 4}, "faults": {"hang": 1}, "scaling": {"scales": False}}
    assert await target.turn(wish) == done
    assert launched.asked[-1] == (endpoint.base_url, "POST", "/llmtop/control", asked)
    assert (target.knobs, target.faults) == ({"max_num_seqs": 4.0}, {"hang": 1.0})
    launched.answer = None
    assert await target.turn(wish) == done
    assert target.knobs == {"max_num_seqs": 4.0}, "an empty answer changes nothing"


async def test_a_restart_keeps_the_port_and_the_settings_that_nobody_changed(launched: Launched) -> None:
    target = Simulated(Endpoint(base_url="", simulated=True), "laptop", {"jitter": 0.5, "a": 1}, seed=3)
    before = await target.start()
    assert await target.restart({"a": 2}) == before
    assert launched.starts[1] == ("laptop", {"jitter": 0.5, "a": 2}, 3, 4321)
    assert [process.closed for process in launched.processes] == [True, False]
    await target.close()
    assert (await target.restart({})).base_url == before.base_url
    assert launched.starts[2] == ("laptop", {"jitter": 0.5, "a": 2}, 3, 0), "of one that runs nowhere there is no port"


def test_a_run_is_called_by_its_label_and_by_what_was_set_and_turned() -> None:
    options = SessionOptions(profile=META.profile, knobs={"max_num_seqs": 46, "kv_share": 0.9, "prefix_caching": False})
    meta = replace(META, label="before", settings=settings_of(options))
    assert run_name(meta, {}) == "before, max_num_seqs 46, kv_share 0.9, prefix_caching false"
    assert run_name(meta, {"max_num_seqs": 64.0}) == "before, max_num_seqs 64, kv_share 0.9, prefix_caching false"
    assert run_name(META, {"max_num_seqs": 64.0}) == "max_num_seqs 64"
    assert run_name(META, {}) == ""
    assert endpoint_status(meta, EndpointState.UP, 0.0, None).named == run_name(meta, {})
