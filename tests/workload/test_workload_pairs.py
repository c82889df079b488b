"""Prompt and answer lengths that are drawn as pairs keep the sample's shape and follow the sliders."""

from __future__ import annotations

from random import Random

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload, length_means
from llmtop.workload.prompts import PromptSource

PAIRS = tuple((40 + 7 * place, 900 - 8 * place) for place in range(100))
MEANS = length_means(PAIRS)


def drawn(count: int, start: int = 0, step: int = 1, **asked: int) -> list[tuple[int, int]]:
    at = {"prompt_tokens": MEANS[0], "output_tokens": MEANS[1], **asked}
    source = PromptSource(Workload(lengths=PAIRS, seed=5), start=start, step=step)
    point = LoadPoint(rate_rps=1.0, **at)
    prompts = [source.next(point) for _ in range(count)]
    return [(prompt.tokens, prompt.output_tokens) for prompt in prompts]


def test_every_pair_comes_once_a_lap_in_a_new_order() -> None:
    first, second = drawn(200)[:100], drawn(200)[100:]
    assert sorted(first) == sorted(second) == sorted(PAIRS)
    assert first != list(PAIRS)
    assert first != second


def test_workers_draw_together_what_one_draws() -> None:
    parts = [drawn(50, start=worker, step=3) for worker in range(3)]
    assert [parts[index % 3][index // 3] for index in range(150)] == drawn(150)


def test_a_part_of_a_lap_has_long_and_short_ones_and_keeps_their_correlation() -> None:
    part = drawn(30)
    assert min(part)[0] < 150
    assert max(part)[0] > 600
    assert all(output == 900 - 8 * ((prompt - 40) // 7) for prompt, output in part)


def test_each_slider_scales_its_own_side() -> None:
    as_it_was, longer = drawn(100), drawn(100, prompt_tokens=3 * MEANS[0])
    assert [output for _, output in longer] == [output for _, output in as_it_was]
    assert all(abs(long - 3 * short) <= 1 for (long, _), (short, _) in zip(longer, as_it_was, strict=True))
    assert min(output for _, output in drawn(100, output_tokens=1)) == 1


def test_pairs_are_cut_to_what_the_model_takes() -> None:
    source = PromptSource(Workload(lengths=PAIRS), max_model_len=600)
    prompts = [source.next(LoadPoint(rate_rps=1, prompt_tokens=MEANS[0], output_tokens=MEANS[1])) for _ in range(100)]
    assert all(prompt.tokens + prompt.output_tokens <= 600 for prompt in prompts)
    assert source.cut > 0
    too_long = sum(prompt + output > 600 for prompt, output in PAIRS)
    assert source.notes == (f"{too_long} of 100 pairs of lengths are cut to the 600 tokens of the model",)
    assert PromptSource(Workload(lengths=PAIRS), max_model_len=9000).notes == ()
    assert PromptSource(Workload(lengths=PAIRS)).notes == ()


def test_means_are_whole_and_never_nothing() -> None:
    assert length_means([(1, 1), (1, 2)]) == (1, 2)
    pairs = [(Random(place).randrange(1, 999), 1) for place in range(50)]
    assert length_means(pairs) == (round(sum(prompt for prompt, _ in pairs) / 50), 1)
