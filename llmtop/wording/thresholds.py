"""How thresholds of --fail-on are said: as somebody wrote them, what was measured, and what that comes to."""

from __future__ import annotations

from llmtop.domain.compared import Delta
from llmtop.domain.load import Axis
from llmtop.domain.slo import FIGURES, metric_of
from llmtop.wording.answers import FAIL_ON, nothing_known, users
from llmtop.wording.compared import SHARES, change, points
from llmtop.wording.figures import TEXT, Figures
from llmtop.wording.sentences import pass_and_fail

_UNITS = {"output_tokens_per_s": "tok/s", "requests_per_s": "requests/s", "goodput": "good requests/s"}
_COMES_TO = {True: "kept", False: "broken", None: "not known"}
NO_SECONDS = "no second of load to take it of"
TWO_AXES = "the plan drove users and requests/s, which have no scale in common"


def limit_text(name: str, limit: float, figures: Figures = TEXT) -> str:
    """`ttft_p95 > 1.5 s`, `capacity < 40`"""
    if _may_rise(name):
        return f"{name} > {figures.limit(metric_of(name), limit)}"
    return f"{name} < {figures.exact(limit)}"


def measured_text(name: str, value: float | None, figures: Figures = TEXT) -> str:
    """`1.62 s`, `24`, `812`"""
    return figures.measured(metric_of(name), value) if _may_rise(name) else figures.count(value)


def _may_rise(name: str) -> bool:
    """Whether it is a figure of the SLO, of all requests or of one name's."""
    return name.rpartition(".")[2] in FIGURES


def threshold_text(limit: str, ok: bool | None, why: str) -> str:
    """`--fail-on ttft_p95 > 1.5 s: broken: TTFT p95 1.62 s > 1.5 s`"""
    return f"{FAIL_ON} {limit}: {_COMES_TO[ok]}{f': {why}' if why else ''}"


def capacity_told(at_slo: float | None, fails_at: float | None, axis: Axis) -> str:
    """`24 concurrent users at the SLO (pass 24, fail 32)`"""
    told = pass_and_fail(at_slo, fails_at, axis)
    if at_slo is None:
        return told or nothing_known()
    return f"{users(at_slo, axis)} at the SLO ({told})"


def rate_told(name: str, value: float) -> str:
    """`812 tok/s`"""
    return f"{TEXT.count(value)} {_UNITS[name]}"


def of_configuration(name: str, why: str) -> str:
    """`open loop: TTFT p95 1.62 s > 1.5 s`"""
    return f"{name}: {why}"


def crossing_text(metric: str, threshold: float, changed: float | None, load: float | None, proven: bool) -> str:
    """`--fail-on ttft_p95 +10 %: +14.2 % at 32`; or that it is not known."""
    limit = points(threshold) if metric in SHARES else TEXT.change(threshold)
    named = f"{FAIL_ON} {metric} {limit}"
    if changed is None:
        return f"{named}: not known, as it was not measured on both sides"
    by = change(Delta(metric=metric, change=changed))
    where = "" if load is None else f" at {TEXT.exact(load)}"
    return (
        f"{named}: {by}{where}"
        if proven
        else f"{named}: {by}, not proven: too few requests, or runs that differ as much"
    )
