"""When connections are renewed for a replica that has become ready, and when it is said that it gets nothing."""

from __future__ import annotations

from llmtop.domain.run import ScaleStep
from llmtop.session.renewal import AGAIN_S, IDLE_S, MOST, Renewals
from llmtop.wording.scale_steps import idle_text, renewed_text

BEGAN = [
    ScaleStep(0.0, "created", 1, "a", True),
    ScaleStep(0.0, "ready", 1, "a", True),
    ScaleStep(0.0, "serving", 1, "a", True),
]


def ready(name: str = "b", t_s: float = 30.0, replicas: int = 2) -> list[ScaleStep]:
    return [ScaleStep(t_s, "created", replicas, name), ScaleStep(t_s, "ready", replicas, name)]


def awaiting(*steps: ScaleStep) -> Renewals:
    renewals = Renewals()
    renewals.note([*BEGAN, *steps])
    return renewals


def renewed(renewals: Renewals, until_s: float) -> list[float]:
    """The seconds at which connections are renewed, by looks a second apart."""
    found = []
    for t_s in range(31, round(until_s)):
        if due := renewals.due(t_s):
            renewals.done(due, t_s)
            found.append(float(t_s))
    return found


def test_what_was_ready_at_the_beginning_is_not_awaited() -> None:
    assert awaiting().due(1e9) == []


def test_they_are_renewed_at_once_and_again_until_it_serves_but_no_more_than_so_often() -> None:
    assert (AGAIN_S, MOST, IDLE_S) == (10.0, 6, 15.0)
    assert renewed(awaiting(*ready()), 1000.0) == [31.0 + AGAIN_S * n for n in range(MOST)]
    renewals = awaiting(*ready())
    assert renewed(renewals, 45.0) == [31.0, 41.0]
    renewals.note([ScaleStep(45.0, "serving", 2, "b")])
    assert renewed(renewals, 1000.0) == []


def test_who_serves_at_the_same_look_or_goes_away_needs_none() -> None:
    assert awaiting(*ready(), ScaleStep(30.0, "serving", 2, "b")).due(31.0) == []
    assert awaiting(*ready(), ScaleStep(30.5, "gone", 1, "b")).due(31.0) == []
    assert awaiting(*ready(), ScaleStep(30.5, "ready", 1, "b")).due(31.0) == []


def test_nameless_replicas_are_awaited_one_by_one() -> None:
    renewals = awaiting(*ready("", 30.0, 2), *ready("", 30.0, 3))
    assert len(renewals.due(31.0)) == 2
    renewals.note([ScaleStep(32.0, "serving", 2)])
    assert len(renewals.due(33.0)) == 1


def test_who_gets_nothing_while_others_queue_is_said_once() -> None:
    renewals = awaiting(*ready())
    assert renewals.idle(30.0 + IDLE_S - 1, 5.0) == []
    assert renewals.idle(30.0 + IDLE_S, 0.0) == [], "nobody waits"
    assert [each.name for each in renewals.idle(30.0 + IDLE_S, 5.0)] == ["b"]
    assert renewals.idle(30.0 + IDLE_S + 1, 5.0) == []
    nobody_tells = Renewals()
    nobody_tells.note([ScaleStep(0.0, "ready", 1, "a", True), *ready()])
    assert nobody_tells.idle(60.0, 5.0) == [], "none is known to serve: no page tells"


def test_how_it_is_said() -> None:
    assert renewed_text(["pod-3"], 37) == (
        "replica pod-3 is ready: 37 kept connections renewed, so that it gets its share"
    )
    assert renewed_text(["a", "b"], None) == (
        "replicas a and b are ready: kept connections renewed, so that they get their share"
    )
    assert idle_text("pod-3", 15.2).startswith("replica pod-3 is ready and has got no request for 15 s while others")
