"""The waiting queue under both scheduling policies."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from llmtop.simulator.engine.request import Sequence


class WaitingQueue:
    """First come, first served; or by (priority, arrival) when `by_priority`.

    Source: vLLM `vllm/v1/core/sched/request_queue.py`.
    """

    __slots__ = ("_heap", "_line", "_serial", "by_priority", "tokens")

    def __init__(self, by_priority: bool = False) -> None:
        self.by_priority = by_priority
        self._line: deque[Sequence] = deque()
        self._heap: list[tuple[int, int, int, Sequence]] = []
        self._serial = 0
        self.tokens = 0
        """Prompt tokens of all that wait."""

    def __len__(self) -> int:
        return len(self._heap) if self.by_priority else len(self._line)

    def __iter__(self) -> Iterator[Sequence]:
        """In the order in which they will be looked at."""
        if self.by_priority:
            return iter([entry[3] for entry in sorted(self._heap)])
        return iter(self._line)

    @property
    def head(self) -> Sequence:
        return self._heap[0][3] if self.by_priority else self._line[0]

    def push(self, sequence: Sequence) -> None:
        """A new arrival: to the end of the line."""
        self.tokens += sequence.prompt_tokens
        if self.by_priority:
            self._serial += 1
            heapq.heappush(self._heap, (sequence.priority, sequence.arrival_ns, self._serial, sequence))
        else:
            self._line.append(sequence)

    def push_front(self, sequence: Sequence) -> None:
        """A preempted sequence: to the head of the line, or where its priority puts it."""
        if self.by_priority:
            self.push(sequence)
        else:
            self.tokens += sequence.prompt_tokens
            self._line.appendleft(sequence)

    def pop(self) -> Sequence:
        sequence = heapq.heappop(self._heap)[3] if self.by_priority else self._line.popleft()
        self.tokens -= sequence.prompt_tokens
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Take out one that is anywhere in the line."""
        self.tokens -= sequence.prompt_tokens
        if self.by_priority:
            self._heap = [entry for entry in self._heap if entry[3] is not sequence]
            heapq.heapify(self._heap)
        else:
            self._line.remove(sequence)
