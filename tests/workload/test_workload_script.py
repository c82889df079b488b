"""Scripts: what a user is given to say."""

from __future__ import annotations

from random import Random

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot, User


def test_one_shot_talks_say_one_prompt_each_in_the_order_of_their_source() -> None:
    point = LoadPoint(concurrency=1, prompt_tokens=50)
    script, source = OneShot(PromptSource(Workload())), PromptSource(Workload())
    for number in (0, 1, 1, 0):
        talk = script.begin(User(number, point), Random(number))
        assert talk.next(None) == source.next(point)
        assert talk.next(None) is None
        assert talk.next(None) is None


def test_a_one_shot_prompt_has_the_lengths_commanded_when_it_is_asked_for() -> None:
    user = User(0, LoadPoint(concurrency=1, prompt_tokens=50))
    talk = OneShot(PromptSource(Workload())).begin(user, Random(0))
    user.point = LoadPoint(concurrency=1, prompt_tokens=70, output_tokens=9)
    prompt = talk.next(None)
    assert prompt is not None
    assert (prompt.tokens, prompt.output_tokens) == (70, 9)


def test_what_the_endpoint_counted_reaches_the_source_of_the_prompts() -> None:
    source = PromptSource(Workload())
    OneShot(source).calibrate(100, 107)
    assert source.calibration.constant == 7
