"""What a service's traffic is like, in words: a page of 80 columns, and the sentence that a capacity planner wants."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from textwrap import wrap

from llmtop.domain.traffic import FEWEST_IN_WINDOW, WINDOW_S, BusiestSpan, InFlight, TokenLengths, TrafficFigures
from llmtop.wording.figures import TEXT

WIDTH = 80
HEAD = 11
"""Columns of what a line is about."""
BARS = "▁▂▃▄▅▆▇█"
CELLS = 3
"""Of one bar, which stands for a factor of two."""
DAY_S = 86_400.0
UNEVEN = 3.0
"""CV from which the rate of a stage of ten minutes at 10 requests/s is off by 4 % and more."""
WHOLE_DAY = 0.9
"""Share of a day from which its peak is taken to be among what is covered."""
MOST_BARS = (WIDTH - HEAD) // CELLS
_COMMAND = re.compile("`[^`]*`")
_FIRM = "\N{NO-BREAK SPACE}"
Clock = Callable[[float], str]
"""When something was, of seconds after the first request."""


def page(figures: TrafficFigures, name: str, begun: str | None, clock: Clock, test: str) -> list[str]:
    """The lines of a page about the traffic of `name`.

    Args:
        begun: day and time of the first request; None: the source has no wall clock.
        test: what to do next, in words.
    """
    return [
        *_wrapped(f"{figures.source}: {name}"),
        "",
        *_rows(
            ("requests", _requests(figures, begun)),
            ("rate", _rate(figures, clock)),
            ("bursts", _bursts(figures)),
            ("prefixes", _shared(figures)),
            ("in flight", None if figures.in_flight is None else in_flight_text(figures.in_flight, clock)),
        ),
        *_lengths(figures),
        "",
        *(line for told in figures.says for line in _wrapped(f"{told}.", "  ")),
        *([""] if figures.says else []),
        *_wrapped(planner_text(figures, test)),
    ]


def _rows(*rows: tuple[str, str | None]) -> list[str]:
    return [line for head, text in rows if text is not None for line in _row(head, text)]


def _row(head: str, text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=head.ljust(HEAD), subsequent_indent=" " * HEAD, break_on_hyphens=False)


def _wrapped(text: str, indent: str = "") -> list[str]:
    """A command, between `, is on one line."""
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", _FIRM), text)
    lines = wrap(whole, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return [line.replace(_FIRM, " ") for line in lines]


def _requests(figures: TrafficFigures, begun: str | None) -> str:
    spans = f" in {span_text(figures.span_s)}" if figures.span_s > 0 else ""
    return f"{TEXT.whole(figures.requests)}{spans}{'' if begun is None else f', from {begun}'}"


def _rate(figures: TrafficFigures, clock: Clock) -> str:
    if figures.mean_rps is None:
        return "not known"
    parts = [f"mean {rate_text(figures.mean_rps)}"]
    if figures.busiest_hour is not None:
        parts.append(f"busiest hour {_busy(figures.busiest_hour, clock)}")
    if figures.peak is not None and figures.peak_to_mean is not None:
        parts.append(f"peak of ten minutes {_busy(figures.peak, clock)}: {_times(figures.peak_to_mean)} the mean")
    return ", ".join(parts)


def _busy(span: BusiestSpan, clock: Clock) -> str:
    return f"{rate_text(span.rate_rps)} (from {clock(span.begins_s)})"


def _bursts(figures: TrafficFigures) -> str:
    if figures.cv is None:
        return "not known"
    like = "as Poisson arrivals have it" if 0.9 <= figures.cv <= 1.1 else "Poisson arrivals have 1"
    told = f"CV {TEXT.digits(figures.cv)} of the gaps within ten minutes ({like})"
    if figures.tick_s is None:
        return told
    tick = TEXT.duration(figures.tick_s)
    return f"{told}; told from the counts of a clock that ticks every {tick}, within which nothing is known"


def _shared(figures: TrafficFigures) -> str | None:
    if figures.shared_prefix is None:
        return None
    share = TEXT.percent(figures.shared_prefix)
    if figures.shared_from == "cached":
        return f"{share} of all prompt tokens came from the old server's cache"
    return f"{share} of all prompt tokens begin as a prompt before them did, and a cache without bounds would have them"


def in_flight_text(told: InFlight, clock: Clock) -> str:
    """`at most 92 at once (12 Mar 14:23), half of those then done within 2.10 s; ...`"""
    at = "" if told.at_s is None else f" ({clock(told.at_s)})"
    least = "" if told.known > 0.99 else f" of the {TEXT.percent(told.known)} whose end is known"
    done = "" if told.e2e_p50_s is None else f", when half of all took less than {TEXT.latency(told.e2e_p50_s * 1e3)}"
    return (
        f"{TEXT.whole(told.most)} at most{least}{at}{done}; they are the old server's: "
        "what carries over to another one is the rate"
    )


def _lengths(figures: TrafficFigures) -> list[str]:
    told = [(name, each) for name, each in (("prompt", figures.prompt), ("output", figures.output)) if each is not None]
    if not told:
        return []
    heads = ("mean", "p50", "p90", "p95", "p99")
    lines = ["", "tokens".ljust(HEAD) + "".join(head.rjust(11) for head in heads)]
    for name, each in told:
        cells = "".join(TEXT.whole(round(getattr(each, head))).rjust(11) for head in heads)
        lines.append(name.ljust(HEAD) + cells)
    lines += ["", *histograms(told)]
    if figures.correlation is not None:
        lines.append(f"{'':{HEAD}}{correlation_text(figures.correlation)}")
    return lines


def correlation_text(rank: float) -> str:
    """`long prompts have longer answers (rank correlation 0.45)`"""
    lead = "prompt and answer lengths hardly go together"
    if rank >= 0.2:
        lead = "long prompts have longer answers"
    elif rank <= -0.2:
        lead = "long prompts have shorter answers"
    return f"{lead} (rank correlation {round(rank, 2) + 0.0:.2f})"


def histograms(told: Sequence[tuple[str, TokenLengths]]) -> list[str]:
    """One line of bars for each, and the axis that they share; bars are of a factor of two."""
    octaves = [round(math.log2(each.least)) for _, lengths in told for each in lengths.histogram if each.requests]
    first = min(octaves)
    count = min(max(octaves) - first + 1, MOST_BARS)
    lines = []
    for name, lengths in told:
        counts = [0] * count
        for each in lengths.histogram:
            counts[min(max(round(math.log2(each.least)) - first, 0), count - 1)] += each.requests
        lines.append(name.ljust(HEAD) + "".join(_bar(each, max(counts)) * CELLS for each in counts).rstrip())
    axis = "".join(_octave(first + place).ljust(2 * CELLS) for place in range(0, count, 2))
    return [*lines, f"{'':{HEAD}}{axis.rstrip()} tokens"]


def _octave(place: int) -> str:
    """`512`, `4k`, `1M`: powers of two."""
    return f"{2**place}" if place < 10 else f"{2 ** (place - 10)}k" if place < 20 else f"{2 ** (place - 20)}M"


def _bar(count: int, most: int) -> str:
    return BARS[math.ceil(count / most * len(BARS)) - 1] if count else " "


def planner_text(figures: TrafficFigures, test: str) -> str:
    """`Peak 3.1x the mean, CV 1.4: expect 92 in flight at 2.10 s; test with ...`"""
    if figures.mean_rps is None:
        return "No rate is known, so there is no load to test with."
    parts = [f"Mean {rate_text(figures.mean_rps)}"]
    if figures.peak is not None and figures.peak_to_mean is not None:
        parts = [f"Peak {rate_text(figures.peak.rate_rps)}, {_times(figures.peak_to_mean)} the mean"]
    if figures.cv is not None:
        parts.append(f"CV {TEXT.digits(figures.cv)}")
    flying = figures.in_flight
    expect = ""
    if flying is not None:
        at = "" if flying.e2e_p50_s is None else f" at {TEXT.latency(flying.e2e_p50_s * 1e3)}"
        expect = f": on such a server expect {TEXT.whole(flying.most)} in flight{at}"
    return f"{', '.join(parts)}{expect}; {test}."


def unknowns(figures: TrafficFigures) -> tuple[str, ...]:
    """What is not known of it, and what that means."""
    found = []
    if figures.prompt is None and figures.output is not None:
        found.append(f"no prompt lengths are told: {LENGTHS_FROM}")
    if figures.mean_rps is None and figures.requests > 0:
        found.append("all requests came at one instant: no rate is known")
    elif figures.mean_rps is None:
        found.append("nothing tells how many requests came: no rate is known")
    elif figures.requests < FEWEST_IN_WINDOW:
        found.append(
            f"{TEXT.whole(figures.requests)} requests are too few: their mean is chance, peak and bursts are not known"
        )
    elif figures.mean_rps is not None and figures.peak is None:
        found.append(_no_peak(figures.span_s))
    elif figures.peak is not None and figures.span_s < WHOLE_DAY * DAY_S:
        found.append(f"the source covers {span_text(figures.span_s)}: the peak of a whole day may be higher")
    coarse = max((each.coarse or 0.0 for each in (figures.prompt, figures.output) if each is not None), default=0.0)
    if coarse > 1:
        found.append(
            "lengths are known by the buckets of a histogram, and interpolated within them: "
            f"a percentile may be off by x{coarse:.3g}, means are exact"
        )
    elif figures.mean_rps is not None and figures.cv is None and figures.requests >= FEWEST_IN_WINDOW:
        found.append(
            f"fewer than {FEWEST_IN_WINDOW} gaps lie in any ten minutes: bursts are not known, and a profile sends "
            "Poisson arrivals"
        )
    if figures.cv is not None and figures.cv > UNEVEN:
        found.append(
            f"with a CV of {TEXT.digits(figures.cv)} any ten minutes are off their mean by chance: where that matters, "
            'replay the requests themselves ([workload] source = "trace")'
        )
    return tuple(found)


LENGTHS_FROM = (
    "LiteLLM's spend logs, vLLM's --otlp-traces-endpoint and its metrics in Prometheus have prompts and answers"
)


def _no_peak(span_s: float) -> str:
    usual = "those of other services are 2 to 3.3 times their mean (ServeGen)"
    if span_s < WINDOW_S:
        return f"the source lasts {span_text(span_s)}, and a peak is that of ten minutes: {usual}"
    return f"fewer than {FEWEST_IN_WINDOW} requests came in any ten minutes: a peak among so few is chance, and {usual}"


def no_lengths_text() -> str:
    """Why there is no profile."""
    return f"has no answer lengths, and a profile needs them: {LENGTHS_FROM}"


def no_rate_text() -> str:
    return "there is no rate to write a profile of: all its requests came at one instant, or none is counted"


def few_text(stage: str, requests: float, needed_s: float) -> str:
    """Of a stage that is over before its percentiles are known; `needed_s`: how long the plan would have to be."""
    count = TEXT.count(round(requests))
    return f"stage {stage} has {count} requests, too few for a verdict: drive it with --duration {math.ceil(needed_s)}"


def description_text(figures: TrafficFigures) -> str:
    """Of a profile."""
    parts = [f"Traffic of {figures.source}: {TEXT.whole(figures.requests)} requests in {span_text(figures.span_s)}"]
    if figures.mean_rps is not None:
        parts.append(f"mean {rate_text(figures.mean_rps)}")
    if figures.peak is not None:
        parts.append(f"peak of ten minutes {rate_text(figures.peak.rate_rps)}")
    if figures.cv is not None:
        parts.append(f"CV {TEXT.digits(figures.cv)}")
    return ", ".join(parts) + "."


def test_text(file: str | None) -> str:
    """How its load is driven."""
    if file is None:
        return "write a profile with -o FILE.toml and test with that"
    return f"test with `llmtop run {file} URL`"


def rate_text(rate_rps: float) -> str:
    """`12.3 requests/s`, `4.2 requests/min`, `3.00 requests/h`"""
    if rate_rps >= 0.1:
        return f"{TEXT.digits(rate_rps)} requests/s"
    if rate_rps * 60 >= 0.1:
        return f"{TEXT.digits(rate_rps * 60)} requests/min"
    return f"{TEXT.digits(rate_rps * 3600)} requests/h"


def span_text(seconds: float) -> str:
    """`7 days 2 h`, `3 h 20 min`, `42 s`"""
    if seconds < 2 * DAY_S:
        return TEXT.duration(seconds)
    days, rest_s = divmod(round(seconds / 3600), 24)
    return f"{days} days {rest_s} h" if rest_s else f"{days} days"


def _times(ratio: float) -> str:
    """`3.1x`"""
    return "hardly above" if ratio < 1.05 else f"{ratio:.1f}x" if ratio < 10 else f"{ratio:.0f}x"


# ── Of a Prometheus ───────────────────────────────────────────────────────────────────────────────────────────────────


def models_text(models: Sequence[str]) -> str:
    return f"of {len(models)} models together: {', '.join(models)} (--model picks one)"


def gaps_text(seconds: float) -> str:
    return f"for {span_text(seconds)} of the span Prometheus has nothing, and they are in no rate"


def no_arrivals_text() -> str:
    return (
        "Prometheus keeps no single arrivals: bursts are not known, a profile sends Poisson arrivals, and what was in "
        "flight is what its scrapes saw"
    )


def nothing_kept_text(name: str, days: float, model: str | None, models: Sequence[str]) -> str:
    span = span_text(days * DAY_S)
    if model is not None and models:
        return f"has no requests of a model {model} in the last {span}; there are {', '.join(models)}"
    return (
        f"has no {name} with requests in the last {span}: is it the Prometheus that scrapes the server? "
        "More --days reach further back"
    )


def no_prometheus_text(what: str) -> str:
    return f"{what}, and is no Prometheus: name its root, such as http://HOST:9090"


def redirected_text(there: str) -> str:
    return f"leads on to {there}, where nothing is asked: name that, or let yourself in (--api-key-env, --basic-auth)"


def not_let_in_text(status: int, said: str) -> str:
    return f"answers {status}{f' ({said})' if said else ''}: give --api-key-env VAR, --basic-auth env:VAR or --header"
