"""A real server's knobs, each way against a little server that behaves as the original does, or misbehaves."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from little import Answers, Little, little

from llmtop.dialects import DIALECTS
from llmtop.domain.commands import SetKnob
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.samples import ServerSnapshot
from llmtop.errors import EndpointUnreachable, EndpointUnusable, UsageError
from llmtop.session import bank as bank_module
from llmtop.session import liveknobs, panels
from llmtop.session.bank import Bank
from llmtop.session.panels import at_rank, is_same_start, page_in
from llmtop.wording.knobs import stands_text

VLLM = EndpointInfo(dialect=Dialect.VLLM, model="m", models=("m",), server="vLLM 0.33.0")
SGLANG = EndpointInfo(dialect=Dialect.SGLANG, model="m", flags=(("max_running_requests", "32"),))
CONFIG = "/v1/runtime_config"
PANEL = {"llmtop_knobs": 1, "model": ["m"], "engine": 0, "knobs": {"max_num_seqs": {"value": 16, "most": 16}}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two readings, time enough for whoever answers, and no panel of this machine's is found."""
    monkeypatch.setattr(liveknobs, "PAUSE_S", 0.001)
    monkeypatch.setattr(liveknobs, "ASK_S", 20.0)
    monkeypatch.setattr(panels, "ASK_S", 20.0)
    monkeypatch.setattr(bank_module, "LOOK_S", 40.0)
    monkeypatch.setattr(panels, "USUAL", "http://127.0.0.1:1")


@pytest.fixture
def served() -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda answers, port=0: stack.enter_context(little(answers, port))


async def looked(server: Little, info: EndpointInfo = VLLM, url: str | None = None, **fields: Any) -> Bank:
    bank = Bank(Endpoint(base_url=server.url, **fields), url)
    await bank.look(info)
    return bank


def settings(values: dict[str, Any], heeds: bool = True) -> Answers:
    """A server that shows these at the proposed route of vLLM, and takes what it is told, or only says so."""

    def take(wish: dict[str, Any]) -> dict[str, Any]:
        if heeds:
            values.update(wish)
        return values

    return {("GET", CONFIG): lambda _: values, ("PATCH", CONFIG): take}


async def test_the_route_of_vllm_is_read_turned_and_read_again(served: Any) -> None:
    server = served(settings({"max_num_running_seqs": 16, "max_num_seqs": 16}))
    bank = Bank(Endpoint(base_url=server.url))
    told = await bank.look(VLLM)
    assert (bank.knobs, bank.most, bank.by, bank.none) == ({"max_num_seqs": 16}, {"max_num_seqs": 16}, CONFIG, "")
    assert dict(told.flags) == {"max_num_seqs": "16"}, "a run knows what it began with"
    assert server.changed == [], "a probe changes nothing"
    assert await bank.turn(SetKnob("max_num_seqs", 4.0)) == "max_num_seqs set to 4 (/v1/runtime_config)"
    assert server.changed == [{"max_num_running_seqs": 4}]
    assert bank.knobs == {"max_num_seqs": 4}
    assert bank.over(ServerSnapshot(t_s=0.0, max_num_seqs=16.0)).max_num_seqs == 4


async def test_what_a_server_does_not_take_is_refused_before_it_is_asked(served: Any) -> None:
    server = served(settings({"max_num_running_seqs": 16, "max_num_seqs": 16}))
    bank = await looked(server)
    for value in (64.0, 0.0, -1.0, 2.5, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="whole numbers from 1 to 16"):
            await bank.turn(SetKnob("max_num_seqs", value))
    with pytest.raises(UsageError, match="a start with a larger --max-num-seqs"):
        await bank.turn(SetKnob("max_num_seqs", 64.0))
    with pytest.raises(UsageError, match="there is no knob num_gpu_blocks"):
        await bank.turn(SetKnob("num_gpu_blocks", 64.0))
    assert server.changed == []


async def test_a_server_that_says_yes_and_does_nothing_is_found_out(served: Any) -> None:
    bank = await looked(served(settings({"max_num_running_seqs": 16, "max_num_seqs": 16}, heeds=False)))
    with pytest.raises(EndpointUnusable, match="max_num_seqs still stands at 16: the server did not take 4"):
        await bank.turn(SetKnob("max_num_seqs", 4.0))
    assert bank.knobs == {"max_num_seqs": 16}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (404, b"{}"),
        (405, b"{}"),
        (401, b"{}"),
        (500, b"boom"),
        (200, b"<html>hello</html>"),
        (200, b""),
        (200, b"x" * 2_000_000),
        [16],
        {"max_num_running_seqs": "16"},
        {"max_num_running_seqs": True},
        {"max_num_running_seqs": 0},
        {"max_num_running_seqs": 2.5},
        {"max_num_running_seqs": 32, "max_num_seqs": 16},
        {"max_num_running_seqs": {"value": 16}},
    ],
)
async def test_what_is_no_such_route_gives_no_knob(served: Any, answer: Any) -> None:
    bank = await looked(served({} if answer is None else {("GET", CONFIG): answer}))
    assert (bank.knobs, bank.by) == ({}, "")
    assert "start it with llmtop's scheduler (`llmtop knobs` says how)" in bank.none
    with pytest.raises(UsageError, match="vLLM turns no knob while it runs"):
        await bank.turn(SetKnob("max_num_seqs", 4.0))


