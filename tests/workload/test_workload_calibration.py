"""The endpoint's count becomes what was asked, whatever its template and tokenizer."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.workload import sizing
from llmtop.workload.calibration import Calibration
from llmtop.workload.prompts import Prompt, PromptSource
from llmtop.workload.words import words


def converse(
    count: Callable[[int], int], in_flight: int, lengths: list[int], rounds: int = 300
) -> list[tuple[int, int]]:
    """(asked, counted) of the last prompts of a closed loop whose answers come `in_flight` prompts late."""
    source = PromptSource(Workload())
    waiting: deque[Prompt] = deque()
    seen = []
    for turn in range(rounds):
        asked = lengths[turn % len(lengths)]
        waiting.append(source.next(LoadPoint(concurrency=1, prompt_tokens=asked)))
        seen.append((asked, count(len(waiting[-1].text.split()))))
        if len(waiting) > in_flight:
            prompt = waiting.popleft()
            source.calibrate(prompt.tokens, count(len(prompt.text.split())))
    return seen[-50:]


@settings(max_examples=15)
@given(template=st.integers(0, 90), in_flight=st.integers(1, 64), length=st.integers(100, 2000))
def test_a_chat_template_is_learnt_exactly(template: int, in_flight: int, length: int) -> None:
    for asked, counted in converse(lambda words: words + template, in_flight, [length]):
        assert counted == asked


def test_two_lengths_tell_a_large_template_from_a_tokenizer() -> None:
    assert all(asked == counted for asked, counted in converse(lambda words: words + 400, 8, [600, 2000, 1200]))


@settings(max_examples=12)
@given(ratio=st.floats(0.7, 2.5), template=st.integers(0, 50))
def test_another_tokenizer_is_right_on_average(ratio: float, template: int) -> None:
    rng = Random(1)

    def count(words: int) -> int:
        return round(template + words * ratio * rng.uniform(0.97, 1.03))

    seen = converse(count, 8, [500], rounds=600)
    asked, counted = (sum(side) for side in zip(*seen, strict=True))
    assert counted == pytest.approx(asked, rel=0.04)


@settings(max_examples=20)
@given(context=st.integers(256, 4000), times=st.floats(1.2, 3.9), in_flight=st.integers(1, 16))
def test_a_context_that_cuts_prompts_is_no_tokenizer(context: int, times: float, in_flight: int) -> None:
    """What is asked for is sent, however little of it the server counts: never more."""
    source = PromptSource(Workload())
    asked = round(times * context)
    waiting: deque[Prompt] = deque()
    words = []
    for _ in range(60 + 20 * in_flight):
        waiting.append(source.next(LoadPoint(concurrency=1, prompt_tokens=asked)))
        words.append(len(waiting[-1].text.split()))
        if len(waiting) > in_flight:
            prompt = waiting.popleft()
            source.calibrate(prompt.tokens, min(len(prompt.text.split()), context))
    assert words[-1] == asked


@pytest.mark.parametrize(
    ("longer", "counted", "cut"), [(1150, 800, True), (1149, 800, False), (1150, 802, True), (1150, 803, False)]
)
def test_only_far_lengths_of_one_count_are_cut(longer: int, counted: int, cut: bool) -> None:
    calibration = Calibration(1.0)
    calibration.learn(1000, 800, "usage")
    calibration.constant, calibration.ratio = 0.0, 1.0
    calibration.learn(longer, counted, "usage")
    assert (calibration.words(1000) == 1000) is cut


def test_a_template_is_learnt_from_the_prompts_that_are_not_cut() -> None:
    for asked, counted in converse(lambda words: min(words + 30, 2048), 4, [500, 4000, 900, 3000]):
        assert counted == min(asked, 2048)


def test_a_longer_context_is_learnt_when_it_shows() -> None:
    calibration = Calibration()
    for _ in range(20):
        calibration.learn(1000, 500, "usage")
    assert calibration.words(1000) == 1000
    calibration.learn(1000, 1030, "usage")
    assert calibration.words(1030) == 1000


def test_the_source_of_the_count_is_named() -> None:
    calibration = Calibration()
    assert calibration.source == "tiktoken"
    calibration.learn(192, 192, "usage")
    assert calibration.source == "usage"
    calibration.learn(192, 210, "tokenize")
    assert (calibration.source, calibration.words(210)) == ("tokenize", 192)
    calibration.learn(210, 400, "usage")
    assert calibration.source == "ratio"
    assert Calibration(1.3).source == "ratio"
    assert Calibration(1.3).tokens(100) == 130


def test_counts_that_make_no_sense_change_nothing() -> None:
    calibration = Calibration()
    calibration.learn(192, 0, "usage")
    assert calibration.tokens(100) == 100


@pytest.mark.parametrize("template", [0, 1, 37])
@pytest.mark.parametrize("asked", [192, 550, 1024])
def test_words_that_were_counted_before_the_load_give_the_asked_length_on_average(template: int, asked: int) -> None:
    """A tokenizer that splits each word in its own way."""

    def count(text: str) -> int:
        return template + sum(1 + zlib.crc32(word.encode()) % 3 for word in text.split())

    source = PromptSource(Workload())
    found = sizing.sizes(tuple(count(text) for text in sizing.texts(2048, True)), 2048, True, "usage")
    assert found is not None
    source.settle(found)
    point = LoadPoint(concurrency=1, prompt_tokens=asked)
    assert sum(count(source.next(point).text) for _ in range(600)) / 600 == pytest.approx(asked, rel=0.01)
    assert source.calibration.source == "ratio"


def test_a_tokenizer_of_our_words_is_told_exactly_and_a_constant_count_tells_nothing() -> None:
    texts = sizing.texts(None, True)
    assert sizing.sizes(tuple(len(text.split()) + 9 for text in texts), None, True, "usage") == sizing.Sizes(
        9, 1, "usage"
    )
    assert sizing.sizes((7,) * len(texts), None, True, "usage") is None
    assert sizing.sizes((7, 7), None, True, "usage") is None
    assert sizing.sizes((), None, True, "usage") is None
    assert sorted(" ".join(sizing.texts(500, False)[2:]).split()) == sorted(words())


@pytest.mark.parametrize("counted", [1, 2])
def test_the_few_texts_that_a_slow_server_has_counted_make_prompts_wrong_by_percents_not_by_a_factor(
    counted: int,
) -> None:
    counts = tuple(2 * len(text.split()) + 11 for text in sizing.texts(None, True)[:counted])
    source = PromptSource(Workload())
    found = sizing.sizes(counts, None, True, "usage")
    assert found is not None
    source.settle(found)
    length = len(source.next(LoadPoint(concurrency=1, prompt_tokens=192)).text.split())
    assert 2 * length + 11 == pytest.approx(192, rel=0.06)
