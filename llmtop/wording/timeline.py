"""A rehearsal of users as a timeline of rows: when each thing began, how long it took, what it said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from textwrap import wrap

from llmtop.domain.rehearsed import Act, Rehearsal
from llmtop.wording.figures import TEXT, UNKNOWN
from llmtop.wording.sentences import holder_of

BAR = 15
"""Columns of the time axis; with the figures beside it a row has `WIDTH`."""
WIDTH = 80
NAME = 16
WAIT, TOKENS, CALL = "─", "█", "═"
"""Until the first token, from there to the last, and an HTTP request that is none to the model."""
_RIGHT = (9, 8, 8, 6, 6, 5)
"""Widths of the start, TTFT, E2E, and the tokens of prompt, of it cached, and of the answer."""
PAUSED_S = 0.0005
"""Shorter pauses are those of a loop that goes on: they are no row."""


def timeline(told: Rehearsal) -> str:
    """All of it: whose, one row each, what the signs mean, the sums, and what was told on the way."""
    acts = [act for act in told.acts if act.kind != "pause" or act.took_s >= PAUSED_S]
    lines = [f"{PurePath(told.file).name} on {told.model} · {told.server}", "", _heading()]
    for visit in range(1, told.visits + 1):
        if told.visits > 1:
            lines.append(f"visit {visit}")
        lines += [_row(act, told.took_s) for act in acts if act.visit == visit]
    lines += ["", f"{WAIT} waits for the first token   {TOKENS} answer   {CALL} other HTTP", ""]
    held = any(holder_of(note) for note in told.notes)
    texts = (summary(told), *told.notes, *(() if held else ("Nothing held the event loop for 5 ms or longer.",)))
    for text in texts:
        lines += wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def not_ended(within_s: float, visit: int, acts: Sequence[Act]) -> str:
    """`visit 1 has not ended within 300 s (--within); the last that ended in it was request 2 answer, at 1.42 s`"""
    text = f"visit {visit} has not ended within {within_s:g} s (--within)"
    last = max((act for act in acts if act.ok), key=lambda act: act.at_s + act.took_s, default=None)
    if last is None:
        return f"{text}; nothing that it began has ended"
    turn = "" if last.turn is None else f"{last.turn} "
    return (
        f"{text}; the last that ended was {last.kind} {turn}{last.name}".rstrip()
        + f", at {last.at_s + last.took_s:.2f} s"
    )


def summary(told: Rehearsal) -> str:
    """`2 requests, 434 prompt tokens (41.5 % cached), 128 output tokens, 1 HTTP call, 2 s of pauses in 4.02 s`"""
    requests, calls, pauses = told.of("request"), told.of("call"), told.of("pause")
    failed = sum(not act.ok for act in requests)
    parts = [_counted(len(requests), "request") + (f" ({failed} failed)" if failed else "")]
    prompt = sum(act.prompt_tokens or 0 for act in requests)
    known = [act for act in requests if act.cached_tokens is not None]
    cached = ""
    if known:
        share = sum(act.cached_tokens or 0 for act in known) / max(1, sum(act.prompt_tokens or 0 for act in known))
        cached = f" ({TEXT.percent(share)} from the prefix cache)"
    parts.append(f"{TEXT.whole(prompt)} prompt tokens{cached}")
    parts.append(f"{TEXT.whole(sum(act.output_tokens or 0 for act in requests))} output tokens")
    parts += [_counted(len(calls), "other HTTP request")] if calls else []
    paused_s = sum(act.took_s for act in pauses)
    parts += [f"{TEXT.duration(paused_s)} of pauses"] if paused_s >= PAUSED_S else []
    visits = "" if told.visits == 1 else f" and {told.visits} visits"
    return f"{', '.join(parts)} in {TEXT.duration(told.took_s)}{visits}."


def _counted(count: int, what: str) -> str:
    return f"{TEXT.whole(count)} {what}{'' if count == 1 else 's'}"


def _heading() -> str:
    return _columns("start", "", "", ("TTFT", "E2E", "prompt", "cached", "out"))


def _row(act: Act, whole_s: float) -> str:
    start, bar = f"{act.at_s:.2f} s", _bar(act, whole_s)
    if act.kind == "pause":
        return _columns(start, bar, "pause", ("", TEXT.latency(act.took_s * 1e3), "", "", ""))
    status = "" if act.status in (None, 200) else f"HTTP {act.status}"
    if act.kind == "call":
        row = _columns(start, bar, _cut(act.name, NAME), ("", TEXT.latency(act.took_s * 1e3), "", "", ""))
        return f"{row.rstrip()}  {status or act.error}".rstrip()
    name = act.name if act.turn is None else f"{act.turn} {act.name}"
    if not act.ok:
        text = f"{start:>{_RIGHT[0]}}  {bar:<{BAR}} {_cut(name, NAME):<{NAME}} "
        return f"{text}{_cut(': '.join(filter(None, (status, act.error))), WIDTH - len(text))}"
    cached = None if act.cached_tokens is None else act.cached_tokens / max(1, act.prompt_tokens or 0)
    return _columns(
        start,
        bar,
        _cut(name, NAME),
        (
            UNKNOWN if act.ttft_s is None else TEXT.latency(act.ttft_s * 1e3),
            UNKNOWN if act.e2e_s is None else TEXT.latency(act.e2e_s * 1e3),
            TEXT.whole(act.prompt_tokens),
            UNKNOWN if cached is None else f"{round(100 * cached)} %",
            TEXT.whole(act.output_tokens),
        ),
    )


def _columns(start: str, bar: str, name: str, figures: Sequence[str]) -> str:
    cells = " ".join(f"{figure:>{width}}" for figure, width in zip(figures, _RIGHT[1:], strict=True))
    return f"{start:>{_RIGHT[0]}}  {bar:<{BAR}} {name:<{NAME}}{cells}".rstrip()


def _bar(act: Act, whole_s: float) -> str:
    """Its place on the axis from the first thing to the last; nothing of a pause."""
    if act.kind == "pause" or whole_s <= 0:
        return ""
    first, last = (min(BAR - 1, max(0, int(BAR * at_s / whole_s))) for at_s in (act.at_s, act.at_s + act.took_s))
    if act.kind == "call":
        return " " * first + CALL * (last - first + 1)
    token_s = act.at_s + (act.took_s if act.ttft_s is None else act.ttft_s)
    token = min(last, max(first, int(BAR * token_s / whole_s)))
    answer = TOKENS * (last - token + 1) if act.ttft_s is not None else WAIT * (last - token + 1)
    return " " * first + WAIT * (token - first) + answer


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
