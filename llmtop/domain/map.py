"""What a configuration carries, by load and by prompt length."""

from __future__ import annotations

import itertools
from typing import Literal

from msgspec import Struct

from llmtop.domain.foresight import Interval
from llmtop.domain.load import Axis

Stand = Literal["ok", "near", "broken"]
"""How a load stands against the limits that users feel: well inside, past the warning of one, or past the limit."""


class MapCell(Struct, frozen=True, kw_only=True):
    """One load of one prompt length, measured or foreseen. Latencies in milliseconds."""

    load: float
    prompt_tokens: int
    """As they were asked for."""
    n: int = 0
    """Requests it rests on; 0: it is foreseen."""
    stand: Stand | None = None
    """None: too few requests to say."""
    ttft_p95_ms: float | None = None
    tpot_p95_ms: float | None = None
    output_tokens_per_s: float | None = None
    off: float | None = None
    """Half of the band around a foreseen figure, as a share of it; None: it was measured."""

    @property
    def measured(self) -> bool:
        return self.n > 0


class MapEdge(Struct, frozen=True, kw_only=True):
    """Where one prompt length meets the SLO."""

    prompt_tokens: int
    users: Interval | None = None
    """Users (or requests/s) up to which it holds; None: it was not driven past that, nor can it be foreseen."""
    measured: bool = False
    """Whether levels on both sides of it were."""
    held: float | None = None
    """The highest load that held below every failure."""
    after: float | None = None
    """Half of the band of the contour between this length and the next, as a share; None: it is not known, or there is
    no next."""
    drops: bool = False
    """The next length is so near, and carries so much less, that the contour has a step between them."""


class Map(Struct, frozen=True, kw_only=True):
    """What one configuration of the server carries, by load and by prompt length."""

    axis: Axis = "concurrency"
    output_tokens: int = 0
    cells: tuple[MapCell, ...] = ()
    contour: tuple[MapEdge, ...] = ()
    """Of each length that was measured, the shortest first."""
    kv_tokens: float | None = None
    """What the KV cache holds; None: not known."""
    answer_tokens: float = 0.0
    """Of the answer of a request that runs, in the KV cache on average."""
    slots: float | None = None
    """Requests that run at once at most; None: not known."""
    off: float | None = None
    """Share by which the level that was left out of the twin's fit is missed; None: nothing is foreseen."""
    text: str = ""
    """What is known of the contour, in one sentence."""
    missing: str = ""
    """What would make the rest known; empty: nothing is missing."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Prompt lengths that were measured, the shortest first."""
        return tuple(edge.prompt_tokens for edge in self.contour)

    @property
    def band(self) -> float | None:
        """Half of the widest band along the contour, as a share, but for steps; None: it is not known from the shortest
        length to the longest."""
        known = [edge.users for edge in self.contour if edge.users is not None]
        gaps = [edge.after for edge in self.contour[:-1] if not edge.drops]
        told = [gap for gap in gaps if gap is not None]
        if len(known) < 2 or len(known) < len(self.contour) or len(told) < len(gaps):
            return None
        return max(*told, *(half_band(each) for each in known))

    def wall_at(self, prompt_tokens: float) -> float | None:
        """Requests of that length that the KV cache holds at once; None: its size is not known."""
        return None if self.kv_tokens is None else self.kv_tokens / (prompt_tokens + self.answer_tokens)

    def users_at(self, prompt_tokens: float) -> Interval | None:
        """The contour at a length between two that were measured: what a user costs grows in a straight line with the
        prompt, so that 1 / users does. None outside."""
        known = [edge for edge in self.contour if edge.users is not None]
        own = next((edge.users for edge in known if edge.prompt_tokens == prompt_tokens), None)
        if own is not None:
            return own
        for below, above in itertools.pairwise(known):
            if below.prompt_tokens < prompt_tokens < above.prompt_tokens:
                return _along(below, above, prompt_tokens)
        return None


def _along(below: MapEdge, above: MapEdge, prompt_tokens: float) -> Interval:
    """Between two lengths; the band is widest half-way."""
    assert below.users is not None
    assert above.users is not None
    share = (prompt_tokens - below.prompt_tokens) / (above.prompt_tokens - below.prompt_tokens)
    wide = (below.after or 0.0) * 4 * share * (1 - share)
    ends = ((getattr(below.users, name), getattr(above.users, name)) for name in ("value", "low", "high"))
    value, low, high = (1 / ((1 - share) / max(a, 1e-9) + share / max(b, 1e-9)) for a, b in ends)
    if below.drops:  # somewhere between them: nobody knows where
        low, high = min(below.users.low, above.users.low), max(below.users.high, above.users.high)
    return Interval(value, min(low, value * (1 - wide)), max(high, value * (1 + wide)))


def half_band(users: Interval) -> float:
    """Half of the width of an interval, as a share of its value."""
    return (users.high - users.low) / 2 / users.value if users.value else 1.0
