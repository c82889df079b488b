"""What a figure moves with by itself, and the figure without it: TTFT, TPOT and KV usage at equal work."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.sessions import Mask, Requests
from llmtop.analysis.steps import Index
from llmtop.analysis.trend import MIN_WINDOWS

_TOLD_BY = 6000
"""Values by which the effect of work is told, at most: more tell no more than they cost."""
_PASSES = 5
_WILD = 5.0
"""What is so many standard deviations (by their median) beside the effect of work is pulled in."""
_STILL = 1e-3
"""Work that moves by less than this share does not move."""


def at_equal_work(values: Array, work: Sequence[Array], cell: Index, used: Mask) -> Array:
    """Values less what more work than usual accounts for.

    What a unit of work does is taken from how both differ within a window, where no trend is: a figure that creeps
    while the work stays keeps all of its creep.

    Args:
        work: columns as long as `values`.
        cell: the window of each value.
        used: by which of them the effect of the work is told.
    """
    moves = [each for each in work if _moves(each[np.isfinite(each)])]
    if not moves:
        return values
    columns = np.stack([values, *moves], axis=1)
    known = np.flatnonzero(used & (cell >= 0) & np.isfinite(columns).all(axis=1))
    known = known[:: 1 + len(known) // _TOLD_BY]
    columns, cells = columns[known], cell[known]
    if len(cells) < MIN_WINDOWS:
        return values
    usual, scale = np.median(columns, axis=0), columns.std(axis=0) + 1e-300
    columns = (columns - usual) / scale
    each_cell = np.maximum(np.bincount(cells), 1)
    inside = columns - np.stack([np.bincount(cells, part) / each_cell for part in columns.T], axis=1)[cells]
    solve, effect = np.linalg.pinv(inside[:, 1:], rcond=1e-3), np.zeros(len(moves))
    for _ in range(_PASSES):
        explained = inside[:, 1:] @ effect
        left = inside[:, 0] - explained
        far = _WILD * float(np.median(np.abs(left))) / 0.6745
        effect = solve @ (explained + np.clip(left, -far, far))
    more = (np.stack(moves, axis=1) - usual[1:]) / scale[1:]
    return np.asarray(values - scale[0] * (more @ effect))


def _moves(work: Array) -> bool:
    return len(work) > 0 and float(work.std()) > _STILL * float(np.abs(work).mean())


def prefilled(requests: Requests, among: Requests) -> Array:
    """Prompt tokens that were computed while each request decoded, a token of its own answer.

    Every step that takes in a prompt is longer for all who decode: this moves TPOT while the server is the same.
    """
    order = np.argsort(among.first_token_s, kind="stable")
    first_s = among.first_token_s[order]
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(among.prompt_tokens[order]))])
    start, stop = (np.searchsorted(first_s, each) for each in (requests.first_token_s, requests.end_s))
    return np.asarray((total[stop] - total[start]) / np.maximum(requests.output_tokens, 1.0))


def alongside(requests: Requests, among: Requests, near_s: float) -> Array:
    """Prompt tokens that were sent within `near_s` (a usual TTFT) before or after each request, its own included.

    Users of equal answers fall into step: they send together, and their prompts wait for each other. TTFT grows by that
    while the server is the same.
    """
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(among.prompt_tokens))])
    start = np.searchsorted(among.sent_s, requests.sent_s - near_s)
    stop = np.searchsorted(among.sent_s, requests.sent_s + near_s, side="right")
    return np.asarray(total[stop] - total[start])


def middle(values: Array) -> float:
    """The median of what is known, 0 of nothing; numpy's own takes ten times as long for a few."""
    ordered = np.sort(values[np.isfinite(values)])
    half = len(ordered) // 2
    return float((ordered[half] + ordered[-half - 1]) / 2) if len(ordered) else 0.0


def tokens_held(requests: Requests, t_s: Array) -> Array:
    """Tokens in the KV cache at each instant by what our own requests were: the prompt, and the answer so far."""
    done = requests.pick(requests.ok & (requests.end_s > requests.first_token_s))
    if len(done.end_s) == 0:
        return np.full(len(t_s), math.nan)
    pace = done.output_tokens / (done.end_s - done.first_token_s)
    base = done.prompt_tokens - pace * done.first_token_s
    held = np.zeros(len(t_s))
    for at_s, sign in ((done.first_token_s, 1.0), (done.end_s, -1.0)):
        order = np.argsort(at_s)
        place = np.searchsorted(at_s[order], t_s, side="right")
        for part, factor in ((base, 1.0), (pace, t_s)):
            held += sign * factor * np.concatenate([[0.0], np.cumsum(part[order])])[place]
    return held


def all_ours(usage: Array, held: Array, used: Mask) -> Array:
    """KV usage at equal work, if all of it was our requests' in the beginning.

    The work's effect by how both move is too small where scrapes are late; by how both stand, it is too large where
    something else holds blocks. The truth is between the two, so that a leak is one that both ways show.
    """
    known = used & (held > 0) & np.isfinite(usage)
    if not known.any():
        return usage
    return np.asarray(usage - float(np.median(usage[known] / held[known])) * (held - float(np.median(held[known]))))
