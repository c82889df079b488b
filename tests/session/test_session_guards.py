"""What keeps a session from telling the wrong state, losing a fact or recording one that it was asked not to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from session_fakes import REFUSED, ended

from llmtop.domain.commands import AddMark, InjectFault, Quit, Seek, SetKnob, SetLoad, SetRecording, StopLoad
from llmtop.domain.endpoint import Endpoint, EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Stage
from llmtop.domain.profile import Profile, Workload
from llmtop.domain.request import REFUSALS, Outcome, RequestRecord
from llmtop.domain.run import Event, FactBatch
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.recording.reader import RunReader
from llmtop.session import session as session_module
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session
from llmtop.session.watch import EndpointWatch
from llmtop.simulator.server import schedule
from llmtop.simulator.server.process import CONTROL_TOKEN_VARIABLE
from llmtop.simulator.server.serving import serve
from llmtop.wording.sentences import WORKLOAD
from llmtop.workload.recorded import trace_plan

# ── The endpoint's state ──────────────────────────────────────────────────────────────────────────────────────────────


def batch(t_s: float, *records: RequestRecord, tokens: int = 0, in_flight: int = 1, scraped: bool = False) -> FactBatch:
    return FactBatch(
        t_s=t_s,
        bins=(LoadBin(t_s=t_s, span_s=0.25, target=1, in_flight=in_flight, output_tokens=tokens),),
        requests=records,
        server=(ServerSnapshot(t_s=t_s),) if scraped else (),
    )


def watched(*batches: FactBatch) -> EndpointWatch:
    """A watch over an endpoint that was up at second 1, after these batches."""
    watch = EndpointWatch()
    watch.to(EndpointState.UP, 1.0)
    for each in batches:
        watch.observe(each)
    return watch


def test_a_change_is_told_with_its_time_its_reason_and_how_bad_it_is() -> None:
    watch = EndpointWatch()
    assert (watch.state, watch.since_s, watch.last_error) == (EndpointState.CONNECTING, 0.0, None)
    down = watch.to(EndpointState.DOWN, 2.0, "nobody there")
    assert down == Event(2.0, "endpoint", "endpoint down: nobody there", "warning", EndpointState.DOWN)
    assert watch.to(EndpointState.DOWN, 3.0, "still nobody") is None
    assert (watch.since_s, watch.last_error) == (2.0, "still nobody")
    stale = watch.to(EndpointState.STALE, 4.0)
    assert stale == Event(4.0, "endpoint", "endpoint stale", "warning", EndpointState.STALE)
    assert watch.last_error == "still nobody"
    assert watch.to(EndpointState.UP, 5.0) == Event(5.0, "endpoint", "endpoint up", "info", EndpointState.UP)
    assert (watch.since_s, watch.last_error) == (5.0, None)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((status, EndpointState.AUTH_FAILED) for status in (401, 403)),
        *((s, EndpointState.UP) for s in (400, 402, 404)),
    ],
)
def test_only_a_key_that_is_not_let_in_is_an_auth_failure(status: int, state: EndpointState) -> None:
    assert watched(batch(2.0, ended(Outcome.HTTP_ERROR, status, "no"), tokens=5)).state is state


def test_a_row_of_refusals_goes_on_from_batch_to_batch_and_ends_with_any_answer() -> None:
    row = [batch(2.0 + i, REFUSED) for i in range(REFUSALS)]
    assert watched(*row[:-1]).state is EndpointState.UP
    assert watched(*row).state is EndpointState.DOWN
    assert watched(*row).since_s == 1.0 + REFUSALS
    failed = batch(2.5, ended(Outcome.HTTP_ERROR, 503))
    assert watched(*row[:-1], failed, *row[1:]).state is EndpointState.UP
    assert watched(*row[:-1], batch(2.5), row[-1]).state is EndpointState.DOWN
    assert watched(batch(2.0, *[ended(Outcome.TIMEOUT, None)] * 9)).state is EndpointState.UP


def test_two_refusals_may_be_an_accident_and_five_are_none() -> None:
    assert watched(batch(2.0, REFUSED, REFUSED)).state is EndpointState.UP
    assert watched(batch(2.0, *[REFUSED] * 5)).state is EndpointState.DOWN


def test_a_row_begins_with_the_first_refusal() -> None:
    watch = EndpointWatch()
    watch.observe(batch(1.0, *[REFUSED] * (REFUSALS - 1)))
    assert watch.state is EndpointState.CONNECTING
    watch.observe(batch(1.25, REFUSED))
    assert watch.state is EndpointState.DOWN


def test_a_probe_that_finds_the_endpoint_up_starts_the_row_anew() -> None:
    watch = watched(batch(2.0, *[REFUSED] * REFUSALS))
    watch.to(EndpointState.UP, 3.0)
    watch.observe(batch(4.0, *[REFUSED] * (REFUSALS - 1)))
    assert watch.state is EndpointState.UP


def test_a_token_that_came_before_the_last_refusals_does_not_hide_that_nobody_is_there() -> None:
    watch = watched(batch(2.0, ended(), *[REFUSED] * REFUSALS, tokens=5))
    assert watch.state is EndpointState.DOWN
    assert watch.observe(batch(2.25)) is None
    assert watch.last_error == "connection refused"


def test_tokens_end_any_bad_state() -> None:
    for state in EndpointState:
        watch = EndpointWatch()
        watch.to(state, 1.0, "why")
        watch.observe(batch(2.0, tokens=1))
        assert (watch.state, watch.last_error) == (EndpointState.UP, None)


@pytest.mark.parametrize("heard", ["tokens", "scrape", "probe"])
def test_silence_counts_from_the_last_sign_of_life(heard: str) -> None:
    signs = {"tokens": [batch(9.0, tokens=1)], "scrape": [batch(9.0, scraped=True)], "probe": []}[heard]
    last_s = 1.0 if heard == "probe" else 9.0
    assert watched(*signs, batch(last_s + 10.0)).state is EndpointState.UP
    assert watched(*signs, batch(last_s + 10.25)).state is EndpointState.STALE


def test_silence_is_no_news_with_nothing_in_flight_or_from_an_endpoint_that_is_not_up() -> None:
    assert watched(batch(99.0, in_flight=0)).state is EndpointState.UP
    assert watched(FactBatch(t_s=99.0)).state is EndpointState.UP
    connecting = EndpointWatch()
    assert connecting.observe(batch(99.0)) is None
    assert connecting.state is EndpointState.CONNECTING


# ── The session ───────────────────────────────────────────────────────────────────────────────────────────────────────


def options(path: Path, port: int = 9, **fields: object) -> SessionOptions:
    """A session that looks for somebody on this port."""
    profile = Profile(name="hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=2)))
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}")
    return SessionOptions(**{"profile": profile, "run_file": str(path), "endpoint": endpoint, **fields})  # type: ignore[arg-type]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is down is tried again soon, and a tick is short."""
    monkeypatch.setattr(session_module, "TICK_S", 0.05)
    monkeypatch.setattr(session_module, "RETRY_S", (0.1,))


