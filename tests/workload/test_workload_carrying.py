"""What requests carry besides their prompts: drawn by seed and number alone, and checked where it is written."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date

import pytest

from llmtop.domain.profile import HangUp, ModelShare, Workload
from llmtop.workload.carrying import (
    MOST_BODY,
    OWN_FIELDS,
    PLAIN,
    Carried,
    body_fault,
    extra_of,
    models_fault,
    read_models,
    stop_fault,
)
from llmtop.workload.prompts import Prompt

PROMPT = Prompt("hello", 1, 8, "tiktoken")
MODELS = (ModelShare(name="base", weight=3.0), ModelShare(name="lora"))


def test_a_workload_that_says_nothing_leaves_prompts_as_they_are() -> None:
    assert PLAIN.dress(PROMPT, 5) is PROMPT
    assert PLAIN.header(3) is None
    assert PLAIN.extra == b""


def test_models_are_drawn_by_their_weight_and_the_same_again() -> None:
    names = [Carried(Workload(models=MODELS), 7).dress(PROMPT, n).model for n in range(2000)]
    assert names == [Carried(Workload(models=MODELS), 7).dress(PROMPT, n).model for n in range(2000)]
    assert Counter(names)["base"] == pytest.approx(1500, abs=80)
    assert names != [Carried(Workload(models=MODELS), 8).dress(PROMPT, n).model for n in range(2000)]


def test_a_session_keeps_its_model() -> None:
    carried = Carried(Workload(models=MODELS))
    for session in range(20):
        turns = {
            carried.dress(Prompt("x", 1, 1, "tiktoken", session=session, turn=turn), turn).model for turn in range(9)
        }
        assert len(turns) == 1


def test_a_prompt_that_names_its_model_keeps_it() -> None:
    named = Prompt("x", 1, 1, "tiktoken", model="mine", hang_up_s=9.0)
    dressed = Carried(Workload(models=MODELS, cancel=HangUp(share=1.0))).dress(named, 0)
    assert (dressed.model, dressed.hang_up_s) == ("mine", 9.0)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_hung_up_does_not_depend_on_how_many_processes_there_are(workers: int) -> None:
    workload = Workload(cancel=HangUp(share=0.1, after_s=2.0), models=MODELS)
    told = {}
    for worker in range(workers):
        carried = Carried(workload, 1, start=worker, step=workers)
        for n in range(3000 // workers):
            told[worker + workers * n] = carried.dress(PROMPT, n)
    one = Carried(workload, 1)
    assert all(one.dress(PROMPT, n) == told[n] for n in told)
    assert sum(prompt.hang_up_s == 2.0 for prompt in told.values()) == pytest.approx(300, abs=60)


def test_users_of_several_processes_have_numbers_of_their_own() -> None:
    workload = Workload(user_header="x-user-id")
    names = [Carried(workload, start=worker, step=3).header(n) for worker in range(3) for n in range(5)]
    assert len(set(names)) == 15
    assert names[0] == ("x-user-id", "user-0")


def test_fields_and_stop_words_are_in_every_body_and_a_prompts_own_count_more() -> None:
    workload = Workload(body='{"temperature":0,"seed":1}', stop=("END",))
    assert json.loads(b"{" + extra_of(workload)[1:] + b"}") == {"temperature": 0, "seed": 1, "stop": ["END"]}
    own = Prompt("x", 1, 1, "tiktoken", extra=b',"seed":2,"top_p":1')
    dressed = Carried(workload).dress(own, 0).extra
    assert json.loads(b"{" + dressed[1:] + b"}") == {"temperature": 0, "seed": 2, "stop": ["END"], "top_p": 1}


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        *(({name: 1}, name, "itself") for name in OWN_FIELDS),
        ([1], "", "JSON object"),
        ("x", "", "JSON object"),
        ({"": 1}, "", "without a name"),
        ({"since": date(2026, 1, 1)}, "since", "date"),
        ({"deep": {"p": [float("nan")]}}, "deep", "NaN"),
        ({"long": "x" * MOST_BODY}, "", "longer"),
    ],
)
def test_fields_that_cannot_be_sent_are_named(fields: object, name: str, words: str) -> None:
    fault = body_fault(fields)
    assert fault is not None
    assert fault[0] == name
    assert words in fault[1]


@pytest.mark.parametrize("fields", [{}, {"ignore_eos": False, "min_tokens": 1}, {"temperature": 0.5, "n": None}])
def test_fields_that_pin_the_length_are_the_users_to_set(fields: dict[str, object]) -> None:
    assert body_fault(fields) is None


def test_stop_words_stand_in_one_place() -> None:
    assert stop_fault((), {"stop": "x"}) is None
    assert "keep one" in (stop_fault(("a",), {"stop": "x"}) or "")
    assert stop_fault(("",), {}) is not None
    assert stop_fault(tuple(map(str, range(17))), {}) is not None


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("base:3,lora-a:1", [("base", 3.0), ("lora-a", 1.0)]),
        ("a, b", [("a", 1.0), ("b", 1.0)]),
        ("llama3:8b", [("llama3:8b", 1.0)]),
        ("llama3:8b:0.5,org/x", [("llama3:8b", 0.5), ("org/x", 1.0)]),
    ],
)
def test_models_as_they_are_typed(text: str, models: list[tuple[str, float]]) -> None:
    assert [(model.name, model.weight) for model in read_models(text)] == models


@pytest.mark.parametrize("text", ["", "a,", "a:0", "a:-1", "a:nan", "a:inf", "a,a", ":3", "a:1e9"])
def test_models_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="model "):
        read_models(text)


def test_a_model_that_is_wrong_is_named_by_its_place() -> None:
    assert models_fault(MODELS) is None
    assert models_fault((*MODELS, ModelShare(name="base"))) == (3, "is 'base' a second time; give it one weight")
