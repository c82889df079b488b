"""What was measured earlier is compared as far as it is alike, and what is said of it has one wording."""

from __future__ import annotations

from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from msgspec.structs import replace
from test_analysis_compared import CLIMB, SLO, capacity, judged, known
from test_analysis_ledger import drive, laptop
from virtual import VirtualSession, meta_of

from llmtop.analysis import Level
from llmtop.analysis.baselines import apart_of, baselines_of, with_baselines
from llmtop.analysis.compared import change_of, gain_of
from llmtop.analysis.sides import Side, side_of_levels, sides_of, traits_of
from llmtop.domain.gain import Comparison, Gain
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Profile, Workload
from llmtop.domain.verdicts import Capacity
from llmtop.wording.beside import against_text
from llmtop.wording.chapters import LENGTHS, START, TOLD

POINT = LoadPoint(concurrency=8, prompt_tokens=512, output_tokens=128)
META = meta_of()
NOW = capacity(33, 36, 40, 41)


def side(name: str = "before", **fields: Any) -> Side:
    """Earlier figures of the same requests, of a run like the present one."""
    made = side_of_levels(name, [Level(8, ttft_s=np.full(30, 0.1))], SLO, point=POINT)
    meta = fields.get("meta", META)
    traits = {} if meta is None else traits_of(meta, fields.get("point") or POINT, {})
    return changed(made, **{"capacity": capacity(46, 49, 52, 53), "meta": META, "traits": traits, **fields})


def compared(earlier: Side, now: Capacity = NOW, parts: dict[str, str] | None = None, **meta: Any) -> Comparison:
    found = baselines_of([earlier], replace(META, **meta), now, POINT, parts or {})[0].compared
    assert found is not None
    return found


# -- what may be drawn, and what compared ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "point", "reason"),
    [
        ("concurrency", POINT, ""),
        ("concurrency", replace(POINT, concurrency=99), ""),
        ("concurrency", None, ""),
        ("rate", POINT.at("rate", 3.0), "driven by rate"),
        ("concurrency", replace(POINT, prompt_tokens=1024), "other lengths (1024/128)"),
        ("concurrency", replace(POINT, output_tokens=64), "other lengths (512/64)"),
        ("concurrency", replace(POINT, shared_prefix=0.5), "other prompts (50 % shared)"),
        ("concurrency", replace(POINT, think_time_s=2.0), "other users (think 2 s)"),
    ],
)
def test_other_requests_are_on_other_axes_whatever_their_load(axis: Any, point: LoadPoint | None, reason: str) -> None:
    assert apart_of(side(axis=axis, point=point), POINT) == reason


def test_what_is_apart_is_neither_drawn_nor_has_figures() -> None:
    long = side(point=replace(POINT, prompt_tokens=4096))
    found = baselines_of([long], META, NOW, POINT, {})[0]
    assert found.curve.apart == "other lengths (4096/128)"
    assert found.compared is not None
    assert found.compared.text == "`before`: other lengths (4096/128), not compared"
    assert (found.compared.gain, found.compared.change, found.compared.before) == (Gain.OPEN, None, None)


@pytest.mark.parametrize(
    ("fields", "meta", "reason"),
    [
        ({"meta": None, "traits": {"model": "other"}}, {}, "another model (other)"),
        (
            {"meta": replace(META, profile=Profile(name="p", workload=Workload(source="sharegpt")))},
            {},
            "other prompts (sharegpt)",
        ),
        ({}, {"profile": Profile(name="p", start="together")}, "its users started staggered"),
        ({}, {"profile": Profile(name="p", workload=Workload(api="completions"))}, "other api (chat)"),
    ],
)
def test_another_model_or_workload_is_drawn_but_not_compared(
    fields: dict[str, Any], meta: dict[str, Any], reason: str
) -> None:
    earlier = side(**fields)
    found = baselines_of([earlier], replace(META, **meta), NOW, POINT, {})[0]
    assert found.curve.apart == ""
    assert found.compared is not None
    assert found.compared.text == f"`before`: {reason}, not compared"


