"""Each fault in a profile file: its key, and what is allowed. Never a traceback."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.profile import Question
from llmtop.errors import ProfileError
from llmtop.profiles.reading import parse_profile

PATH = Path("broken.toml")

HOLD = "[[stage]]\nduration = 60\nshape = 'hold'\nconcurrency = 8\n"
SPIKE = "[[stage]]\nduration = 60\nshape = 'spike'\nbase = 1\npeak = 8\n"
SHARED = "[[stage]]\nduration = 60\nshape = 'ramp'\nstart = '0%'\nstop = '200%'\n"
SLOTS = "peak = 32\npeak_from_slots = true\n"
ROWS = "[workload]\nsource = 'jsonl'\nfile = 'x'\n"
TRACE = "[workload]\nsource = 'trace'\nfile = 'x'"

FAULTS = [
    ("peak = ", None, "is not TOML"),
    ("paek = 3", "paek", "did you mean peak?"),
    ('peak = "32"', "peak", "must be a number, not text in quotes"),
    ("peak = 32", "peak", "nothing is written as a share of it"),
    ("[load]\nconcurrency = '80%'", "load.concurrency", "sets no peak"),
    ("[load]\nconcurrency = 2.5", "load.concurrency", "whole number"),
    ("[load]\nconcurrency = 2\nrate_rps = 3", "load.rate_rps", "one of the two"),
    ("[load]\nprompt_tokens = 0", "load.prompt_tokens", "must be a whole number of 1 or more"),
    ("[load]\nprompt_tokens = true", "load.prompt_tokens", "must be a whole number, not true or false"),
    ("[load]\ngate = 0", "load.gate", "must be a whole number of 1 or more"),
    ("[load]\ngate = 1.5", "load.gate", "must be a whole number"),
    (HOLD + "gate = -1", "stage[1].gate", "must be a whole number of 1 or more"),
    ("[load]\nshared_prefix = 1.5", "load.shared_prefix", "must be a share"),
    ("[load]\nshared_prefix = 'half'", "load.shared_prefix", "must be a share"),
    ("[load]\nthink_time = '3 days'", "load.think_time", "is no duration"),
    ("[load]\nthink_time = -1", "load.think_time", "0 or more"),
    ("[load]\nburstiness = 0", "load.burstiness", "must be a number from 0.01 to 1,000, or inf"),
    *(
        (f"[load]\ncanary = {rate}", "load.canary", "must be a number from 0.01 to 5 (requests per second)")
        for rate in ("0", "5.1", "nan", "-1", "'0.5'", "true")
    ),
    ("[load]\ncanry = 1", "load.canry", "did you mean canary?"),
    ("[[stage]]\nduration = 1\nshape = 'hold'\nconcurrency = 1\ncanary = 1", "stage[1].canary", "is not known"),
    (
        '[load]\nstart = "together"\n[[stage]]\nshape = "ramp"\nduration = "10s"\nstart = 1\nstop = 2',
        "load.start",
        "stage[1] is a ramp: users begin together only in hold, steps and spike",
    ),
    ('[load]\nrate_rps = 1\nstart = "together"', "load.start", "open loop"),
    ("load = 3", "load", "must be a table"),
    ("[workload]\nlengths = [[5, 0]]", "workload.lengths[1][2]", "must be a whole number of 1 or more"),
    ("[workload]\nlengths = [[5, 6], [7]]", "workload.lengths[2]", "must be a list of length 2, not 1"),
    pytest.param(
        f"[workload]\nlengths = {[[5, 6]] * 10_001}",
        "workload.lengths",
        "has 10,001 pairs; 10,000 are the most",
        id="too many lengths",
    ),
    ("[workload]\nlengths = 5", "workload.lengths", "must be a list"),
    (
        "[workload]\nlengths = [[5, 6]]\noutput = { kind = 'normal' }",
        "workload.output",
        "lengths has pairs of prompt and output: leave out one of the two",
    ),
    (
        "[workload]\nlengths = [[5, 6]]\nsource = 'trace'\nfile = 'x'",
        "workload.lengths",
        "is not used: the rows of a trace file have lengths",
    ),
    ("[[stage]]\nshape = 'hold'\nconcurrency = 1", "stage[1].duration", "a hold needs duration"),
    ("[[stage]]\nduration = 1", "stage[1].shape", "allowed: hold, ramp, steps, spike, sine, replay"),
    ("[[stage]]\nduration = 1\nshape = 'rampe'", "stage[1].shape", "did you mean ramp?"),
    ("[[stage]]\nduration = 1\nshape = 'ramp'\nstart = 1", "stage[1].stop", "a ramp needs duration and start and stop"),
    ("[[stage]]\nduration = 0\nshape = 'hold'\nconcurrency = 1", "stage[1].duration", "longer than 0 s"),
    ("[[stage]]\nduration = 1\nshape = 'hold'", "stage[1].concurrency", "one of the two"),
    ("[[stage]]\nduration = 1\nshape = 'hold'\nconcurrency = 2000", "stage[1].concurrency", "above limits.max_concurr"),
    ("[[stage]]\nduration = 1\nshape = 'steps'\nlevels = []", "stage[1].levels", "length >= 1"),
    (
        "[[stage]]\nduration = 1\nshape = 'steps'\nlevels = [1, 'x']",
        "stage[1].levels[2]",
        "must be a number, or a share",
    ),
    ("[[stage]]\nduration = 1\nshape = 'steps'\nlevels = [1]\nunit = 'rps'", "stage[1].unit", "rate_rps"),
    ("[[stage]]\nduration = 1\nshape = 'spike'\nbase = 1\npeak = 2\nrise = 0.5\nfall = 0.4", "stage[1].fall", "later"),
    (
        "[[stage]]\nduration = 1\nshape = 'sine'\nlow = 3\nhigh = 2\nperiod = 3",
        "stage[1].high",
        "must not be below low",
    ),
    ("[[stage]]\nduration = 1\nshape = 'sine'\nlow = 1\nhigh = 2\nperiod = 0", "stage[1].period", "longer than 0 s"),
    (
        "[[stage]]\nduration = 1\nshape = 'replay'\npoints = [{ at = 2 }, { at = 1 }]",
        "stage[1].points[2].at",
        "earlier",
    ),
    ("[[stage]]\nduration = 1\nshape = 'replay'\npoints = [{ atx = 2 }]", "stage[1].points[1].atx", "did you mean at?"),
    ("[[stage]]\nduration = 1\nshape = 'hold'\nconcurrency = 1\nlevels = [1]", "stage[1].levels", "is not known"),
    ("search = true\n[[stage]]\nduration = 1\nshape = 'hold'\nconcurrency = 1", "search", "picks the loads"),
    ("search = true\nquestion = 'hold'", "search", 'or question = "hold"'),
    ("search = true\n" + TRACE, "search", "a trace brings its own load"),
    ("question = 'capacity'\n" + TRACE, "question", "a trace brings its own load"),
    ("question = 'speak'", "question", "did you mean peak? (allowed: hold, peak, capacity, soak, spike, cliff)"),
    ("question = 'hold'", "question", "hold needs a load to be asked of: add a [[stage]]"),
    ("question = 'soak'", "question", "soak needs a load"),
    ("question = 'spike'\n" + HOLD, "question", 'spike needs a [[stage]] of shape = "spike"'),
    ("question = 'peak'\n" + HOLD, "question", "peak needs the expected peak"),
    ("question = 'peak'\npeak = 9\n" + HOLD, "peak", "the plan goes up to 8 only, and cannot say what happens at 9"),
    ("at_least = 0\nquestion = 'capacity'", "at_least", "must be a number of 0.001 or more"),
    ("at_least = 64\n" + HOLD, "at_least", 'is for question = "capacity", and this profile asks hold'),
    ("question = 'capacity'\nat_least = 2000", "at_least", "above limits.max_concurrency = 1024"),
    ("recover_within = '30s'\n" + HOLD, "recover_within", 'is for question = "spike", and this profile asks hold'),
    ("recover_within = '21s'\n" + SPIKE, "recover_within", "the plan ends 20 s after its last spike, and sees no 21 s"),
    ("recover_within = 'soon'\n" + SPIKE, "recover_within", "is no duration"),
    ("peak_from_slots = true\n" + HOLD, "stage[1].concurrency", "must be users, as a share of the peak"),
    ("peak_from_slots = true", "peak_from_slots", "needs a peak, too"),
    (SLOTS + "[load]\nconcurrency = 2\n" + SHARED, "load.concurrency", "must be users, as a share"),
    (SLOTS + "[load]\nconcurrency = '50%'\n" + SHARED, "peak_from_slots", "leave out the load in [load]"),
    (SLOTS + SHARED + "unit = 'rate_rps'", "stage[1].start", "must be users, as a share"),
    (
        SLOTS + "[[stage]]\nduration = 1\nshape = 'replay'\npoints = [{ at = 0 }]",
        "stage[1].shape",
        "repeats loads as they are",
    ),
    ("[simulated]\nknob = { a = 1 }", "simulated.knob", "did you mean knobs?"),
    ("[simulated]\nknobs = { a = 'x' }", "simulated.knobs", "must be a number"),
    ("[simulated]\nknobs = { a = nan }", "simulated.knobs.a", "must be the name of a knob and a number"),
    ("[endpoint]\nurl = 'localhost:8000'", "endpoint.url", "http://"),
    ("[endpoint]\nurl = 'http://h:99999'", "endpoint.url", "its port is above 65535"),
    ("[endpoint]\nurl = 'http://a..b'", "endpoint.url", "there is no host in it"),
    ('[endpoint]\nurl = "http://h/\\u001b[2J"', "endpoint.url", "is not one line"),
    ("[endpoint]\nkey = 'sk-1'", "endpoint.key", "allowed: url, model"),
    ("[workload]\ncolumns = { prompt = 'q' }", "workload.columns", "source sharegpt or jsonl, not synthetic"),
    (ROWS + "columns = { words = 'q' }", "workload.columns.words", "allowed: prompt, messages, answer, output_tokens"),
    (ROWS + "columns = { prompt = 'q', messages = 'm' }", "workload.columns.messages", "name one of the two"),
    (ROWS + "columns = { prompt = 5 }", "workload.columns", "must be"),
    ("[workload]\nrepeat = false", "workload.repeat", "synthetic prompts have no rows"),
    ("[workload]\nsource = 'shargpt'", "workload.source", "did you mean sharegpt?"),
    ("[workload]\nsource = 'sharegpt'", "workload.file", "is missing"),
    ("[workload]\nfile = 'x'", "workload.file", "not read by a synthetic workload"),
    ("[workload]\nspeed = 2", "workload.speed", "a synthetic workload has no times"),
    ("[workload]\nsource = 'jsonl'\nfile = 'x'\nwindow = [1, 2]", "workload.window", "a jsonl workload has no times"),
    (f"{TRACE}\nspeed = 0.4", "workload.speed", "0.5 or more"),
    (f"{TRACE}\nspeed = 21", "workload.speed", "20 or less"),
    (f"{TRACE}\nwindow = ['10min', 600]", "workload.window", "must end after it begins"),
    (f"{TRACE}\nwindow = ['10min']", "workload.window", "length 2"),
    (f"{TRACE}\nspeed = 2\n[[stage]]\nshape = 'hold'\nduration = 9\nrate_rps = 1", "workload.speed", "leave out one"),
    ("[workload]\nprompt = { kind = 'gauss' }", "workload.prompt.kind", "allowed: fixed, normal, lognormal, quantiles"),
    ("[workload]\nprompt = { cv = 1 }", "workload.prompt.kind", "is missing"),
    ("[workload]\nprompt = { kind = 'normal', vc = 1 }", "workload.prompt.vc", "allowed: kind, cv"),
    ("[workload]\nprompt = { kind = 'normal', cv = -1 }", "workload.prompt.cv", "must be a number from 0 to 10"),
    ("[workload]\noutput = { kind = 'quantiles', table = [[0, 1]] }", "workload.output.table", "two or more"),
    ("[workload]\noutput = { kind = 'quantiles', table = [[0.5, 1], [0.1, 2]] }", "workload.output.table", "must rise"),
    ("[workload]\noutput = { kind = 'quantiles', table = [[0, 5], [1, 2]] }", "workload.output.table", "must not fall"),
    ("[workload]\noutput = { kind = 'quantiles', table = [[0, 5, 1]] }", "workload.output.table[1]", "length 2"),
    ("slo = 'ttft<2'", "slo", "wants ms or s or min"),
    ("slo = 3", "slo", "must be text in quotes or a table"),
    ("[slo]\nttft_p95 = true", "slo.ttft_p95", "must be a limit"),
    ("[slo]\nttft_p96 = '2s'", "slo.ttft_p96", "is not known"),
    ("[slo]\nkv = { limit = '80%', wran = '70%' }", "slo.kv", "must be a limit"),
    ("[slo]\nkv = { limit = '80%', warn = '70s' }", "slo.kv.warn", "wants"),
    ("[limits]\nmax_concurrency = 0", "limits.max_concurrency", "of 1 or more"),
    ("[limits]\nstop_error_ratio = 'off'", "limits.stop_error_ratio", '"never"'),
    ("[limits]\nidle_timeout = 0", "limits.idle_timeout", "longer than 0 s"),
]


@pytest.mark.parametrize(("text", "key", "says"), FAULTS)
def test_a_fault_is_named(text: str, key: str | None, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, PATH)
    assert caught.value.key == key
    assert says in caught.value.problem
    assert str(caught.value).startswith(f"broken.toml: {key}: " if key else "broken.toml: ")


SOUND = [
    ("question = 'capacity'\nat_least = 64", Question.CAPACITY),
    ("search = true", Question.CAPACITY),
    ("search = true\nquestion = 'capacity'", Question.CAPACITY),
    ("question = 'capacity'\n" + HOLD, Question.CAPACITY),
    ("question = 'capacity'\nat_least = 2000\n[limits]\nmax_concurrency = 2000", Question.CAPACITY),
    ("question = 'peak'\npeak = 8\n" + HOLD, Question.PEAK),
    ("peak = 32\n" + SHARED, Question.PEAK),
    (SLOTS + SHARED, Question.PEAK),
    ("peak = 32\n[[stage]]\nduration = 9\nshape = 'steps'\nlevels = ['25%', '50%']", Question.CLIFF),
    ("question = 'soak'\n[[stage]]\nduration = 1\nshape = 'hold'\nconcurrency = 8\n", Question.SOAK),
    ("question = 'hold'\n" + TRACE, Question.HOLD),
    (TRACE, Question.HOLD),
    ("recover_within = '20s'\n" + SPIKE, Question.SPIKE),
    (HOLD, Question.HOLD),
    ("", Question.CLIFF),
]


@pytest.mark.parametrize(("text", "asks"), SOUND)
def test_a_profile_asks_what_it_names_or_what_its_plan_implies(text: str, asks: Question) -> None:
    profile = parse_profile(text, PATH)
    assert profile.asks is asks
    assert profile.search == (asks is Question.CAPACITY and not profile.plan.stages)


VALUES = ["true", "0", "-1", "3", "0.5", "'x'", "'1%'", "'2s'", "[]", "[{}]", "{}", "nan", "inf"]
KEYS = [
    *("question", "at_least", "recover_within", "peak_from_slots"),
    *("name", "peak", "search", "stage", "slo", "load", "limits", "workload", "endpoint"),
    *("load.rate_rps", "load.burstiness", "load.concurrency", "workload.prompt", "workload.prompt.kind"),
    *("workload.seed", "slo.kv", "limits.stop_error_ratio", "endpoint.url"),
]


@given(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=3))
def test_whatever_stands_in_the_file_it_is_a_profile_or_a_profile_error(table: dict[str, str]) -> None:
    text = "\n".join(f"{key} = {value}" for key, value in table.items())
    with suppress(ProfileError):
        assert parse_profile(text, PATH).plan.stages == ()