async def test_a_server_that_hangs_does_not_hold_a_run_up(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    server = served({("GET", CONFIG): lambda _: over.wait(30.0)})
    began = time.monotonic()
    monkeypatch.setattr(liveknobs, "ASK_S", 0.1)
    assert "no knob" in (await looked(server)).none
    monkeypatch.setattr(liveknobs, "ASK_S", 20.0)
    monkeypatch.setattr(bank_module, "LOOK_S", 0.1)
    assert "within 0.1 s" in (await looked(server)).none
    assert time.monotonic() - began < 10.0
    over.set()


async def test_a_refusal_says_what_was_wanted(served: Any) -> None:
    config = {"max_num_running_seqs": 16, "max_num_seqs": 16}
    for answer, why in (
        ((403, b'{"detail": "not allowed"}'), "status 403: not allowed"),
        ((200, b"ok"), "no JSON: ok"),
    ):
        bank = await looked(served({("GET", CONFIG): config, ("PATCH", CONFIG): answer}))
        with pytest.raises(EndpointUnusable, match=f"the server did not take max_num_seqs 4 .{why}."):
            await bank.turn(SetKnob("max_num_seqs", 4.0))


async def test_a_server_that_is_gone_refuses_a_turn_in_words(served: Any) -> None:
    with little(settings({"max_num_running_seqs": 16, "max_num_seqs": 16})) as server:
        bank = await looked(server)
    with pytest.raises(EndpointUnreachable, match=r"the server did not take max_num_seqs 4 \(connection refused"):
        await bank.turn(SetKnob("max_num_seqs", 4.0))
    assert bank.knobs == {"max_num_seqs": 16}


# ── SGLang ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sglang(states: list[dict[str, Any]], takes: tuple[str, ...], key: str | None = None) -> Answers:
    """Schedulers with these states, which take some keys, as the first entry or under `key` of a state."""

    def put(wish: dict[str, Any]) -> list[bool]:
        asked = wish["server_args"]
        for state in states:
            if set(asked) <= set(takes):
                (state if key is None else state[key]).update(asked)
        return [set(asked) <= set(takes)] * len(states)

    return {("GET", "/server_info"): lambda _: {"internal_states": states}, ("POST", "/set_internal_state"): put}


def state(**fields: Any) -> dict[str, Any]:
    usual = {"pp_size": 1, "pp_max_micro_batch_size": 32, "effective_max_running_requests_per_dp": 32}
    return {**usual, "max_running_requests": 64, "chunked_prefill_size": 8192, **fields}


async def test_a_released_sglang_turns_its_slots_on_all_ranks(served: Any) -> None:
    server = served(sglang([state(), state()], ("pp_max_micro_batch_size",)))
    bank = Bank(Endpoint(base_url=server.url))
    told = await bank.look(SGLANG)
    assert (bank.knobs, bank.most, bank.engines) == ({"max_num_seqs": 32}, {"max_num_seqs": 32}, 2)
    assert told.flags == SGLANG.flags, "it tells its slots by a name of its own"
    assert server.changed == []
    await bank.turn(SetKnob("max_num_seqs", 8.0))
    assert server.changed == [{"server_args": {"pp_max_micro_batch_size": 8}}]
    assert bank.knobs == {"max_num_seqs": 8}
    assert bank.over(ServerSnapshot(t_s=0.0)).max_num_seqs == 16
    with pytest.raises(UsageError, match="larger --max-running-requests"):
        await bank.turn(SetKnob("max_num_seqs", 33.0))


async def test_a_build_of_sglang_that_takes_more_keys_shows_so_itself(served: Any) -> None:
    live = {"max_running_requests": 32, "chunked_prefill_size": 8192, "ceilings": {"max_prefill_tokens": 99}}
    server = served(sglang([state(trimtab=live)], ("max_running_requests", "chunked_prefill_size"), "trimtab"))
    bank = await looked(server, SGLANG)
    assert bank.knobs == bank.most == {"max_num_seqs": 32, "max_num_batched_tokens": 8192}
    await bank.turn(SetKnob("max_num_batched_tokens", 512.0))
    await bank.turn(SetKnob("max_num_seqs", 4.0))
    assert server.changed == [
        {"server_args": {"chunked_prefill_size": 512}},
        {"server_args": {"max_running_requests": 4}},
    ]


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {("GET", "/server_info"): {"internal_states": []}, ("POST", "/set_internal_state"): [True]},
        {("GET", "/server_info"): {"internal_states": "x"}, ("POST", "/set_internal_state"): [True]},
        {("GET", "/server_info"): {"max_running_requests": 32}, ("POST", "/set_internal_state"): [True]},
        {("GET", "/server_info"): {"internal_states": [state()]}},
        {("GET", "/server_info"): {"internal_states": [state(pp_size=2)]}, ("POST", "/set_internal_state"): [True]},
        sglang([state(), state(pp_max_micro_batch_size=4)], ()),
        sglang([state(), {}], ()),
    ],
)
async def test_no_knob_is_claimed_that_sglangs_answers_do_not_prove(served: Any, answers: Answers) -> None:
    bank = await looked(served(answers), SGLANG)
    assert bank.knobs == {}
    assert "SGLang turns no knob while it runs; --serve starts it anew" in bank.none


