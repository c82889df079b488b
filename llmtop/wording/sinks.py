"""What is said of the places that figures of a run flow to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtop.domain.shown import SinkState


def changes(before: Sequence[SinkState], now: Sequence[SinkState]) -> Iterator[tuple[str, bool]]:
    """(sentence, whether it is a problem) for each sink that is down, is down for another reason, or is back."""
    problems = {each.name: each.problem for each in before}
    for sink in now:
        was = problems.get(sink.name, "")
        if sink.problem and sink.problem != was:
            yield f"{sink.name}: {sink.problem}", True
        elif was and not sink.problem:
            yield f"{sink.name}: figures arrive again", False


def lost(sinks: Sequence[SinkState]) -> Iterator[str]:
    """At the end of a run: what did not arrive, and why."""
    for sink in sinks:
        if sink.problem:
            yield f"{sink.name}: the last figures did not arrive there: {sink.problem}"
