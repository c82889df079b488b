"""From a key and the newest frame to a command, or to the reason why there is none. Pure."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.commands import AddMark, Command, Seek, SetRecording
from llmtop.domain.frame import Frame

SEEK_STEP_S = 10.0
SPEEDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


class Order(Struct, frozen=True):
    """A command and what to tell the user about it."""

    command: Command
    said: str = ""


class Refusal(Struct, frozen=True):
    """Why a key does nothing now."""

    reason: str


def live_only(frame: Frame | None, lost: bool, what: str) -> Refusal | None:
    """None when `what` makes sense: there is a live run."""
    if frame is None:
        return Refusal(f"no session yet: {what} waits for the first frame")
    if frame.replay is not None:
        return Refusal(f"this is a replay: {what} needs a live run")
    if lost:
        return Refusal(f"the session is lost: no {what} any more")
    return None


def mark(frame: Frame | None, lost: bool, text: str) -> Order | Refusal:
    """A mark without a word is named after the load."""
    refusal = live_only(frame, lost, "a mark")
    if refusal is not None or frame is None:
        return refusal or Refusal("")
    point = frame.target
    word = text.strip() or f"{point.value:g}"
    return Order(AddMark(word), f'mark "{word}" set')


def record(frame: Frame | None, lost: bool) -> Order | Refusal:
    refusal = live_only(frame, lost, "recording")
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


def change_speed(frame: Frame | None, direction: int) -> Order | Refusal:
    if frame is None or frame.replay is None:
        return Refusal(", and . change the speed of a replay; this run is live")
    now = frame.replay.speed
    nearest = min(range(len(SPEEDS)), key=lambda index: abs(SPEEDS[index] - now))
    speed = SPEEDS[min(max(nearest + direction, 0), len(SPEEDS) - 1)]
    return Order(Seek(speed=speed), f"speed x{speed:g}")
