"""What our words are to an endpoint's tokenizer, from a few texts that it counts before the load.

Together the parts hold each word of the list once, so that the mean over them is that of the prompts to come, whatever
the words are split into: no sample of random words of that length is as near. The first part is counted in two halves
as well: as a tokenizer joins no words, what their counts exceed its count by is what stands around each text: the chat
template, the tokens that begin a text, and the words that close our prompts beyond what they are as words.
"""

from __future__ import annotations

from msgspec import Struct

from llmtop.workload.words import CLOSING, CLOSING_WORDS, words

PART_WORDS = 300
"""Long enough for few texts, short enough for every context."""
LEAST_PART_WORDS = 32
LEAST_COUNTS = 3
"""The two halves of a part and the part: with fewer, nothing tells the template from the tokenizer, and all is taken
for the tokenizer's. A template of 10 tokens makes prompts wrong by some percent then, no count at all by a factor."""
WORD_TOKENS = 4
"""No tokenizer of a language model splits our words into more, on average over a part."""


class Sizes(Struct, frozen=True):
    """tokens = constant + ratio x words, as an endpoint counts."""

    constant: float
    ratio: float
    source: str
    """usage or tokenize: who counted."""

    @property
    def exact(self) -> bool:
        """Whether every word is one token."""
        return self.ratio == 1 and self.constant >= 0


def texts(room_tokens: int | None, closed: bool) -> tuple[str, ...]:
    """What to have counted: the two halves of the first part, then the parts.

    Args:
        room_tokens: the longest prompt that the endpoint takes; None: it does not tell.
        closed: whether the prompts to come have the closing words.
    """
    end = CLOSING if closed else ""
    return tuple(" ".join(part) + end for part in _texts(_part_words(room_tokens)))


def sizes(counts: tuple[int, ...], room_tokens: int | None, closed: bool, source: str) -> Sizes | None:
    """What `counts` of the first of the `texts` say: one roughly, three closely; all are best.

    None: there are none, or they are not those of a tokenizer (a server that reports a constant).
    """
    parts = [len(part) for part in _texts(_part_words(room_tokens))][: len(counts)]
    if not counts or min(counts) <= 0:
        return None
    if len(counts) < LEAST_COUNTS:
        ratio = sum(counts) / (sum(parts) + (CLOSING_WORDS * len(parts) if closed else 0))
        return Sizes(0.0, ratio, source) if 0.5 <= ratio <= WORD_TOKENS else None
    around = counts[0] + counts[1] - counts[2]
    ratio = (sum(counts[2:]) - around * (len(counts) - 2)) / sum(parts[2:])
    if not 0.5 <= ratio <= WORD_TOKENS or around < 0:
        return None
    return Sizes(around - (CLOSING_WORDS * ratio if closed else 0), ratio, source)


def _part_words(room_tokens: int | None) -> int:
    if room_tokens is None:
        return PART_WORDS
    return max(LEAST_PART_WORDS, min(PART_WORDS, room_tokens // (2 * WORD_TOKENS)))


def _texts(size: int) -> list[tuple[str, ...]]:
    table = words()
    count = -(-len(table) // size)
    parts = [table[place::count] for place in range(count)]
    first = parts[0]
    return [first[::2], first[1::2], *parts]
