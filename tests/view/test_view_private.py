"""On a private screen there is nothing of whose run it is, whatever it is called."""

from __future__ import annotations

import re
import string
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.balance import ReplicaFigures
from llmtop.domain.client import CrewFigures, WorkerFigures
from llmtop.domain.endpoint import CommandStatus, Dialect, Endpoint, EndpointInfo, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.domain.judgement import Judgement
from llmtop.domain.kinds import KindFigures
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ended, Event, RunMeta
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.shown import Answer, Shown, Wheel
from llmtop.domain.verdicts import Diagnosis
from llmtop.view.private import private, private_text
from llmtop.wording.running import ITS_PLAN

LETTERS = string.ascii_lowercase
NAMES = st.text(LETTERS, min_size=6, max_size=14).map(lambda text: f"zq{text}")
"""No word that llmtop itself says."""


@st.composite
def runs(draw: st.DrawFn) -> tuple[Shown, list[str]]:
    """A run of random names, each in a field of its own and in sentences; and the names."""
    names = draw(st.lists(NAMES, min_size=8, max_size=8, unique=True))
    host, model, label, path, header, user, file, pod = names
    port = draw(st.integers(10_000, 65_535))
    address = f"{host}.example:{port}"
    said = f"{address}: {model} of {label} by {header}, {user} on {pod}-0: /home/{path}/runs/{file}.llmtop is not there"
    status = EndpointStatus(
        state=EndpointState.DOWN,
        label=address,
        model=f"org/{model}",
        named=f"{label}, max_num_seqs 46",
        last_error=f"http://{address}: {said}",
        command=CommandStatus(serves=True, settings=(), log=(said,), log_path=f"/var/{path}/log", problem=said),
    )
    frame = Frame(
        seq=1,
        t_s=1.0,
        endpoint=status,
        target=LoadPoint(concurrency=4),
        run_file=f"/home/{path}/runs/{file}.llmtop",
        profile=label,
        recording_problem=said,
        braked=said,
        events=(Event(1.0, "endpoint", said),),
        server=ServerSnapshot(t_s=1.0, replicas=((f"{pod}-0", 1.0, 0.0, None), (f"{pod}-1", 2.0, 0.0, None))),
    )
    endpoint = Endpoint(base_url=f"http://{address}", model=f"org/{model}", headers=((header, "v"),))
    meta = RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=endpoint,
        info=EndpointInfo(dialect=Dialect.VLLM, model=f"org/{model}"),
        profile=Profile(name=label, plan=LoadPlan(stages=(), base=LoadPoint(concurrency=1))),
        label=label,
    )
    found = Assessment(
        headline=said,
        diagnosis=Diagnosis(bound=Assessment().diagnosis.bound, advice=said, evidence=(said,)),
        judgement=Judgement(sentence=said, reasons=(said,)),
        by_name=(KindFigures(name=user),),
        replicas=(ReplicaFigures(name=f"{pod}-1", scrapes=1),),
    )
    shown = Shown(frame=frame, assessment=found, meta=meta, answer=Answer(1, said), ended=Ended(said))
    return shown, [*names, str(port)]


@given(runs())
def test_no_text_that_is_drawn_has_a_name_in_it(run: tuple[Shown, list[str]]) -> None:
    shown, names = run
    hidden = private(shown)
    drawn = msgspec.json.encode(replace(hidden, meta=None)).decode()
    assert [name for name in names if name in drawn] == []
    assert [name for name in names if name in msgspec.json.encode(replace(shown, meta=None)).decode()] == names


@given(runs())
def test_figures_are_as_they_were_and_hiding_twice_hides_no_more(run: tuple[Shown, list[str]]) -> None:
    hidden = private(run[0])
    assert hidden.frame is not None
    assert hidden.frame.target == run[0].frame.target  # type: ignore[union-attr]
    assert hidden.frame.timeline is run[0].frame.timeline  # type: ignore[union-attr]
    assert private(hidden) == hidden


def test_nothing_is_hidden_of_a_simulated_engine_but_files() -> None:
    status = EndpointStatus(state=EndpointState.UP, label="127.0.0.1:9", simulated=True, preset="demo", model="sim")
    frame = Frame(seq=1, t_s=1.0, endpoint=status, target=LoadPoint(concurrency=1), run_file="/home/me/a.llmtop")
    hidden = private(Shown(frame=frame)).frame
    assert hidden is not None
    assert (hidden.endpoint.preset, hidden.run_file) == ("demo", "RUN")


