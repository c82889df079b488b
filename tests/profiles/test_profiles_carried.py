"""What requests carry, in files and on the command line: read back, or refused by its key, with what is allowed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from llmtop.cli import options
from llmtop.cli.target import by_hand, with_arguments
from llmtop.domain.profile import HangUp, ModelShare, Profile
from llmtop.domain.slo import Slo, usual_slo
from llmtop.errors import LlmtopError, ProfileError, UsageError
from llmtop.profiles.reading import parse_profile
from llmtop.profiles.writing import profile_text

PATH = Path("/profiles/mine.toml")
WHOLE = """
[workload]
api = "responses"
stop = ["END"]
models = [{ name = "base", weight = 3.0 }, { name = "lora-a" }]
affinity = "session"
user_header = "x-user-id"
cancel = { share = "1%", after = "2s" }
[workload.body]
temperature = 0
chat_template_kwargs = { enable_thinking = false }
[[stage]]
shape = "hold"
duration = "5s"
concurrency = 1
"""


def given(*words: str, profile: Profile | None = None) -> Profile:
    parser = argparse.ArgumentParser()
    options.ADD["live"](parser)
    return with_arguments(profile or by_hand(1), parser.parse_args(list(words)))


def test_all_that_requests_carry_reads_and_writes_back() -> None:
    profile = parse_profile(WHOLE, PATH)
    workload = profile.workload
    assert json.loads(workload.body) == {"temperature": 0, "chat_template_kwargs": {"enable_thinking": False}}
    assert workload.models == (ModelShare(name="base", weight=3.0), ModelShare(name="lora-a"))
    assert workload.cancel == HangUp(share=0.01, after_s=2.0)
    assert (workload.stop, workload.affinity, workload.user_header) == (("END",), "session", "x-user-id")
    assert parse_profile(profile_text(profile, PATH), PATH) == profile


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        ("body = { max_tokens = 3 }", "workload.body.max_tokens", "llmtop itself"),
        ("body = { since = 2026-01-01 }", "workload.body.since", "a date"),
        ("body = { x = nan }", "workload.body.x", "NaN"),
        ("body = { stop = 'x' }\nstop = ['y']", "workload.stop", "keep one"),
        ("stop = ['']", "workload.stop", "1 to 256"),
        ("models = [{ name = 'a' }, { name = 'a' }]", "workload.models[2]", "second time"),
        ("models = [{ name = 'a', weight = 0 }]", "workload.models[1]", "weight 0"),
        ("models = [{ name = 'a', wieght = 1 }]", "workload.models[1].wieght", "did you mean weight?"),
        ("user_header = 'Host'", "workload.user_header", "cannot be Host"),
        ("cancel = 'often'", "workload.cancel", "a share"),
        ("cancel = { share = 2 }", "workload.cancel.share", "a share"),
        ("cancel = { share = 0.1, afer = 1 }", "workload.cancel.afer", "did you mean after?"),
        ("affinity = 'sticky'", "workload.affinity", "'sticky'"),
        ("api = 'embeddings'\n[slo]\nttft_p95 = '1s'", "slo.ttft_p95", "limit e2e"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_its_key(lines: str, key: str, words: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(f"[workload]\n{lines}\n", PATH)
    assert caught.value.key == key
    assert words in caught.value.problem


def test_a_share_alone_hangs_up_after_a_second() -> None:
    assert parse_profile("[workload]\ncancel = '5%'\n", PATH).workload.cancel == HangUp(share=0.05, after_s=1.0)


def test_the_command_line_counts_more_than_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"seed": 7}')
    profile = parse_profile(WHOLE, PATH)
    words = ["--body", f"@{file}", "--models", "x:2,y", "--cancel", "3%@500ms", "--stop", "a", "--stop", "b"]
    told = given(*words, "--user-header", "x-session", "--affinity", "none", "--api", "chat", profile=profile).workload
    assert json.loads(told.body) == {"seed": 7}
    assert [model.name for model in told.models] == ["x", "y"]
    assert told.cancel == HangUp(share=0.03, after_s=0.5)
    assert (told.stop, told.user_header, told.affinity, told.api) == (("a", "b"), "x-session", "none", "chat")
    assert given(profile=profile).workload == profile.workload


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--body", "[1]"], "--body: must be a JSON object"),
        (["--body", "{"], "--body: is no JSON (line 1, column 2)"),
        (["--body", '{"x": NaN}'], "--body: x holds what JSON cannot"),
        (["--body", f'{{"x": {"9" * 5000}}}'], "--body: is no JSON"),
        (["--body", '{"x": ' + "[" * 100_000], "--body: is no JSON"),
        (["--body", '{"stream": false}'], "--body: stream is set by llmtop itself"),
        (["--body", "@/nowhere/at/all.json"], "/nowhere/at/all.json: cannot be read"),
        (["--body", '{"stop": 1}', "--stop", "x"], "--stop: stands in the body, too"),
        (["--models", "a,a"], "--models: model 2 is 'a' a second time"),
        (["--cancel", "1%@soon"], "--cancel '1%@soon': is no duration"),
        (["--cancel", "nan"], "--cancel 'nan': must be a share"),
        (["--user-header", "Content-Length"], "--user-header 'Content-Length': cannot be"),
    ],
)
def test_what_cannot_be_carried_is_a_wrong_usage(words: list[str], says: str) -> None:
    with pytest.raises(LlmtopError) as caught:
        given(*words)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("words", "api", "slo"),
    [
        ([], "chat", Slo()),
        (["--api", "embeddings"], "embeddings", usual_slo("embeddings")),
        (["http://127.0.0.1:1/v1/embeddings"], "embeddings", usual_slo("embeddings")),
        (["http://127.0.0.1:1/v1/responses", "--api", "responses"], "responses", Slo()),
        (["http://127.0.0.1:1/v1/completions"], "completions", Slo()),
        (["127.0.0.1:1", "--api", "responses"], "responses", Slo()),
    ],
)
def test_what_is_asked_and_what_it_is_judged_by(words: list[str], api: str, slo: Slo) -> None:
    told = given(*words)
    assert (told.workload.api, told.slo) == (api, slo)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["http://127.0.0.1:1/v1/embeddings", "--api", "chat"], "--api chat: the URL is that of embeddings"),
        (["--api", "embeddings", "--slo", "ttft<1s"], "--slo: ttft_p95: embeddings have no first token"),
    ],
)
def test_what_contradicts_itself_is_a_wrong_usage(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        given(*words)


def test_a_model_beside_those_that_share_the_load_is_a_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtop.cli.target import session_options

    parser = argparse.ArgumentParser()
    options.ADD["live"](parser)
    arguments: Any = parser.parse_args(["127.0.0.1:1", "--model", "a", "--models", "b,c"])
    with pytest.raises(UsageError, match="--model a: the load is shared by b, c"):
        session_options(arguments, with_arguments(by_hand(1), arguments), "127.0.0.1:1", patient=True)
    arguments.model, arguments.skip_checks = None, True
    session_options(arguments, with_arguments(by_hand(1), arguments), "127.0.0.1:1", patient=True)
