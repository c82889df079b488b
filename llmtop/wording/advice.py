"""How advice is said: which flag to turn, what that is expected to give, and what binds then."""

from __future__ import annotations

from llmtop.domain.foresight import WhatIf
from llmtop.domain.load import Axis
from llmtop.domain.slo import LATENCIES
from llmtop.domain.verdicts import Bound, Forecast
from llmtop.wording.figures import TEXT, UNKNOWN, Figures
from llmtop.wording.names import bound_name, load_unit, target_name

REPLICA = "add a replica"
LEAK = "restart the server, and report the leak: more memory only takes longer to fill"


def turned(flag: str, now: float | None, then: float, least: float = 0.0) -> str:
    """`raise --max-num-seqs to about 36`, or lower it; where it stands at nobody knows what, set it.

    Args:
        least: what it surely is now, where `now` is not known.
    """
    if now is None and then >= least:
        return f"set {flag} to about {TEXT.whole(then)}"
    return f"{'lower' if then < (least if now is None else now) else 'raise'} {flag} to about {TEXT.whole(then)}"


def pool_full(count: int, errors: int) -> str:
    """`12 of 13 failures: the KV cache that all slots share was full`"""
    return f"{TEXT.whole(count)} of {TEXT.whole(errors)} failures: the KV cache that all slots share was full"


def in_step(text: str, flag: str | None) -> str:
    """`raise --parallel to about 12 and --ctx-size in proportion`: of what is divided among the slots."""
    return f"{text} and {flag} in proportion" if flag and text.startswith(("raise", "set")) else text


def gives(forecast: Forecast, axis: Axis, now: bool = True) -> str:
    """`about 50 concurrent users at the SLO (~38 now), then TPOT binds; more loses users`

    Args:
        now: whether what is carried now is told, foreseen by the same walls: what was proven may be less.
    """
    text = (
        f"about {_load(forecast.capacity_then, axis)} {load_unit(axis, int(forecast.capacity_then + 1e-9))} at the SLO"
    )
    if now:
        text = f"{text} (~{_load(forecast.capacity_now, axis)} now)"
    text = f"{text}, {next_wall(forecast)}"
    lost = "users" if axis == "concurrency" else load_unit(axis)
    return f"{text}; more loses {lost}" if forecast.more_loses else text


def kept(forecast: Forecast) -> str:
    """`: TTFT binds`, of a configuration that is the best; what it carries is said where it was measured."""
    return "" if not forecast.next_wall else f": {wall_name(forecast.next_wall)} binds"


def next_wall(forecast: Forecast) -> str:
    """`then TPOT binds`; past what was measured nobody knows what does."""
    if forecast.next_wall is None:
        return "then measure again"
    return f"then {wall_name(forecast.next_wall)} binds"


def wall_name(name: str) -> str:
    """TPOT of `tpot_p95`, KV cache of `kv`."""
    metric = name.partition("_")[0]
    return metric.upper() if metric in LATENCIES else bound_name(Bound(name)) or name


def unknown(missing: str) -> str:
    """What stands where a number would."""
    return f"how far is not known: {missing}"


def slots_free(flag: str, running: float, slots: float) -> str:
    """`--max-num-seqs gives no more: 16 run at once of 64 slots`"""
    return f"{flag} gives no more: {TEXT.whole(running)} run at once of {TEXT.whole(slots)} slots"


def takes(target: str, share: float, load: float) -> str:
    """`TPOT p95 takes 91.3 % of its limit at 51`"""
    return f"{target_name(target)} takes {TEXT.percent(share)} of its limit at {TEXT.whole(load)}"


def breaks_at(target: str, load: float) -> str:
    """`TPOT p95 breaks its limit at 51`"""
    return f"{target_name(target)} breaks its limit at {TEXT.whole(load)}"


def disagree(predicted: float, at_slo: float | None, fails_at: float | None, axis: Axis) -> str:
    """`the walls give 51 where 36 held and 44 failed`"""
    parts = [] if at_slo is None else [f"{TEXT.load(at_slo, axis)} held"]
    parts += [] if fails_at is None else [f"{TEXT.load(fails_at, axis)} failed"]
    return f"the walls give {_load(predicted, axis)} where {' and '.join(parts)}"


def failing(load: float, axis: Axis) -> str:
    """`requests fail from 41 on`: what the server carries is not what comes through."""
    return f"requests fail from {TEXT.load(load, axis)} on"


def fewer_slots(told: WhatIf, *, gate: bool) -> str:
    """`with 48 slots: about 71 users at the SLO (66 to 74), +9 % tokens/s`; where it is no more than now, that.

    Args:
        gate: a gate stands for the slots.
    """
    users, low, high = (_load(each, "concurrency") for each in (told.users.value, told.users.low, told.users.high))
    where = f"a gate of {TEXT.whole(told.slots)}" if gate else f"{TEXT.whole(told.slots)} slot{'s' * (told.slots != 1)}"
    span = f"({low} to {high})"
    if not told.worth:
        change = told.users_change
        now = None if change is None or change <= -1 else told.users.value / (1 + change)
        than = "" if now is None else f" than about {_load(now, 'concurrency')}, as it stands"
        return f"fewer slots carry no more{than}: with {where} about {users} users at the SLO {span}"
    tokens = "" if told.tokens_change is None else f", {round_change(told.tokens_change)} tokens/s"
    return f"with {where}: about {users} users at the SLO {span}{tokens}"


def tried(text: str) -> str:
    """With how it is felt: by the gate in the client, or the server's own slots where they turn."""
    return f"{text}; k tries it without a restart"


def round_change(share: float | None, figures: Figures = TEXT) -> str:
    """`+9 %`: so far a figure between levels is known."""
    if share is None:
        return UNKNOWN
    whole = round(share, 2)
    return f"{'+' if whole > 0 else '-' if whole < 0 else ''}{figures.round_percent(abs(whole))}"


def _load(value: float, axis: Axis) -> str:
    return TEXT.whole(int(value + 1e-9)) if axis == "concurrency" else TEXT.digits(value)