def test_before_there_is_a_frame_there_is_nothing_to_hide() -> None:
    assert private(Shown()) == Shown()


def test_what_only_looks_like_a_name_stays() -> None:
    status = EndpointStatus(state=EndpointState.UP, label="gpu:8000", model="m/queue")
    frame = Frame(seq=1, t_s=1.0, endpoint=status, target=LoadPoint(concurrency=1))
    text = "8000 tok/s at 32 users (TTFT p50 / p95), 512/128 tokens, 0.6/s"
    assert private(Shown(frame=frame, answer=Answer(1, text))).answer == Answer(1, text)


@given(runs(), st.integers(1, 65_535))
def test_an_address_in_pieces_is_hidden_and_numbers_beside_it_stay(run: tuple[Shown, list[str]], port: int) -> None:
    told = f"Connect call failed ('10.1.2.3', {port}); port {port}; 10.1.2.3:{port}, {port} in flight"
    assert private_text(told, run[0]) == f"Connect call failed ('endpoint', -); port -; endpoint, {port} in flight"


def test_a_host_is_hidden_as_it_was_typed_and_as_it_is_told() -> None:
    meta = runs_of("http://GPU.Lab:8000/v1")
    assert private_text("GPU.Lab, gpu.lab, GPU.Lab:8000", Shown(meta=meta)) == "endpoint, endpoint, endpoint"


def test_replicas_have_numbers_in_the_order_in_which_they_came_and_engines_keep_theirs() -> None:
    rows = (("vllm-b", 1.0, 0.0, None), ("vllm-a", 1.0, 0.0, None), ("vllm-c", 1.0, 0.0, None), ("10", 1.0, 0.0, None))
    status = EndpointStatus(state=EndpointState.UP)
    frame = Frame(
        seq=1,
        t_s=1.0,
        endpoint=status,
        target=LoadPoint(concurrency=4),
        server=ServerSnapshot(t_s=1.0, replicas=rows),
        events=(Event(1.0, "server", "replica vllm-a is gone: 10 left"),),
    )
    found = Assessment(replicas=tuple(ReplicaFigures(name=name, scrapes=1) for name in ("vllm-a", "vllm-b")))
    told = private(Shown(frame=frame, assessment=found))
    assert told.frame is not None
    assert told.frame.server is not None
    assert [row[0] for row in told.frame.server.replicas] == ["R2", "R1", "R3", "10"]
    assert told.frame.events[0].text == "replica R1 is gone: 10 left"


def test_other_screens_are_not_told_by_their_terminals() -> None:
    taken = Answer(1, "the wheel was taken by pts/7")
    hidden = private(Shown(wheel=Wheel(mine=False, holder="pts/7"), answer=taken))
    assert (hidden.wheel.holder, hidden.answer) == (
        "another screen",
        Answer(1, "the wheel was taken by another screen"),
    )
    plan = Wheel(mine=False, holder=ITS_PLAN)
    assert private(Shown(wheel=plan)).wheel == plan, "that is no name, and is told otherwise"


def runs_of(url: str) -> RunMeta:
    profile = Profile(name="by hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=1)))
    return RunMeta(llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url=url), profile=profile)


def test_hosts_that_send_the_load_are_not_told() -> None:
    shown = Shown(
        frame=Frame(
            seq=1,
            t_s=1.0,
            endpoint=EndpointStatus(state=EndpointState.UP, label="here:1"),
            target=LoadPoint(concurrency=4),
            crew=CrewFigures(began=2, heard=2, worst=(WorkerFigures(worker=3, name="gpubox7:4711"),)),
            events=(Event(1.0, "client", "Load worker 3 (gpubox7:4711) died by signal 9"),),
        )
    )
    frame = private(shown).frame
    assert frame is not None
    assert frame.events[0].text == "Load worker 3 (load host:4711) died by signal 9"
    assert "gpubox7" not in msgspec.json.encode(frame).decode()


def test_patterns_are_made_once_for_a_set_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def compiled(pattern: str) -> re.Pattern[str]:
        made.append(pattern)
        return re.compile(pattern)

    monkeypatch.setattr("llmtop.view.private.re", SimpleNamespace(compile=compiled, escape=re.escape))
    for at in range(3):
        answer = Answer(at, "asked patterns.of.one.run:1")
        assert private(Shown(meta=runs_of("http://patterns.of.one.run:1"), answer=answer)).answer != answer
    assert len(made) == 1
    private(Shown(meta=runs_of("http://patterns.of.another.run:1")))
    assert len(made) == 2
