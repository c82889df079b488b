"""Soaks: what creeps is named, and what moves for another reason is not."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from soaks import FAULTS, soak
from virtual import VirtualSession, meta_of

from llmtop.analysis import assess
from llmtop.analysis import soak as soaking
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.soak import (
    FALSE_ALARMS,
    LEAST,
    creeping,
    drifts_of,
    leak,
    long_enough,
    replicas,
    stretch,
    visible,
    windowed,
)
from llmtop.analysis.work import alongside, at_equal_work, tokens_held
from llmtop.domain.load import LoadPoint
from llmtop.domain.over_time import Drift
from llmtop.domain.request import Outcome
from llmtop.domain.run import Chapter, FactBatch
from llmtop.domain.samples import ClientSample, ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset
from llmtop.wording.over_time import Figure, told

FOUR, EIGHT = LoadPoint(concurrency=4), LoadPoint(concurrency=8)
L4 = "L4 8B, 16 users"
"""The cheapest to simulate."""


# -- a slice of the confusion table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["every step +1 %/min", "KV leak", "noisy x1.5", "restart"])
def test_a_planted_fault_is_named(fault: str) -> None:
    assert FAULTS[fault][1](soak(L4, fault, 3))


def test_nothing_is_cried_of_a_clean_soak() -> None:
    found = soak(L4, None, 3)
    assert found.drifts
    assert not any(drift.significant for drift in found.drifts)
    assert creeping(found.drifts) == ()
    assert leak(found.drifts) is None


def test_a_full_cache_that_leaks_is_named_as_a_leak_and_its_slowness_with_it() -> None:
    found = soak("24 slots, 20 users", "KV leak", 0)
    leaking = leak(found.drifts)
    assert leaking is not None
    assert leaking.metric == "KV cache"
    assert leaking.per_hour == pytest.approx(2.4, rel=0.1), "0.4 of the cache in ten minutes"
    assert leaking.text.startswith("KV cache leaks: with as many requests running, blocks in use +")
    slow = next(each for each in found.drifts if each.metric == "preemptions")
    assert slow.change > 0.1
    step = Drift(metric=Figure.TTFT, shape="step", since_s=500.0, change=3.46)
    assert told(step, filled=True).text == "TTFT +346 % from 08:20 on: while the KV cache leaks"
    assert told(step).text == "TTFT +346 % from 08:20 on: something else slows the server"


def test_a_restart_leaves_the_longest_part_and_says_so() -> None:
    found = soak(L4, "restart", 3)
    assert found.drifts[0].from_s > 200
    note = next(note for note in found.notes if note.startswith("what creeps"))
    assert note.endswith("to 10:00 alone: before or after, the load or the server was another")
    assert not any(note.startswith("what creeps") for note in soak(L4, None, 3).notes)


def test_which_part_is_told_of_is_said_only_where_somebody_asks_or_something_drifts() -> None:
    def notes(grows: float) -> tuple[str, ...]:
        server = snapshots(600, rss_bytes=lambda t: 1e9 + grows * t)
        facts = held(600, server, changes=[(0.0, EIGHT), (200.0, FOUR)])
        return assess(facts, meta_of(), Slo(), now_s=600.0).notes

    assert not any(note.startswith("what creeps") for note in notes(0.0))
    assert any(note.startswith("what creeps is told of 03:40 to 10:00 alone") for note in notes(1e6))


def test_a_climb_by_hand_does_not_drift() -> None:
    session = VirtualSession(load_preset("l4-llama-3.1-8b"), LoadPoint(concurrency=2), seed=1)
    for step in range(12):
        session.command(LoadPoint(concurrency=2 + 2 * step))
        session.run_until(30.0 * (step + 1))
    assert drifts_of(session.facts, session.now_s) == ()


# -- by hand ----------------------------------------------------------------------------------------------------------


def snapshots(until_s: int, **more: object) -> list[ServerSnapshot]:
    rng = np.random.default_rng(0)
    told = []
    for second in range(1, until_s + 1):
        values = {name: each(second) if callable(each) else each for name, each in more.items()}
        told.append(ServerSnapshot(t_s=float(second), running=4.0, kv_usage=0.2 + 0.01 * rng.random(), **values))
    return told


def held(until_s: int, server: list[ServerSnapshot] | None = None, **more: object) -> Facts:
    """Four users who wait 100 ms and decode for 0.9 s, again and again."""
    rng = np.random.default_rng(1)
    requests = [
        record(i / 4, ttft_s=0.1 + 0.01 * rng.random(), e2e_s=1.0 + 0.01 * rng.random()) for i in range(4 * until_s - 4)
    ]
    facts = {"requests": requests, "bins": bins_of(until_s, 4), "server": server or [], "changes": [(0.0, FOUR)]}
    return facts_of(**{**facts, **more})  # type: ignore[arg-type]


def found_of(facts: Facts, until_s: int = 600) -> dict[str, Drift]:
    return {drift.metric: drift for drift in drifts_of(facts, float(until_s))}


def test_the_longest_time_at_one_load_and_one_configuration_counts() -> None:
    changes = [(0.0, FOUR), (100.0, EIGHT), (120.0, EIGHT), (400.0, FOUR)]
    facts = facts_of(bins=bins_of(600, 4), changes=changes)
    assert stretch(facts, 600.0) == (100.0, 400.0)
    assert stretch(facts, 900.0) == (400.0, 900.0)
    facts.extend(FactBatch(t_s=600.0, chapters=(Chapter(260.0, "max_num_seqs 32 -> 48", "48"),)))
    assert stretch(facts, 600.0) == (400.0, 600.0)
    assert stretch(Facts(), 10.0) == (0.0, 10.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"requests_total": 900.0}, {"requests_total": 3.0}),
        ({"process_start_s": 1000.0}, {"process_start_s": 1500.0}),
        ({"num_gpu_blocks": 700.0}, {"num_gpu_blocks": 701.0}),
        ({"max_num_seqs": 32.0}, {"max_num_seqs": 48.0}),
    ],
)
def test_another_server_is_another_stretch(before: dict[str, float], after: dict[str, float]) -> None:
    server = [ServerSnapshot(t_s=float(t), **(before if t < 70 else after)) for t in range(1, 100)]
    assert stretch(facts_of(server=server, changes=[(0.0, FOUR)]), 100.0) == (0.0, 70.0)


def test_a_scrape_that_missed_a_replica_is_no_restart() -> None:
    def missed(second: int) -> bool:
        return second in (50, 51)

    server = [
        ServerSnapshot(t_s=float(t), requests_total=5.0 * t / (1 + missed(t)), num_gpu_blocks=1536 / (1 + missed(t)))
        for t in range(1, 100)
    ]
    facts = facts_of(server=server, changes=[(0.0, FOUR)])
    assert stretch(facts, 100.0) == (0.0, 100.0)
    assert replicas(facts) == ()


@pytest.mark.parametrize(
    ("figure", "least"),
    [(Figure.KV, 0.01), (Figure.PREEMPTIONS, 0.03), (Figure.CLIENT_LAG, 1.0), (Figure.CLIENT_CPU, 0.1)],
)
@pytest.mark.parametrize("share", [0.9, 1.15])
def test_figures_near_zero_have_a_least_change_of_their_own(figure: Figure, least: float, share: float) -> None:
    """They are told by the middle third on, so that noise of a hundredth of it does not matter."""
    rng = np.random.default_rng(5)
    rise = [share * least * t / 570 + 0.01 * least * rng.random() for t in range(601)]
    total = np.cumsum([4 * each for each in rise])
    server = [
        ServerSnapshot(
            t_s=float(t),
            running=4.0,
            kv_usage=0.2 + rise[t] if figure is Figure.KV else None,
            preemptions_total=float(total[t]) if figure is Figure.PREEMPTIONS else None,
            requests_total=4.0 * t,
        )
        for t in range(1, 601)
    ]
    client = [
        ClientSample(
            t_s=float(t),
            tpot_ms=90.0,
            lag_p99_ms=0.1 + rise[t] if figure is Figure.CLIENT_LAG else None,
            cpu=0.1 + rise[t] if figure is Figure.CLIENT_CPU else None,
        )
        for t in range(1, 601)
    ]
    assert found_of(held(600, server, client=client))[figure].significant is (share > 1)


def test_an_error_in_a_hundred_more_is_seen_and_fewer_are_not_spoken_of() -> None:
    for each, seen in ((20, True), (120, False)):
        failing = [
            record(i / 10, outcome=Outcome.HTTP_ERROR if i > 3000 and i % each == 0 else Outcome.OK)
            for i in range(5990)
        ]
        drift = found_of(facts_of(requests=failing, bins=bins_of(600, 4), changes=[(0.0, FOUR)]))["errors"]
        assert drift.significant is seen
        assert drift.shape == ("step" if seen else "none")


def test_a_warm_up_is_two_answers_and_a_twentieth_of_the_time_at_least() -> None:
    def since_s(until_s: int, e2e_s: float) -> float:
        requests = [record(i / 4, e2e_s=e2e_s) for i in range(4 * until_s)]
        return drifts_of(facts_of(requests=requests, changes=[(0.0, FOUR)]), float(until_s))[0].from_s

    assert since_s(280, 1.0) == 15.0
    assert since_s(600, 1.0) == 30.0
    assert since_s(600, 40.0) == pytest.approx(80.0)


def test_windows_are_longer_where_requests_are_few() -> None:
    """Six a window: 119 after the warm-up are too few for twenty, and then only what the server shows is told."""
    for count, known in ((121, True), (119, False)):
        requests = [record(31 + 567 * i / count, ttft_s=0.1 + 0.001 * (i % 7)) for i in range(count)]
        facts = facts_of(requests=requests, server=snapshots(600, rss_bytes=1e9), changes=[(0.0, FOUR)])
        drifts = drifts_of(facts, 600.0)
        assert ("TTFT" in found_of(facts)) is long_enough(drifts) is known
        assert "server memory" in found_of(facts)
        assert visible(drifts).endswith(
            "; for latencies, hold one load for 4 min and 120 requests after its warm-up"
        ) is (not known)


def test_too_short_a_stretch_tells_nothing_and_says_what_would_do() -> None:
    """Twenty windows of twelve seconds, after a warm-up of fifteen."""
    assert drifts_of(held(254), 254.0) == ()
    assert drifts_of(held(256), 256.0)
    assert visible(()) == ("too short to tell what creeps: hold one load for 4 min and 120 requests after its warm-up")


def test_what_would_have_been_seen_is_told() -> None:
    text = visible(drifts_of(held(600, snapshots(600, rss_bytes=1e9)), 600.0))
    assert text.startswith("from 00:30 to 10:00 a creep of TTFT above +")
    assert text.endswith(" would have been seen")
    assert "of server memory above +18.9 %/h" in text, "three percent of the run, where nothing moves"


def test_a_change_of_less_than_three_percent_is_not_spoken_of() -> None:
    assert LEAST == 0.03
    for share, seen in ((0.028, False), (0.035, True)):
        memory = snapshots(600, rss_bytes=lambda t, share=share: 1e9 * (1 + share * (t - 30) / 570))
        drift = found_of(held(600, memory))["server memory"]
        assert drift.significant is seen
        assert bool(creeping((drift,))) is seen
    assert drift.per_hour == pytest.approx(0.035 * 3600 / 570, rel=0.01)
    assert drift.text == "server memory leaks: its resident size +22.1 %/h (+22.1 % to +22.1 %)"


def test_memory_that_was_taken_once_is_no_leak() -> None:
    step = found_of(held(600, snapshots(600, rss_bytes=lambda t: 1.2e9 if t > 300 else 1e9)))["server memory"]
    assert (step.shape, step.since_s) == ("step", pytest.approx(300, abs=12))
    assert step.text == "server memory +20.0 % from 05:00 on"
    warm = found_of(held(600, snapshots(600, rss_bytes=lambda t: 1e9 - 3e8 * np.exp(-t / 60))))["server memory"]
    assert (warm.shape, warm.significant) == ("levelling", False)
    assert warm.text.endswith("then level: a warm-up, no drift")
    assert creeping((step, warm)) == ()
    assert leak((step, warm)) is None


def test_a_leak_that_begins_later_is_one_from_then_on() -> None:
    late = found_of(held(600, snapshots(600, rss_bytes=lambda t: 1e9 + 1e6 * max(0, t - 300))))["server memory"]
    assert late.since_s == pytest.approx(300, abs=20)
    assert late.change == pytest.approx(0.3, rel=0.1)
    assert late.text.startswith("server memory leaks: its resident size +")
    assert " from 04:" in late.text
    assert leak((late,)) is late


def test_errors_and_preemptions_are_told_as_shares_of_requests() -> None:
    def preempted(second: int) -> float:
        return float(sum(each > 400 for each in range(second)))

    server = snapshots(600, preemptions_total=preempted)
    drift = found_of(held(600, server))["preemptions"]
    assert (drift.shape, drift.change) == ("step", pytest.approx(0.25, abs=0.01))
    assert drift.text == "preemptions +24.8 % of requests from 06:39 on"
    assert creeping((drift,)) == (drift,)


def test_the_clients_own_creep_is_told_and_is_no_fault_of_the_server() -> None:
    def seconds(worst_ms: float) -> list[ClientSample]:
        rng = np.random.default_rng(2)
        return [
            ClientSample(t_s=t + 1.0, lag_p99_ms=1 + worst_ms * t / 600 + 0.01 * rng.random(), cpu=0.2, tpot_ms=90.0)
            for t in range(600)
        ]

    late = found_of(held(600, client=seconds(2.0)))["client lag"]
    assert late.text.startswith("the client's own receive lag creeps: +")
    assert creeping((late,)) == ()
    assert not found_of(held(600, client=seconds(0.9)))["client lag"].significant, "below a millisecond"


def test_what_gets_better_is_no_fault() -> None:
    falling = found_of(held(600, snapshots(600, rss_bytes=lambda t: 1e9 - 1e5 * t)))["server memory"]
    assert falling.significant
    assert falling.text.startswith("server memory falls: -")
    assert creeping((falling,)) == ()


def test_kv_blocks_before_memory_are_the_leak() -> None:
    memory = Drift(metric=Figure.MEMORY, shape="slope", change=0.5, significant=True)
    blocks = Drift(metric=Figure.KV, shape="slope", change=0.2, significant=True)
    assert leak((memory, blocks)) is blocks
    assert leak((memory,)) is memory
    slow = Drift(metric=Figure.TPOT, shape="step", change=0.2, significant=True)
    assert creeping((slow, memory)) == (memory, slow)
    assert leak((msgspec.structs.replace(blocks, shape="step"),)) is None
    assert leak((Drift(metric=Figure.TPOT, shape="slope", change=0.5, significant=True),)) is None


def test_all_figures_share_one_chance_of_a_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(t_s: np.ndarray, values: np.ndarray, chance: float) -> None:
        asked.append(chance)

    monkeypatch.setattr(soaking, "trend_of", noted)
    drifts_of(held(600, snapshots(600, rss_bytes=1e9)), 600.0)
    assert len(asked) == 5, "TTFT, TPOT, the KV cache in two ways, and memory"
    assert set(asked) == {FALSE_ALARMS / 4}, "memory did not move"
    assert FALSE_ALARMS <= 1 / 40


def test_work_is_taken_out_and_a_creep_at_equal_work_stays() -> None:
    rng = np.random.default_rng(3)
    n, cell = 3000, np.repeat(np.arange(50), 60)
    work, creep = rng.lognormal(0, 0.5, n), np.linspace(0, 1, n)
    used = np.ones(n, dtype=bool)
    left = at_equal_work(10 + 3 * work + creep, [work], cell, used)
    assert left - left.mean() == pytest.approx(creep - creep.mean(), abs=0.02)
    still = np.full(n, 5.0)
    assert at_equal_work(work, [still], cell, used) is work
    assert at_equal_work(work, [np.full(n, np.nan)], cell, used) is work
    later = np.arange(n) < n // 3
    changed = np.where(later, 3 * work, 9 * work)
    assert at_equal_work(changed, [work], cell, later)[: n // 3].std() == pytest.approx(0, abs=1e-6)


def test_a_few_wild_values_do_not_tell_the_effect_of_work() -> None:
    rng = np.random.default_rng(4)
    n, cell = 3000, np.repeat(np.arange(50), 60)
    work = rng.uniform(0, 1, n)
    wild = (work > 0.9) & (rng.random(n) < 0.2)
    left = at_equal_work(3 * work + 0.01 * rng.standard_normal(n) + 3 * wild, [work], cell, np.ones(n, dtype=bool))
    assert left[~wild].std() < 0.06


def test_what_a_token_takes_of_the_cache_is_told_by_the_first_third(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(series: soaking._Series, edges_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append((series.figure, series.work_until_s))
        return windowed(series, edges_s)

    monkeypatch.setattr(soaking, "windowed", noted)
    drifts_of(held(600, snapshots(600)), 600.0)
    until_s = dict(reversed(seen))[Figure.KV]
    assert until_s == pytest.approx(30 + (599 - 30) / 3, abs=1)


def test_tokens_held_are_the_prompt_and_the_answer_so_far() -> None:
    facts = facts_of(requests=[record(0.0, ttft_s=1.0, e2e_s=3.0), record(2.0, ttft_s=1.0, e2e_s=3.0)])
    found = tokens_held(finished_requests(facts), np.array([0.5, 1.0, 2.0, 3.5, 6.0]))
    assert found == pytest.approx([0, 192, 197, 192 + 2.5, 0])
    assert np.isnan(tokens_held(finished_requests(Facts()), np.array([1.0]))).all()


def test_prompts_that_are_sent_together_wait_for_each_other() -> None:
    """Users who have fallen into step are no slower server: here from half of the time on, three send at once."""
    together = [record(i * 0.3, ttft_s=0.1) for i in range(1000)]
    together += [record(300 + 0.9 * (i // 3), ttft_s=0.3 if i % 10 else 0.1) for i in range(990)]
    sent = finished_requests(facts_of(requests=together))
    found = alongside(sent, sent, 0.1)
    assert set(found[:900]) == {192.0}
    assert set(found[1100:]) == {3 * 192.0}

    rng = np.random.default_rng(7)
    sent_s = [t + d for t in np.arange(0, 590, 1.0) for d in ((0.0, 0.01) if rng.random() < t / 600 else (0.0, 0.5))]
    alone = np.array(
        [not any(abs(other - t) < 0.05 for other in sent_s[i - 1 : i + 2] if other != t) for i, t in enumerate(sent_s)]
    )
    requests = [
        record(t, ttft_s=(0.1 if single else 0.15) + 0.005 * rng.random(), e2e_s=0.8)
        for t, single in zip(sent_s, alone, strict=True)
    ]
    drift = found_of(facts_of(requests=requests, bins=bins_of(600, 2), changes=[(0.0, FOUR)]))["TTFT"]
    assert not drift.significant, drift.text


def test_windows_of_fewer_than_three_values_are_left_out() -> None:
    series = soaking._Series(Figure.TTFT, np.array([1.0, 2, 3, 11, 12, 21, 22, 23, 24]), np.arange(9.0), "median")
    t_s, values = windowed(series, np.array([0.0, 10, 20, 30]))
    assert t_s.tolist() == [5.0, 25.0]
    assert values.tolist() == [1.0, 6.5]
    mean = windowed(dataclasses.replace(series, pick="mean"), np.array([0.0, 10, 20, 30]))[1]
    assert mean.tolist() == [1.0, 6.5]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (768, 1536, "KV blocks 768 -> 1 536 from 01:10 on: a replica was added"),
        (1536, 2304, "KV blocks 1 536 -> 2 304 from 01:10 on: a replica was added"),
        (1536, 768, "KV blocks 1 536 -> 768 from 01:10 on: a replica is gone"),
        (700, 735, "KV blocks 700 -> 735 from 01:10 on"),
        (6400, 7200, "KV blocks 6 400 -> 7 200 from 01:10 on"),
        (5600, 6400, "KV blocks 5 600 -> 6 400 from 01:10 on: a replica was added"),
        (1000, 1512, "KV blocks 1 000 -> 1 512 from 01:10 on"),
        (1000, 1505, "KV blocks 1 000 -> 1 505 from 01:10 on: a replica was added"),
        (1000, 1600, "KV blocks 1 000 -> 1 600 from 01:10 on"),
    ],
)
def test_a_replica_that_came_is_named(before: float, after: float, text: str) -> None:
    server = [ServerSnapshot(t_s=float(t), num_gpu_blocks=before if t < 70 else after) for t in range(1, 100)]
    facts = facts_of(server=server)
    assert replicas(facts) == (text,)
    facts.extend(FactBatch(t_s=100.0, chapters=(Chapter(69.0, f"num_gpu_blocks {before} -> {after}", "k"),)))
    assert replicas(facts) == (), "the hand that turned it knows"
