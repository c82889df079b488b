"""What requests and instants saw of the load: how much, how steady, and whether it was what was commanded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array
from llmtop.analysis.steps import StepFunction

STEADY_RATIO = 1.4
SNAP = 0.04
"""A commanded load is there if so near to it was in flight."""
MERGE = 0.08
"""Neighbouring bins closer than this are one level, and so is a load that moves by no more until a request ends."""
_BLUR_S = 0.25
"""The time of a change of the load is known to a bin."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What requests, or instants, saw of the load."""

    load: Array
    """Mean in flight over the window; before the first load that is known it is NaN."""
    sway: Array
    """Times sqrt(load) that it moved more than a load that is steady does; below zero: it was steady."""
    stays: Mask
    """Whether it is the same from there to the end of the request."""
    wanted: Array
    """Mean of the commanded users over the window; NaN: nobody commanded any."""
    held: Mask
    """Whether they stayed the same."""
    on: Mask
    """Whether they still are at the end of the request."""


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """When requests were sent, had their first token (or had failed), and had ended; and which of them failed."""

    sent_s: Array
    until_s: Array
    end_s: Array
    error: Mask


def seen_by(lives: Lives, in_flight: StepFunction, asked: StepFunction | None, service_s: float) -> Seen:
    """The load from S before each request was sent to its first token; of one that failed, while it lived."""
    until = lives.until_s
    begin = lives.sent_s - np.where(lives.error, _BLUR_S, max(service_s, _BLUR_S))
    load, sway = _swaying(in_flight, begin, until)
    stays = _same(in_flight.mean(until, lives.end_s), load)
    if asked is None:
        unknown, never = np.full(len(load), np.nan), np.zeros(len(load), dtype=bool)
        return Seen(load, sway, stays, unknown, never, ~never)
    wanted = asked.mean(begin, until)
    low, high = asked.bounds(begin, until)
    held = high <= np.where(lives.error, (1 + SNAP) * low + 1, STEADY_RATIO * low + 1)
    return Seen(load, sway, stays, wanted, held, _same(asked.mean(until, lives.end_s), wanted))


def seen_at(t_s: Array, in_flight: StepFunction, service_s: float) -> tuple[Array, Array]:
    """(load, sway) of the S before each instant."""
    return _swaying(in_flight, t_s - service_s, t_s)


def _swaying(in_flight: StepFunction, begin_s: Array, until_s: Array) -> tuple[Array, Array]:
    low, high = in_flight.bounds(begin_s, until_s)
    load = np.where(begin_s >= in_flight.edges_s[0], in_flight.mean(begin_s, until_s), np.nan)
    return load, (high - STEADY_RATIO * low - 1) / np.sqrt(np.maximum(load, 1e-9))


def _same(load: Array, other: Array) -> Mask:
    """Whether two loads are one level: half a request, or bins that would be one."""
    return np.asarray(np.abs(load - other) <= MERGE * other + 0.5)
