"""Text of an exact number of tokens, without a tokenizer.

Every word of `words.txt` is one token in cl100k_base and in o200k_base, with and without a space before it. Both
split text into words before they merge, so n of these words, joined by single spaces, are n tokens whatever their
order. The vocabularies of Llama 3 and Qwen grew out of cl100k_base and GPT-OSS uses o200k_base, so the count holds for
most models that are served today; `Calibration` measures the rest.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from random import Random

CHUNK_WORDS = 32
"""A prompt is put together from pieces of this many words, which makes 512 tokens cost some ten microseconds."""
CHUNKS = 256
"""As many as one random byte can choose from."""
HEAD_WORDS = 5
"""The words that make a prompt unique: 1174**5 = 2e15 different heads."""
CLOSING = " now write one very long story about all of this and do not stop"
CLOSING_WORDS = len(CLOSING.split())
"""Asks for more text than any limit, for the servers whose output length cannot be pinned."""

_MULTIPLIER = 0x9E3779B97F4A7C15
"""Steps through the heads in leaps (2**64 / golden ratio), so that neighbours share no first word."""


@cache
def words() -> tuple[str, ...]:
    """The word list."""
    text = Path(__file__).with_name("words.txt").read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


class WordTable:
    """Random words in ready-made pieces; every text is a function of the seed and the arguments alone.

    All texts begin with a space, so that they can be joined as they are.
    """

    def __init__(self, seed: int) -> None:
        rng = Random(f"words {seed}")
        self._chunks = [[" " + word for word in rng.choices(words(), k=CHUNK_WORDS)] for _ in range(CHUNKS)]
        self._joined = ["".join(chunk) for chunk in self._chunks]
        self._heads = len(words()) ** HEAD_WORDS
        self._step = _coprime(_MULTIPLIER % self._heads, self._heads)
        self._offset = rng.randrange(self._heads)

    def text(self, count: int, rng: Random) -> str:
        """`count` random words."""
        if count <= 0:
            return ""
        whole, rest = divmod(count, CHUNK_WORDS)
        picks = rng.randbytes(whole + 1)
        joined = self._joined
        body = "".join([joined[pick] for pick in picks[:whole]])
        return body + "".join(self._chunks[picks[whole]][:rest])

    def head(self, number: int, count: int = HEAD_WORDS) -> str:
        """The `number`th of the heads: no two numbers below 2e15 have the same."""
        place = (number * self._step + self._offset) % self._heads
        table = words()
        parts = []
        for _ in range(count):
            place, digit = divmod(place, len(table))
            parts.append(" " + table[digit])
        return "".join(parts)

    def block(self, key: str, count: int) -> str:
        """The first `count` words of an endless text named `key`: a shorter one is a prefix of a longer one.

        Texts of two names differ from their head on, as pieces alone would not: there are few of them.
        """
        rng = Random(f"{key} {self._offset}")
        head = self.head(rng.getrandbits(50), min(max(count, 0), HEAD_WORDS))
        whole, rest = divmod(max(count - HEAD_WORDS, 0), CHUNK_WORDS)
        pieces = [self._joined[rng.getrandbits(8)] for _ in range(whole)]
        pieces.extend(self._chunks[rng.getrandbits(8)][:rest])
        return head + "".join(pieces)


def _coprime(start: int, modulus: int) -> int:
    while math.gcd(start, modulus) != 1:
        start += 1
    return start