def test_another_seed_is_no_other_workload() -> None:
    meta = replace(META, profile=Profile(name="p", workload=Workload(seed=7)))
    assert compared(side(meta=meta)).change is not None


def test_beside_a_void_run_earlier_curves_stand_without_a_word() -> None:
    found = baselines_of([side()], META, None, POINT, {})[0]
    assert found.curve.label == "before"
    assert found.compared is None


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ((None, None, None), ["a 1", "b", "a 2"]),
        ((Path("/x/1-a.llmtop"), None, Path("/x/2-a.llmtop")), ["1-a", "b", "2-a"]),
        ((Path("/x/1-a.llmtop"), None, Path("/x/1-a.llmtop")), ["a 1", "b", "a 2"]),
        ((Path("/x/1-a.llmtop"), None, Path("/y/1-a.llmtop")), ["1-a 1", "b", "1-a 2"]),
    ],
)
def test_those_of_one_name_are_told_apart(files: tuple[Path | None, ...], names: list[str]) -> None:
    sides = [side(name, source=file) for name, file in zip("aba", files, strict=True)]
    assert [each.curve.label for each in baselines_of(sides, META, NOW, POINT, {})] == names


# -- what differs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "now", "parts", "text", "what"),
    [
        ((), (), {}, "", ""),
        ((("max_num_seqs", "16"),), (("max_num_seqs", "32"),), {}, "max_num_seqs 16 → 32", "max_num_seqs 16"),
        ((("max_num_seqs", "16"),), (), {}, "max_num_seqs 16 → default", "max_num_seqs 16"),
        ((("max_num_seqs", "16"),), (), {"max_num_seqs": "max_num_seqs 24"}, "max_num_seqs 16 → 24", "max_num_seqs 16"),
        ((), (), {TOLD: "block_size=32", START: "start 2", LENGTHS: "512/128 tok"}, "block_size=32", ""),
        (
            (("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")),
            (),
            {},
            "a 1 → default and b 1 → default and 2 more",
            "a 1, b 1 and 2 more",
        ),
    ],
)
def test_what_was_set_is_said_of_the_curve_and_what_differs_of_the_figures(
    was: Any, now: Any, parts: dict[str, str], text: str, what: str
) -> None:
    earlier = side(meta=replace(META, settings=was))
    found = baselines_of([earlier], replace(META, settings=now), NOW, POINT, parts)[0]
    assert found.compared is not None
    assert (found.compared.changed, found.curve.what) == (text, what)


def test_of_a_table_it_is_said_that_its_lengths_are_not_known() -> None:
    assert compared(side(meta=None, point=None)).changed == "its lengths are not known"


def test_another_gate_is_told() -> None:
    gated = side(point=replace(POINT, gate=16))
    assert compared(gated).changed == "gate 16 → none"
    assert baselines_of([gated], META, NOW, POINT, {})[0].curve.what == "gate 16"


def test_flags_that_only_one_server_tells_are_no_difference() -> None:
    told = replace(META.info, flags=(("kv_cache_dtype", "fp8"),))
    assert compared(side(), info=told).changed == ""
    both = compared(side(meta=replace(META, info=replace(told, flags=(("kv_cache_dtype", "auto"),)))), info=told)
    assert both.changed == "kv_cache_dtype auto → fp8"


# -- the words --------------------------------------------------------------------------------------------------------

BEFORE = capacity(46, 49, 52, 53)


