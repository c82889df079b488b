"""What panels and lines say: what to do has room where figures have not, and no figure speaks well of failures."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.client import ClientCause, ClientHealth, ClientReason
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.failures import FailureGroup
from llmtop.domain.frame import Distribution, Frame, Totals, Window
from llmtop.domain.kinds import KindFigures
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.run import Event, LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, Diagnosis
from llmtop.view import lines, tables
from llmtop.view.condition import LATE_MS, LATE_OF, LATE_POLLS, Condition, Lateness
from llmtop.view.glyphs import UNICODE
from llmtop.view.panels import panels
from llmtop.view.runs import Runs, cut_inside
from llmtop.view.tone import Tone
from llmtop.view.verdict import verdict
from llmtop.wording.recording import FULL, waits_text
from llmtop.wording.sentences import CLIENT_LATE

TTFT = Distribution(n=40, mean=50.0, p50=50.0, p90=60.0, p95=70.0, p99=80.0, max=90.0)
SERVER = ServerSnapshot(t_s=59.0, running=4, waiting=0, ttft_mean_s=0.04)
FRAME = Frame(
    seq=1,
    t_s=60.0,
    endpoint=EndpointStatus(state=EndpointState.UP),
    target=LoadPoint(concurrency=8),
    totals=Totals(sent=500, ok=488, errors=12),
    window=Window(ttft=TTFT, tpot=replace(TTFT, p95=20.0), e2e=TTFT, error_ratio=0.5),
    server=SERVER,
    client=ClientHealth(t_s=60.0),
)
ADVICE = "raise --max-num-seqs to about 110: about 50 concurrent users at the SLO (~38 now), then TPOT binds"
KINDS = tuple(
    FailureGroup(outcome=Outcome.HTTP_ERROR, status=status, text=text, count=12, first_s=3.0, last_s=41.0)
    for status, text in ((500, "x"), (503, "y" * 300), (429, "slow down please"))
)


def text_of(rows: list[Runs]) -> str:
    return " ".join(" ".join("".join(text for text, _ in row) for row in rows).split())


@pytest.mark.parametrize("height", range(8, 30))
def test_advice_and_the_newest_failure_have_room_where_figures_have_not(height: int) -> None:
    """At 120x40 the panel has twelve rows of 57 cells."""
    found = Assessment(
        diagnosis=Diagnosis(
            bound=Bound.QUEUE, advice=ADVICE, evidence=("running stuck at 32, waiting 64",), votes=(5, 8)
        ),
        capacity=Capacity(sentence="supports 38 concurrent users at the SLO"),
    )
    rows = tables.percentiles(replace(FRAME, failures=KINDS), found, False, UNICODE, 57, height)
    told = text_of(rows)
    assert len(rows) <= height
    assert all(sum(len(text) for text, _ in row) <= 57 for row in rows)
    assert ADVICE in told
    assert 'HTTP 429 "slow down please" ×12' in told
    assert "488 ok 12 failed" in told
    assert ("because 5 of 8 windows say so: running stuck" in told) is (height >= 12)
    assert "HTTP 500" not in told, "the log has all kinds"


def test_the_panel_of_words_says_which_name_alone_breaks_a_limit() -> None:
    said = "requests of answer alone break a limit that all together keep: TTFT p95 3.00 s > 2 s"
    found = Assessment(by_name=(KindFigures(name="plan"), KindFigures(name="answer", alone=said)))
    assert said in text_of(tables.percentiles(FRAME, found, False, UNICODE, 57, 14))
    assert "alone" not in text_of(tables.percentiles(FRAME, Assessment(), False, UNICODE, 57, 14))


def test_words_that_have_no_room_even_so_end_in_the_sign_of_a_cut() -> None:
    found = Assessment(path="buffers " * 80)
    rows = tables.percentiles(FRAME, found, False, UNICODE, 57, 6)
    assert len(rows) == 6
    assert rows[-1][-1][0] == "…"


def test_a_latency_beside_nothing_but_failures_is_not_drawn_as_good_news() -> None:
    for ratio, tone in ((0.5, Tone.GOOD), (1.0, Tone.UNKNOWN)):
        views = panels(replace(FRAME, window=replace(FRAME.window, error_ratio=ratio)), Slo(), UNICODE, Condition())
        assert [view.tone for view in views[:2]] == [tone] * 2
        assert [view.stale for view in views[:2]] == [ratio == 1] * 2
        assert (views[0].notes == ("all fail",)) is (ratio == 1)


def test_a_total_of_the_run_beside_a_share_of_the_last_seconds_says_so() -> None:
    errors = panels(FRAME, Slo(), UNICODE, Condition())[5]
    assert errors.figure == "50.0%"
    assert errors.notes[0] == "12 of 500 in the run"


def test_the_network_is_no_difference_of_means_of_other_requests() -> None:
    def told(mean_ms: float, bound: Bound = Bound.NONE) -> str:
        frame = replace(FRAME, window=replace(FRAME.window, ttft=replace(TTFT, mean=mean_ms)))
        return text_of(tables.percentiles(frame, Assessment(diagnosis=Diagnosis(bound=bound)), False, UNICODE, 57))

    assert "network 10.0ms" in told(50.0)
    assert "network" not in told(5000.0)
    assert "network 4.96s" in told(5000.0, Bound.NETWORK)


@pytest.mark.parametrize(
    ("reason", "sign"),
    [
        (ClientReason(cause=ClientCause.LAG, value=9.0), "!9.00ms"),
        (ClientReason(cause=ClientCause.CPU, value=0.724), "!cpu 72%"),
        (ClientReason(cause=ClientCause.LOOP, value=30.0), "!loop 30.0ms"),
        (ClientReason(cause=ClientCause.COALESCED, value=40.0, of=100.0), "!reads late"),
    ],
)
def test_a_mark_at_the_client_stands_before_what_it_is_for(reason: ClientReason, sign: str) -> None:
    client = ClientHealth(t_s=60.0, state="amber", reason=reason, lag_p99_ms=0.98)
    row = lines.header(replace(FRAME, client=client), Condition(), UNICODE, 120)
    assert "".join(text for text, _ in row).rstrip().endswith(f"client {sign}")


def test_an_engine_that_is_late_for_a_while_leaves_no_cause_and_no_advice() -> None:
    seen, late = Lateness(), []
    for i in range(20):
        late_ms = LATE_MS if 5 <= i < 10 else 0.1
        late.append(seen.see(replace(FRAME, server=replace(SERVER, t_s=float(i), late_ms=late_ms))))
        assert seen.see(replace(FRAME, server=replace(SERVER, t_s=float(i), late_ms=late_ms))) is late[-1], "once each"
    assert late.index(True) == 4 + LATE_POLLS
    assert late[10 + LATE_OF - LATE_POLLS] is False
    assert not seen.see(replace(FRAME, server=SERVER))
    line = "SLO FAIL TTFT p95>2s · queue-bound: raise --max-num-seqs · below 64 users at the SLO"
    found = Assessment(headline=line, diagnosis=Diagnosis(bound=Bound.QUEUE, advice=ADVICE, votes=(8, 8)))
    told = text_of(verdict(FRAME, found, Condition(late=True), UNICODE, 80, 2))
    assert told == f"✖ SLO FAIL TTFT p95>2s · {CLIENT_LATE} · below 64 users at the SLO"
    panel = text_of(tables.percentiles(FRAME, found, False, UNICODE, 57, late=True))
    assert f"advice {CLIENT_LATE}" in panel
    assert "raise" not in panel
    failing = replace(found, headline="SLO FAIL errors>1% · requests fail", diagnosis=Diagnosis(bound=Bound.FAILED))
    assert "requests fail" in text_of(verdict(FRAME, failing, Condition(late=True), UNICODE, 80, 2))


def test_at_80_columns_a_recording_that_waits_says_why_however_long_its_path_is() -> None:
    event = Event(5.0, "recording", waits_text("/home/somebody/" + "folder/" * 12 + "run.llmtop", FULL), "warning")
    found = lines.entries(replace(FRAME, events=(event,)), UNICODE)
    line = text_of([lines.event_line(found, UNICODE, 80)])
    assert line.startswith(f"00:05 ! recording waits: {FULL}; what comes is kept in memory")
    assert line.endswith("…")


def test_the_newest_failure_and_why_nobody_answers_keep_what_to_do_in_the_line_of_events() -> None:
    group = replace(KINDS[1], retry_after_s=2.0)
    line = text_of([lines.event_line(lines.entries(replace(FRAME, failures=(group,)), UNICODE), UNICODE, 80)])
    assert line.startswith('00:41 ✖ HTTP 503 "yyyy')
    assert line.endswith("…the server asks to wait 2s")
    down = Event(5.0, "endpoint", f"endpoint down: http://h:1: {'it is so, ' * 9}: check host and port", "warning")
    line = text_of([lines.event_line(lines.entries(replace(FRAME, events=(down,)), UNICODE), UNICODE, 80)])
    assert line.endswith("…check host and port")


@pytest.mark.parametrize("width", range(12, 60, 7))
def test_a_text_is_cut_inside_only_where_both_ends_have_room(width: int) -> None:
    text = "a sentence of some length: do this"
    cut = cut_inside(text, width, "…")
    assert len(cut) <= width
    assert cut == text or "…" in cut
    assert cut.endswith("do this") is (width >= 12)


def test_a_gate_that_was_turned_is_among_the_events() -> None:
    gates = (None, 16, 24, None)
    changes = tuple(LoadChange(float(t), LoadPoint(concurrency=48, gate=gate)) for t, gate in enumerate(gates))
    told = [entry.text for entry in lines.entries(replace(FRAME, changes=changes), UNICODE)]
    assert told == ["gate 16", "gate 16→24", "no gate"]
