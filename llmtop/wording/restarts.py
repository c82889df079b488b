"""A server that is started anew under a run: what is waited for, what changed, and what may be driven again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmtop.domain.load import LoadPoint
from llmtop.wording.arrows import arrow
from llmtop.wording.figures import TEXT, Figures, clock
from llmtop.wording.names import load_unit

RESTARTED = "the server has restarted"
"""How the text of a chapter begins that is a server's new start."""
SILENT = "no answer yet"
ANSWERS = "it answers, no model yet"
LISTS = "models answer, no token yet"
MOST_CHANGES = 4
"""Changes that are named in one line; of more only their number."""


def is_restart(text: str) -> bool:
    """Whether that is the text of a chapter that begins with a restart."""
    return text.startswith(RESTARTED)


def restarted_text(changes: Sequence[str]) -> str:
    """`the server has restarted: max_num_seqs 32 → 64`"""
    return f"{RESTARTED}: {changes_text(changes)}" if changes else RESTARTED


def restart_note(text: str, t_s: float) -> str:
    """`the server has restarted: max_num_seqs 32 → 64, at 02:17; the verdict is of what came since`

    Args:
        text: of its chapter.
    """
    return f"{text}, at {clock(t_s)}; the verdict is of what came since"


def changed_traits(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """`max_num_seqs 32 → 64` of each trait that is another, or is told by one alone, by its name."""
    told = {}
    for name in dict.fromkeys(("model", *before, *after)):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name == "server" and old is not None and new is not None and _title(old) == _title(new):
            told[name] = f"version {_version(old)} → {_version(new)}"
        else:
            told[name] = arrow(f"{name} {old or 'not told'}", f"{name} {new or 'not told'}")
    return told


def _title(server: str) -> str:
    return server.rpartition(" ")[0]


def _version(server: str) -> str:
    return server.rpartition(" ")[2]


def changes_text(changes: Sequence[str]) -> str:
    """Some changes in one line, none as a sentence of its own."""
    if not changes:
        return "nothing that it tells has changed"
    more = len(changes) - MOST_CHANGES
    return ", ".join((*changes[:MOST_CHANGES], *([f"{more} more"] if more > 0 else ())))


def waiting_text(stage: str, gone_s: float, figures: Figures = TEXT) -> str:
    """`waiting for the server: models answer, no token yet · 41 s`"""
    return f"waiting for the server: {stage} · {figures.duration(max(0, round(gone_s)))}"


def back_text(gone_s: float, changes: Sequence[str], restarted: bool, same: bool | None = None) -> str:
    """`back after 52 s: max_num_seqs 32 → 64, version 0.31 → 0.32`

    Args:
        restarted: it was started anew.
        same: whether it is the same process; None: it does not tell.
    """
    what = changes_text(changes)
    if not (restarted or changes):
        what = "the same process, it was not restarted" if same else "whether it was restarted is not seen"
    return f"back after {TEXT.duration(max(0, round(gone_s)))}: {what}"


def again_text(point: LoadPoint, figures: Figures = TEXT) -> str:
    """`Enter: 48 users again`"""
    users = "user" if point.value == 1 else "users"
    unit = users if point.axis == "concurrency" else load_unit(point.axis)
    return f"Enter: {figures.load(point.value, point.axis)} {unit} again"