@pytest.mark.parametrize(
    ("before", "now", "said", "short"),
    [
        (
            BEFORE,
            capacity(54, 58, 62, 64),
            "+18 % users at the SLO against `b` (x 1 → 2): 49 → 58 (+2 % to +39 %), TPOT p95 binds now",
            "+18 % users against `b`",
        ),
        (
            BEFORE,
            capacity(33, 36, 40, 41),
            "-27 % users at the SLO against `b` (x 1 → 2): 49 → 36 (-38 % to -11 %), TPOT p95 binds now",
            "-27 % users against `b`",
        ),
        (
            BEFORE,
            capacity(56, 60, None, None),
            "at least 22 % more users at the SLO against `b` (x 1 → 2): 49 → ≥ 60",
            "at least 22 % more users against `b`",
        ),
        (
            capacity(46, 49, None, None),
            capacity(33, 36, 40, 41),
            "at least 27 % fewer users at the SLO against `b` (x 1 → 2): ≥ 49 → 36, TPOT p95 binds now",
            "at least 27 % fewer users against `b`",
        ),
        (
            capacity(None, None, 8, None),
            capacity(9, 10, 12, 13),
            "more users at the SLO against `b` (x 1 → 2): below 8 → 10, TPOT p95 binds now",
            "more users against `b`",
        ),
        (
            BEFORE,
            capacity(50, 54, 58, 61),
            "same as `b` (x 1 → 2): 49 → 54 users at the SLO, no more than runs differ by, TPOT p95 binds now",
            "same as `b`",
        ),
        (
            BEFORE,
            Capacity(),
            "drive to 49 to compare with `b` (it carried 49 users at the SLO)",
            "drive to 49 to compare with `b`",
        ),
        (
            BEFORE,
            capacity(33, 36, None, None),
            "49 → ≥ 36 users at the SLO against `b` (x 1 → 2); drive past 49 to compare with `b`",
            "drive past 49 to compare with `b`",
        ),
        (
            capacity(46, 49, None, None),
            capacity(53, 60, 66, 70),
            "≥ 49 → 60 users at the SLO against `b` (x 1 → 2); `b` was driven to 49 only, and held",
            "`b` was driven to 49 only, and held",
        ),
        (
            Capacity(),
            NOW,
            "`b`: its users at this SLO are not known",
            "`b`: its users at this SLO are not known",
        ),
    ],
)
def test_only_what_was_measured_is_said(before: Capacity, now: Capacity, said: str, short: str) -> None:
    gain = gain_of(before, now)
    change = change_of(before, now, gain)
    assert against_text("b", "x 1 → 2", gain, change, before, now, "concurrency") == (said, short)


@given(known, known)
def test_a_figure_stands_only_where_the_intervals_are_apart_and_lies_in_its_own(
    before: Capacity, now: Capacity
) -> None:
    gain = gain_of(before, now)
    change = change_of(before, now, gain)
    text, short = against_text("b", "", gain, change, before, now, "concurrency")
    assert (change is not None) == (gain in (Gain.MORE, Gain.FEWER))
    assert "\n" not in text + short
    if change is None:
        assert "%" not in text
    else:
        assert (change.share > 0) == (gain is Gain.MORE)
        assert change.low is None or change.low <= change.share
        assert change.high is None or change.share <= change.high


# -- runs -------------------------------------------------------------------------------------------------------------


def _sides(session: VirtualSession) -> Side:
    return sides_of("before", session.facts, session.meta, SLO, judged(session))[-1]


def test_a_run_is_the_same_as_itself_and_another_beside_fewer_slots() -> None:
    session = drive(laptop(4), *CLIMB)
    opinion, earlier = judged(session), _sides(session)
    beside = with_baselines(opinion, [earlier], session.facts, session.meta)
    assert [each.short for each in beside.comparisons] == ["same as `before`"]
    assert beside.baselines[0].curve.points == opinion.curves[-1].points
    session.turn(max_num_seqs=12)
    drive(session, (4, 10), (8, 12), (16, 14), (24, 14), (36, 14))
    beside = with_baselines(judged(session), [earlier], session.facts, session.meta)
    ours, theirs = beside.compared, beside.baselines[0].compared
    assert ours is not None
    assert theirs is not None
    assert (theirs.gain, theirs.before, theirs.after) == (ours.gain, ours.before, ours.after), "one truth"
    assert theirs.gain is Gain.FEWER
    assert theirs.change == ours.change
    assert theirs.text.endswith("binds now")


def test_before_any_request_has_ended_it_is_said_how_far_to_drive() -> None:
    before = drive(laptop(4), *CLIMB)
    fresh = laptop(5)
    beside = with_baselines(judged(fresh), [_sides(before)], fresh.facts, fresh.meta)
    (said,) = beside.comparisons
    assert said.short == f"drive to {said.before:g} to compare with `before`"
