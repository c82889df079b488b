"""What GPUs cost and what is to be carried, as somebody states it, and what a capacity costs: no price is assumed."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, structs

from llmtop.domain.load import Axis

MOST_CURRENCY = 8
"""Characters of a currency: EUR, US$, credits."""
MOST_SPANS = 1440
"""Shares of a day's traffic: one a minute."""
HEADROOM = 0.2
"""Share of an endpoint's capacity at the SLO that is left for bursts."""
LOW_USE = 0.3
"""What is used of paid GPUs in practice is 30 to 60 %."""
MONTH_H = 730.0


class Cost(Struct, frozen=True, kw_only=True):
    """Nothing of it needs to be stated."""

    gpu_price_per_hour: float | None = None
    """Of one GPU; None: no cost is told."""
    gpus: int | None = None
    """That the measured endpoint runs on; None: as many as its server tells, else one."""
    currency: str = ""
    """Of the price; empty: amounts stand alone."""
    peak: float | None = None
    """Users, in open loop requests/s, that are to be carried; None: the profile's expected peak."""
    traffic: tuple[float, ...] = ()
    """Shares of the peak over equal spans of a day; (): it is not known how the load goes up and down."""
    think_time_s: float | None = None
    """Of a real user, between an answer and the next request; None: as the load had it."""

    def over(self, other: Cost) -> Cost:
        """The same, and of `other` what this does not state."""
        stated = {name: getattr(self, name) for name in self.__struct_fields__}
        return structs.replace(other, **{name: each for name, each in stated.items() if each not in (None, "", ())})


UNSTATED = Cost()


def currency_problem(text: str) -> str:
    """Why a text is no currency; empty: it is one."""
    if not text or not text.isprintable() or text != text.strip():
        return "must be a short text in one line, as EUR"
    return f"must have at most {MOST_CURRENCY} characters, as EUR" if len(text) > MOST_CURRENCY else ""


def traffic_problem(shares: tuple[float, ...]) -> str:
    """Why shares are no traffic of a day; empty: they are."""
    if len(shares) > MOST_SPANS:
        return f"must have at most {MOST_SPANS} shares, equal spans of a day"
    if shares and max(shares) <= 0:
        return "has no span with any load: give shares of the peak, 0 to 1"
    return ""


class Amount(Struct, frozen=True):
    """What something costs or takes, and between what that lies, by the interval of the capacity that it rests on."""

    value: float
    low: float | None = None
    """None: no load failed, so that the value is the most that it can be."""
    high: float | None = None


class CostRow(Struct, frozen=True, kw_only=True):
    """What is paid while the endpoints are used in one way, in the currency of the price."""

    use: Literal["slo", "autoscaled", "fixed", "third"]
    """At the SLO capacity; at the stated traffic with as many endpoints as it needs, or always those of its peak; at
    30 % use."""
    per_million_output: Amount | None = None
    """All of the cost over the output tokens that were sold."""
    input_part: Amount | None = None
    """Per 1M input tokens, the part of the cost that prefill takes; null: not known how it splits."""
    output_part: Amount | None = None
    """Per 1M output tokens, the rest of it."""
    per_user_month: Amount | None = None
    """730 hours; of a stated traffic over the users of its peak."""
    per_month: Amount | None = None
    """Of one endpoint; of a stated traffic, of all of them."""


class Costs(Struct, frozen=True, kw_only=True):
    """What the capacity at the SLO costs: by what was stated of prices, and by what was read of power."""

    void: str = ""
    """Why nothing is told; empty: it is."""
    missing: tuple[str, ...] = ()
    """What would give the figures that are not there."""
    price_per_hour: float | None = None
    """Of one GPU."""
    currency: str = ""
    gpus: int = 1
    """Of one endpoint, with all its replicas."""
    replicas: int = 1
    """Of the endpoint at that load, where their number changed while it was driven: what is needed comes in these."""
    axis: Axis = "concurrency"
    at: float | None = None
    """Load that it rests on: the capacity at the SLO."""
    at_most: bool = False
    """No load failed: the capacity is at least this, and what is told is the most that it can be."""
    users: float | None = None
    """Real users of one endpoint at that load, who think as was stated; null: not known."""
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    """Of requests that ended well, as the next: what failed is paid for and not sold."""
    input_tokens_per_s: float | None = None
    input_share: float | None = None
    """Of the cost, by the engine's time that prefill takes; the output's is the rest."""
    output_share: float | None = None
    split: Literal["steps", "server", "ttft", "whole"] | None = None
    """By what it is split: what prompts add to the engine's steps, by a model of them; how much longer than a step
    a prefill takes at the lowest load, as the server tells it, or by TTFT, times requests/s, which give the input too
    much where a prefill waits or takes several steps; or there is no output."""
    cached: float | None = None
    """Share of the input tokens that came from the prefix cache; null: not told."""
    rows: tuple[CostRow, ...] = ()
    """(): no price is known."""
    peak: float | None = None
    """Load that is to be carried: real users, or requests/s in open loop."""
    gpus_at_peak: Amount | None = None
    """With 20 % headroom and one endpoint to spare."""
    joules_per_output_token: Amount | None = None
    """null: no power was read."""
    power_w: float | None = None
    """Mean of all GPUs that were read, at that load."""
    gpus_read: int = 0
    """Whose power is in it."""
    gpus_seen: int = 0
    """That were read at all."""

    def row(self, use: str) -> CostRow | None:
        return next((row for row in self.rows if row.use == use), None)
