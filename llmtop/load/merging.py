"""One line of samples out of those of several load workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Generic, Protocol, TypeVar

from llmtop.domain.samples import LoadBin


class _Timed(Protocol):
    @property
    def t_s(self) -> float: ...


Sample = TypeVar("Sample", bound=_Timed)


class Merger(Generic[Sample]):
    """Groups samples by the interval they belong to and hands a group out once every living worker has told its part.

    A worker that was late may have skipped an interval: what it told last stands in for it.

    Args:
        step_s: length of an interval; samples are taken at its end or a little later.
        stands_in: what a sample says about an interval in which nothing was counted; None: nothing.
    """

    def __init__(self, step_s: float, stands_in: Callable[[Sample], Sample | None]) -> None:
        self._step_s = step_s
        self._stands_in = stands_in
        self._groups: dict[int, dict[int, Sample]] = {}
        self._told: dict[int, int] = {}
        """By worker: its newest interval."""
        self._taken: dict[int, Sample] = {}
        """By worker: its last sample that was handed out."""

    def add(self, worker: int, samples: Sequence[Sample]) -> None:
        for sample in samples:
            interval = max(int(sample.t_s / self._step_s + 1e-6), self._told.get(worker, -1) + 1)
            self._told[worker] = interval
            self._groups.setdefault(interval, {})[worker] = sample

    def take(self, living: AbstractSet[int]) -> list[dict[int, Sample]]:
        """Complete groups, oldest first, by worker. Of workers that are not `living` nothing more is waited for."""
        complete = min((self._told.get(worker, -1) for worker in living), default=math.inf)
        groups = []
        for interval in sorted(interval for interval in self._groups if interval <= complete):
            group = self._groups.pop(interval)
            for worker in living - group.keys():
                last = self._taken.get(worker)
                stand_in = None if last is None else self._stands_in(last)
                if stand_in is not None:
                    group[worker] = stand_in
            self._taken.update(group)
            groups.append(group)
        return groups


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
