"""Laws of chapters: one configuration is one curve, whoever changed it, and what is in no curve is counted."""

from __future__ import annotations

import msgspec
import pytest
from facts_by_hand import bins_of, facts_of, record
from test_analysis_ledger import curves_of, drive, laptop, users
from virtual import VirtualSession, meta_of

from llmtop.analysis import assess
from llmtop.analysis.compared import comparison_of
from llmtop.analysis.measured import Ledger, MeasuredCurve, measured_curves
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.segments import chapter_notes, segments_of
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Chapter, LoadChange, ScaleKind, ScaleStep
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, Capacity, Kind
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.wording.sentences import driven

CLIMB = ((4, 7), (12, 7), (24, 7), (40, 7))
FOUR = users(4)


def loads(curve: MeasuredCurve) -> list[float]:
    return [level.load for level in curve.levels]


def turned(*slots: int, limits: bool = True) -> VirtualSession:
    session = drive(laptop(4, limits=limits), *CLIMB)
    for count in slots:
        session.turn(max_num_seqs=count)
        drive(session, *CLIMB)
    return session


@pytest.mark.parametrize("limits", [True, False])
def test_a_knob_begins_a_new_curve_whether_the_server_tells_its_limits_or_not(limits: bool) -> None:
    session = turned(64, limits=limits)
    ghost, current = curves_of(session)
    assert (loads(ghost), loads(current)) == ([4, 12, 24, 40], [4, 12, 24, 40])
    told = ("max_num_seqs 32", "max_num_seqs 64") if limits else ("", "max_num_seqs=64")
    for curve, setting in zip((ghost, current), told, strict=True):
        assert setting in curve.label
    assert ghost.label != current.label
    assert len(segments_of(session.facts, session.meta)) == 2, "what is told and what is seen is one edge"


def test_a_configuration_that_comes_back_takes_its_curve_up_again() -> None:
    told = turned(64, 32)
    assert [("max_num_seqs 32" in curve.label) for curve in curves_of(told)] == [False, True]
    assert min(level.n for level in curves_of(told)[-1].levels) >= 1.5 * min(
        level.n for level in curves_of(turned(64))[0].levels
    )
    hidden = turned(64, 48, 64, limits=False)
    assert len({segment.key for segment in segments_of(hidden.facts, hidden.meta)}) == 3


@pytest.mark.parametrize(
    ("shown_s", "told_s", "edges"),
    [(30.0, 30.0, [30.0]), (30.0, 31.9, [31.9]), (31.9, 30.0, [30.0]), (30.0, 32.1, [30.0, 32.1])],
)
def test_a_change_that_is_told_and_one_that_is_seen_within_two_seconds_are_one(
    shown_s: float, told_s: float, edges: list[float]
) -> None:
    server = [ServerSnapshot(t_s=0.0, max_num_seqs=32), ServerSnapshot(t_s=shown_s, max_num_seqs=64)]
    facts = facts_of(server=server, changes=[(0.0, FOUR)])
    facts.chapters = [Chapter(told_s, "max_num_seqs 32 -> 64", "a")]
    assert [segment.start_s for segment in segments_of(facts, meta_of())][1:] == edges


@pytest.mark.parametrize("told", [True, False])
def test_a_restart_begins_a_new_curve_and_its_first_answers_warm_it_up(told: bool) -> None:
    session = drive(laptop(8), (8, 10))
    session.engine.step_time_factor = 1.0
    session.restart(told=told)
    session.engine.extra_step_ns = 200_000_000
    session.hooks.append((session.now_s + 3, lambda: setattr(session.engine, "extra_step_ns", 0)))
    drive(session, (8, 25))
    _, current = [None, *curves_of(session)][-2:]
    assert current is not None
    assert "start 2" in current.label
    assert current.left_out["warm-up"] >= 8
    assert max(current.levels[0].ttft_s) < 0.35


def test_what_was_sent_before_the_first_request_ended_is_warm_up() -> None:
    requests = [record(i / 4, ttft_s=3.0 if i < 10 else 0.1, e2e_s=3.5 if i < 10 else 1.0) for i in range(100)]
    facts = facts_of(requests=requests, bins=bins_of(30, 4), changes=[(0.0, FOUR)])
    (curve,) = measured_curves(facts, meta_of(), finished_requests(facts), 30.0)
    assert curve.left_out == {"warm-up": 14}, "the first one ends at 3.5 s"
    assert curve.levels[0].n == 86


# -- what is left out -------------------------------------------------------------------------------------------------


