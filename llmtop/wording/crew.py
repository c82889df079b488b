"""What is said of load workers: how each does, and that it falls silent, comes back or is lost.

`name` is host and process: `h2:4711`.
"""

from __future__ import annotations

from llmtop.domain.client import ClientHealth, CrewFigures, WorkerFigures
from llmtop.domain.plain import plain
from llmtop.wording.figures import Figures
from llmtop.wording.kinds import Table
from llmtop.wording.sentences import sentence, worker_called

TITLE = "Load workers"
NOTE = (
    "What each was at worst: the seconds in which it was the bottleneck, whose requests are left out, "
    "and the largest CPU and lags of a second; its part of all chunks that were read. "
    "Its clock is shown against ours: only durations of one clock are ever subtracted."
)
HERE = "here"
"""Host in the name of one on this machine."""
_STATES = {"green": "ok", "amber": "late", "red": "red", "silent": "silent", "lost": "lost"}
ROLES = {"green": "text", "amber": "warn", "red": "bad", "silent": "bad", "lost": "bad"}


def who(number: int, name: str) -> str:
    return sentence(worker_called(number, name))


def heard(crew: CrewFigures) -> str:
    """`workers 198/200` where some are not heard; else empty."""
    return f"workers {crew.heard}/{crew.began}" if crew.heard < crew.began else ""


def slowest_elsewhere(client: ClientHealth | None) -> str:
    """Who is late, of load workers on other machines; else empty: those of this machine take turns at it."""
    name = "" if client is None or client.reason is None else client.reason.name
    return "" if name.startswith(f"{HERE}:") else name


def table(crew: CrewFigures, figures: Figures, *, most: int | None = None, short: bool = False) -> Table:
    """The worst first, the rest counted.

    Args:
        most: rows, that of the rest too; None: as many as there are.
        short: without what 80 characters have no room for.
    """
    rows = crew.worst if most is None or len(crew.worst) + bool(crew.rest) <= most else crew.worst[: max(1, most - 1)]
    apart = any(each.offset_s or each.error_s for each in crew.worst)
    heads = ["", "state", "share", "chunks/s", "CPU", "lag p99", "loop lag", *(["clock"] if apart else [])]
    told = [_row(each, figures, apart) for each in rows]
    left, others = crew.worst[len(rows) :], crew.rest + len(crew.worst) - len(rows)
    if others:
        share = (crew.rest_share or 0.0) + sum(each.share or 0.0 for each in left)
        chunks = (crew.rest_chunks_per_s or 0.0) + sum(each.chunks_per_s or 0.0 for each in left)
        cells = ["", figures.percent(share), figures.count(chunks), *[""] * (len(heads) - 4)]
        told.append([f"{others} other{'' if others == 1 else 's'}", *cells])
    if short:
        dropped = heads.index("share")
        heads, told = _without(heads, dropped), [_without(row, dropped) for row in told]
    return Table(TITLE, tuple(heads), tuple(map(tuple, told)))


def _row(each: WorkerFigures, figures: Figures, apart: bool) -> list[str]:
    state = f"red {each.red_s}{figures.gap}s" if each.red_s else _STATES[each.state]
    if each.state in ("silent", "lost"):
        state = each.state
    sign = "-" if each.offset_s < 0 else "+"
    clock = f"{sign}{figures.latency(abs(each.offset_s) * 1e3)} ±{figures.latency(each.error_s * 1e3)}"
    return [
        f"{each.worker} {plain(each.name)}".rstrip(),
        state,
        figures.percent(each.share),
        figures.count(each.chunks_per_s),
        figures.percent(each.cpu),
        figures.latency(each.lag_p99_ms),
        figures.latency(each.loop_lag_ms),
        *([clock] if apart else []),
    ]


def _without(row: list[str], place: int) -> list[str]:
    return row[:place] + row[place + 1 :]


def silent(number: int, name: str, for_s: float) -> str:
    return (
        f"{who(number, name)} is silent for {for_s:.1f} s: its requests stand as they were last told, "
        "and the others' figures go on without it"
    )


def heard_again(number: int, name: str, after_s: float) -> str:
    return f"{who(number, name)} is heard again after {after_s:.1f} s: what it tells of that time is counted now"


def let_go(number: int, name: str, lease_s: float) -> str:
    """Said when its parent goes on: it has stood still."""
    return (
        f"{who(number, name)} had heard nothing from the run's session for {lease_s:g} s, as that stood still, "
        "and let its load go; now it takes it up again"
    )


def died(code: int | str | None, said: str) -> str:
    """The fate of a process: `died by signal 9: LAST WORDS`.

    Args:
        code: its exit code, of one that a signal has ended less than 0; a text: the signal's name.
    """
    by_signal = isinstance(code, str) or (code is not None and code < 0)
    how = f"by signal {str(code).removeprefix('-')}" if by_signal else f"with exit code {code}"
    return f"died {how}{': ' if said else ''}{said}"


def lost(number: int, name: str, fate: str, requests: int) -> str:
    """`fate`: how it came to its end."""
    return f"{who(number, name)} {fate}; {requests} requests are lost"


def unheard(for_s: float) -> str:
    """The fate of one that was given up."""
    return f"was lost: nothing was heard of it for {for_s:.1f} s"


def share_goes(living: int) -> str:
    return f"its share goes to the other {living}"


def joined(host: str, count: int, living: int) -> str:
    """`load host h3 joined: 2 workers, the load is shared by 6 now`"""
    return f"{_host(host, count)}, the load is shared by {living} now"


def too_late(host: str, count: int) -> str:
    """Of one whose share was dealt out to the others at the beginning."""
    return f"{_host(host, count)} for the next run: what this one sends was dealt out at its beginning"


def cannot_join(why: str) -> str:
    return f"a load host that joined cannot be used: {why}"


def _host(host: str, count: int) -> str:
    return f"load host {plain(host)} joined: {count} worker{'' if count == 1 else 's'}"


NOBODY_LEFT = "It was the last one: there is no load any more"
