"""Words that are counted before the load by a server that is slow, or whose tokenizer gives up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.session import sizing
from llmtop.workload.prompts import PromptSource

from .session_fakes import FakeClient

POINT = LoadPoint(concurrency=4, prompt_tokens=192)


class SlowClient(FakeClient):
    """Counts two tokens for each word: each text in so many seconds, its tokenizer only the first few."""

    counts = True

    def __init__(self, takes_s: float = 0.0, tokenizes: int = 0) -> None:
        super().__init__()
        self.takes_s, self.left = takes_s, tokenizes
        self.asked = 0

    async def tokenize(self, text: str) -> int | None:
        self.left -= 1
        return await super().tokenize(text) if self.left >= 0 else None

    async def generate(self, text: str, output_tokens: int, api: str, trace: Any, sink: Any, **carried: Any) -> None:
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        await super().generate(text, output_tokens, api, trace, sink)


async def counted(client: SlowClient, has_tokenize: bool) -> int:
    """Tokens of the first prompt, as the server counts without what stands around it."""
    prompts = PromptSource(Workload())
    await sizing.count_words(client, prompts, POINT, "completions", has_tokenize, None)  # type: ignore[arg-type]
    return 2 * len(prompts.next(POINT).text.split())


async def test_one_count_is_waited_for_longer_than_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "LIMIT_S", 0.01)
    client = SlowClient(takes_s=0.05)
    assert await counted(client, False) == pytest.approx(181, rel=0.05)
    assert client.asked <= 2, "the rest is not waited for"


async def test_a_server_that_counts_nothing_does_not_keep_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "FIRST_LIMIT_S", 0.05)
    assert await counted(SlowClient(takes_s=60.0), False) == 2 * 192


@pytest.mark.parametrize(("tokenizes", "asked"), [(0, 12), (1, 0), (2, 0)])
async def test_a_tokenizer_that_gives_up_leaves_what_it_has_counted_or_else_usage_counts(
    tokenizes: int, asked: int
) -> None:
    client = SlowClient(tokenizes=tokenizes)
    assert await counted(client, True) == pytest.approx(186, rel=0.05)
    assert min(client.asked, 12) >= min(asked, 3)