async def test_a_key_that_sglang_refuses_or_ignores_is_no_success(served: Any) -> None:
    bank = await looked(served(sglang([state()], ())), SGLANG)
    with pytest.raises(EndpointUnusable, match="the server did not take max_num_seqs 8"):
        await bank.turn(SetKnob("max_num_seqs", 8.0))
    states = [state(), state()]
    answers = sglang(states, ("pp_max_micro_batch_size",))

    def forgets(wish: Any) -> list[bool]:
        states[0].update(wish["server_args"])
        return [True, True]

    bank = await looked(served({**answers, ("POST", "/set_internal_state"): forgets}), SGLANG)
    with pytest.raises(EndpointUnusable, match="still stands at 32: the server did not take 8"):
        await bank.turn(SetKnob("max_num_seqs", 8.0))


async def test_a_server_without_any_way_is_asked_nothing(served: Any) -> None:
    server = served({})
    for dialect in (Dialect.LLAMACPP, Dialect.TGI, Dialect.OLLAMA, Dialect.OPENAI):
        bank = await looked(server, EndpointInfo(dialect=dialect, model="m"))
        assert f"{DIALECTS[dialect].title} turns no knob while it runs" in bank.none
    ours = EndpointInfo(dialect=Dialect.VLLM, model="m", server="vLLM 0.33.0+llmtop")
    assert "llmtop --sim" in (await looked(server, ours)).none
    assert server.asked == []


# ── llmtop's scheduler ────────────────────────────────────────────────────────────────────────────────────────────────

PAGE = 'process_start_time_seconds 1000.25\nvllm:num_requests_running{engine="%d",model_name="m"} 0\n'


def panel(heeds: bool = True, **fields: Any) -> Answers:
    told = {**PANEL, "knobs": {"max_num_seqs": {"value": 16, "most": 16}}, **fields}

    def take(wish: dict[str, int]) -> Any:
        if not heeds:
            return (400, b'{"error":"no"}')
        for name, value in wish.items():
            told["knobs"][name]["value"] = value
        return told

    return {("GET", "/"): lambda _: told, ("PATCH", "/"): take}


async def test_llmtops_scheduler_is_found_turned_and_sent_no_key(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-1234567")
    server, knobs = served({("GET", "/metrics"): (200, (PAGE % 0).encode())}), served(panel(starts=[990.0, 1000.25]))
    monkeypatch.setattr(panels, "USUAL", knobs.url)
    bank = await looked(server, api_key_env="KEY", headers=(("x-mine", "1"),))
    assert (bank.knobs, bank.by, bank.engines) == ({"max_num_seqs": 16}, "llmtop_knobs", 1)
    assert knobs.changed == []
    await bank.turn(SetKnob("max_num_seqs", 4.0))
    assert knobs.changed == [{"max_num_seqs": 4}]
    assert not {"authorization", "x-mine"} & knobs.headers.keys()
    assert "authorization" in server.headers
    assert stands_text(bank.knobs, bank.most, bank.by) == "max_num_seqs 4 (1 to 16)\nturned by llmtop_knobs"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, "answers, but not as llmtop's scheduler does (status 404)"),
        ({("GET", "/"): (200, b"<html>")}, "answers, but not as llmtop's scheduler does"),
        ({("GET", "/"): [1]}, "answers, but not as llmtop's scheduler does"),
        ({("GET", "/"): (200, b"x" * 99_999)}, "gives no answer (has more than"),
        ({("GET", "/"): lambda _: time.sleep(0.5)}, "gives no answer (no answer within 0.1 s)"),
        (panel(llmtop_knobs=2), "not as llmtop's scheduler does"),
        (panel(model=["other"]), "turns the knobs of a server of other, not of m"),
        (panel(model=None), "of no model, not of m"),
        (panel(knobs=[]), "shows no knobs"),
        (panel(knobs={"max_num_seqs": {"value": 17, "most": 16}}), "shows no knobs"),
        (panel(knobs={"rm -rf": {"value": 1, "most": 16}}), "shows no knobs"),
        (panel(starts=[999.0, 500.0]), "turns the knobs of another server of the same model"),
    ],
)
async def test_what_answers_at_the_port_must_prove_to_be_of_this_server(
    served: Any, monkeypatch: pytest.MonkeyPatch, answers: Answers, words: str
) -> None:
    if "0.1 s" in words:
        monkeypatch.setattr(panels, "ASK_S", 0.1)
    server, knobs = served({("GET", "/metrics"): (200, (PAGE % 0).encode())}), served(answers)
    monkeypatch.setattr(panels, "USUAL", knobs.url)
    bank = await looked(server)
    assert bank.knobs == {}
    assert words in bank.none
    assert "--knobs-url" in bank.none
    assert knobs.changed == []


