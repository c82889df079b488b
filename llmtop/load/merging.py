"""One line of samples out of those of several load workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Generic, Protocol, TypeVar

from msgspec.structs import replace

from llmtop.domain.samples import LoadBin
from llmtop.meter.binner import merge_bins


class _Timed(Protocol):
    @property
    def t_s(self) -> float: ...


Sample = TypeVar("Sample", bound=_Timed)


class Merger(Generic[Sample]):
    """Groups samples by the interval they belong to and hands a group out once everybody who is waited for has told it.

    A worker that was late may have skipped an interval: what it told last stands in for it. What comes for an interval
    that was handed out without it is counted in the first that was not, so that nothing is lost and time goes forward.

    Args:
        step_s: length of an interval; samples are taken at its end or a little later.
        stands_in: what a sample says about an interval in which nothing was counted; None: nothing.
        joined: one sample of two of a worker that follow each other.
    """

    def __init__(
        self,
        step_s: float,
        stands_in: Callable[[Sample], Sample | None],
        joined: Callable[[Sample, Sample], Sample] = lambda before, after: after,
    ) -> None:
        self._step_s = step_s
        self._stands_in = stands_in
        self._joined = joined
        self._groups: dict[int, dict[int, Sample]] = {}
        self._told: dict[int, int] = {}
        """By worker: its newest interval."""
        self._handed = -1
        """The newest interval that was handed out."""
        self._taken: dict[int, Sample] = {}
        """By worker: its last sample that was handed out."""
        self._ends: dict[int, int] = {}
        """By worker: the interval of its last sample."""

    def add(self, worker: int, samples: Sequence[Sample]) -> None:
        for sample in samples:
            interval = int(sample.t_s / self._step_s + 1e-6)
            if interval > self._handed:
                interval = max(interval, self._told.get(worker, -1) + 1)
                self._told[worker] = interval
            self._put(max(interval, self._handed + 1), worker, sample)

    def end(self, worker: int, last: Sample) -> None:
        """`last` follows all that it has told, whenever that was, and nothing stands in for it any more."""
        self._ends[worker] = max(self._handed, self._told.get(worker, -1)) + 1
        self._put(self._ends[worker], worker, last)

    def take(self, awaited: AbstractSet[int]) -> list[dict[int, Sample]]:
        """Complete groups, oldest first, by worker. Of workers that are not `awaited` nothing is waited for."""
        complete = min((self._told.get(worker, -1) for worker in awaited), default=math.inf)
        groups = []
        for interval in sorted(interval for interval in self._groups if interval <= complete):
            group = self._groups.pop(interval)
            for worker in self._taken.keys() - group.keys():
                stand_in = self._stands_in(self._taken[worker])
                if stand_in is not None:
                    group[worker] = stand_in
            self._taken.update(group)
            for worker in [worker for worker, end in self._ends.items() if end <= interval]:
                self._taken.pop(worker, None)
            self._handed = interval
            groups.append(group)
        return groups

    def _put(self, interval: int, worker: int, sample: Sample) -> None:
        group = self._groups.setdefault(interval, {})
        group[worker] = self._joined(group[worker], sample) if worker in group else sample


def quiet(last: LoadBin) -> LoadBin:
    """A bin in which nothing happened since `last`."""
    return LoadBin(
        t_s=last.t_s,
        span_s=0.0,
        target=last.target,
        in_flight=last.in_flight,
        prefilling=last.prefilling,
        oldest_prefill_s=last.oldest_prefill_s,
    )


def run_on(before: LoadBin, after: LoadBin) -> LoadBin:
    """One bin of two that a worker has closed one after the other: it ends as `after` does."""
    return merge_bins((replace(before, target=0.0, in_flight=0, prefilling=0, oldest_prefill_s=None), after))
