"""Requests in flight and the limit of open files: no request is sent that has no file."""

from __future__ import annotations

import resource

import pytest

from llmtop.domain.crew import CrewSpec
from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.profile import Profile
from llmtop.errors import UsageError
from llmtop.load.files import SPARE_FILES, within_open_files


def profile(*levels: float, rate: bool = False, most: int = 1024) -> Profile:
    base = LoadPoint(rate_rps=1.0) if rate else LoadPoint(concurrency=1)
    shape = Hold(rate_rps=500.0) if rate else Steps(levels)
    stages = (Stage(name="a", duration_s=1.0, shape=shape),) if levels or rate else ()
    return Profile(name="x", plan=LoadPlan(stages=stages, base=base), caps=Caps(max_concurrency=most))


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 64))


@pytest.mark.usefixtures("allow")
def test_a_plan_that_needs_more_files_than_may_be_open_is_refused_with_what_fits() -> None:
    room = 64 - SPARE_FILES
    assert within_open_files(profile(1, room), CrewSpec(count=1)).caps.max_concurrency == room
    with pytest.raises(UsageError, match=f"{room + 1} requests in flight.*only 64 may be open.*ask for at most {room}"):
        within_open_files(profile(1, room + 1), CrewSpec(count=1))
    assert within_open_files(profile(1, room + 1), CrewSpec(count=2)).caps.max_concurrency == 2 * room


@pytest.mark.usefixtures("allow")
def test_a_hand_and_an_open_loop_go_as_far_as_files_do() -> None:
    assert within_open_files(profile(), CrewSpec(count=1)).caps.max_concurrency == 64 - SPARE_FILES
    assert within_open_files(profile(rate=True), CrewSpec(count=1)).caps.max_concurrency == 64 - SPARE_FILES
    assert within_open_files(profile(most=8), CrewSpec(count=1)).caps.max_concurrency == 8


def test_no_room_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (16, 16))
    with pytest.raises(UsageError, match=f"only 16 may be open here: {SPARE_FILES} are needed beside them"):
        within_open_files(profile(), CrewSpec(count=1))


def test_without_a_limit_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (16, resource.RLIM_INFINITY))
    asked = profile(1, 100_000, most=100_000)
    assert within_open_files(asked, CrewSpec(count=1)) is asked


def test_what_is_spare_is_more_than_a_session_has_open() -> None:
    assert SPARE_FILES == 28


@pytest.mark.usefixtures("allow")
def test_workers_that_follow_the_load_are_at_least_one() -> None:
    assert within_open_files(profile(1, 8), CrewSpec(count=0)).caps.max_concurrency >= 64 - SPARE_FILES