async def test_an_address_that_somebody_names_is_believed_by_the_model_alone(served: Any) -> None:
    server, knobs = served({}), served(panel(starts=[1.0]))
    assert (await looked(server, url=knobs.url + "/")).by == "llmtop_knobs"
    far = Bank(Endpoint(base_url="http://10.0.0.1:8000"))
    assert "on this machine alone; --knobs-url" in str(
        await panels.find_panel(far._endpoint, VLLM, DIALECTS[Dialect.VLLM], None)
    )
    nobody = await looked(server, url="http://127.0.0.1:1")
    assert "http://127.0.0.1:1 cannot be reached" in nobody.none


def neighbours(served: Any) -> tuple[Little, Little]:
    """The panels of two engines, at two ports that follow each other."""
    for _ in range(20):
        first = served(panel())
        with contextlib.suppress(OSError):
            return first, served(panel(engine=1), int(first.url.rpartition(":")[2]) + 1)
    raise AssertionError("no two free ports beside each other")


async def test_all_engines_turn_or_none(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = served({("GET", "/metrics"): (200, (PAGE % 0 + PAGE % 1).encode())})
    first, second = neighbours(served)
    monkeypatch.setattr(panels, "USUAL", first.url)
    bank = await looked(server)
    assert bank.engines == 2
    await bank.turn(SetKnob("max_num_seqs", 8.0))
    assert first.changed == second.changed == [{"max_num_seqs": 8}]
    second.answers[("PATCH", "/")] = (500, b"boom")
    with pytest.raises(EndpointUnusable, match=r"engine 1 did not take max_num_seqs 4 \(status 500"):
        await bank.turn(SetKnob("max_num_seqs", 4.0))
    assert bank.knobs == {"max_num_seqs": 8}, "the one that took it was turned back"
    del second.answers[("GET", "/")]
    assert "engine 1 (http://127.0.0.1:" in (await looked(server)).none


def test_the_other_engines_ports_follow_the_first() -> None:
    assert at_rank(Endpoint(base_url="http://127.0.0.1:9475"), 2).base_url == "http://127.0.0.1:9477"
    assert at_rank(Endpoint(base_url="http://u:p@[::1]/x"), 1).base_url == "http://u:p@[::1]:81/x"


def test_a_process_is_known_by_its_start() -> None:
    assert is_same_start(1000.25, [5.0, 1000.26])
    assert is_same_start(1000.25, [1001.25]), "the kernel tells the start of the machine in whole seconds"
    assert not is_same_start(1000.25, [1000.75])
    assert is_same_start(None, [1.0])
    assert is_same_start(1.0, [])


def test_a_page_without_those_figures_tells_nothing() -> None:
    assert page_in(b"hello\n", DIALECTS[Dialect.VLLM]) == panels.Page(None, 0)


async def test_nothing_turns_on_one_replica_of_several(served: Any) -> None:
    route = settings({"max_num_running_seqs": 16, "max_num_seqs": 16})
    server = served({**route, ("GET", "/metrics"): (200, (PAGE % 0).encode())})
    other = served(
        {("GET", "/metrics"): (200, (PAGE % 0).encode()), ("GET", "/gpu"): (200, b"DCGM_FI_DEV_FB_USED 1\n")}
    )
    one = await looked(server, metrics_urls=(server.url + "/metrics", other.url + "/gpu"))
    assert one.knobs == {"max_num_seqs": 16}
    two = await looked(server, metrics_urls=(server.url + "/metrics", other.url + "/metrics"))
    assert two.knobs == {}
    assert "2 replicas answer here" in two.none
