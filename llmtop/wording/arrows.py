"""From what was to what is."""

from __future__ import annotations


def arrow(old: str, new: str) -> str:
    """`max_num_seqs 32 → 46`: what both begin or end with is said once."""
    head = 0
    words_old, words_new = old.split(" "), new.split(" ")
    while head < min(len(words_old), len(words_new)) - 1 and words_old[head] == words_new[head]:
        head += 1
    tail = 0
    while tail < min(len(words_old), len(words_new)) - head - 1 and words_old[-1 - tail] == words_new[-1 - tail]:
        tail += 1
    was = " ".join(words_old[head : len(words_old) - tail])
    now = " ".join(words_new[head : len(words_new) - tail])
    return " ".join((*words_old[:head], was, "→", now, *words_old[len(words_old) - tail :]))