async def until(session: Session, condition: Callable[[Frame], bool]) -> Frame:
    async with asyncio.timeout(60):
        while not condition(frame := session.frame()):
            await asyncio.sleep(0.02)
        return frame


async def test_a_session_that_has_not_begun_shows_nothing_and_records_nothing(tmp_path: Path) -> None:
    session = Session(options(tmp_path / "run.llmtop"))
    frame = session.frame()
    assert (frame.recording, frame.run_file, frame.finished, frame.braked) == (False, None, False, None)
    assert (frame.endpoint.state, frame.endpoint.retry_in_s, frame.endpoint.metrics) == (
        EndpointState.CONNECTING,
        None,
        None,
    )
    for command in (SetRecording(True), Seek(1.0), Quit(), StopLoad(), SetLoad(LoadPoint(concurrency=1))):
        await session.command(command)
    await session.close()
    await session.close()
    (told,) = session.take_facts()
    assert [event.text for event in told.events] == ["recording paused"]
    assert session.take_facts() == ()


@pytest.mark.parametrize(
    ("command", "words"),
    [(SetKnob("max_num_seqs", 4.0), "not known yet"), (InjectFault("hang"), "only the simulated engine has faults")],
)
async def test_a_server_that_nobody_has_looked_at_turns_nothing(
    tmp_path: Path, command: SetKnob | InjectFault, words: str
) -> None:
    session = Session(options(tmp_path / "run.llmtop"))
    await session.command(command)
    await asyncio.sleep(0.01)
    await session.close()
    (told,) = session.take_facts()
    assert [(event.kind, event.severity) for event in told.events] == [("server", "warning")]
    assert words in told.events[0].text
    assert session.frame().endpoint.knobs == {}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("temporary", [True, False])
