"""From a key and the newest frame to a command, or to the reason why there is none. Pure."""

from __future__ import annotations

import re

from msgspec import Struct

from llmtop.domain.commands import AddMark, Command, Seek, SetRecording
from llmtop.domain.frame import Frame
from llmtop.domain.plain import plain
from llmtop.view.condition import Condition
from llmtop.wording.figures import clock

SEEK_STEP_S = 10.0
JUST_PASSED_S = 1.5
"""So long after it a second key back goes to the one before."""
SHOWN = 24
"""Letters of what was typed that an answer repeats."""
SPEEDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


class Order(Struct, frozen=True):
    """A command and what to tell the user about it."""

    command: Command
    said: str = ""


class Refusal(Struct, frozen=True):
    """Why a key does nothing now."""

    reason: str


def drives(frame: Frame | None, condition: Condition, what: str) -> Refusal | None:
    """None when `what` makes sense: there is a live run, and this screen has its wheel."""
    refusal = live_only(frame, condition, what)
    return refusal or (Refusal(condition.lacking) if condition.lacking else None)


def live_only(frame: Frame | None, condition: Condition, what: str) -> Refusal | None:
    """None when `what` makes sense: there is a live run."""
    if frame is None:
        return Refusal(f"no session yet: {what} waits for the first frame")
    if frame.replay is not None:
        return Refusal(f"this is a replay: {what} needs a live run")
    if condition.lost is not None:
        return Refusal(f"the {'run is over' if condition.over else 'session is lost'}: no {what} any more")
    return None


def mark(frame: Frame | None, condition: Condition, text: str) -> Order | Refusal:
    """A mark without a word is named after the load."""
    refusal = drives(frame, condition, "a mark")
    if refusal is not None or frame is None:
        return refusal or Refusal("")
    point = frame.target
    word = text.strip() or f"{point.value:g}"
    return Order(AddMark(word), f'mark "{word}" set')


def record(frame: Frame | None, condition: Condition) -> Order | Refusal:
    refusal = drives(frame, condition, "recording")
    if refusal is not None or frame is None:
        return refusal or Refusal("")
    if frame.run_file is None:
        return Refusal("this run has no file to record to: start with --record FILE")
    if frame.recording:
        return Order(SetRecording(False), "recording pauses; r goes on")
    return Order(SetRecording(True), "recording goes on")


def play_or_pause(frame: Frame) -> Order | Refusal:
    if frame.replay is None:
        return Refusal("this run is live")
    return Order(Seek(playing=not frame.replay.playing))


def seek(frame: Frame | None, direction: int) -> Order | Refusal:
    if frame is None or frame.replay is None:
        return Refusal("[ and ] step through a replay; this run is live")
    return Order(Seek(t_s=min(max(frame.t_s + direction * SEEK_STEP_S, 0.0), frame.replay.length_s)))


def jump(frame: Frame | None, direction: int) -> Order | Refusal:
    """To the next mark or event, or to the one before; while the replay plays, one just passed does not count."""
    if frame is None or frame.replay is None:
        return Refusal("{ and } go from mark to mark in a replay; this run is live")
    replay = frame.replay
    passed_s = JUST_PASSED_S * replay.speed if replay.playing else 0.0
    if direction > 0:
        t_s = next((t_s for t_s in replay.moments if t_s > frame.t_s), None)
    else:
        t_s = next((t_s for t_s in reversed(replay.moments) if t_s < frame.t_s - passed_s), None)
    if t_s is None:
        return Refusal(f"no mark or event {'after' if direction > 0 else 'before'} {clock(frame.t_s)}")
    return Order(Seek(t_s=t_s))


def go_to(frame: Frame | None, text: str) -> Order | Refusal:
    """To a time of the run as it is typed: 90, 1:30, 1:02:03."""
    if frame is None or frame.replay is None:
        return Refusal("a time can be gone to in a replay; this run is live")
    if not re.fullmatch(r"(\d{1,4}:)?(\d{1,4}:)?\d{1,6}(\.\d{1,3})?", text.strip(), re.ASCII):
        return Refusal(f'"{plain(text, SHOWN)}" is no time: type seconds, 1:30 or 1:02:03')
    t_s = 0.0
    for part in text.strip().split(":"):
        t_s = t_s * 60 + float(part)
    if t_s > frame.replay.length_s:
        return Refusal(f"the run ends at {clock(frame.replay.length_s)}")
    return Order(Seek(t_s=t_s), f"at {clock(t_s)}")


def change_speed(frame: Frame | None, direction: int) -> Order | Refusal:
    if frame is None or frame.replay is None:
        return Refusal(", and . change the speed of a replay; this run is live")
    now = frame.replay.speed
    nearest = min(range(len(SPEEDS)), key=lambda index: abs(SPEEDS[index] - now))
    speed = SPEEDS[min(max(nearest + direction, 0), len(SPEEDS) - 1)]
    return Order(Seek(speed=speed), f"speed x{speed:g}")
