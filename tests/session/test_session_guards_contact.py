"""How a session connects, scrapes, ticks and leaves, over a server and a load that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from session_fakes import BASE, INFO, FakeClient, World, load_bin, made, refusals, settled

from llmtop.domain.commands import InjectFault, SetKnob, SetLoad, StopLoad
from llmtop.domain.crew import CrewSpec
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Workload
from llmtop.domain.run import Ending, FactBatch
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.errors import EndpointAuthFailed, EndpointUnreachable, EndpointUnusable
from llmtop.recording.reader import RunReader
from llmtop.session.session import Session
from llmtop.session.targets import Given


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return made(World(), monkeypatch)


def failing(error: Exception) -> Callable[[], EndpointInfo]:
    def found() -> EndpointInfo:
        raise error

    return found


def texts(events: list[Any], kind: str) -> list[str]:
    return [event.text for event in events if event.kind == kind]


def scraped(running: float | None, waiting: float | None = None) -> Callable[[float], ServerSnapshot]:
    return lambda t_s: ServerSnapshot(t_s=t_s, running=running, waiting=waiting)


# ── Connecting ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pauses_between_tries_double_and_stay_below_ten_seconds(world: World, tmp_path: Path) -> None:
    world.found = failing(EndpointUnreachable("http://h", "nobody there"))
    session = world.session(tmp_path)
    await session.start()
    await world.clock.go(60.0)
    pauses = [after - before for before, after in zip(world.probed_s, world.probed_s[1:], strict=False)]
    assert pauses[:4] == pytest.approx([1.0, 2.0, 4.0, 8.0])
    assert set(pauses[4:]) == {8.0}
    frame = session.frame()
    assert (frame.target.concurrency, frame.in_flight, frame.totals.sent) == (0, 0, 0)
    assert [event.state for event in await world.ended(session)] == [EndpointState.DOWN], "told once"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (EndpointUnreachable("http://h", "why"), EndpointState.DOWN),
        (EndpointUnusable("http://h", "why"), EndpointState.DOWN),
        (EndpointAuthFailed("http://h", "why"), EndpointState.AUTH_FAILED),
    ],
)
async def test_why_the_endpoint_cannot_be_driven_shows_with_a_countdown(
    world: World, tmp_path: Path, error: Exception, state: EndpointState
) -> None:
    world.found = failing(error)
    session = world.session(tmp_path)
    await session.start()
    await world.clock.go(0.75)
    shown = session.frame().endpoint
    assert (shown.state, shown.last_error, shown.retry_in_s) == (state, "why", 0.25)
    world.clock.now_s = 1.5
    assert session.frame().endpoint.retry_in_s == 0.0, "a try that takes long is no time below 0"
    world.found = lambda: INFO
    await world.clock.go(2.0)
    shown = session.frame().endpoint
    assert (shown.state, shown.retry_in_s, shown.last_error) == (EndpointState.UP, None, None)
    await world.ended(session)


async def test_an_impatient_session_drives_as_soon_as_it_has_started(world: World, tmp_path: Path) -> None:
    session = world.session(tmp_path, patient=False)
    await session.start()
    assert len(world.engines) == 1
    assert session.meta.info == INFO
    assert session.meta.stamp_source == session.frame().endpoint.stamp_source == "kernel"
    assert session.frame().endpoint.metrics is None
    world.scrapers[0].missing = "no page"
    assert session.frame().endpoint.metrics == "no page"
    await world.ended(session)


async def test_what_is_learned_lands_in_the_run_file(world: World, tmp_path: Path) -> None:
    session = world.session(tmp_path)
    await session.start()
    await world.clock.go(1.0)
    await world.ended(session)
    with RunReader(tmp_path / "r.llmtop") as run:
        assert (run.meta.info, run.meta.endpoint.model, run.meta.endpoint.dialect) == (INFO, "m", Dialect.VLLM)


@pytest.mark.parametrize(
    ("apis", "wanted", "used"),
    [
        (("chat", "completions"), "chat", "chat"),
        (("chat", "completions"), "completions", "completions"),
        (("completions",), "chat", "completions"),
        ((), "chat", "chat"),
        ((), "completions", "completions"),
    ],
)
async def test_the_wanted_api_is_used_where_it_is_there_or_nothing_is_known(
    world: World, tmp_path: Path, apis: tuple[str, ...], wanted: str, used: str
) -> None:
    world.found = lambda: replace(INFO, apis=apis)
    session = world.session(tmp_path, workload=Workload(api=wanted), patient=False)
    await session.start()
    kind, setup = world.engines[0].hands
    assert (kind, setup.api) == ("here", used)
    warned = [event for event in await world.ended(session) if "cannot stream" in event.text]
    assert [(event.kind, event.severity) for event in warned] == ([] if wanted == used else [("endpoint", "warning")])
    assert all(f"cannot stream {wanted}: {used} is used" in event.text for event in warned)


@pytest.mark.parametrize(("workers", "kind"), [(1, "here"), (2, "workers"), (3, "workers")])
async def test_as_many_processes_drive_as_were_asked_for(world: World, tmp_path: Path, workers: int, kind: str) -> None:
    session = world.session(tmp_path, workers=CrewSpec(count=workers), seed=4, patient=False)
    await session.start()
    hands, setup = world.engines[0].hands
    assert hands == kind
    assert (setup.seed, setup.caps.max_concurrency) == (4, 1024)
    assert getattr(setup, "workers", 1) == workers
    if kind == "workers":
        assert (setup.salt, setup.origin_ns, setup.info) == (setup.origin_ns, setup.origin_ns, INFO)
    await world.ended(session)


async def test_by_default_a_session_loads_from_its_own_process(world: World, tmp_path: Path) -> None:
    session = world.session(tmp_path, patient=False)
    await session.start()
    assert world.engines[0].hands[0] == "here"
    await world.ended(session)


@pytest.mark.parametrize(
    ("api", "has", "constant"),
    [("completions", True, 0), ("completions", False, 11), ("chat", False, 11), ("chat", True, 11)],
)
async def test_words_are_counted_before_the_load_with_what_stands_around_a_prompt(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, has: bool, constant: float
) -> None:
    monkeypatch.setattr(FakeClient, "counts", True)
    world.found = lambda: replace(INFO, has_tokenize=has)
    session = world.session(tmp_path, patient=False, workload=Workload(api=api))
    await session.start()
    _, setup = world.engines[0].hands
    sizes = setup.script._prompts.sizes
    assert (sizes.ratio, sizes.constant) == (2, constant)
    await world.ended(session)


STAGED = LoadPlan(stages=(Stage(name="mine", duration_s=9.0, shape=Hold(concurrency=3)),), base=BASE)


@pytest.mark.parametrize(
    ("arrivals_s", "plan", "stages"),
    [
        ((), LoadPlan(stages=(), base=BASE), []),
        ((0.5, 2.0), LoadPlan(stages=(), base=BASE), ["trace"]),
        ((0.5, 2.0), STAGED, ["mine"]),
        ((), STAGED, ["mine"]),
    ],
)
async def test_a_trace_says_when_to_send_unless_the_plan_does(
    world: World, tmp_path: Path, arrivals_s: tuple[float, ...], plan: LoadPlan, stages: list[str]
) -> None:
    world.arrivals_s = arrivals_s
    session = world.session(tmp_path, plan=plan, patient=False)
    await session.start()
    assert [stage.name for stage in world.engines[0].pacer.plan.stages] == stages
    assert world.engines[0].pacer.plan.base == BASE
    await world.ended(session)


# ── An outage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def connected(world: World, path: Path, **fields: Any) -> Session:
    session = world.session(path, patient=False, **fields)
    await session.start()
    await world.clock.go(0.5)
    return session


@pytest.mark.parametrize("unchecked", [False, True])
async def test_an_outage_cuts_the_load_once_and_looks_for_the_endpoint_once(
    world: World, tmp_path: Path, unchecked: bool
) -> None:
    session = await connected(world, tmp_path, skip_checks=unchecked)
    before = len(world.probed_s)
    assert (world.engines[0].cuts, before) == (0, 0 if unchecked else 1)
    world.found = failing(EndpointUnreachable("http://h", "still nobody"))
    world.engines[0].untold = [refusals(0.75), refusals(1.0), FactBatch(t_s=1.25)]
    await world.clock.go(1.5)
    assert session.frame().endpoint.state is EndpointState.DOWN
    assert world.engines[0].cuts == 1
    assert len(world.probed_s) == before + 1, "at once, and not before a second has passed again"
    world.found = lambda: INFO
    await world.clock.go(2.0)
    assert session.frame().endpoint.state is EndpointState.UP
    assert len(world.clients) == 1, "as it was, and the run is about to end: nothing is made anew"
    assert not world.clients[0].closed
    events = await world.ended(session)
    told = "the server is back after 1 s: nothing that it tells has changed; the load stays at 0 until you set it"
    assert told in texts(events, "endpoint")


async def test_a_load_that_came_before_any_contact_is_not_cut(world: World, tmp_path: Path) -> None:
    world.found = failing(EndpointUnreachable("http://h", "nobody"))
    session = world.session(tmp_path)
    await session.start()
    await world.clock.go(10.0)
    assert world.engines == []
    assert len(world.probed_s) == 4, "one search for the endpoint, not two"
    await world.ended(session)


async def test_another_server_after_an_outage_gets_a_client_a_scraper_and_a_load_of_its_own(
    world: World, tmp_path: Path
) -> None:
    session = await connected(world, tmp_path)
    other = replace(INFO, model="other")
    world.found = lambda: other
    stopped = replace(BASE, concurrency=0)
    world.engines[0].target = stopped
    world.engines[0].untold = [refusals(0.75)]
    await world.clock.go(1.5)
    assert [len(made) for made in (world.clients, world.scrapers, world.engines)] == [2, 2, 2]
    assert world.clients[0].closed
    assert world.scrapers[0].closed
    assert world.engines[0].closed
    assert world.engines[1].pacer.plan == LoadPlan(stages=(), base=stopped), "what was commanded last"
    old = len(world.scrapers[0].scraped_s)
    await world.clock.go(4.5)
    assert len(world.scrapers[0].scraped_s) == old, "nobody scrapes with the old one"
    assert len(world.scrapers[1].scraped_s) >= 3
    assert session.meta.info == other
    assert not world.clients[1].closed
    events = await world.ended(session)
    assert [text for text in texts(events, "endpoint") if "is back" in text] == [
        "the server is back after 0 s: model m → other; the load stays at 0 until you set it"
    ]
    assert world.clients[1].closed
    assert world.scrapers[1].closed


async def test_a_load_that_is_set_before_the_first_contact_is_the_first_one(world: World, tmp_path: Path) -> None:
    world.found = failing(EndpointUnreachable("http://h", "nobody"))
    session = world.session(tmp_path)
    await session.start()
    await session.command(SetLoad(LoadPoint(concurrency=9)))
    world.found = lambda: INFO
    await world.clock.go(1.5)
    assert world.engines[0].pacer.plan == LoadPlan(stages=(), base=LoadPoint(concurrency=9))
    await session.command(SetLoad(LoadPoint(concurrency=4), "mine"))
    assert world.engines[0].commands == [(LoadPoint(concurrency=4), "mine")]
    await session.command(StopLoad())
    assert world.engines[0].cuts == 1
    await world.ended(session)


# ── Metrics of another dialect ────────────────────────────────────────────────────────────────────────────────────────


async def test_metrics_that_say_more_than_the_probe_are_heeded_once(world: World, tmp_path: Path) -> None:
    world.found = lambda: replace(INFO, dialect=Dialect.OPENAI, has_metrics=False)
    session = await connected(world, tmp_path)
    assert world.clients[0].used == []
    world.scrapers[0].dialect = Dialect.VLLM
    await world.clock.go(4.0)
    client = world.clients[0]
    assert client.used == [(Dialect.VLLM, "m", client.bodies.shape)]
    assert session.meta.info == replace(INFO, dialect=Dialect.VLLM, has_metrics=True)
    assert [text for text in texts(await world.ended(session), "endpoint") if "metrics" in text] == [
        "its metrics are those of vLLM: taken for vLLM from now on"
    ]


@pytest.mark.parametrize(
    ("told", "found"),
    [(Dialect.OPENAI, Dialect.OPENAI), (None, Dialect.SGLANG), (Dialect.SGLANG, Dialect.SGLANG)],
)
async def test_metrics_do_not_outvote_the_user_or_a_probe_that_knows(
    world: World, tmp_path: Path, told: Dialect | None, found: Dialect
) -> None:
    world.found = lambda: replace(INFO, dialect=found)
    session = await connected(world, tmp_path, dialect=told)
    world.scrapers[0].dialect = Dialect.VLLM
    await world.clock.go(4.0)
    assert world.clients[0].used == []
    assert session.meta.info == replace(INFO, dialect=found)
    warned = [event for event in await world.ended(session) if "metrics" in event.text]
    assert [(event.severity, "though it is taken for" in event.text) for event in warned] == [("warning", True)]


async def test_metrics_that_come_round_to_what_the_endpoint_is_taken_for_are_no_news(
    world: World, tmp_path: Path
) -> None:
    session = await connected(world, tmp_path)
    world.scrapers[0].dialect = Dialect.SGLANG
    await world.clock.go(2.0)
    world.scrapers[0].dialect = Dialect.VLLM
    await world.clock.go(4.0)
    assert len([event for event in await world.ended(session) if "metrics" in event.text]) == 1


# ── Scrapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("takes_s", [0.0, 0.3])
async def test_scrapes_begin_a_second_apart_however_long_they_take(
    world: World, tmp_path: Path, takes_s: float
) -> None:
    session = await connected(world, tmp_path)
    world.scrapers[0].takes_s = takes_s
    await world.clock.go(5.5)
    assert world.scrapers[0].scraped_s == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    world.scrapers[0].takes_s = 0.0
    await world.ended(session)


async def test_a_scrape_that_takes_longer_than_a_second_is_followed_at_once(world: World, tmp_path: Path) -> None:
    session = await connected(world, tmp_path)
    world.scrapers[0].takes_s = 1.5
    await world.clock.go(4.5)
    assert world.scrapers[0].scraped_s == pytest.approx([0.0, 1.0, 2.5, 4.0])
    world.scrapers[0].takes_s = 0.0
    await world.ended(session)


async def test_a_scrape_that_read_nothing_new_is_no_sample(world: World, tmp_path: Path) -> None:
    session = await connected(world, tmp_path)
    await world.clock.go(1.5)
    world.scrapers[0].fresh = False
    await world.clock.go(4.5)
    told = [sample.t_s for batch in session.take_facts() for sample in batch.server]
    assert told == [0.0, 1.0]
    await world.ended(session)


async def test_a_restart_of_the_server_is_told(world: World, tmp_path: Path) -> None:
    """Of a run without a hand: with a hand the load falls to 0."""
    session = await connected(world, tmp_path)
    world.found = lambda: replace(INFO, flags=(("max_num_seqs", "64"),))
    world.scrapers[0].restarted = True
    await world.clock.go(1.5)
    world.scrapers[0].restarted = False
    await world.clock.go(3.5)
    assert world.engines[0].cuts == 0
    batches = session.take_facts()
    chapters = [chapter for batch in batches for chapter in batch.chapters]
    assert [(each.text, dict(each.traits)) for each in chapters] == [
        ("the server has restarted: max_num_seqs not told → 64", {"max_num_seqs": "64", "model": "m"})
    ]
    await world.ended(session)
    assert [(event.text, event.severity) for batch in batches for event in batch.events if event.kind == "server"] == [
        ("the server has restarted: max_num_seqs not told → 64: a new curve begins", "warning")
    ]
    assert session.meta.began == INFO


async def test_replicas_behind_one_address_are_told_and_are_no_restart(world: World, tmp_path: Path) -> None:
    session = await connected(world, tmp_path)
    world.scrapers[0].in_turn, world.scrapers[0].missing = True, "2 replicas answer here in turn"
    await world.clock.go(1.5)
    world.scrapers[0].fresh = False
    await world.clock.go(3.5)
    batches = session.take_facts()
    assert not any(batch.chapters for batch in batches)
    told = [event for batch in batches for event in batch.events if event.kind == "server"]
    assert [(event.text, event.severity) for event in told] == [("2 replicas answer here in turn", "warning")]
    await world.ended(session)


@pytest.mark.parametrize(("urls", "told"), [((), []), (("http://127.0.0.1:9/metrics",), ["no page", "no page"])])
async def test_a_page_that_was_named_and_does_not_answer_is_told_each_time_that_it_falls_silent(
    urls: tuple[str, ...], told: list[str], world: World, tmp_path: Path
) -> None:
    endpoint = Endpoint(base_url="http://10.0.0.1:8000", metrics_urls=urls)
    session = await connected(world, tmp_path, endpoint=endpoint)
    for missing, until_s in (("no page", 5.5), (None, 8.5), ("a miss", 9.5), (None, 10.5), ("no page", 14.5)):
        world.scrapers[0].missing = missing
        await world.clock.go(until_s)
    events = [event for batch in session.take_facts() for event in batch.events if event.kind == "server"]
    assert [event.text for event in events] == told, "a single miss is no news"
    assert all(event.severity == "warning" for event in events)
    await world.ended(session)


GPU = GpuSnapshot(t_s=0.0, index=0, name="here")
EXPORTED = GpuSnapshot(t_s=0.0, index=1, name="exporter")


@pytest.mark.parametrize(
    ("url", "exported", "shown"),
    [
        ("http://127.0.0.1:8000", (), ["here"]),
        ("http://localhost:8000/v", (), []),  # what a name claims counts for nothing
        ("http://127.1.2.3:8000/v", (), ["here"]),
        ("http://[::1]:8000", (), ["here"]),
        ("http://10.0.0.1:8000", (), []),
        ("http://127.0.0.1:8000", (EXPORTED,), ["exporter"]),
        ("http://10.0.0.1:8000", (EXPORTED,), ["exporter"]),
    ],
)
async def test_gpus_of_this_machine_are_the_servers_only_beside_it_and_when_nobody_exports_them(
    world: World, tmp_path: Path, url: str, exported: tuple[GpuSnapshot, ...], shown: list[str]
) -> None:
    world.gpus = [GPU]
    session = world.session(tmp_path, url, patient=False)
    await session.start()
    world.scrapers[0].gpus = exported
    await world.clock.go(0.5)
    assert [gpu.name for gpu in session.frame().gpus] == shown
    await world.ended(session)


# ── Ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_became_known_is_told_four_times_a_second(world: World, tmp_path: Path) -> None:
    session = await connected(world, tmp_path)
    world.engines[0].untold = [load_bin(0.75, 3)]
    await world.clock.go(2.0)
    assert [batch.t_s for batch in session.take_facts()] == pytest.approx([0.25 * i for i in range(1, 9)])
    assert session.frame().in_flight == 3
    assert session.t_s == 2.0
    await world.ended(session)


async def test_what_the_load_says_of_its_plan_is_shown(world: World, tmp_path: Path) -> None:
    session = world.session(tmp_path)
    frame = session.frame()
    assert (frame.stage, frame.stage_left_s, frame.braked, frame.finished) == (None, None, None, False)
    await session.start()
    await world.clock.go(0.5)
    engine = world.engines[0]
    engine.stage, engine.stage_left_s, engine.braked, engine.finished = "warm", 3.0, "errors", True
    frame = session.frame()
    assert (frame.stage, frame.stage_left_s, frame.braked, frame.finished) == ("warm", 3.0, "errors", True)
    await world.ended(session)


async def test_what_happens_to_the_recording_is_told_once_and_what_is_missing_is_shown(
    world: World, tmp_path: Path
) -> None:
    session = await connected(world, tmp_path)
    assert session.frame().recording
    assert session.frame().recording_problem is None
    writer = session._recorder._writer
    assert writer is not None
    writer._news.append(("error", "the disk is full"))
    writer._gaps.append((1.0, 2.0))
    await world.clock.go(1.5)
    assert session.frame().recording
    assert session.frame().recording_problem == "what came from 00:01 to 00:02 is lost"
    events = [event for event in await world.ended(session) if event.kind == "recording"]
    assert [(event.text, event.severity) for event in events] == [("the disk is full", "error")]


# ── Leaving ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def leaving(world: World, path: Path, before: Callable[[float], ServerSnapshot], ours: int = 2) -> Session:
    """A session that has seen this server beside its own load."""
    world.served = before
    session = await connected(world, path)
    world.engines[0].untold = [load_bin(0.75, ours)]
    await world.clock.go(1.25)
    return session


@pytest.mark.parametrize("waiting", [None, 0.0])
async def test_a_server_that_runs_nothing_any_more_has_drained(
    world: World, tmp_path: Path, waiting: float | None
) -> None:
    session = await leaving(world, tmp_path, scraped(2.0, waiting))
    world.served = scraped(0.0, waiting)
    left_s = world.clock.now_s
    assert texts(await world.ended(session), "load") == ["the server has drained"]
    assert world.clock.now_s == left_s, "at once"
    assert [part.closed for part in (world.engines[0], world.scrapers[0], world.clients[0])] == [True] * 3


async def test_a_server_that_drains_slowly_is_waited_for(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(2.0))
    left_s = world.clock.now_s
    world.served = lambda t_s: scraped(2.0 if t_s < left_s + 3.0 else 0.0)(t_s)
    assert texts(await world.ended(session), "load") == ["the server has drained"]
    assert left_s + 3.0 <= world.clock.now_s <= left_s + 3.5


@pytest.mark.parametrize(("running", "waiting", "left"), [(2.0, None, "2"), (0.0, 3.0, "3"), (1.0, 3.0, "4")])
async def test_of_a_server_that_does_not_drain_it_is_said_after_some_seconds_how_much_it_has(
    world: World, tmp_path: Path, running: float, waiting: float | None, left: str
) -> None:
    session = await leaving(world, tmp_path, scraped(2.0), ours=2)
    world.served = scraped(running, waiting)
    left_s = world.clock.now_s
    events = await world.ended(session)
    assert 3.0 <= world.clock.now_s - left_s <= 8.0
    assert [(event.text, event.severity) for event in events if event.kind == "load"] == [
        (f"5 s after all of ours were cancelled the server still has {left}", "warning")
    ]


async def test_whoever_must_be_gone_soon_says_how_long_to_wait(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(2.0))
    left_s = world.clock.now_s
    events = await world.ended(session, drain_s=1.0)
    assert texts(events, "load") == ["1 s after all of ours were cancelled the server still has 2"]
    assert 1.0 <= world.clock.now_s - left_s <= 1.5


async def test_what_others_run_there_is_no_rest_of_ours(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(7.0), ours=2)
    assert session.frame().foreign == 5.0
    world.served = scraped(5.0)
    assert texts(await world.ended(session), "load") == ["the server has drained"]


async def test_one_that_is_left_is_no_drained_server(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(2.0), ours=2)
    assert session.frame().foreign == 0.0
    world.served = scraped(1.0)
    assert "still has 1" in texts(await world.ended(session), "load")[0]


@pytest.mark.parametrize("blind", ["missing", "count"])
async def test_of_a_server_that_does_not_tell_its_count_nothing_is_said(
    world: World, tmp_path: Path, blind: str
) -> None:
    session = await leaving(world, tmp_path, scraped(2.0))
    world.served = scraped(None if blind == "count" else 2.0)
    world.scrapers[0].missing = "no page" if blind == "missing" else None
    left_s = world.clock.now_s
    assert texts(await world.ended(session), "load") == []
    assert world.clock.now_s == left_s


async def test_the_last_counts_of_the_server_are_in_the_run(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(2.0))
    world.served = scraped(0.0)
    await world.ended(session)
    with RunReader(tmp_path / "r.llmtop") as run:
        assert run.complete
        samples = [sample.running for batch in run.batches() for sample in batch.server]
    assert samples == [2.0, 2.0, 0.0]


async def test_a_second_close_does_nothing(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(0.0))
    await world.ended(session)
    scrapes, told = len(world.scrapers[0].scraped_s), session.t_s
    assert await world.ended(session) == []
    assert (len(world.scrapers[0].scraped_s), session.t_s) == (scrapes, told)


async def test_a_part_that_failed_does_not_keep_the_session_from_leaving_in_order(world: World, tmp_path: Path) -> None:
    session = await leaving(world, tmp_path, scraped(0.0))

    async def broken() -> ServerSnapshot:
        raise ZeroDivisionError("a bug")

    world.scrapers[0].scrape, good = broken, world.scrapers[0].scrape  # type: ignore[method-assign]
    await world.clock.go(2.5)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(session.failed, 30)
    world.scrapers[0].scrape = good  # type: ignore[method-assign]
    assert texts(await world.ended(session), "load") == ["the server has drained"]
    await settled()


async def test_a_knob_of_a_server_that_hangs_does_not_keep_the_next_command_waiting(
    world: World, tmp_path: Path
) -> None:
    class Hanging(Given):
        async def turn(self, wish: SetKnob | InjectFault) -> str:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("nobody ends it")

    session = await connected(world, tmp_path)
    session._target = Hanging(Endpoint(base_url="http://h"))
    await session.command(SetKnob("max_num_seqs", 4.0))
    await world.clock.go(0.1)
    await session.command(StopLoad())
    assert world.engines[0].cuts == 1
    await world.ended(session)


# ── How it ended ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", [*Ending, None])
async def test_how_a_run_ended_is_told_and_recorded_with_its_length(
    world: World, tmp_path: Path, ending: Ending | None
) -> None:
    session = await leaving(world, tmp_path, scraped(0.0))
    closing = asyncio.create_task(session.close(1.0, ending))
    await settled()
    await world.clock.go(world.clock.now_s + 2.0)
    await closing
    told = [event for batch in session.take_facts() for event in batch.events if "run" in event.text.split()]
    assert len(told) == (ending is not None)
    if ending is not None:
        assert told[0].severity == ("info" if ending in (Ending.PLAN, Ending.HAND) else "warning")
    with RunReader(tmp_path / "r.llmtop") as run:
        assert run.meta == session.meta
        assert (run.meta.ending, run.meta.ended_s) == (ending, session.frame().t_s)
        last_s = max(batch.t_s for batch in run.batches())
    assert ending is None or last_s == run.meta.ended_s, "read back, it is as long as it was"


@pytest.mark.parametrize(("plan_s", "limit_s"), [(0.05, 0.06), (9.0, 0.08), (0.0, 0.08)])
async def test_an_endpoint_that_keeps_its_answers_holds_up_a_run_by_little_more_than_its_plan(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_s: float, limit_s: float
) -> None:
    async def silent(endpoint: Endpoint, caps: Any, **rest: Any) -> EndpointInfo:
        await asyncio.Event().wait()
        return INFO

    for name, value in (("probe", silent), ("START_S", 0.08), ("START_BEYOND_PLAN_S", 0.01)):
        monkeypatch.setattr(f"llmtop.session.finding.{name}", value)
    stages = (Stage(name="hold", duration_s=plan_s, shape=Hold(1)),) if plan_s else ()
    session = world.session(tmp_path, plan=LoadPlan(stages=stages, base=BASE), patient=False)
    with pytest.raises(EndpointUnreachable, match=rf"within {limit_s:g} s .*hung"):
        await session.start()
    await world.ended(session)
