"""A profile: everything that makes a run repeatable, but for the server."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct, structs

from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.endpoint import safe_url
from llmtop.domain.load import Caps, Hold, LoadPlan, Sine, Spike, Start
from llmtop.domain.plain import plain
from llmtop.domain.slo import Slo


class Fixed(Struct, frozen=True, tag_field="kind", tag="fixed", forbid_unknown_fields=True):
    """Every length the same: the load point's."""


class Normal(Struct, frozen=True, tag_field="kind", tag="normal", forbid_unknown_fields=True):
    """Normal around the load point's length, cut off at 1 token."""

    cv: float = 0.25
    """Standard deviation / mean."""


class LogNormal(Struct, frozen=True, tag_field="kind", tag="lognormal", forbid_unknown_fields=True):
    """Log-normal whose mean is the load point's length."""

    cv: float = 1.0


class Quantiles(Struct, frozen=True, tag_field="kind", tag="quantiles", forbid_unknown_fields=True):
    """A table of (share, tokens), interpolated; scaled so that its mean is the load point's length when `scale`."""

    table: tuple[tuple[float, float], ...]
    scale: bool = False


LengthDistribution = Fixed | Normal | LogNormal | Quantiles


class ModelShare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, or a LoRA adapter, that a share of the requests asks."""

    name: str
    weight: float = 1.0


class HangUp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the requests is hung up by the client, as users do who close the page."""

    share: float
    after_s: float = 1.0
    """After it was sent."""


