"""How large a quantity may be that somebody types or writes into a file: one place for each, whoever reads it.

The bounds are wide: they keep out what nobody means (nan, 1e308, a figure of 5000 digits) and what no machine could do.
Imports nothing, for `--help`.
"""

from __future__ import annotations

_DIGITS = frozenset("0123456789")
_SIGNS = frozenset("+-.eE")


class Quantity:
    """A number with a name, bounds and a unit.

    Args:
        least, most: both allowed.
        unit: in words, of the number; empty: none.
        whole: no fractions.
    """

    __slots__ = ("least", "most", "name", "unit", "whole")

    def __init__(self, name: str, least: float, most: float, unit: str = "", *, whole: bool = False) -> None:
        self.name, self.least, self.most, self.unit, self.whole = name, least, most, unit, whole

    @property
    def allowed(self) -> str:
        """What may be given, in words: `a whole number from 1 to 10,000,000 (tokens)`."""
        text = f"a {'whole ' if self.whole else ''}number from {_figure(self.least)} to {_figure(self.most)}"
        return f"{text} ({self.unit})" if self.unit else text

    def holds(self, value: float) -> bool:
        """Whether a number is within the bounds; never for nan."""
        return self.least <= value <= self.most

    def check(self, value: float) -> float:
        """The number, where it is within the bounds. Raises ValueError: what may be given."""
        if not self.holds(value):
            raise ValueError(f"must be {self.allowed}")
        return value

    def read(self, text: str) -> float:
        """The number that a text stands for, in plain digits. Raises ValueError: what may be given."""
        return self.check(_number(text.strip(), self))

    def read_whole(self, text: str) -> int:
        """As `read`, of a quantity without fractions."""
        return int(self.read(text))


def _number(text: str, quantity: Quantity) -> float:
    """nan where the text is no number in plain digits."""
    if quantity.whole:
        digits = text[1:] if text[:1] in ("+", "-") else text
        return int(text) if 0 < len(digits) <= 20 and _DIGITS.issuperset(digits) else float("nan")
    if not _DIGITS.union(_SIGNS).issuperset(text):
        return float("nan")
    try:
        return float(text) + 0.0  # no -0.0
    except ValueError:
        return float("nan")


def _figure(value: float) -> str:
    return f"{value:,}" if value == int(value) else f"{value:.9f}".rstrip("0")


USERS = Quantity("users", 0, 100_000, "requests in flight", whole=True)
GATE = Quantity("gate", 1, USERS.most, "requests at the server", whole=True)
MOST_USERS = Quantity("most users", 1, USERS.most, USERS.unit, whole=True)
RATE = Quantity("rate", 0, 100_000, "requests per second")
"""More than a hundred processes send."""
SENT_RATE = Quantity("rate", 0.001, RATE.most, RATE.unit)
"""A rate at which something is sent: one request in a quarter of an hour, or more."""
CANARY = Quantity("canary", 0.01, 5, RATE.unit)
"""Beside the load: seldom enough to be none, often enough to say anything within minutes."""
PEAK = Quantity("peak", 0.001, USERS.most, "the expected peak of a profile")
TOKENS = Quantity("tokens", 1, 10_000_000, "tokens", whole=True)
SHARE = Quantity("share", 0, 1)
BURSTINESS = Quantity("burstiness", 0.01, 1000)
"""`inf` is allowed beside it: constant gaps."""
SPREAD = Quantity("cv", 0, 10)
"""Of lengths: standard deviation / mean."""
TIME_S = Quantity("time", 0, 31 * 86_400, "seconds")
"""A month: a pause, a timeout, a place in a plan."""
LASTING_S = Quantity("duration", 0.001, TIME_S.most, TIME_S.unit)
"""Of what lasts: a stage, a period, a run."""
LATENCY_S = Quantity("latency", 1e-6, 86_400, "seconds")
"""A limit of an SLO."""
LIMIT_SHARE = Quantity("share", 1e-9, 1, "1 is 100 %")
LIMIT_QUEUE = Quantity("queue", 1e-6, 1_000_000, "requests")
LIMIT_RATE = Quantity("limit", 1e-6, 1e9, "users, or a second")
"""That a capacity or a throughput may not fall below."""
SEED = Quantity("seed", 0, 2**63 - 1, whole=True)
"""What fits the integers of a run file."""
KEPT_RUNS = Quantity("recordings", 0, 1_000_000, "recordings", whole=True)
PORT = Quantity("port", 0, 65_535, whole=True)
FPS = Quantity("fps", 0.1, 60, "screen updates per second")
COLUMNS = Quantity("columns", 60, 800, whole=True)
ROWS = Quantity("rows", 16, 300, whole=True)
"""Of a screen: the least has room for the cockpit, the most is more than can be read on the largest displays."""
SPEED = Quantity("speed", 0.5, 50, "times as fast as the run was")
WEIGHT = Quantity("weight", 1e-6, 1e6)
"""Of a model, beside those of others."""
TRACE_SPEED = Quantity("speed", 0.5, 20, "times as fast as it was recorded")
DAYS = Quantity("days", 0.05, 90, "days back")
"""Of what a Prometheus keeps: three questions of ten minutes' steps."""
STEP_S = Quantity("step", 0.1, 600, "seconds")
"""Of the self-test."""
REQUESTS = Quantity("requests", 1, 100_000, "requests", whole=True)
"""Measured at a level of a prediction."""
VISITS = Quantity("visits", 1, 1000, "visits", whole=True)
PRICE = Quantity("price", 0.0001, 1_000_000, "for one GPU and an hour")
GPUS = Quantity("gpus", 1, 100_000, "GPUs", whole=True)
CARRIED = Quantity("peak", 0.001, 1e9, "users, or requests per second, to be carried")
"""By as many endpoints as it takes."""
WORKERS = Quantity("workers", 1, 1024, "processes", whole=True)
