"""Laws of the prompt source: exact counts, determinism, unique heads, common heads."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import LogNormal, Normal, Quantiles, Workload
from llmtop.errors import UsageError
from llmtop.workload.prompts import PromptSource
from llmtop.workload.tokens import RANKS, RANKS_SHA256, count_tokens, encoding
from llmtop.workload.words import CLOSING, words


def point(prompt_tokens: int = 192, **rest: float) -> LoadPoint:
    return LoadPoint(concurrency=1, prompt_tokens=prompt_tokens, **rest)  # type: ignore[arg-type]


def test_packaged_ranks_are_those_of_tiktoken() -> None:
    assert hashlib.sha256(gzip.decompress(RANKS.read_bytes())).hexdigest() == RANKS_SHA256


def test_every_word_is_one_token_with_and_without_a_space() -> None:
    ranks = encoding()
    for word in (*words(), *CLOSING.split()):
        assert len(ranks.encode_ordinary(word)) == 1, word
        assert len(ranks.encode_ordinary(" " + word)) == 1, word
    assert len(set(words())) == len(words()) > 1000


@given(tokens=st.integers(1, 3000), shared=st.floats(0, 1), seed=st.integers(0, 2**32), salt=st.integers(0, 2**64))
@settings(max_examples=60)
def test_a_prompt_has_exactly_the_tokens_it_says(tokens: int, shared: float, seed: int, salt: int) -> None:
    prompt = PromptSource(Workload(seed=seed), salt=salt).next(point(tokens, shared_prefix=shared))
    assert prompt.tokens == tokens
    assert count_tokens([prompt.text]) == [tokens]


def test_same_seed_same_prompts_whatever_was_asked_before() -> None:
    one, two = PromptSource(Workload(seed=3)), PromptSource(Workload(seed=3))
    first = [one.next(point(100)) for _ in range(5)]
    for tokens in (7, 300, 12):
        two.next(point(tokens))
    assert [two.next(point(100)) for _ in range(2)] == first[3:]
    assert PromptSource(Workload(seed=4)).next(point(100)) != first[0]


def test_heads_are_unique_and_salt_changes_them_all() -> None:
    source, salted = PromptSource(Workload()), PromptSource(Workload(), salt=10**9)
    heads = [" ".join(source.next(point(32)).text.split()[:5]) for _ in range(20_000)]
    assert len(set(heads)) == len(heads)
    other = {" ".join(salted.next(point(32)).text.split()[:5]) for _ in range(1000)}
    assert not other & set(heads)


def test_workers_share_a_source_without_a_prompt_in_common() -> None:
    whole = PromptSource(Workload())
    parts = [PromptSource(Workload(), start=worker, step=3) for worker in range(3)]
    assert [whole.next(point()).text for _ in range(9)] == [parts[i % 3].next(point()).text for i in range(9)]


@given(shared=st.floats(0.05, 1), tokens=st.integers(20, 1000))
@settings(max_examples=30)
def test_shared_prefix_is_common_and_what_follows_is_not(shared: float, tokens: int) -> None:
    source = PromptSource(Workload())
    one, two = (source.next(point(tokens, shared_prefix=shared)).text.split() for _ in range(2))
    common = round(tokens * shared)
    assert one[:common] == two[:common]
    assert common == tokens or one[common:] != two[common:]


def test_a_shorter_shared_prefix_begins_the_longer_one() -> None:
    source = PromptSource(Workload())
    short = source.next(point(100, shared_prefix=1.0)).text
    assert source.next(point(1000, shared_prefix=1.0)).text.startswith(short)


def test_long_prompts_end_with_the_wish_for_a_long_answer() -> None:
    source = PromptSource(Workload())
    assert source.next(point(64)).text.endswith(CLOSING)
    assert not source.next(point(16)).text.endswith("stop")


def test_lengths_are_cut_to_what_the_model_takes() -> None:
    source = PromptSource(Workload(prompt=LogNormal(cv=3.0)), max_model_len=1024)
    prompts = [source.next(point(600, output_tokens=256)) for _ in range(300)]
    assert all(prompt.tokens + prompt.output_tokens <= 1024 for prompt in prompts)
    assert 0 < source.cut < 300
    tiny = PromptSource(Workload(), max_model_len=100).next(point(5000, output_tokens=5000))
    assert 1 <= tiny.tokens + tiny.output_tokens <= 100


def test_distributions_have_the_mean_of_the_load_point() -> None:
    table = Quantiles(((0.0, 10.0), (0.5, 100.0), (1.0, 1000.0)), scale=True)
    for distribution in (Normal(cv=0.3), LogNormal(cv=1.0), table):
        source = PromptSource(Workload(output=distribution, prompt=distribution))
        prompts = [source.next(point(200, output_tokens=400)) for _ in range(8000)]
        assert sum(prompt.tokens for prompt in prompts) / 8000 == pytest.approx(200, rel=0.04)
        assert sum(prompt.output_tokens for prompt in prompts) / 8000 == pytest.approx(400, rel=0.04)
        assert min(prompt.tokens for prompt in prompts) >= 1


def test_a_table_without_scale_ignores_the_load_point() -> None:
    workload = Workload(prompt=Quantiles(((0.25, 50.0), (0.75, 50.0))))
    assert PromptSource(workload).next(point(9999)).tokens == 50


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(UsageError, match="synthetic, sharegpt, jsonl, trace or python"):
        PromptSource(Workload(source="lorem"))


def test_a_prompt_that_was_looked_at_is_still_the_next() -> None:
    source = PromptSource(Workload())
    point = LoadPoint(concurrency=1)
    seen = source.peek(point)
    assert (source.next(point), source.next(point) == seen) == (seen, False)
