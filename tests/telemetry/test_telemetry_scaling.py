"""Steps of a deployment that scales, out of what each look sees of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import ScaleStep
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.scaling import Deployed, ScaleWatch, Standing, steps

NAMES = ("", "", "pod-1", "pod-2", "pod-3", "pod-4")


@st.composite
def deployments(draw: Any) -> Deployed:
    names = draw(st.permutations(NAMES))[: draw(st.integers(0, len(NAMES)))]
    replicas = tuple(Standing(name, draw(st.booleans()), draw(st.booleans())) for name in names)
    return Deployed(desired=draw(st.none() | st.integers(1, 6)), replicas=replicas)


def counted(deployed: Deployed) -> tuple[int, int, int]:
    replicas = deployed.replicas
    return len(replicas), sum(each.ready for each in replicas), sum(each.serving for each in replicas)


@given(st.lists(deployments(), min_size=1, max_size=8))
def test_steps_replayed_give_the_counts_of_every_look_and_tell_nothing_twice(looks: list[Deployed]) -> None:
    counts, before = ReplicaCounts(), None
    for t_s, now in enumerate(looks):
        if now.desired is None and before is not None:
            now = replace(now, desired=before.desired)
        told = steps(before, now, float(t_s))
        for step in told:
            was = {"desired": counts.desired, "created": counts.created, "gone": counts.created}
            was |= {"ready": counts.ready, "serving": counts.serving}
            counts.take(step)
            assert step.replicas != was[step.kind], "a step that changes nothing is none"
            assert abs(step.replicas - (was[step.kind] or 0)) == 1 or step.kind == "desired"
            assert step.since == (before is None)
        assert (counts.created, counts.ready, counts.serving) == counted(now)
        assert counts.desired == now.desired
        assert len({(step.kind, step.name, step.replicas) for step in told}) == len(told)
        assert not steps(now, now, t_s + 0.5)
        before = now


def test_a_replica_that_is_ready_is_told_by_its_name() -> None:
    before = Deployed(desired=2, replicas=(Standing("a", True, True), Standing("b")))
    now = Deployed(desired=2, replicas=(Standing("a", True, True), Standing("b", True)))
    assert steps(before, now, 7.0) == [ScaleStep(7.0, "ready", 2, "b")]
    assert steps(now, Deployed(desired=1, replicas=(Standing("b", True),)), 9.0) == [
        ScaleStep(9.0, "desired", 1),
        ScaleStep(9.0, "gone", 1, "a"),
    ]
    assert ReplicaCounts(steps(None, now, 0.0)).of == 2


def seen(name: str, **fields: Any) -> ReplicaSeen:
    return ReplicaSeen(name=name, **fields)


def test_pages_alone_tell_who_is_begun_ready_serving_and_gone() -> None:
    watch = ScaleWatch(None)
    assert watch.take(1.0, None, (seen("a:8000", answers=True, served=True),)) == []
    two = (seen("a:8000", answers=True, served=True), seen("b:8000"))
    told = watch.take(2.0, None, two)
    assert [(step.t_s, step.kind, step.replicas, step.since) for step in told] == [
        (1.0, "created", 1, True),
        (1.0, "ready", 1, True),
        (1.0, "serving", 1, True),
        (2.0, "created", 2, False),
    ]
    assert watch.take(3.0, None, (two[0], seen("b:8000", answers=True))) == [ScaleStep(3.0, "ready", 2, "b:8000")]
    assert watch.take(4.0, None, (two[0], seen("b:8000", answers=False))) == [], "one page that is late is no end"
    served = seen("b:8000", answers=True, served=True)
    assert watch.take(5.0, None, (two[0], served)) == [ScaleStep(5.0, "serving", 2, "b:8000")]
    assert watch.take(6.0, None, (two[0], seen("b:8000", gone=True))) == [ScaleStep(6.0, "gone", 1, "b:8000")]


def test_a_place_that_says_who_is_ready_is_believed_before_a_page() -> None:
    watch = ScaleWatch(None)
    pair = (seen("a", ready=True), seen("b", ready=False, answers=True))
    assert ReplicaCounts(watch.take(1.0, None, pair)).ready == 1


def test_one_replica_that_nothing_scales_tells_nothing() -> None:
    watch = ScaleWatch(None)
    run = Deployed(desired=1, replicas=(Standing("a", True),), scales=False)
    assert [watch.take(t_s, run, ()) for t_s in (1.0, 2.0)] == [[], []]
    assert not watch.several
    serving = Deployed(desired=2, replicas=(Standing("a", True, True),), scales=False)
    told = watch.take(3.0, serving, ())
    assert [step.since for step in told] == [True] * 3 + [False] * 2
    assert [step.kind for step in told if not step.since] == ["desired", "serving"]


class Source:
    """Whoever runs it, who says what the test has written."""

    def __init__(self, *told: Deployed | str) -> None:
        self.told = list(told)
        self.problem = ""

    async def look(self) -> Deployed | None:
        now = self.told.pop(0)
        self.problem = now if isinstance(now, str) else ""
        return None if isinstance(now, str) else now

    async def close(self) -> None:
        pass


async def test_a_source_that_fails_midway_changes_nothing_and_pages_go_on() -> None:
    one, two = Standing("a", True), Standing("b")
    watch = ScaleWatch(Source(Deployed(desired=2, replicas=(one, two)), "forbidden", Deployed(replicas=(one, two))))
    assert len(await watch.look(lambda: 1.0, ())) == 4
    told = await watch.look(lambda: 2.0, (seen("a", served=True),))
    assert told == [ScaleStep(2.0, "serving", 1, "a")]
    assert watch.problem == "forbidden"
    assert await watch.look(lambda: 3.0, ()) == []
    assert watch.problem == ""


@pytest.mark.parametrize("ready", [True, False])
async def test_without_a_source_that_ever_told_the_pages_count(ready: bool) -> None:
    watch = ScaleWatch(Source("no kubectl"))
    told = await watch.look(lambda: 1.0, (seen("a", ready=ready), seen("b", ready=ready)))
    assert ReplicaCounts(told).ready == 2 * ready