async def test_a_run_that_nobody_named_a_file_for_is_recorded_elsewhere_or_not_at_all(
    tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch, temporary: bool
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path if temporary else tmp_path / "none"))
    session = Session(options(tmp_path, unused_port, run_file=None))
    await session.start()
    frame = await until(session, lambda frame: bool(frame.events))
    await session.close()
    (event, *_) = frame.events
    assert event.kind == "recording"
    if temporary:
        assert frame.run_file is not None
        assert Path(frame.run_file).is_relative_to(tmp_path)
        assert (event.severity, frame.recording_problem) == ("warning", None)
        assert event.text.startswith(f"the run is recorded in {frame.run_file}, because ")
    else:
        assert (frame.run_file, frame.recording) == (None, False)
        assert (event.severity, frame.recording_problem) == ("error", event.text)
        assert event.text.endswith("the run is not recorded")


@pytest.mark.usefixtures("hasty")
async def test_what_happens_while_recording_is_paused_is_shown_but_not_written(
    tmp_path: Path, unused_port: int
) -> None:
    path = tmp_path / "run.llmtop"
    session = Session(options(path, unused_port))
    await session.start()
    try:
        for text, on in (("before", False), ("paused", True), ("after", True)):
            await session.command(AddMark(text))
            frame = await until(session, lambda frame, text=text: text in [mark.text for mark in frame.marks])
            assert frame.recording == (text != "paused")
            assert frame.run_file == str(path)
            await session.command(SetRecording(on))
    finally:
        await session.close()
    with RunReader(path) as run:
        assert run.complete
        batches = list(run.batches())
    assert [mark.text for each in batches for mark in each.marks] == ["before", "after"]
    told = session.take_facts()
    assert [mark.text for each in told for mark in each.marks] == ["before", "paused", "after"]
    assert [event.text for each in told for event in each.events if event.kind == "recording"] == [
        "recording paused",
        "recording",
        "recording",
    ]


@pytest.mark.parametrize(("label", "named"), [("my run", "my-run"), (None, "127.0.0.1-")])
async def test_a_run_file_that_nobody_names_lies_among_the_users_runs(
    tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch, label: str | None, named: str
) -> None:
    monkeypatch.setattr("llmtop.recording.writer.runs_directory", lambda: tmp_path)
    session = Session(options(tmp_path / "other.llmtop", unused_port, run_file=None, label=label))
    await session.start()
    file = session.frame().run_file
    await session.command(AddMark("kept"))
    await session.close()
    assert file is not None
    assert file.startswith(str(tmp_path))
    assert f"-{named}" in file
    with RunReader(Path(file)) as run:
        assert run.complete


