"""What the twin of a server is said to foresee, how sure that is, and why it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmtop.domain.foresight import ForeseenPoint, Foresight, Interval
from llmtop.domain.load import Axis
from llmtop.domain.settings import KV_TOKENS, is_kv, is_slots, setting_key
from llmtop.wording.figures import TEXT, UNKNOWN, Figures
from llmtop.wording.names import short_unit, target_name
from llmtop.wording.sentences import CLIENT_SLOW, listed

ABOUT = "~"
"""Before every figure that nobody has measured."""
AS_IT_STANDS = "as it stands"
THINKING = "users who think are not in flight all the time, and it counts requests in flight"
IN_TURN = "several servers answer in turn, and it is of one"
FAILING = "all requests fail"
CUT = "the server cuts the prompts"
BUFFERED = "the path holds tokens back, so that TTFT and TPOT are void"
CLIENT = CLIENT_SLOW
UNTOLD = "no level tells TTFT, TPOT and the tokens of prompts and answers (--prompt-tokens, --output-tokens)"
"""Why there is no twin of what was measured."""
BLOCKS_UNKNOWN = "the server does not tell how many tokens a KV block has: say the size in tokens, kv_tokens"


def settings_text(settings: Sequence[tuple[str, float]]) -> str:
    """`max_num_seqs 64, num_gpu_blocks 4096`; empty for a server as it stands."""
    return ", ".join(f"{name} {value:g}" for name, value in settings)


def asked_text(settings: Sequence[tuple[str, float]], figures: Figures = TEXT) -> str:
    """`64 slots`, `32 slots, 4 096 KV blocks`, `as it stands`"""
    return ", ".join(_asked(setting_key(name), value, figures) for name, value in settings) or AS_IT_STANDS


def _asked(key: str, value: float, figures: Figures) -> str:
    if is_slots(key):
        return f"{figures.whole(value)} slot{'' if value == 1 else 's'}"
    if is_kv(key):
        return f"{figures.whole(value)} KV {'tokens' if key in KV_TOKENS else 'blocks'}"
    return f"{key} {value:g}"


UNBOUND = 8.0
"""Times the figure itself, from which a bound is none: behind a limit that no queue breaks any number may wait."""


def span_text(interval: Interval, axis: Axis, figures: Figures = TEXT) -> str:
    """`62 to 80`, `32 and more`"""
    if interval.high > UNBOUND * interval.value:
        return f"{figures.load(interval.low, axis)} and more"
    return f"{figures.load(interval.low, axis)} to {figures.load(interval.high, axis)}"


def users_text(users: Interval, axis: Axis, figures: Figures = TEXT) -> str:
    """`~71 users at the SLO (62 to 80)`"""
    if users.value <= 0:
        return "no load keeps the SLO"
    about = f"{ABOUT}{figures.load(users.value, axis)}"
    return f"{about} {short_unit(axis, round(users.value))} at the SLO ({span_text(users, axis, figures)})"


def wall_text(wall: Interval, axis: Axis, figures: Figures = TEXT) -> str:
    """`the wall at ~64 users (58 to 70)`; slots that are told are no estimate: `the wall at 64 users`."""
    value, low, high = (figures.load(end, axis) for end in (wall.value, wall.low, wall.high))
    unit = short_unit(axis, round(wall.value))
    return f"the wall at {value} {unit}" if low == high else f"the wall at {ABOUT}{value} {unit} ({low} to {high})"


def sure_text(off: float, levels: int, figures: Figures = TEXT) -> str:
    """`the twin was fitted on 9 levels and misses the one left out by 3 %`"""
    missed = f"less than {figures.round_percent(0.01)}" if off < 0.01 else figures.round_percent(round(off, 2))
    return f"the twin was fitted on {levels} levels and misses the one left out by {missed}"


def no_users_text(reason: str) -> str:
    return f"users at the SLO {UNKNOWN}, {reason}"


def foreseen_text(
    subject: str,
    found: Sequence[str],
    off: float,
    levels: int,
    unheld: Sequence[str] = (),
    try_this: str = "",
    figures: Figures = TEXT,
) -> str:
    """`64 slots: ~71 users at the SLO (62 to 80); the twin was fitted on 9 levels and misses the one left out by 3 %`

    Args:
        unheld: names of limits that a twin cannot be held against.
        try_this: what would make known what is not.
    """
    names = [target_name(name) for name in unheld]
    left = f"{listed(names)} {'are' if len(names) > 1 else 'is'} not foreseen" if names else ""
    return f"{subject}: {'; '.join(filter(None, (*found, left, sure_text(off, levels, figures), try_this)))}"


def band_text(interval: Interval, written: Callable[[float], str]) -> str:
    """`142 ms (128 to 156 ms)`: a unit that both bounds have stands once; none where they are the figure."""
    value, low, high = map(written, (interval.value, interval.low, interval.high))
    if value == low == high:
        return value
    unit = high.rpartition(" ")[2]
    return f"{value} ({low.removesuffix(f' {unit}') if unit.isalpha() else low} to {high})"


def measured_text(slots: float | None, told: Foresight, figures: Figures = TEXT) -> str:
    """`twin of 9 levels, 32 slots, 192/64 tokens`: of what, and of which requests."""
    lengths = [told.prompt_tokens, told.output_tokens]
    parts = [
        f"twin of {told.levels} levels",
        "" if slots is None else f"{figures.whole(slots)} slots",
        f"{'/'.join(map(figures.whole, lengths))} tokens" if all(lengths) else "",
    ]
    return ", ".join(filter(None, parts))


def gap_text(load: float, axis: Axis, reason: str, try_this: str, figures: Figures = TEXT) -> str:
    """`256 users: --, 256 running is more than twice the 64 that were measured; hold 128 users for 10 s`"""
    return outside_text(f"{figures.load(load, axis)} {short_unit(axis, load)}", reason, try_this)


def outside_text(subject: str, reason: str, try_this: str) -> str:
    """`192 slots: --, 192 running is more than twice the 64 that were measured; hold 96 users for 10 s`"""
    return "; ".join(filter(None, (f"{subject}: {UNKNOWN}{f', {reason}' if reason else ''}", try_this)))


def no_twin_text(reason: str, try_this: str = "") -> str:
    """`no twin: 2 numbers of requests at once were measured, a fit takes 3`"""
    return "; ".join(filter(None, (f"no twin: {reason}", try_this)))


def speculates(name: str) -> str:
    return f"the server speculates ({name}), and how well drafts are guessed decides how long a step takes"


def not_a_knob(name: str) -> str:
    """Of a setting that is none of those that a twin knows."""
    return f"a twin cannot turn {name}: it knows slots (max_num_seqs) and the KV cache (num_gpu_blocks, kv_tokens)"


def holds_none(kv_tokens: float, request: float, figures: Figures = TEXT) -> str:
    return f"{figures.whole(kv_tokens)} tokens hold no request: one has {figures.whole(request)}"


def legend_text(foreseen: Foresight, figures: Figures = TEXT) -> str:
    """`twin: max_num_seqs 64 (±10 %)`; `(from ±10 %)` where some of its figures are less sure than that."""
    band = ""
    if foreseen.band is not None:
        widest = max((_half(each) for point in foreseen.points for each in _latencies(point)), default=0.0)
        least = f"±{figures.round_percent(round(foreseen.band, 2))}"
        band = f" ({least})" if widest <= 1.05 * foreseen.band else f" (from {least})"
    return f"twin: {foreseen.label or AS_IT_STANDS}{band}"


def _latencies(point: ForeseenPoint) -> tuple[Interval, ...]:
    told = (point.ttft_p95_ms, point.tpot_p95_ms)
    return tuple(each for each in told if each is not None)


def _half(interval: Interval) -> float:
    """Half of it on the side to which it reaches further, as a share; up and down are factors."""
    up, down = interval.high / max(interval.value, 1e-9), interval.value / max(interval.low, 1e-9)
    return max(up, down) - 1.0