def left_out(facts: Facts) -> dict[str, int]:
    return dict(measured_curves(facts, meta_of(), finished_requests(facts), 60.0)[-1].left_out)


def minute(late: int = 0) -> Facts:
    requests = [record(i / 4, client_limited=100 <= i < 100 + late) for i in range(240)]
    return facts_of(requests=requests, bins=bins_of(61, 4), changes=[(0.0, FOUR)])


def test_every_request_is_in_a_level_or_left_out_for_a_reason() -> None:
    assert left_out(minute()) == {"warm-up": 4, "load moved": 1}, "in the first bin users come"
    assert left_out(minute(late=20))["client"] == 20
    stepped = minute()
    stepped.bins.column("in_flight")[stepped.bins.column("t_s") > 30] = 16
    assert left_out(stepped)["load moved"] == pytest.approx(4, abs=2)
    moved = minute()
    moved.changes.append(LoadChange(30.0, LoadPoint(concurrency=4, output_tokens=9)))
    assert set(left_out(moved)) == {"other configuration"}
    session = drive(laptop(4), *CLIMB, (60, 9))
    for curve in curves_of(session):
        counted = sum(level.n + level.errors for level in curve.levels)
        assert counted + sum(curve.left_out.values()) == session.finished


def test_what_a_brake_asked_for_is_no_level_of_the_question() -> None:
    session = drive(laptop(32), (32, 10))
    session.command(users(2))
    session.facts.changes[-1] = LoadChange(session.now_s, users(2), "brake")
    session.run_until(session.now_s + 12)
    (curve,) = curves_of(session)
    assert loads(curve) == [32]
    assert curve.left_out["brake"] >= 15
    drive(session, (4, 12))
    assert loads(curves_of(session)[-1]) == [4, 32], "until somebody sets the load"


@pytest.mark.parametrize("seed", range(3))
def test_a_climb_too_fast_for_its_queue_says_so_and_not_that_there_is_none(seed: int) -> None:
    steps = tuple((count, 2.5) for count in (4, 8, 12, 16, 24, 32, 48, 64, 64))
    fast = drive(laptop(4, seed=seed), *steps)
    assert assess(fast.facts, fast.meta, Slo(), now_s=fast.now_s).cliff.kind is not Kind.NONE
    calm = drive(laptop(2, seed=seed), *((count, 8) for count in (2, 4, 6, 8, 12, 16)))
    found = assess(calm.facts, calm.meta, Slo(), now_s=calm.now_s).cliff
    assert found.kind is Kind.NONE, "nothing waits for long"


# -- changes that nobody made here ------------------------------------------------------------------------------------


def noted(*changes: dict[str, float], chapter_s: float | None = None) -> tuple[str, ...]:
    known = {"max_num_seqs": 32.0, "kv_capacity_tokens": 768.0, "requests_total": 5.0}
    server = [ServerSnapshot(t_s=10.0 * i, **{**known, **change}) for i, change in enumerate(({}, *changes))]
    facts = facts_of(server=server, changes=[(0.0, FOUR)])
    facts.chapters = [] if chapter_s is None else [Chapter(chapter_s, "a", "b")]
    return chapter_notes(facts, meta_of())


def test_a_replica_that_comes_or_goes_is_named() -> None:
    more, fewer = {"kv_capacity_tokens": 1536.0}, {"kv_capacity_tokens": 768.0}
    assert noted(more) == ("KV cache tokens 768 -> 1536: a replica was added",)
    assert noted(more, fewer)[1:] == ("KV cache tokens 1536 -> 768: a replica was removed",)
    assert noted(more, chapter_s=11.0) == (), "it was turned here"
    assert noted(more, chapter_s=14.0) != ()
    assert noted({**more, "requests_total": 0.0}) == (), "another server was started"
    assert noted({"max_num_seqs": 64.0}) == ("max_num_seqs 32 -> 64: the server was changed",)


def test_an_autoscaled_session_is_noted_and_parted() -> None:
    session = drive(laptop(16), (16, 8))
    config = session.engine.config
    session.engine.reconfigure(msgspec.structs.replace(config, num_gpu_blocks=2 * config.num_gpu_blocks))
    drive(session, (16, 8))
    assert chapter_notes(session.facts, session.meta) == (), "that is told of the blocks"
    assert "num_gpu_blocks 1536" in curves_of(session)[-1].label


ONE = {"max_num_seqs": 4.0, "num_gpu_blocks": 768.0, "kv_capacity_tokens": 12272.0}