async def test_a_bug_in_any_part_of_a_session_is_raised_to_whoever_waits_for_it(
    tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("llmtop.session.finding.probe", broken)
    session = Session(options(tmp_path / "run.llmtop", unused_port))
    assert not session.failed.done()
    await session.start()
    try:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await asyncio.wait_for(session.failed, 60)
    finally:
        await session.close()


async def test_a_session_that_ends_well_has_not_failed(tmp_path: Path, unused_port: int) -> None:
    session = Session(options(tmp_path / "run.llmtop", unused_port))
    await session.start()
    await session.close()
    await asyncio.sleep(0)
    assert not session.failed.done()


TOKEN = "the control's"
QUICK = schedule.Plan(ttft_ns=1_000_000, tpot_ns=1_000_000, tokens=2)
SLOW = schedule.Plan(ttft_ns=1_000_000, tokens=8)


@pytest.fixture
async def begin() -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Start the simulated engine on a port, in the test's own loop."""
    stop = asyncio.Event()
    tasks = []

    async def start(port: int) -> None:
        ready = asyncio.get_running_loop().create_future()
        serving = serve("laptop", port=port, stop=stop, on_ready=ready.set_result)
        tasks.append(asyncio.create_task(serving))
        await asyncio.wait({ready, *tasks}, return_when=asyncio.FIRST_COMPLETED)

    yield start
    stop.set()
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("hasty")
async def test_a_load_that_was_set_while_nobody_was_there_is_the_first_that_is_driven(
    tmp_path: Path, unused_port: int, begin: Callable[[int], Awaitable[None]]
) -> None:
    session = Session(options(tmp_path / "run.llmtop", unused_port))
    await session.start()
    try:
        await until(session, lambda frame: frame.endpoint.state is EndpointState.DOWN)
        await session.command(SetLoad(LoadPoint(concurrency=3, prompt_tokens=32, output_tokens=8)))
        await begin(unused_port)
        frame = await until(session, lambda frame: frame.totals.ok > 0)
        assert [change.point.concurrency for change in frame.changes] == [3]
        assert (frame.endpoint.state, frame.endpoint.retry_in_s) == (EndpointState.UP, None)
        assert frame.endpoint.last_error is None
    finally:
        await session.close()
    states = [event.state for each in session.take_facts() for event in each.events if event.state is not None]
    assert states == [EndpointState.DOWN, EndpointState.UP]


@pytest.mark.usefixtures("hasty")
async def test_a_load_that_was_stopped_while_nobody_was_there_does_not_begin_by_itself(
    tmp_path: Path, unused_port: int, begin: Callable[[int], Awaitable[None]]
) -> None:
    session = Session(options(tmp_path / "run.llmtop", unused_port))
    await session.start()
    try:
        await until(session, lambda frame: frame.endpoint.state is EndpointState.DOWN)
        await session.command(StopLoad())
        await begin(unused_port)
        frame = await until(session, lambda frame: bool(frame.changes))
        assert frame.target.concurrency == 0
        await session.command(SetLoad(LoadPoint(concurrency=1, prompt_tokens=32, output_tokens=8)))
        frame = await until(session, lambda frame: frame.totals.ok > 0)
        assert [change.point.concurrency for change in frame.changes] == [0, 1]
    finally:
        await session.close()


@pytest.mark.usefixtures("hasty")
async def test_a_session_that_drove_nothing_leaves_no_run_file_and_names_none(tmp_path: Path, unused_port: int) -> None:
    path = tmp_path / "run.llmtop"
    session = Session(options(path, unused_port, patient=True))
    await session.start()
    try:
        frame = await until(session, lambda frame: frame.endpoint.state is EndpointState.DOWN)
        assert frame.run_file == str(path)
    finally:
        await session.close()
    assert not path.exists()
    frame = session.frame()
    assert (frame.run_file, frame.recording, frame.recording_problem) == (None, False, None)
    assert frame.endpoint.last_error


@pytest.mark.usefixtures("hasty")
async def test_a_plan_is_shown_from_its_first_stage_to_its_end_and_the_server_is_seen_to_drain(
    tmp_path: Path, unused_port: int, begin: Callable[[int], Awaitable[None]]
) -> None:
    await begin(unused_port)
    stage = Stage(name="all", duration_s=1.0, shape=Hold(concurrency=4))
    plan = LoadPlan(stages=(stage,), base=LoadPoint(concurrency=1, prompt_tokens=32, output_tokens=200))
    profile = Profile(name="mine", plan=plan, caps=Caps(max_concurrency=8))
    session = Session(options(tmp_path / "run.llmtop", unused_port, profile=profile, patient=False))
    await session.start()
    try:
        frame = await until(session, lambda frame: frame.in_flight > 0)
        assert (frame.stage, frame.profile, frame.max_concurrency, frame.finished) == ("all", "mine", 8, False)
        assert frame.stage_left_s is not None
        assert 0.0 < frame.stage_left_s < 1.0
        frame = await until(session, lambda frame: frame.finished)
        assert (frame.stage, frame.stage_left_s, frame.braked) == (None, None, None)
    finally:
        await session.close()
    texts = [event.text for event in session.frame().events if event.kind == "load"]
    assert texts[-1] == "the server has drained"
    assert session.frame().in_flight == 0


def ramp(**fields: object) -> Profile:
    stage = Stage(name="up", duration_s=60.0, shape=Ramp(0.0, 20.0))
    plan = LoadPlan(stages=(stage,), base=LoadPoint(concurrency=1, prompt_tokens=32, output_tokens=8))
    return Profile(**{"name": "up", "plan": plan, "peak": 10, "peak_from_slots": True, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "peak", "top", "said"),
    [
        (ramp(), 32, 64.0, ["expected peak: 32, the server's slots"]),
        (
            ramp(caps=Caps(max_concurrency=40)),
            20,
            40.0,
            ["expected peak: 20: the server has 32 slots, but no more than 40 in flight are allowed"],
        ),
        (ramp(peak_from_slots=False), 10, 20.0, []),
    ],
)
async def test_a_plan_whose_peak_comes_from_the_slots_goes_where_the_server_has_them(
    tmp_path: Path,
    unused_port: int,
    begin: Callable[[int], Awaitable[None]],
    profile: Profile,
    peak: float,
    top: float,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CONTROL_TOKEN_VARIABLE, TOKEN)
    await begin(unused_port)
    session = Session(options(tmp_path / "run.llmtop", unused_port, profile=profile, patient=False))
    await session.start()
    await session.close()
    with RunReader(tmp_path / "run.llmtop") as run:
        told = run.meta.profile
        texts = [event.text for batch in run.batches() for event in batch.events if "peak" in event.text]
    assert (told.peak, told.plan.top) == (peak, top)
    assert [text.removesuffix(" (--max-concurrency)") for text in texts] == said


async def test_a_gate_as_wide_as_the_server_is_said_to_hold_nothing_back(
    tmp_path: Path,
    unused_port: int,
    begin: Callable[[int], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CONTROL_TOKEN_VARIABLE, TOKEN)
    await begin(unused_port)
    plan = LoadPlan(stages=(), base=LoadPoint(concurrency=1, gate=32))
    profile = Profile(name="gated", plan=plan)
    session = Session(options(tmp_path / "run.llmtop", unused_port, profile=profile, patient=False))
    await session.start()
    await session.close()
    with RunReader(tmp_path / "run.llmtop") as run:
        texts = [event.text for batch in run.batches() for event in batch.events if "gate" in event.text]
    assert texts == ["gate 32 holds nothing back: the server has 32 slots (a gate stands for fewer)"]


@pytest.mark.parametrize(
    ("most", "peak", "said"),
    [
        (20, 10, "expected peak: 10, the profile's: the server does not tell its slots (--peak sets another)"),
        (8, 4, "expected peak: 4: the profile's is 10, but no more than 8 in flight are allowed (--max-concurrency)"),
    ],
)
async def test_a_plan_whose_peak_comes_from_the_slots_keeps_its_own_where_nobody_tells_them(
    tmp_path: Path, most: int, peak: float, said: str
) -> None:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(schedule.serve(QUICK, stop, port.set_result))
    profile = ramp(caps=Caps(max_concurrency=most))
    session = Session(options(tmp_path / "run.llmtop", await port, profile=profile, patient=False))
    await session.start()
    await session.close(drain_s=0.5)
    stop.set()
    await serving
    assert (session.meta.profile.peak, session.meta.profile.plan.top) == (peak, 2 * peak)
    texts = [event.text for batch in session.take_facts() for event in batch.events if "peak" in event.text]
    assert texts == [said]


@pytest.mark.usefixtures("hasty")
async def test_of_a_server_without_metrics_nobody_says_that_it_has_drained(tmp_path: Path) -> None:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(schedule.serve(SLOW, stop, port.set_result))
    session = Session(options(tmp_path / "run.llmtop", await port, patient=False))
    await session.start()
    frame = await until(session, lambda frame: frame.in_flight > 0 and frame.endpoint.metrics is not None)
    await session.close(drain_s=0.5)
    stop.set()
    await serving
    assert (frame.foreign, frame.server) == (None, None)
    assert [event for event in session.frame().events if "drained" in event.text or "still has" in event.text] == []
    assert session.frame().totals.sent > 0


def test_a_trace_is_one_stage_that_sends_as_it_came() -> None:
    base = LoadPoint(concurrency=1, prompt_tokens=11)
    plan = trace_plan(np.array([0.2, 0.4, 2.5]), base)
    (stage,) = plan.stages
    assert (stage.name, stage.duration_s, plan.base) == ("trace", 3.5, base)
    assert [(at_s, point.rate_rps) for at_s, point in stage.shape.points] == [(0.0, 2.0), (1.0, 0.0), (2.0, 1.0)]  # type: ignore[union-attr]


@pytest.mark.usefixtures("hasty")
async def test_a_trace_is_sent_in_full_at_its_times_and_what_its_file_lacked_is_told(tmp_path: Path) -> None:
    rows = [*["0,9,2"] * 5, "0,0,0", *["0.2,9,2"] * 4]
    (tmp_path / "mine.csv").write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]))
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(schedule.serve(QUICK, stop, port.set_result))
    plan = LoadPlan(stages=(), base=LoadPoint(concurrency=1))
    profile = Profile(name="mine", plan=plan, workload=Workload(source="trace", file=str(tmp_path / "mine.csv")))
    session = Session(options(tmp_path / "run.llmtop", await port, profile=profile, patient=False))
    await session.start()
    await until(session, lambda frame: frame.finished)
    await session.close(drain_s=0.5)
    stop.set()
    await serving
    batches = session.take_facts()
    due_s = sorted(record.scheduled_ns / 1e9 for batch in batches for record in batch.requests)
    assert [round(at_s - due_s[0], 3) for at_s in due_s] == [0.0] * 5 + [0.2] * 4
    texts = [event.text for batch in batches for event in batch.events if event.text.startswith(WORKLOAD)]
    assert f"{WORKLOAD}mine.csv: 1 of 10 rows left out: 1 without tokens" in texts


def test_answers_without_tokens_are_signs_of_life_too() -> None:
    embedded = FactBatch(t_s=9.0, bins=(LoadBin(t_s=9.0, span_s=0.25, target=4, in_flight=4, ok=3),))
    waiting = FactBatch(t_s=12.0, bins=(LoadBin(t_s=12.0, span_s=0.25, target=4, in_flight=4),))
    assert watched(embedded, waiting).state is EndpointState.UP
