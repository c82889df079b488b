"""What the twin says: of which levels, of which settings, in which words, and when nothing at all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record, requests_of
from msgspec.structs import replace
from twins import PlainTwin, plain_fit
from virtual import meta_of

from llmtop.analysis import foreseen
from llmtop.analysis import grounds as grounds_module
from llmtop.analysis.buffering import Arrival
from llmtop.analysis.cut import Cut
from llmtop.analysis.foreseen import Seer, Wish
from llmtop.analysis.grounds import SPECULATION, Grounds, grounds_of, grounds_of_levels, measured_of
from llmtop.analysis.levels import Level, Stated, Statistic
from llmtop.analysis.measured import MeasuredCurve
from llmtop.domain.foresight import Interval
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.samples import ClientSample, ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.simulator.engine.twin import Asked, Foreseen, Known, Measured, Outside
from llmtop.wording import foresight as words
from llmtop.wording.chapters import GATE, LENGTHS, START, TOLD

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms,error_ratio<1%,queue<10,kv<80%")
POINT = LoadPoint(concurrency=8, prompt_tokens=192, output_tokens=64)


def level(load: float, n: int = 100, **more: object) -> Level:
    tpot_s, rate = 0.010 + 0.00025 * load, 0.2 + 64 * (0.010 + 0.00025 * load)
    columns = {"ttft_s": np.full(n, 0.2), "tpot_s": np.full(n, tpot_s), "e2e_s": np.full(n, rate)}
    told = {"requests_per_s": load / rate, "prompt_tokens": 192.0, "output_tokens": 64.0, "running": load}
    return Level(load=load, **{**columns, **told, **more})  # type: ignore[arg-type]


LEVELS = (level(4), level(8), level(16))
MEASURED = tuple(each for one in LEVELS if (each := measured_of(one, "concurrency", 32, 0.0)) is not None)


def curve(levels: tuple[Level, ...] = LEVELS, *, point: LoadPoint = POINT, **more: object) -> MeasuredCurve:
    parts = {LENGTHS: f"{point.prompt_tokens}/{point.output_tokens} tok", **more.pop("parts", {})}  # type: ignore[dict-item]
    return MeasuredCurve(parts, point.axis, point, levels, requests_of([]), **more)  # type: ignore[arg-type]


def grounds(*curves: MeasuredCurve, at: int = -1) -> Grounds:
    return grounds_of(facts_of(requests=[record(1.0)]), meta_of(), curves or (curve(),), at)


@pytest.fixture
def seer(monkeypatch: pytest.MonkeyPatch) -> Seer:
    monkeypatch.setattr(foreseen, "fit", plain_fit)
    return Seer()


def wish(**settings: float) -> Wish:
    return Wish(settings=tuple(settings.items()))


# -- which levels are of one server -----------------------------------------------------------------------------------


def test_a_level_is_taken_as_its_means_and_says_how_many_could_run() -> None:
    found = measured_of(LEVELS[1], "concurrency", 32, 0.25)
    assert found is not None
    assert (found.load, found.n, found.tpot_s, found.ttft_s) == (8, 100, pytest.approx(0.012), pytest.approx(0.2))
    assert (found.slots, found.running, found.cached) == (32, 8, 0.25)
    assert found.output_tokens_per_s == pytest.approx(64 * found.requests_per_s)


@pytest.mark.parametrize(
    "odd",
    [
        level(8, n=4),
        level(8, errors=20),
        level(8, output_tokens=None, output_tokens_per_s=None),
        level(8, prompt_tokens=None),
        level(8, tpot_s=np.full(100, np.nan), e2e_s=np.full(100, np.nan)),
        Level(load=8, given=Statistic(0.2, 0.02, 100), prompt_tokens=192, output_tokens=64),
    ],
)
def test_a_level_of_few_requests_of_failing_ones_or_that_lacks_a_figure_is_none(odd: Level) -> None:
    assert measured_of(odd, "concurrency", None, None) is None


def test_a_table_that_states_medians_and_rates_is_a_level_too() -> None:
    stated = Stated(1000, {"ttft_p50": 0.03, "ttft_p95": 0.036, "e2e_p50": 0.48})
    told = Level(load=31.4, stated=stated, requests_per_s=31.0, output_tokens_per_s=31.0 * 64)
    found = measured_of(told, "rate", 128, None, prompt_tokens=204)
    assert found is not None
    assert (found.output_tokens, found.prompt_tokens) == (pytest.approx(64), 204)
    assert found.tpot_s == pytest.approx(0.45 / 63)
    assert found.ttft_p95_s == pytest.approx(0.036)


def test_levels_at_another_gate_other_slots_or_other_lengths_count_with_those_slots() -> None:
    found = grounds(
        curve(parts={GATE: "gate 12"}, point=replace(POINT, gate=12), settings={"max_num_seqs": 32.0}),
        curve(parts={"max_num_seqs": "max_num_seqs 64"}, settings={"max_num_seqs": 64.0}),
        curve(parts={TOLD: "max_num_active_seqs 64 \u2192 16"}),
        curve(point=replace(POINT, prompt_tokens=512), settings={"max_num_seqs": 32.0}),
    )
    assert [each.slots for each in found.levels] == 3 * [12] + 3 * [64] + 3 * [16] + 3 * [32]
    assert found.several
    assert found.known.slots == 32


@pytest.mark.parametrize(
    "other",
    [
        {"parts": {START: "start 1"}},
        {"parts": {"num_gpu_blocks": "num_gpu_blocks 512"}},
        {"parts": {TOLD: "kv_cache_dtype auto \u2192 fp8"}},
        {"parts": {TOLD: "restarted"}},
        {"traits": (("model", "other"),)},
        {"point": LoadPoint(rate_rps=8)},
        {"point": replace(POINT, think_time_s=1.0)},
    ],
)
def test_levels_of_another_start_model_cache_or_way_of_driving_do_not_count(other: dict[str, object]) -> None:
    assert len(grounds(curve(**other), curve()).levels) == 3  # type: ignore[arg-type]


def test_the_cache_is_the_one_that_the_asked_part_of_a_run_had() -> None:
    small, large = ({"num_gpu_blocks": blocks, "block_size": 16.0} for blocks in (512.0, 1024.0))
    was = curve(parts={"num_gpu_blocks": "num_gpu_blocks 512"}, settings=small)
    now = curve(parts={"num_gpu_blocks": "num_gpu_blocks 1024"}, settings=large)
    assert grounds(was, now, at=0).known.kv_tokens == 512 * 16
    shown = [ServerSnapshot(t_s=1.0, num_gpu_blocks=1024.0, block_size=16.0)]
    found = grounds_of(facts_of(requests=[record(1.0)], server=shown), meta_of(), (was, now))
    assert (found.known.kv_tokens, found.known.block_tokens, found.block_tokens) == (1024 * 16, 16, 16)


# -- when there is none -----------------------------------------------------------------------------------------------


def test_no_twin_is_made_where_the_client_was_slow_or_all_fail(seer: Seer) -> None:
    late = [ClientSample(t_s=float(at), lag_p99_ms=900.0, tpot_ms=10.0) for at in range(1, 20)]
    slow = grounds_of(facts_of(requests=[record(1.0)], client=late), meta_of(), (curve(),))
    assert seer.ask(slow, wish(max_num_seqs=64), SLO).text == f"no twin: {words.CLIENT}"
    failed = facts_of(requests=[record(1.0, outcome=Outcome.HTTP_ERROR)], bins=bins_of(2.0, 1))
    void = grounds_of(failed, meta_of(), (curve(),)).void
    assert void == words.FAILING
    assert seer.ask(Grounds(levels=MEASURED, void=void), Wish(), SLO).off is None


@pytest.mark.parametrize(
    ("found", "what", "says"),
    [("arrival_of", Arrival.WHOLE, words.BUFFERED), ("cut_of", Cut(192.0, 96.0), words.CUT)],
)
def test_no_twin_is_made_of_figures_that_the_path_or_the_server_spoils(
    monkeypatch: pytest.MonkeyPatch, found: str, what: object, says: str
) -> None:
    monkeypatch.setattr(grounds_module.buffering if found == "arrival_of" else grounds_module, found, lambda _: what)
    assert grounds().void == says


def test_no_twin_is_made_of_several_servers_that_answer_in_turn() -> None:
    facts = facts_of(requests=[record(1.0)], server=[ServerSnapshot(t_s=2.0)])
    assert grounds_of(facts, meta_of(), (curve(),)).void == words.IN_TURN


def test_no_twin_is_made_of_users_who_think(seer: Seer) -> None:
    thinking = curve(point=replace(POINT, think_time_s=2.0))
    assert grounds(thinking).void == words.THINKING


@pytest.mark.parametrize("name", SPECULATION)
def test_no_twin_is_made_of_a_server_that_speculates(name: str) -> None:
    assert grounds(curve(traits=((name, "ngram"),))).void == words.speculates(f"{name} ngram")
    assert not grounds(curve(traits=((name, "None"),))).void


def test_two_loads_make_no_twin_and_the_sentence_says_what_would(seer: Seer) -> None:
    told = seer.ask(grounds(curve(LEVELS[:2])), wish(max_num_seqs=16), SLO)
    assert told.text == "no twin: 2 loads were measured, and a twin takes 3; hold one more for 10 s"
    assert told.missing == "hold one more for 10 s"
    assert (told.users, told.wall, told.points, told.off) == (None, None, (), None)


def test_a_table_without_tokens_says_which_figures_it_lacks() -> None:
    assert grounds_of_levels([level(8, prompt_tokens=None)], "concurrency").void == words.UNTOLD
    assert not grounds_of_levels([level(8, prompt_tokens=None)], "concurrency", prompt_tokens=192).void
    assert not grounds_of_levels([level(8, n=3, prompt_tokens=None)], "concurrency").void, "few requests are no level"


# -- what it says -----------------------------------------------------------------------------------------------------


def test_it_says_users_at_the_slo_how_many_levels_and_how_far_off(seer: Seer) -> None:
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), wish(max_num_seqs=24), SLO)
    assert told.text == (
        "24 slots: ~59 users at the SLO (53 to 65); the twin was fitted on 3 levels and misses the one left out by 3 %"
    )
    assert (told.label, told.settings, told.missing) == ("max_num_seqs 24", (("max_num_seqs", 24),), "")
    assert told.wall is not None
    assert (told.wall.value, told.off, told.band, told.levels) == (24, 0.03, 0.10, 3)
    assert [point.load for point in told.points] == [1, 8, 32, 64]
    assert told.points[0].tpot_p50_ms.value == pytest.approx(10.25)


def test_what_a_figure_takes_for_granted_is_said_with_it(seer: Seer, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_at = PlainTwin.at

    def at(self: PlainTwin, load: float, asked: Asked | None = None) -> Foreseen | Outside:
        found = plain_at(self, load, asked)
        return found if isinstance(found, Outside) else dataclasses.replace(found, assumed="if the KV cache suffices")

    monkeypatch.setattr(PlainTwin, "at", at)
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), wish(max_num_seqs=24), SLO)
    assert told.text.startswith(
        "24 slots: ~59 users at the SLO (53 to 65); if the KV cache suffices; the twin was fitted"
    )


def test_a_bound_that_no_queue_breaks_is_told_as_none() -> None:
    assert words.users_text(Interval(38, 32, 304), "concurrency") == "~38 users at the SLO (32 to 304)"
    assert words.users_text(Interval(38, 32, 305), "concurrency") == "~38 users at the SLO (32 and more)"


def test_without_a_limit_it_says_where_the_wall_is(seer: Seer) -> None:
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), Wish(), Slo(()))
    assert told.text.startswith("as it stands: the wall at ~32 users (29 to 35); ")
    assert told.users is None


def test_a_limit_that_it_cannot_hold_against_gives_no_users_and_is_named(seer: Seer) -> None:
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), Wish(), parse_slo("ttft_p95<2s,e2e_p95<9s"))
    assert told.users is None
    assert "; E2E p95 is not foreseen; " in told.text


def test_the_wall_is_where_tpot_breaks_if_that_comes_before_the_queue(seer: Seer) -> None:
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), Wish(), parse_slo("tpot_p95<14ms"))
    assert told.wall is not None
    assert told.wall.value == 16


@pytest.mark.parametrize("users", [70.0, 5000.0])
def test_the_curve_goes_past_the_users_that_are_the_answer(
    seer: Seer, monkeypatch: pytest.MonkeyPatch, users: float
) -> None:
    monkeypatch.setattr(PlainTwin, "users_at", lambda *_: Interval(users, users, users))
    known = Grounds(levels=MEASURED, known=Known(slots=32))
    loads = [point.load for point in seer.ask(known, Wish(), SLO).points]
    assert loads[:4] == [1, 8, 32, 64]
    assert users < loads[-1] <= 1.2 * users + 1
    assert len(loads) <= 10
    assert all(load == round(load) for load in loads)
    assert loads == sorted(set(loads))
    assert [point.load for point in seer.ask(known, Wish(loads=(8.0,)), SLO).points] == [8]


def test_no_bound_of_the_wall_lies_past_the_queues_own(seer: Seer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainTwin, "users_at", lambda *_: Interval(28.0, 30.0, 64 * 32.0))
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), Wish(), parse_slo("tpot_p95<14ms"))
    assert told.wall is not None
    assert (told.wall.low, told.wall.value) == (28, 28)
    assert told.wall.high == pytest.approx(1.1 * 32)


def test_outside_there_is_no_figure_but_what_would_make_it_known(seer: Seer) -> None:
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), wish(max_num_seqs=192), SLO)
    assert told.text == "192 slots: --, 192 running is more than twice the 16; hold 96 users"
    assert (told.users, told.wall, told.points, told.missing) == (None, None, (), "hold 96 users")
    assert told.off == 0.03, "there is a twin"


def test_the_cache_is_asked_in_tokens_or_in_blocks_of_the_server(seer: Seer) -> None:
    known = Grounds(levels=MEASURED, known=Known(slots=32, block_tokens=16), block_tokens=16)
    of_blocks = seer.ask(known, wish(num_gpu_blocks=336), SLO)
    of_tokens = seer.ask(known, wish(kv_tokens=5376), SLO)
    assert of_blocks.wall == of_tokens.wall
    assert of_blocks.wall is not None
    assert of_blocks.wall.value == 24
    small = seer.ask(
        Grounds(levels=MEASURED, known=Known(slots=32), prompt_tokens=192.0, output_tokens=64.0),
        wish(kv_tokens=255),
        SLO,
    )
    assert small.text == "255 KV tokens: --, 255 tokens hold no request: one has 256"
    assert small.users is None
    untold = seer.ask(replace_blocks(known), wish(num_gpu_blocks=336), SLO)
    assert untold.text == f"336 KV blocks: --, {words.BLOCKS_UNKNOWN}"


def replace_blocks(known: Grounds) -> Grounds:
    return Grounds(levels=known.levels, known=known.known)


def test_a_setting_that_it_does_not_know_has_no_figure(seer: Seer) -> None:
    told = seer.ask(Grounds(levels=MEASURED, known=Known(slots=32)), wish(kv_cache_dtype=8), SLO)
    assert told.text.startswith("kv_cache_dtype 8: --, a twin cannot turn kv_cache_dtype: it knows slots")
    assert told.users is None


def test_it_is_fitted_anew_only_when_what_it_rests_on_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []

    def fit(levels: tuple[Measured, ...], known: Known) -> object:
        fitted.append(len(levels))
        return plain_fit(levels, known)

    monkeypatch.setattr(foreseen, "fit", fit)
    seer = Seer()
    for slots in (8, 16, 24):
        seer.ask(grounds(), wish(max_num_seqs=slots), SLO)
    assert fitted == [3]
    seer.ask(grounds(curve((*LEVELS, level(32)))), wish(max_num_seqs=24), SLO)
    assert fitted == [3, 4]


def test_lengths_are_those_of_the_levels_which_hold_no_first_answers_that_are_cut_short() -> None:
    """Users who begin staggered begin with short answers; the record of this run has one of another length."""
    found = grounds(curve((level(4, output_tokens=48.0), level(8, output_tokens=48.0))))
    assert found.output_tokens == 48.0


def test_lengths_are_asked_only_where_several_were_driven(seer: Seer) -> None:
    one, other = grounds(), grounds(curve(point=replace(POINT, prompt_tokens=512)), curve())
    assert foreseen._asked(one, Wish()).prompt_tokens is None
    assert foreseen._asked(other, Wish()).prompt_tokens == other.prompt_tokens == 192
    assert foreseen._asked(one, Wish(prompt_tokens=512)).prompt_tokens == 512


def test_around_a_server_half_and_twice_the_slots_and_twice_the_cache_are_asked_and_only_what_is_known_is_told(
    seer: Seer,
) -> None:
    known = Known(slots=12, kv_tokens=8192.0, block_tokens=16)
    found = foreseen.around(seer, Grounds(levels=MEASURED, known=known, block_tokens=16), SLO)
    assert [each.label for each in found] == ["", "max_num_seqs 6", "max_num_seqs 24", "num_gpu_blocks 1024"]
    wide = foreseen.around(seer, Grounds(levels=MEASURED, known=Known(slots=32)), SLO)
    assert [each.label for each in wide] == ["", "max_num_seqs 16"], "64 lie outside"
    assert foreseen.around(seer, Grounds(levels=MEASURED, known=Known()), SLO) == ()
    assert foreseen.around(seer, Grounds(levels=MEASURED[:1], known=known), SLO) == ()
