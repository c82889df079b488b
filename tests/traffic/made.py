"""Traffic as services have it, made from what is published of them, and made again from a profile of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmtop.domain.load import Hold, LoadPlan
from llmtop.domain.profile import Profile
from llmtop.domain.traffic import TrafficFigures
from llmtop.load.pacer import Pacer
from llmtop.profiles.from_traffic import profile_from_traffic
from llmtop.profiles.reading import parse_profile
from llmtop.profiles.writing import profile_text
from llmtop.traffic.figures import characterise
from llmtop.traffic.sample import thinned
from llmtop.traffic.table import Floats, Traffic
from llmtop.workload.prompts import PromptSource

PATH = Path("mine.toml")


class Service(NamedTuple):
    """Mean rate, peak of ten minutes / mean, CV of gaps; lengths in tokens."""

    mean_rps: float
    peak_to_mean: float
    cv: float
    prompt_p50: float
    prompt_p99: float
    output_mean: float
    rank: float
    two_kinds: bool = False


SERVICES = {
    "Azure conversation": Service(5.5, 1.5, 1.1, 1020, 4100, 211, -0.1, two_kinds=True),
    "ServeGen m-small": Service(20.0, 3.3, 1.22, 39, 1490, 18, 0.2),
    "ServeGen m-mid": Service(20.0, 1.92, 2.04, 171, 2763, 50, 0.3),
    "ServeGen m-large": Service(20.0, 2.98, 1.19, 646, 4943, 156, 0.4),
    "ServeGen deepseek-r1": Service(16.0, 2.66, 1.02, 266, 25_847, 1693, 0.3),
}
"""Azure: Patel et al., Splitwise, 2023 (medians and means of its conversation trace, which has short and long prompts);
ServeGen: computed from its data (github.com/alibaba/ServeGen), rates of a thousand a second scaled down."""


def made(service: Service, hours: float, seed: int) -> Traffic:
    """Gamma gaps in operational time, whose rate swings once and has a hill of twenty minutes at its peak."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(round(hours * 60))
    middle = len(minutes) // 2
    hill = np.clip(1.5 - np.abs(minutes - middle) / 20, 0.0, 1.0) * (service.peak_to_mean - 1.2)
    shape = 1 + 0.2 * np.cos((minutes - middle) / len(minutes) * 2 * np.pi) + hill
    shape *= service.peak_to_mean / shape[middle]
    due = np.concatenate(([0.0], np.cumsum(shape * service.mean_rps * 60)))
    gaps = rng.gamma(1 / service.cv**2, service.cv**2, round(due[-1] * 1.1) + 1000)
    places = np.cumsum(gaps)
    times = np.interp(places[places < due[-1]], due, np.arange(len(due)) * 60.0)
    count = len(times)
    normal = rng.standard_normal((2, count))
    tied = service.rank * normal[0] + np.sqrt(1 - service.rank**2) * normal[1]
    prompt = _prompts(service, normal[0], rng)
    output = service.output_mean * -np.log1p(-_share_below(tied))
    return Traffic(
        source="made",
        start_s=times - times[0],
        prompt=np.maximum(1, np.round(prompt)).astype(np.int64),
        output=np.maximum(1, np.round(output)).astype(np.int64),
    )


def _prompts(service: Service, normal: Floats, rng: np.random.Generator) -> Floats:
    """A log-normal body with a Pareto tail; of two kinds, a short and a long one."""
    spread = np.log(service.prompt_p99 / service.prompt_p50) / 2.326
    body: Floats = service.prompt_p50 * np.exp(spread * normal)
    if service.two_kinds:
        return np.where(rng.random(len(normal)) < 0.4, 300 * np.exp(0.4 * normal), 1600 * np.exp(0.3 * normal))
    tail = rng.random(len(normal)) < 0.005
    body[tail] = service.prompt_p99 * (1 - rng.random(int(tail.sum()))) ** (-1 / 3)
    return body


def _share_below(normal: Floats) -> Floats:
    """Of so much of a normal distribution, by its order."""
    shares = np.empty(len(normal))
    shares[np.argsort(normal)] = (np.arange(len(normal)) + 0.5) / len(normal)
    return shares


def profile_of(traffic: Traffic) -> tuple[TrafficFigures, Profile]:
    """What it is like, and its profile as it stands in a file."""
    figures = characterise(traffic)
    text = profile_text(profile_from_traffic(figures, PATH.stem, thinned(traffic)), PATH)
    return figures, parse_profile(text, PATH)


def made_again(profile: Profile, stage: str, duration_s: float, seed: int, most_prompts: int) -> Traffic:
    """A stage of a profile, as long as is asked, on virtual time: arrivals of the pacer, prompts of the source."""
    (found,) = (each for each in profile.plan.stages if each.name == stage)
    assert isinstance(found.shape, Hold)
    assert found.shape.rate_rps is not None
    point = profile.plan.base.at("rate", found.shape.rate_rps)
    pacer = Pacer(LoadPlan(stages=(), base=point), seed)
    times: list[float] = []
    while not times or times[-1] < duration_s:
        times.append(pacer.send_s(len(times)))
    source = PromptSource(profile.workload)
    prompts = [source.next(point) for _ in range(min(len(times), most_prompts))]
    prompt, output = np.zeros((2, len(times)), dtype=np.int64)
    prompt[: len(prompts)] = [each.tokens for each in prompts]
    output[: len(prompts)] = [each.output_tokens for each in prompts]
    return Traffic(source="made again", start_s=np.array(times) - times[0], prompt=prompt, output=output)


class Off(NamedTuple):
    """How far a load made again is from what it was made from, as shares of that."""

    rate: float
    peak: float
    cv: float
    lengths: float
    """The worst of p50, p90, p95 and p99 of prompts and answers."""
    means: float
    rank: float
    """Difference of the rank correlations."""


def off(traffic: Traffic, seed: int, duration_s: float, most_prompts: int) -> Off:
    """A profile's mean and peak, each driven for `duration_s`, against the traffic."""
    figures, profile = profile_of(traffic)
    again = characterise(made_again(profile, "mean", duration_s, seed, most_prompts))
    peak = characterise(made_again(profile, "peak", duration_s, seed + 1, 1))
    assert figures.mean_rps
    assert figures.peak
    assert figures.cv
    assert again.mean_rps
    assert again.cv
    assert peak.mean_rps
    sides = [(figures.prompt, again.prompt), (figures.output, again.output)]
    names = ("p50", "p90", "p95", "p99")
    lengths = [abs(getattr(new, name) / getattr(old, name) - 1) for old, new in sides for name in names]
    means = [abs(new.mean / old.mean - 1) for old, new in sides if old and new]
    return Off(
        abs(again.mean_rps / figures.mean_rps - 1),
        abs(peak.mean_rps / figures.peak.rate_rps - 1),
        abs(again.cv / figures.cv - 1),
        max(lengths),
        max(means),
        abs((again.correlation or 0.0) - (figures.correlation or 0.0)),
    )
