"""A ready profile of a service's own traffic: its lengths, its bursts, and its mean, peak and more as stages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.domain.bounds import BURSTINESS, MOST_USERS, PEAK, TOKENS
from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Profile, Quantiles, Question, Workload, length_means
from llmtop.domain.traffic import TokenLengths, TrafficFigures
from llmtop.errors import FileError
from llmtop.profiles.quantity import of_peak
from llmtop.wording import traffic as words

BEYOND = 125.0
"""Per cent of the peak that the last stage has: where it breaks is asked, too."""
NEAR = 95.0
"""Per cent of the peak from which a mean is no stage of its own."""
PRECISION = 0.02
"""Of the rate of a stage: with bursts of a CV it takes (CV / 0.02)^2 requests."""
LEAST_S, MOST_S = 60.0, 600.0
"""Of a stage: what a level takes to settle and be judged, and the time over which the peak was counted."""
ROOM = 2.0
"""Times the requests that the old server had in flight, which may be in flight."""


def profile_from_traffic(
    figures: TrafficFigures, name: str, pairs: Sequence[tuple[int, int]] = (), *, source: object = ""
) -> Profile:
    """The profile that asks whether the SLO is kept up to the peak of this traffic, and where it breaks.

    Args:
        figures: of the traffic.
        name: of the profile.
        pairs: of prompt and output tokens that stand for all requests; none: lengths are drawn from the tables of the
            figures, each side by itself.
        source: what the traffic was read from, for errors.

    Raises FileError: lengths or rates are not known.
    """
    if figures.prompt is None or figures.output is None:
        raise FileError(source, words.no_lengths_text())
    if figures.mean_rps is None:
        raise FileError(source, words.no_rate_text())
    mean, peak = _rounded(figures.mean_rps), figures.peak
    top = _rounded(mean if peak is None else peak.rate_rps)
    workload, prompt_tokens, output_tokens = _workload(figures.prompt, figures.output, pairs)
    base = LoadPoint(
        rate_rps=mean,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        shared_prefix=round(figures.shared_prefix or 0.0, 3),
        burstiness=_burstiness(figures.cv),
    )
    per_cent = round(100 * mean / top, 2)
    shares = [(per_cent, "mean")] if per_cent < NEAR else []
    shares += [(100.0, "peak" if peak is not None else "mean"), (BEYOND, "beyond the peak")]
    stages = tuple(_stage(title, of_peak(share, top), figures.cv) for share, title in shares)
    return Profile(
        name=name,
        description=words.description_text(figures),
        workload=workload,
        plan=LoadPlan(stages=stages, base=replace(base, rate_rps=of_peak(shares[0][0], top))),
        question=Question.PEAK,
        peak=top,
        caps=_caps(figures),
    )


def _workload(
    prompt: TokenLengths, output: TokenLengths, pairs: Sequence[tuple[int, int]]
) -> tuple[Workload, int, int]:
    """The workload, and the lengths at which it is as it was."""
    if pairs:
        held = tuple((min(one, TOKENS.most), min(other, TOKENS.most)) for one, other in pairs)
        return Workload(lengths=held), *length_means(held)  # type: ignore[arg-type]
    one, other = _quantiles(prompt), _quantiles(output)
    workload = Workload(prompt=Quantiles(one, scale=True), output=Quantiles(other, scale=True))
    return workload, max(1, round(prompt.mean)), max(1, round(output.mean))


def _quantiles(lengths: TokenLengths) -> tuple[tuple[float, float], ...]:
    return tuple((share, min(max(1.0, round(tokens, 1)), TOKENS.most)) for share, tokens in lengths.table)


def _burstiness(cv: float | None) -> float:
    """Shape of the Gamma between arrivals: 1 / CV^2; Poisson where no CV is known."""
    if cv is None:
        return 1.0
    return float(f"{min(max(1 / max(cv, 1e-6) ** 2, BURSTINESS.least), BURSTINESS.most):.3g}")


def _stage(name: str, rate_rps: float, cv: float | None) -> Stage:
    """At a rate, for as long as the rate needs to be what it is on average."""
    needed_s = (max(cv or 1.0, 1.0) / PRECISION) ** 2 / rate_rps
    duration_s = min(max(LEAST_S, 10 * math.ceil(needed_s / 10)), MOST_S)
    return Stage(name=name, duration_s=duration_s, shape=Hold(rate_rps=rate_rps))


def _rounded(rate_rps: float) -> float:
    """Four digits, of a rate that a profile may have."""
    return float(f"{min(max(rate_rps, PEAK.least), PEAK.most):.4g}")


def _caps(figures: TrafficFigures) -> Caps:
    """With room for twice what the old server had in flight."""
    caps, flying = Caps(), figures.in_flight
    needed = 0 if flying is None else math.ceil(ROOM * flying.most)
    return caps if needed <= caps.max_concurrency else replace(caps, max_concurrency=min(needed, int(MOST_USERS.most)))
