"""What is said of a tune: its steps, its winner, and the flag that it comes to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from llmtop.domain.tuning import DRIFT, Kind, Tried, Tune, Values, named
from llmtop.wording.figures import TEXT, UNKNOWN

PLACE = re.compile(r"(?P<flag>--?[A-Za-z][\w.-]*[= ]|[A-Za-z_]\w*=)[\"']?\{(?P<name>\w+)\}")
"""A setting in a command, with the flag or the variable that it is the value of."""


def step_text(kind: Kind, values: Values, slots: int) -> str:
    """`max_num_seqs=128: 6 values on this server`"""
    what = {
        "first": "what there is now, to be held against the end",
        "race": f"{slots} value{'s' if slots != 1 else ''} on this server",
        "search": "capacity search",
        "again": "the first configuration again",
    }[kind]
    return f"{named(values)}: {what}"


def lasting(step_s: float, left_s: float) -> str:
    """`usually 1 min 30 s, 3 min 15 s to the end`: a server whose answers take many seconds takes longer."""
    return f"usually {TEXT.duration(step_s)}, {TEXT.duration(left_s)} to the end"


def plan_text(restarts: int, measured_s: float, count: int) -> str:
    """`6 configurations: at most 3 starts of the server and about 4 min of measuring`"""
    many = f"{count} configuration{'s' if count != 1 else ''}"
    starts = f"{restarts} start{'s' if restarts != 1 else ''}"
    return f"{many}: at most {starts} of the server, and about {TEXT.duration(measured_s)} of measuring beside them"


def not_shown(values: Values, shown: bool | None) -> str:
    if shown is False:
        return f"not applied: the server runs another number of requests at once than {named(values)} says"
    return f"not applied: neither what the server tells nor what it runs at once proves {named(values)}"


def first_text(told: Sequence[tuple[str, str, str]]) -> str:
    """Where the server has other settings (name, named first, told by it) than those that are to be put back."""
    what = " and ".join(f"{name} {seen}, not {wanted}" for name, wanted, seen in told)
    return f"the server says {what}: name first in --try what it has now, as that is put back at the end"


def flag_line(values: Values, template: str, slots_flag: str | None, slots_name: str | None) -> str:
    """`--max-num-seqs 64 --kv-cache-dtype fp8`: the settings in the server's own words.

    Args:
        template: the command, which shows how the others are spelled.
        slots_flag: the server's flag for its slots, where its dialect is known.
        slots_name: the setting that is the slots.
    """
    spelled = {match["name"]: match["flag"] for match in PLACE.finditer(template)}
    parts = []
    for name, value in values:
        flag = spelled.get(name, f"{name}=")
        if name == slots_name and slots_flag is not None and " " not in slots_flag:
            flag = f"{slots_flag} " if slots_flag.startswith("-") else f"{slots_flag}="
        parts.append(f"{flag}{shlex.quote(value)}")
    return " ".join(parts)


def sentence(tune: Tune) -> str:
    """`max_num_seqs 64 carries 58 users at the SLO (55-61), +18 % over 32; verified by a capacity search`"""
    winner = next((row for row in tune.rows if row.values == tune.winner), None)
    if tune.void and tune.drift is not None:
        return (
            f"not known: the first configuration gave {TEXT.change(tune.drift)} output tokens/s when it was measured "
            f"again (more than {TEXT.percent(DRIFT)}), so what was measured in between does not compare"
        )
    if winner is None or winner.users is None:
        return "not known: no configuration could be verified"
    low, high = (TEXT.whole(each) for each in (winner.users.low, winner.users.high))
    name = named(winner.values).replace("=", " ")
    parts = [f"{name} carries {TEXT.whole(winner.users.value)} users at the SLO ({low}-{high})"]
    if tune.users is not None:
        tokens = "" if winner.tokens_per_s is None else f" and {TEXT.count(winner.tokens_per_s.value)} output tokens/s"
        ok = f"keeps the SLO with {tune.users} users{tokens}" if tune.holds else f"does not carry {tune.users} users"
        parts = [f"{name} {ok}; it carries {TEXT.whole(winner.users.value)} ({low}-{high})"]
    if winner.values == tune.original:
        parts.append("nothing to change: it is what there is now")
    elif tune.gain is not None:
        over = " ".join(value for _, value in tune.original)
        parts[0] += f", {TEXT.change(tune.gain)} over {over}"
    return "; ".join((*parts, "verified by a capacity search"))


def edge_text(tune: Tune) -> str:
    """What an end of the list says."""
    if tune.winner is None or tune.edge is None or tune.void:
        return ""
    more = "larger" if tune.edge == "largest" else "smaller"
    return f"the best value is the {tune.edge} that was tried: try {more} ones"


def again_text(tune: Tune) -> str:
    """How far the server was the same at the end as at the beginning, which the table stands on."""
    if tune.winner is None or tune.void or len(tune.rows) == 1:
        return ""
    if tune.drift is None:
        return "the configuration measured first was not measured again: a drift meanwhile is not known"
    return f"the configuration measured first, again at the end: {TEXT.change(tune.drift)} output tokens/s"


_HEAD = ("", "how", "users at the SLO", "tokens/s", "TPOT p95", "TTFT p95", "restarts")


def table_rows(tune: Tune) -> list[tuple[str, ...]]:
    """The table with its head, a row a configuration: `--` for what is not known."""
    return [_HEAD, *(_row(tune, row) for row in tune.rows)]


def _row(tune: Tune, row: Tried) -> tuple[str, ...]:
    figures = dict(row.figures)
    mark = "*" if row.values == tune.winner and not tune.void else ""
    users = UNKNOWN
    if row.users is not None:
        users = f"{TEXT.whole(row.users.value)} ({TEXT.whole(row.users.low)}-{TEXT.whole(row.users.high)})"
    tokens = None if row.tokens_per_s is None else row.tokens_per_s.value
    tails = [figures.get(f"{metric}_p95") for metric in ("tpot", "ttft")]
    return (
        f"{named(row.values)}{' ' if mark else ''}{mark}",
        row.how,
        users,
        TEXT.count(tokens),
        *(TEXT.latency(None if each is None else 1e3 * each) for each in tails),
        TEXT.whole(row.restarts),
    )


def table_text(tune: Tune) -> list[str]:
    """The table in columns, and below it a line for each row of which more is to be said: logs were shown already."""
    rows = table_rows(tune)
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = [f"{named(row.values)}: {row.note.splitlines()[0]}" for row in tune.rows if row.note]
    return [*lines, *said, *(f"run: {path} ({what})" for what, path in tune.runs)]


def notes(tune: Tune) -> list[str]:
    """What there is to say of single rows, with what a server wrote last."""
    return [f"{named(row.values)}: {line}" for row in tune.rows if row.note for line in row.note.split("\n")]


def last_words(tune: Tune) -> str:
    """The sentence, and below it what an end of the list says, and what the first configuration gave at the end."""
    return "\n".join(filter(None, (sentence(tune), edge_text(tune), again_text(tune))))
