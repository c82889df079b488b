"""Where a run is told to besides the screen and the run file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from llmtop.domain.assessment import Assessment
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.domain.shown import SinkState
from llmtop.errors import LlmtopError


class Output(Protocol):
    """One consumer of a run. All calls come from one thread, in the order of the run.

    Each may raise an LlmtopError, also `begin`; after that only `end` is called.
    """

    def begin(self, meta: RunMeta) -> None:
        """The run is known; its endpoint may not have answered yet."""
        ...

    def tell(self, batch: FactBatch) -> None: ...

    def judged(self, assessment: Assessment) -> None:
        """A new opinion about the run so far; the last one before `end` is final."""
        ...

    def end(self, meta: RunMeta) -> None: ...


@runtime_checkable
class Flowing(Output, Protocol):
    """One that brings figures somewhere while the run goes on."""

    def known(self, meta: RunMeta) -> None:
        """More is known of the run than when it began."""
        ...

    def states(self) -> tuple[SinkState, ...]:
        """Where they go, and why they do not arrive; at any time, from any thread."""
        ...


class Outputs:
    """Several outputs as one: one that fails is left out, and says so; the others and the run go on."""

    def __init__(self, outputs: Iterable[Output]) -> None:
        self._all = tuple(outputs)
        self._told = list(self._all)
        self._flowing = tuple(output for output in self._all if isinstance(output, Flowing))
        self._meta: RunMeta | None = None
        self.error: LlmtopError | None = None
        """The first failure."""

    def begin(self, meta: RunMeta) -> None:
        if self._meta is None:
            self._each(lambda output: output.begin(meta))
        else:
            for output in self._flowing:
                output.known(meta)
        self._meta = meta

    def states(self) -> tuple[SinkState, ...]:
        """Where figures flow to, also after the end."""
        return tuple(state for output in self._flowing for state in output.states())

    def tell(self, batch: FactBatch) -> None:
        self._each(lambda output: output.tell(batch))

    def judged(self, assessment: Assessment) -> None:
        self._each(lambda output: output.judged(assessment))

    def end(self) -> None:
        """End those that have begun, also the ones that failed."""
        meta, self._meta = self._meta, None
        if meta is not None:
            self._told = list(self._all)
            self._each(lambda output: output.end(meta))
        self._all, self._told = (), []

    def _each(self, call: Callable[[Output], None]) -> None:
        for output in tuple(self._told):
            try:
                call(output)
            except LlmtopError as error:
                self._told.remove(output)
                self.error = self.error or error
