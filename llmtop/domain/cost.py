"""What GPUs cost and what is to be carried, as somebody states it: no price is known here, and none is assumed."""

from __future__ import annotations

from msgspec import Struct, structs

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
