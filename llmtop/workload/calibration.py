"""How many words make how many prompt tokens on this endpoint, learnt from what it counts."""

from __future__ import annotations

import math

from llmtop.workload.sizing import Sizes

TEMPLATE_TOKENS = 96
"""More than a chat template and its default system prompt add. A larger excess is the tokenizer's."""
EXACT_CORRECTIONS = 3
"""A template is learnt in one or two; a tokenizer that needs more corrections than this splits some of our words."""
NOISE = 0.08
"""Relative spread of one count where words are split; the mean of n counts has NOISE / sqrt(n)."""
FINEST = 0.005
LEAST_RATIO, MOST_RATIO = 0.5, 16.0
"""Tokens of one of our words. No tokenizer goes beyond; a server that says so does not count what we sent."""
SPREAD = 1.5
"""How many times longer the longest prompt must be than the shortest to tell constant from proportional."""
CUT_FROM = 1.15
"""Times as many words as another prompt of the same count has, from which that count is the server's context: it cuts,
and no tokenizer is learnt from what is left. Counts of two lengths so far apart meet by no noise."""
SAME_COUNT = 2
"""Tokens by which counts of prompts that were cut differ."""


class Calibration:
    """tokens = constant + ratio x words.

    The constant is the chat template; the ratio is a tokenizer that has other words than ours. Prompts of one length
    cannot tell them apart: a small excess counts as constant, a large one or a deficit as proportional.

    A correction changes how many words stand for a length while answers to prompts from before it are still under way.
    As many answers as there were prompts handed out are therefore passed over.
    """

    def __init__(self, ratio: float | None = None) -> None:
        self._given = 1.0 if ratio is None else ratio
        self.constant = 0.0
        self.ratio = self._given
        self.source = "tiktoken" if ratio is None else "ratio"
        """tiktoken: by the word list; usage or tokenize: measured, exact; ratio: measured, right on average."""
        self._has_words = self._exact = ratio is None
        self._settled = False
        """Whether the constant is known: only the ratio is learnt on."""
        self._corrections = 0
        self._made = 0
        self._heard = 0
        self._passed_over = 0
        self._count = 0
        self._asked_sum = 0.0
        self._counted_sum = 0.0
        self._shortest: tuple[float, float] | None = None
        self._longest: tuple[float, float] | None = None
        self._plateau: tuple[float, float] | None = None
        """(fewest words that were counted as the longest prompt was, that count)"""
        self._context: float | None = None
        """What longer prompts are cut to; None: not known of any."""

    def words(self, tokens: int) -> int:
        """How many words to write for a prompt of `tokens`; at least 1."""
        return max(1, round((tokens - self.constant) / self.ratio))

    def tokens(self, words: int) -> int:
        """How many tokens a prompt of `words` is."""
        return round(self.constant + self.ratio * words)

    def settle(self, sizes: Sizes) -> None:
        """Take over what the endpoint counted before the load."""
        self.constant, self.ratio = sizes.constant, sizes.ratio
        self._settled, self._exact = True, sizes.exact
        self.source = sizes.source if sizes.exact else "ratio"

    def made(self) -> None:
        """A prompt was handed out."""
        self._made += 1

    def learn(self, asked_tokens: int, counted_tokens: int, source: str) -> None:
        """A prompt that was said to have `asked_tokens` was counted as `counted_tokens` by the endpoint."""
        self._heard += 1
        words = (asked_tokens - self.constant) / self.ratio
        if self._heard <= self._passed_over or counted_tokens <= 0 or words < 1:
            return
        if self._is_cut(words, counted_tokens):
            return
        self._remember(words, counted_tokens)
        if self._exact:
            if counted_tokens != asked_tokens:
                self._correct(words, counted_tokens)
        else:
            self._count += 1
            self._asked_sum += asked_tokens
            self._counted_sum += counted_tokens
            if abs(self._counted_sum / self._asked_sum - 1) > max(FINEST, NOISE / math.sqrt(self._count)):
                mean_words = (self._asked_sum / self._count - self.constant) / self.ratio
                self._correct(mean_words, self._counted_sum / self._count)
        self.source = source if self._exact else "ratio"

    def _is_cut(self, words: float, counted: float) -> bool:
        """Whether this count tells the server's context. What was learnt before that was known is forgotten."""
        if self._context is not None:
            if counted <= self._context + SAME_COUNT:
                return counted >= self._context - SAME_COUNT
            self._context = None
        if self._plateau is None or (words > self._plateau[0] and abs(counted - self._plateau[1]) > SAME_COUNT):
            self._plateau = words, counted
        fewest, count = self._plateau
        if words < CUT_FROM * fewest or abs(counted - count) > SAME_COUNT or counted >= words:
            return False
        self._context = counted
        self.constant, self.ratio, self._exact, self._settled = 0.0, self._given, self._has_words, False
        self._shortest = self._longest = self._plateau = None
        self._corrections, self._passed_over = 0, max(self._made, self._heard)
        self._count, self._asked_sum, self._counted_sum = 0, 0.0, 0.0
        return True

    def _remember(self, words: float, counted: float) -> None:
        if self._shortest is None or words <= self._shortest[0]:
            self._shortest = (words, counted)
        if self._longest is None or words >= self._longest[0]:
            self._longest = (words, counted)

    def _correct(self, words: float, counted: float) -> None:
        slope = self._slope()
        excess = counted - words
        if slope is not None:
            self.ratio = slope
            self.constant = max(0.0, counted - slope * words)
        elif self._exact and 0 <= excess <= TEMPLATE_TOKENS:
            self.constant = excess
        else:
            self.ratio = max(counted - self.constant, 1.0) / words
        self.ratio = min(max(self.ratio, LEAST_RATIO), MOST_RATIO)
        self._corrections += 1
        self._exact = self._exact and self.ratio == 1 and self._corrections <= EXACT_CORRECTIONS
        self._passed_over = max(self._made, self._heard)
        self._count, self._asked_sum, self._counted_sum = 0, 0.0, 0.0

    def _slope(self) -> float | None:
        """Tokens per word between the shortest and the longest prompt so far; None: too alike, or not needed."""
        if self._settled or self._shortest is None or self._longest is None:
            return None
        (few, few_tokens), (many, many_tokens) = self._shortest, self._longest
        if many < SPREAD * few + 16 or many_tokens <= few_tokens:
            return None
        return (many_tokens - few_tokens) / (many - few)