def length_means(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Mean prompt and output tokens of pairs of lengths, whole: at a load point of these each pair stands as it is."""
    prompts, outputs = zip(*pairs, strict=True)
    return max(1, round(sum(prompts) / len(pairs))), max(1, round(sum(outputs) / len(pairs)))


Affinity = Literal["none", "session"]
"""Whether a user keeps a connection of its own, or takes any idle one."""


class Workload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What users send: where prompts and their lengths come from, and what every request carries."""

    source: str = "synthetic"
    """synthetic, sharegpt, jsonl, trace or python."""
    file: str | None = None
    prompt: LengthDistribution = Fixed()
    output: LengthDistribution = Fixed()
    lengths: tuple[tuple[int, int], ...] = ()
    """Pairs of prompt and output tokens that requests had, to be drawn together and scaled to the load point's lengths;
    (): each by its own distribution."""
    columns: tuple[tuple[str, str], ...] = ()
    """Which column of the file is what: (`prompt`, its name there), ..."""
    repeat: bool = True
    """A file's rows come round again with new heads; else the load ends with the last."""
    speed: float = 1.0
    """A trace goes so many times as fast as it was recorded."""
    window_s: tuple[float, float] | None = None
    """Only what of a trace lies between these seconds of it."""
    seed: int = 0
    api: str = "chat"
    """chat (/v1/chat/completions), completions, responses or embeddings."""
    body: str = ""
    """Fields that every request has besides those of its dialect, as a JSON object; empty: none."""
    stop: tuple[str, ...] = ()
    """Stop words."""
    models: tuple[ModelShare, ...] = ()
    """(): the endpoint's one."""
    affinity: Affinity = "none"
    user_header: str | None = None
    """A header that has the number of its user in each request."""
    cancel: HangUp | None = None


COLUMNS = {"sharegpt": ("messages",), "jsonl": ("prompt", "messages", "answer", "output_tokens")}
"""What a column can be, by source, where files are of prompts; `answer` is a text, as long as what is asked for."""
OF_ROWS = (*COLUMNS, "trace")
"""Sources whose files have rows, which can come again."""


def rows_problem(workload: Workload) -> tuple[str, str] | None:
    """Which of the keys that say how a file's rows are read cannot be, and why; None: all can."""
    columns, roles = dict(workload.columns), COLUMNS.get(workload.source)
    if columns and roles is None:
        return "columns", f"names what is in a file of prompts: source {' or '.join(COLUMNS)}, not {workload.source}"
    for role in columns:
        if role not in (roles or ()):
            return f"columns.{plain(role, 40)}", f"is nothing that a row has; allowed: {', '.join(roles or ())}"
    if {"prompt", "messages"} <= set(columns):
        return "columns.messages", "a row is a prompt or messages: name one of the two"
    if not workload.repeat and workload.source not in OF_ROWS:
        return "repeat", f"{workload.source} prompts have no rows to be sent once: source {' or '.join(OF_ROWS)}"
    return None


def trace_problem(workload: Workload, staged: bool) -> tuple[str, str] | None:
    """Which of the keys that say how a trace is replayed cannot be, and why; None: all can.

    Args:
        staged: the profile has stages, which say when requests are sent.
    """
    window_s = workload.window_s
    given = "window" if window_s is not None else "speed" if workload.speed != 1 else None
    if given is not None and workload.source != "trace":
        return given, f"is of a trace: a {workload.source} workload has no times of its own"
    if window_s is not None and window_s[0] >= window_s[1]:
        return "window", 'must end after it begins, as in ["10min", "20min"]'
    if workload.speed != 1 and staged:
        return "speed", "is that of a trace's own times, which every [[stage]] replaces; leave out one of the two"
    return None


class Question(StrEnum):
    """What a run is to find out. A run has one, and one answer."""

    HOLD = "hold"
    """Does this load keep the SLO?"""
    PEAK = "peak"
    """Is the SLO kept up to the expected peak, and where does it break?"""
    CAPACITY = "capacity"
    """How many at the SLO? With `at_least`: so many?"""
    SOAK = "soak"
    """Is the SLO kept, and does nothing creep?"""
    SPIKE = "spike"
    """Did it recover in time, and what did the spike cost?"""
    CLIFF = "cliff"
    """Where is it, and how many at the SLO so far?"""


OF_CAPACITY = (Question.CAPACITY, Question.CLIFF)
"""Questions whose answer is a capacity."""


class Profile(Struct, frozen=True, kw_only=True):
    """What a profile file holds. `plan` without stages: driven by hand from `plan.base`, or by the capacity search."""

    name: str
    description: str = ""
    endpoint_url: str | None = None
    model: str | None = None
    workload: Workload = Workload()
    plan: LoadPlan = LoadPlan(stages=())
    question: Question | None = None
    """None: what its plan asks, `asks`."""
    peak: float | None = None
    """The expected peak, on the axis of the plan; None: none was named."""
    peak_from_slots: bool = False
    """The peak is the number of the server's slots, where it tells them; `peak` where it does not."""
    preset: str | None = None
    """Of the simulated engine, where that is driven; None: the usual one."""
    knobs: tuple[tuple[str, float], ...] = ()
    """Of the simulated engine, instead of the preset's."""
    at_least: float | None = None
    """Of a capacity: the load that it must reach."""
    start: Start = "staggered"
    canary: float | None = None
    """Lone small requests a second beside the load, in no figure of it; None: none."""
    recover_within_s: float = 30.0
    """Of a spike: how long after its end all must be as before."""
    slo: Slo = Slo()
    caps: Caps = Caps()
    cost: Cost = UNSTATED

    @property
    def asks(self) -> Question:
        """The question: as it was named, or as the plan implies it."""
        if self.question is not None:
            return self.question
        if any(isinstance(stage.shape, Spike) for stage in self.plan.stages):
            return Question.SPIKE
        shapes = {stage.shape for stage in self.plan.stages}
        one_load = len(shapes) == 1 and all(isinstance(shape, Hold | Sine) for shape in shapes)
        if one_load or (not shapes and (self.workload.source == "trace" or not self.workload.repeat)):
            return Question.HOLD
        return Question.CLIFF if self.peak is None or self.plan.top < self.peak else Question.PEAK

    @property
    def stated_cost(self) -> Cost:
        """The cost with the expected peak as what is to be carried, where it states something and no peak."""
        unstated = self.cost == UNSTATED or self.cost.peak is not None or self.peak_from_slots
        return self.cost if unstated else structs.replace(self.cost, peak=self.peak)

    @property
    def search(self) -> bool:
        """Whether the capacity search picks the loads, from `plan.base` on: a capacity is asked for, without a plan."""
        return self.asks is Question.CAPACITY and not self.plan.stages and self.workload.source != "trace"


def safe_profile(profile: Profile) -> Profile:
    """The profile without what may let somebody in: user and query of its endpoint's URL."""
    url = profile.endpoint_url
    return profile if url is None else structs.replace(profile, endpoint_url=safe_url(url))
