"""The answer to a run's question, with its parts and thresholds."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.profile import Question
from llmtop.domain.run import Ending


class PartVerdict(Struct, frozen=True, kw_only=True):
    """The same answer for one part of a plan that is judged by itself: a load that it holds, or a configuration."""

    name: str
    ok: bool | None = None
    text: str = ""
    """What decided it."""


class ThresholdVerdict(Struct, frozen=True, kw_only=True):
    """A threshold of --fail-on against what was measured where the answer to the run's question is about."""

    name: str
    """Of the figure: `ttft_p95`, `answer.ttft_p95`, `capacity`."""
    limit: float
    """In seconds, a share, requests, users (open loop: requests/s) or a rate a second."""
    measured: float | None = None
    n: int = 0
    """Requests that it rests on; of a capacity and a rate 0."""
    ok: bool | None = None
    """False: the limit is passed. None: it cannot be said."""
    text: str = ""


class Judgement(Struct, frozen=True, kw_only=True):
    """The answer to a run's question. Screen, last line, report, JSON, JUnit and exit code are renderings of it."""

    question: Question = Question.CLIFF
    ok: bool | None = None
    """Yes, no, or not known."""
    sentence: str = ""
    """The answer, with the configuration it holds for."""
    reasons: tuple[str, ...] = ()
    """What decided it: the limits that broke, or what is missing for an answer."""
    left_out: tuple[str, ...] = ()
    """What was measured and not judged, and why."""
    void: bool = False
    """The client was the bottleneck: the figures say nothing about the server."""
    ending: Ending | None = None
    """How the run ended, where that is known."""
    final: bool = False
    """The run is over: no later figure can change this."""
    parts: tuple[PartVerdict, ...] = ()
    """Of a plan with several loads or configurations, each by itself; (): it has one."""
    thresholds: tuple[ThresholdVerdict, ...] = ()
    """Those of --fail-on, once the run is over."""
    client_bound: float | None = None
    """Share of the seconds in which the client was the bottleneck; None: not known."""

    @property
    def passes(self) -> bool | None:
        """Whether the answer is yes and no threshold is passed; None: a part of that is not known."""
        each = (self.ok, *(threshold.ok for threshold in self.thresholds))
        return False if False in each else None if None in each else True
