"""What binds, by votes: several windows of the last seconds must agree before a bound is shown or taken back.

One window of a load that moves holds requests and gauges of two loads; a bound that changes with each of them is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.analysis.diagnosis import WINDOW_S, diagnose
from llmtop.analysis.display import steady
from llmtop.analysis.gate import configured_s
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.analysis.recent import last_change_s, recent_of
from llmtop.analysis.sessions import Requests
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import LoadPoint
from llmtop.domain.verdicts import Bound, Diagnosis
from llmtop.meter.facts import Facts

STEP_S = 2.0
"""Between the ends of two windows: a window is at least 5 s long, so that the third shares little with the first."""
AGREE = 3
"""Windows in a row that must agree on a bound: one of them may hold a step of the load, three hold a state."""
RELEASE = 8
"""Windows in a row in which nothing binds before a shown bound is taken back: a hand that passes a wall now and then
is at the wall, and what was found stays true while the load is low."""
SETTLED_S = 6.0
"""So long after a change of the load what a window's times say is of two loads, and the window abstains."""
NOTHING = Diagnosis(bound=Bound.NONE)
BY_GAUGES = (Bound.QUEUE, Bound.KV, Bound.TOKEN_BUDGET, Bound.CLIENT, Bound.REFUSED, Bound.FAILED)
"""What gauges, answers and the client's own samples tell, at whatever load."""
FAILING = (Bound.REFUSED, Bound.FAILED)
SLIPS = 0.01
"""Share of failures up to which a half of a load that was held is free of them: any server slips now and then, and
where failures bind all the while the calmer half still shows more."""


def ballots(
    facts: Facts,
    requests: Requests,
    point: LoadPoint,
    limits: Limits,
    levels: tuple[Level, ...],
    dialect: Dialect | None,
    pressed: bool,
    now_s: float,
) -> list[Diagnosis]:
    """What each window says that has something to say, the newest first.

    Windows end at `now_s` and every `STEP_S` before, back to when the server or the gate last changed: another
    server's say nothing here.
    """
    since_s = max(0.0, configured_s(facts, now_s))
    said = []
    for i in range(RELEASE):
        t_s = now_s - i * STEP_S
        changed_s = last_change_s(facts, t_s)
        if t_s <= since_s:
            break
        found = diagnose(recent_of(facts, requests, point, t_s), limits, levels, dialect, pressed)
        if found.bound in BY_GAUGES or t_s - changed_s >= SETTLED_S:
            said.append(found)
    return said


def lasting(facts: Facts, requests: Requests, now_s: float) -> bool:
    """Whether failures came all the while that the last load was held: what a late burst of them says of a run that is
    over is that it failed, not what binds at that load."""
    since_s = min(last_change_s(facts, now_s), now_s - WINDOW_S)
    ended = (requests.ok | requests.error) & (requests.sent_s <= now_s)
    for start_s, stop_s in ((since_s, (since_s + now_s) / 2), ((since_s + now_s) / 2, now_s)):
        own = ended & (requests.sent_s > start_s) & (requests.sent_s <= stop_s)
        if not own.any() or requests.error[own].mean() <= SLIPS:
            return False
    return True


def elected(shown: Diagnosis, votes: Sequence[Diagnosis], by_curve: Diagnosis) -> Diagnosis:
    """What to show.

    Args:
        shown: what was shown a moment ago, of the same server; nothing: `NOTHING`.
        votes: of the last windows, the newest first (`ballots`).
        by_curve: what the curve says that was measured so far: it stands where the windows see no wall.
    """
    if votes and votes[0].bound is Bound.CLIENT:
        return votes[0]
    agreed = len(votes) >= AGREE and len({vote.bound for vote in votes[:AGREE]}) == 1
    if agreed and votes[0].bound is not Bound.NONE:
        return renewed(shown, votes[0])
    gone = len(votes) == RELEASE and all(vote.bound is not shown.bound for vote in votes)
    if shown.bound in (Bound.NONE, Bound.CLIENT) or gone:
        return by_curve if by_curve.bound is not Bound.NONE else votes[0] if agreed else NOTHING
    return shown


def renewed(shown: Diagnosis, found: Diagnosis) -> Diagnosis:
    """What was found; its advice stays as shown, and what that gives, while only its figures have moved, and hardly."""
    if shown.bound is not found.bound or shown.advice is None or found.advice is None:
        return found
    advice = steady(shown.advice, found.advice)
    return found if advice == found.advice else replace(found, advice=advice, prediction=shown.prediction)
