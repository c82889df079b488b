"""Whether a profile can be asked its question, and the same profile with another expected peak."""

from __future__ import annotations

import math

from msgspec.structs import replace

from llmtop.domain.load import Hold, LoadPlan, Ramp, Replay, Shape, Sine, Spike, Steps
from llmtop.domain.profile import Profile, Question

BY_NAME_ALONE = "a search goes by limits on all requests; give one beside those on one name, like ttft_p95<5s"


def unanswerable(profile: Profile) -> tuple[str, str] | None:
    """(key, why) where the plan cannot answer the question; None: it can."""
    asks, plan = profile.asks, profile.plan
    planned = bool(plan.stages) or profile.workload.source == "trace"
    if profile.at_least is not None:
        if asks is not Question.CAPACITY:
            return "at_least", f'is for question = "capacity", and this profile asks {asks}'
        if plan.base.axis == "concurrency" and profile.at_least > profile.caps.max_concurrency:
            return "at_least", f"is above limits.max_concurrency = {profile.caps.max_concurrency}"
    if profile.question is Question.CAPACITY and not plan.stages and planned:
        return "question", "a trace brings its own load: a capacity cannot be searched with it"
    lasts = planned or not profile.workload.repeat  # else its load would never end
    if profile.question in (Question.HOLD, Question.PEAK, Question.SOAK, Question.SPIKE) and not lasts:
        return "question", f"{asks} needs a load to be asked of: add a [[stage]]"
    if asks is Question.SPIKE and _spike_end_s(plan) is None:
        return "question", 'spike needs a [[stage]] of shape = "spike"'
    if profile.question is Question.PEAK:
        if profile.peak is None:
            return "question", "peak needs the expected peak: add e.g. peak = 32 at the top of the file"
        if plan.stages and plan.top < profile.peak:
            return "peak", f"the plan goes up to {plan.top:g} only, and cannot say what happens at {profile.peak:g}"
    if profile.search and profile.slo.named and not profile.slo.felt:
        return "slo", BY_NAME_ALONE
    return None


def without_time(profile: Profile) -> str | None:
    """Why the time to recover cannot be seen; None: it can, or the profile does not ask for it."""
    if profile.asks is not Question.SPIKE:
        return f'is for question = "spike", and this profile asks {profile.asks}'
    end_s = _spike_end_s(profile.plan)
    left_s = 0.0 if end_s is None else profile.plan.duration_s - end_s
    if profile.recover_within_s > left_s:
        return f"the plan ends {left_s:g} s after its last spike, and sees no {profile.recover_within_s:g} s"
    return None


def _spike_end_s(plan: LoadPlan) -> float | None:
    """When the last spike is over; None: there is none."""
    begin_s, end_s = 0.0, None
    for stage in plan.stages:
        if isinstance(stage.shape, Spike):
            end_s = begin_s + stage.shape.fall * stage.duration_s
        begin_s += stage.duration_s
    return end_s


def at_peak(profile: Profile, peak: float) -> Profile:
    """The profile for another expected peak, with every load of its stages in proportion.

    Raises ValueError for a profile without a peak.
    """
    if profile.peak is None:
        raise ValueError(f"profile {profile.name} has no peak")
    factor = peak / profile.peak
    stages = tuple(replace(stage, shape=_scaled(stage.shape, factor)) for stage in profile.plan.stages)
    return replace(profile, peak=peak, peak_from_slots=False, plan=replace(profile.plan, stages=stages))


def at_slots(profile: Profile, slots: int | None) -> Profile:
    """The profile with the server's slots as its expected peak, but no load above `caps.max_concurrency`.

    Its own peak where the server does not tell them (None); the same profile back where it does not ask for them.
    """
    if not profile.peak_from_slots or profile.peak is None or profile.plan.top <= 0:
        return profile
    most = math.floor(profile.caps.max_concurrency * profile.peak / profile.plan.top)
    return at_peak(profile, max(1, min(profile.peak if slots is None else slots, most)))


def _scaled(shape: Shape, factor: float) -> Shape:
    match shape:
        case Hold(concurrency, rate_rps):
            users = None if concurrency is None else round(concurrency * factor)
            return Hold(users, None if rate_rps is None else rate_rps * factor)
        case Ramp(start, stop):
            return replace(shape, start=start * factor, stop=stop * factor)
        case Steps(levels):
            return replace(shape, levels=tuple(level * factor for level in levels))
        case Spike(base, peak):
            return replace(shape, base=base * factor, peak=peak * factor)
        case Sine(low, high):
            return replace(shape, low=low * factor, high=high * factor)
        case Replay(points):
            return Replay(tuple((at_s, point.at(point.axis, point.value * factor)) for at_s, point in points))
