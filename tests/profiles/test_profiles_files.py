"""Profile files: what is written reads back, what ships is sound, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Replay, Shape, Sine, Spike, Stage, Steps
from llmtop.domain.plain import plain
from llmtop.domain.profile import Fixed, LogNormal, Normal, Profile, Quantiles, Question, Workload
from llmtop.domain.slo import FIGURES, LATENCIES, STATS, Slo, SloTarget
from llmtop.errors import FileError, ProfileError
from llmtop.profiles import files, list_profiles, load_profile, save_profile, shipped_folder
from llmtop.profiles.asking import unanswerable
from llmtop.profiles.reading import parse_profile
from llmtop.profiles.writing import profile_text

PATH = Path("/profiles/mine.toml")
LINE = 120
"""Characters of a line of a file."""

ASKED = {
    "capacity": Question.CAPACITY,
    "soak": Question.SOAK,
    "spike": Question.SPIKE,
    "autoscale": Question.SPIKE,
    "smoke": Question.HOLD,
    "llmperf": Question.HOLD,
    **dict.fromkeys(("chat", "code", "long-context", "ramp", "sharegpt", "vllm-bench"), Question.PEAK),
}


def texts(**limits: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=("Cs",)), **limits)


amounts = st.floats(0, 500, allow_nan=False)
durations = st.floats(1e-3, 8e5) | st.integers(1, 100_000).map(float)
tokens = st.integers(1, 200_000)
units = st.sampled_from(["concurrency", "rate_rps"])


@st.composite
def points(draw: st.DrawFn) -> LoadPoint:
    users = draw(st.integers(0, 500) | st.none())
    return LoadPoint(
        concurrency=users,
        rate_rps=draw(amounts) if users is None else None,
        prompt_tokens=draw(tokens),
        output_tokens=draw(tokens),
        shared_prefix=draw(st.floats(0, 1)),
        think_time_s=draw(st.floats(0, 1e5)),
        burstiness=draw(st.floats(0.01, 100) | st.just(float("inf"))),
        gate=draw(st.integers(1, 500)),
    )


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    low, high = sorted((draw(amounts), draw(amounts)))
    rise, fall = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True)))
    times = sorted(draw(st.lists(st.floats(0, 1e4), min_size=1, max_size=4)))
    return draw(
        st.sampled_from(
            [
                Hold(concurrency=draw(st.integers(0, 500))),
                Hold(rate_rps=draw(amounts)),
                Ramp(high, low, draw(units)),
                Steps(tuple(draw(st.lists(amounts, min_size=1, max_size=5))), draw(units)),
                Spike(low, high, rise, fall, draw(units)),
                Sine(low, high, draw(durations), draw(units)),
                Replay(tuple((at_s, draw(points())) for at_s in times)),
            ]
        )
    )


@st.composite
def lengths(draw: st.DrawFn) -> Fixed | Normal | LogNormal | Quantiles:
    shares = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=6, unique=True)))
    counts = sorted(draw(st.lists(st.floats(1, 1e6), min_size=len(shares), max_size=len(shares))))
    table = Quantiles(tuple(zip(shares, counts, strict=True)), draw(st.booleans()))
    cv = draw(st.floats(0, 10))
    return draw(st.sampled_from([Fixed(), Normal(cv), LogNormal(cv), table]))


@st.composite
def slos(draw: st.DrawFn) -> Slo:
    latencies = st.builds(SloTarget, st.sampled_from(LATENCIES), st.floats(1e-6, 1e4), st.sampled_from(STATS))
    others = st.builds(SloTarget, st.just("queue"), st.floats(1e-6, 1e3)) | st.builds(
        SloTarget, st.sampled_from(["error_ratio", "kv"]), st.floats(1e-9, 1)
    )
    warned = st.builds(SloTarget, st.just("kv"), st.floats(0.5, 1), st.none(), st.floats(1e-3, 0.5))
    targets = draw(st.lists(latencies | others | warned, min_size=1, max_size=6, unique_by=lambda target: target.name))
    called = (
        st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=12).map(str.strip).map(plain)
    )
    of_one = st.builds(
        SloTarget,
        st.sampled_from(LATENCIES),
        st.floats(1e-6, 1e4),
        st.sampled_from(STATS),
        kind=called.filter(lambda kind: bool(kind) and kind not in FIGURES),
    )
    named = draw(st.lists(of_one, max_size=2, unique_by=lambda target: target.name))
    return Slo(tuple(targets), tuple(named))


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    stage = st.builds(
        Stage,
        name=texts(max_size=10).map(plain),
        duration_s=durations,
        shape=shapes(),
        prompt_tokens=tokens | st.none(),
        output_tokens=tokens | st.none(),
        gate=st.integers(1, 500) | st.none(),
    )
    stages = tuple(draw(st.lists(stage, max_size=3)))
    source = draw(st.sampled_from(["synthetic", "sharegpt", "jsonl", "trace"]))
    profile = Profile(
        name=draw(texts(max_size=20).map(plain)),
        description=draw(texts(max_size=50).map(plain)),
        endpoint_url=draw(st.none() | st.just("http://127.0.0.1:8000")),
        model=draw(st.none() | texts(min_size=1, max_size=20)),
        workload=Workload(
            source=source,
            file=None if source == "synthetic" else "/somewhere/file.jsonl",
            prompt=draw(lengths()),
            output=draw(lengths()),
            seed=draw(st.integers(0, 2**62)),
            api=draw(st.sampled_from(["chat", "completions"])),
        ),
        plan=LoadPlan(stages=stages, base=draw(points())),
        canary=draw(st.none() | st.floats(0.01, 5)),
        slo=draw(slos() | st.just(Slo())),
        caps=Caps(
            max_concurrency=draw(st.integers(500, 10_000)),
            stop_error_ratio=draw(st.none() | st.floats(0, 1)),
            connect_timeout_s=draw(durations),
            total_timeout_s=draw(durations),
        ),
    )
    asked = structs.replace(
        profile,
        question=draw(st.none() | st.sampled_from(Question)),
        at_least=draw(st.none() | st.integers(1, 500) | st.floats(0.1, 500)),
    )
    if asked.question is Question.PEAK:
        asked = structs.replace(asked, peak=draw(st.integers(1, 500) | st.floats(0.1, 500)))
    return asked if unanswerable(asked) is None else profile


SHARES = st.integers(0, 300) | st.floats(0, 300)
PLAN = """
limits = {{ max_concurrency = 3000 }}
peak = {peak!r}
[[stage]]
duration = 1
shape = "steps"
levels = ["{0!r}%", "{1!r}%"]
[[stage]]
duration = 1
shape = "hold"
concurrency = "{2!r}%"
[[stage]]
duration = 1
shape = "hold"
rate_rps = "{3!r}%"
[[stage]]
duration = 1
shape = "sine"
low = 0
high = "{4!r}%"
period = 1
"""


@given(st.lists(SHARES, min_size=5, max_size=5), st.integers(1, 300) | st.floats(0.5, 300))
def test_a_plan_that_was_scaled_by_its_peak_scales_by_it_when_it_was_written(shares: list[float], peak: float) -> None:
    text = PLAN.format(*shares, peak=peak)
    profile = parse_profile(text, PATH)
    written = profile_text(profile, PATH)
    assert parse_profile(written, PATH) == profile
    there, again = (
        parse_profile(text, PATH, peak=3 * peak, most=3000),
        parse_profile(written, PATH, peak=3 * peak, most=3000),
    )
    for one, other in zip(there.plan.stages, again.plan.stages, strict=True):
        for field in ("levels", "concurrency", "rate_rps", "high"):
            assert getattr(one.shape, field, 0) == pytest.approx(getattr(other.shape, field, 0), abs=2)


@settings(max_examples=30)
@given(profiles())
def test_a_written_profile_reads_back_as_it_was(profile: Profile) -> None:
    assert parse_profile(profile_text(profile, PATH), PATH) == profile


def test_saved_and_loaded_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "mine.toml"
    profile = Profile(name="mine", plan=LoadPlan(stages=(Stage(name="a", duration_s=90, shape=Ramp(0, 8)),)))
    save_profile(profile, path)
    assert load_profile(path) == profile
    assert 'duration = "90s"' in path.read_text()


def test_shipped_profiles_are_sound() -> None:
    entries = {entry.name: entry for entry in list_profiles() if entry.shipped}
    assert entries.keys() == ASKED.keys()
    for name, entry in entries.items():
        assert entry.problem is None
        profile = load_profile(shipped_folder() / f"{name}.toml")
        assert entry.description.endswith((".", "?"))
        assert profile.search or profile.plan.stages
        assert profile.question == entry.question == ASKED[name]
        again = parse_profile(profile_text(profile, PATH), PATH)
        assert structs.replace(again, name=name) == structs.replace(profile, name=name)


def test_the_main_shipped_loads() -> None:
    assert load_profile(shipped_folder() / "ramp.toml").plan.stages[0].shape == Ramp(0, 64)
    assert load_profile(shipped_folder() / "soak.toml").plan.stages[-1].duration_s == 3600
    assert load_profile(shipped_folder() / "smoke.toml").plan.duration_s == 20
    bench = load_profile(shipped_folder() / "vllm-bench.toml")
    assert (bench.start, bench.workload.api) == ("together", "completions")
    assert (bench.plan.base.prompt_tokens, bench.plan.base.output_tokens) == (1024, 128)
    spike = load_profile(shipped_folder() / "spike.toml").plan.stages[0].shape
    assert isinstance(spike, Spike)
    assert (spike.base, spike.peak) == (16, 96)
    plan = load_profile(shipped_folder() / "autoscale.toml").plan
    shape = plan.stages[0].shape
    assert isinstance(shape, Spike)
    assert (shape.base, shape.peak) == (16, 96)
    assert (plan.duration_s * shape.rise, plan.duration_s * shape.fall) == pytest.approx((60, 360))


def test_one_number_scales_a_profile() -> None:
    path = shipped_folder() / "ramp.toml"
    text = path.read_text().replace("peak = 32", "peak = 500")
    assert parse_profile(text, PATH).plan.stages[0].shape == Ramp(0, 1000)
    asked = load_profile(path, peak=500)
    assert (asked.peak, asked.peak_from_slots, asked.plan.stages[0].shape) == (500, False, Ramp(0, 1000))
    assert load_profile(path, peak=600, most=1200).plan.top == 1200
    with pytest.raises(ProfileError, match=r"stage\[1\]\.stop: 1200 users are above limits.max_concurrency = 1024"):
        load_profile(path, peak=600, most=20)


def test_a_profile_without_a_peak_takes_none() -> None:
    with pytest.raises(ProfileError, match=r"capacity\.toml: peak: has no expected peak that could be 10"):
        load_profile(shipped_folder() / "capacity.toml", peak=10)


def test_an_own_profile_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "own_folder", lambda: tmp_path)
    (tmp_path / "ramp.toml").write_text('description = "mine"')
    (tmp_path / "broken.toml").write_text("peak = ")
    assert load_profile("ramp").description == "mine"
    broken, mine = list_profiles()[:2]
    assert (mine.name, mine.shipped, mine.problem) == ("ramp", False, None)
    assert broken.problem is not None
    assert "is not TOML" in broken.problem


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ProfileError, match=r"rampe: no such profile; did you mean ramp\? \(there are .*ramp.*soak"):
        load_profile("rampe")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_profile(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'description = "caf\xe9"')
    with pytest.raises(ProfileError, match="not UTF-8"):
        load_profile(tmp_path / "latin.toml")
    with pytest.raises(FileError, match="cannot be written"):
        save_profile(Profile(name="x"), tmp_path / "latin.toml" / "x.toml")


def test_two_limits_on_one_figure_cannot_be_saved() -> None:
    slo = Slo((SloTarget("ttft", 1.0, "p95"), SloTarget("ttft", 2.0, "p95")))
    with pytest.raises(ProfileError, match=r"slo\.ttft_p95: has two limits"):
        profile_text(Profile(name="x", slo=slo), PATH)


def test_a_relative_file_is_looked_up_beside_the_profile() -> None:
    profile = parse_profile('[workload]\nsource = "jsonl"\nfile = "prompts.jsonl"', PATH)
    assert profile.workload.file == "/profiles/prompts.jsonl"


@pytest.mark.parametrize(
    "base", [LoadPoint(rate_rps=2.0), LoadPoint(rate_rps=2.0, prompt_tokens=1004, output_tokens=54)]
)
def test_a_sample_of_lengths_reads_back_many_pairs_a_line(base: LoadPoint) -> None:
    pairs = tuple((5 + place, 2 * place + 7) for place in range(0, 2000, 2))
    profile = Profile(name="mine", workload=Workload(lengths=pairs), plan=LoadPlan(stages=(), base=base))
    text = profile_text(profile, PATH)
    assert parse_profile(text, PATH) == profile
    lines = text.splitlines()
    assert max(map(len, lines)) <= LINE
    assert len(lines) < 140


def test_a_sample_of_lengths_begins_at_its_means() -> None:
    base = parse_profile("[workload]\nlengths = [[100, 10], [301, 20]]\n[load]\noutput_tokens = 99", PATH).plan.base
    assert (base.prompt_tokens, base.output_tokens) == (200, 99)


def test_all_that_is_read_of_a_profile_can_be_sent_to_the_process_that_drives_it() -> None:
    text = """
        [load]
        rate_rps = 3
        burstiness = 0.5
        shared_prefix = "20%"
        think_time = "1s"
        [[stage]]
        shape = "replay"
        duration = "10s"
        points = [{ at = "1s", rate_rps = 2, burstiness = 3 }]
        [limits]
        stop_error_ratio = "2%"
        idle_timeout = "9s"
    """
    profile = parse_profile(text, PATH)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(profile), type=Profile) == profile


@pytest.mark.parametrize(
    "written",
    [
        '[slo]\nttft_p95 = "5s"\n"answer.ttft_p95" = "2s"',
        '[slo]\nttft_p95 = "5s"\nanswer.ttft_p95 = "2s"',
        '[slo]\nttft_p95 = "5s"\n[slo.answer]\nttft_p95 = { limit = "2s" }',
        'slo = "answer.ttft_p95<2s,ttft_p95<5s"',
    ],
)
def test_a_limit_of_one_name_is_written_in_any_of_these_ways(written: str) -> None:
    slo = parse_profile(written, PATH).slo
    assert (slo.targets, slo.named) == (
        (SloTarget("ttft", 5.0, "p95"),),
        (SloTarget("ttft", 2.0, "p95", kind="answer"),),
    )


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("[slo.answer]\nqueue = 10", r"slo\.answer\.queue: .*leave out the name"),
        ('[slo.answer]\nttft = { limt = "2s" }', r"slo\.answer\.ttft: must be a limit such as"),
        ('[slo]\nttft = { limt = "2s" }', r"slo\.ttft: must be a limit such as"),
        ("[slo]\nanswer = 3", r"slo\.answer: .*is not known"),
        ('[slo]\n"answer.ttft" = "2s"\n[slo.answer]\nttft_p95 = "1s"', r"is a second limit on answer\.ttft_p95"),
    ],
)
def test_a_limit_of_one_name_that_cannot_be_read_names_its_key(written: str, says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        parse_profile(written, PATH)