def scaled(*counts: int, rows: bool, at_s: float = 30.0, factor: float = 1.0) -> Facts:
    """Of each count of replicas half a minute, by what scrapes show of each or by steps that somebody told.

    Args:
        factor: by which each replica after the first is larger.
    """
    server, steps, before = [], [], 0
    for i in range(int(at_s * len(counts))):
        count = counts[int(i / at_s)]
        sums = {name: value * (1 + (count - 1) * factor) for name, value in ONE.items()}
        each = tuple((f"pod-{k}", 2.0, 0.0, 0.1) for k in range(count)) if rows and count > 1 else ()
        server.append(ServerSnapshot(t_s=float(i), replicas=each, **sums))
        if not rows and count != before:
            kind: ScaleKind = "ready" if count > before else "gone"
            steps.append(ScaleStep(t_s=i + 2.0 * (before > 0), kind=kind, replicas=count, since=before == 0))
        before = count
    requests = [record(i / 4) for i in range(int(4 * at_s * len(counts)) - 8)]
    facts = facts_of(requests=requests, bins=bins_of(at_s * len(counts), 4), server=server, changes=[(0.0, FOUR)])
    facts.scaling.extend(steps)
    return facts


def all_curves(facts: Facts) -> tuple[MeasuredCurve, ...]:
    return Ledger().curves(facts, meta_of(), finished_requests(facts), 60.0, every=True)


def labels(facts: Facts) -> list[str]:
    return [curve.label for curve in all_curves(facts)]


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "steps"])
def test_replicas_that_come_or_go_are_told_as_such_and_not_as_turned_knobs(rows: bool) -> None:
    facts = scaled(1, 3, rows=rows)
    assert labels(facts) == ["192/64 tok · replicas 1", "192/64 tok · replicas 3"]
    curves, slo = all_curves(facts), parse_slo("ttft_p95<2s")
    compared = comparison_of(curves, Capacity(), slo)
    assert compared is not None
    assert compared.changed == "replicas 1 → 3"
    notes = assess(facts, meta_of(), slo, now_s=60.0).notes
    assert not any(name in note for note in notes for name in (*ONE, "KV"))
    back = segments_of(scaled(1, 3, 1, rows=rows), meta_of())
    assert [segment.replicas for segment in back] == [1, 3, 1]
    assert back[0].key == back[2].key
    assert [segment.replicas for segment in segments_of(scaled(2, 3, 4, rows=rows, factor=2.0), meta_of())] == [2, 3, 4]


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "steps"])
def test_a_knob_that_is_turned_while_no_replica_moves_is_a_knob(rows: bool) -> None:
    facts = scaled(2, 2, rows=rows)
    facts.server.column("max_num_seqs")[30:] = 64.0
    assert labels(facts) == ["192/64 tok · max_num_seqs 8", "192/64 tok · max_num_seqs 64"]
    assert chapter_notes(facts, meta_of()) == ("max_num_seqs 8 -> 64: the server was changed",)
    both = scaled(1, 2, rows=rows)
    both.server.column("max_num_batched_tokens")[:] = [2048.0] * 30 + [4096.0] * 30
    assert "max_num_batched_tokens 4096" in labels(both)[-1]


def test_prompts_that_were_cut_are_told_by_their_own_length() -> None:
    point = LoadPoint(concurrency=4, prompt_tokens=8192, output_tokens=10)
    facts = facts_of(requests=[record(i / 4) for i in range(60)], bins=bins_of(16, 4), changes=[(0.0, point)])
    (curve,) = measured_curves(facts, meta_of(), finished_requests(facts), 16.0)
    assert curve.label == "192/10 tok (8192 asked)"
    for got, told in ((1792.0, "1792/10 tokens (8192 asked)"), (7500.0, "8192/10 tokens"), (None, "8192/10 tokens")):
        assert driven("concurrency", point, got) == told


def test_what_was_seen_before_a_knob_was_turned_binds_no_longer() -> None:
    session, judge = drive(laptop(4), *CLIMB), Judge(Slo())
    judge(session.facts, session.meta)
    assert judge(session.facts, session.meta).diagnosis.bound is Bound.QUEUE
    session.turn(max_num_seqs=48)
    session.command(users(16))
    for _ in range(20):
        session.run_until(session.now_s + 1)
        found = judge(session.facts, session.meta).diagnosis
        assert not any("stuck at 32" in text or "running at most 32" in text for text in found.evidence)
