"""The single lines of the cockpit: header, settings, events, keys. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmtop.domain.endpoint import SILENCE_S, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, ReplayPosition
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LoadChange
from llmtop.domain.shown import Scene, Wheel
from llmtop.view.arrangement import FIGURE_CELLS, LABEL_CELLS
from llmtop.view.condition import LATE_MS, Condition, span_of
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Part, Run, Runs, cut, cut_inside, fit
from llmtop.view.tone import Tone
from llmtop.wording.crew import heard, slowest_elsewhere
from llmtop.wording.failures import failure_seen
from llmtop.wording.figures import TIGHT, UNKNOWN, clock
from llmtop.wording.sentences import client_sign, gate_text
from llmtop.wording.wheel import company

_CLIENT_TONES = {"green": Tone.GOOD, "amber": Tone.WARN, "red": Tone.BAD}


NAMED_CELLS = 40
"""Of what the user called the run and set, in the header."""

# -- header -------------------------------------------------------------------------------------------------------


def header(frame: Frame | None, condition: Condition, glyphs: Glyphs, width: int) -> Runs:
    """Who is driven and how it is doing; time, recording and the client's own lag at the right."""
    brand = Part([(" llmtop ", "brand"), (" ", "")])
    if frame is None:
        return fit([brand, Part([(f"{glyphs.wait} starting", "dim")])], [], width, glyphs.more)
    status = frame.endpoint
    left = [
        brand,
        Part([(_who(status, glyphs, 24), "text"), ("  ", "")], 3),
        *([Part([(_short(plain(status.named, glyphs), glyphs), "text"), ("  ", "")], 4)] if status.named else []),
        *([Part([(gate_text(frame.target.gate), "text"), ("  ", "")], 2)] if frame.target.gate is not None else []),
        Part([(plain(status.label, glyphs), "dim"), (" ", "")], 5),
        Part([_state(frame, condition, glyphs), ("  ", "")], 1),
    ]
    right = _header_right(frame, condition, glyphs)
    if sum(part.cells for part in (*left, *right)) > width:
        left[1] = Part([(_who(status, glyphs, 14), "text"), ("  ", "")], 3)
    return fit(left, right, width, glyphs.more)


def _short(text: str, glyphs: Glyphs) -> str:
    return text if len(text) <= NAMED_CELLS else text[: NAMED_CELLS - len(glyphs.more)] + glyphs.more


def _who(status: EndpointStatus, glyphs: Glyphs, cells: int) -> str:
    if status.simulated:
        return f"SIMULATED {status.preset or ''}".strip()
    model = (status.model or "").rpartition("/")[2]
    if len(model) > cells:
        model = model[: cells - len(glyphs.more)] + glyphs.more
    return " ".join(filter(None, (status.dialect.value if status.dialect else "", model)))


def _state(frame: Frame, condition: Condition, glyphs: Glyphs) -> Run:
    status = frame.endpoint
    if condition.lost is not None:
        return (f"{glyphs.down} run over", "dim") if condition.over else (f"{glyphs.down} session lost", "bad")
    if condition.silent_s > 0:
        return (f"{glyphs.stale} no frame for {TIGHT.duration(round(condition.silent_s))}", "warn")
    if frame.replay is not None:
        return ("", "")
    if status.state is EndpointState.UP:
        return (f"{glyphs.up} up", "up")
    if status.state is EndpointState.CONNECTING:
        return (f"{glyphs.wait} connecting", "warn")
    if status.state is EndpointState.STALE:
        return (
            f"{glyphs.stale} hung {TIGHT.duration(round(max(0.0, frame.t_s - status.since_s) + SILENCE_S))}",
            "warn",
        )
    return (f"{glyphs.down} {status.state.value}", "bad")


def _header_right(frame: Frame, condition: Condition, glyphs: Glyphs) -> list[Part]:
    parts = []
    if condition.draining:
        parts.append(Part([(" DRAINING ", "badge-warn"), ("  ", "")]))
    elif condition.frozen:
        parts.append(Part([(" FROZEN ", "badge-warn"), ("  ", "")]))
    if frame.replay is not None:
        sign = glyphs.play if frame.replay.playing else glyphs.pause
        parts.append(Part([(f" REPLAY {sign} x{frame.replay.speed:g} ", "badge"), ("  ", "")]))
        parts.append(Part([(f"{clock(frame.t_s)}", "strong"), (f" /{clock(frame.replay.length_s)} ", "dim")]))
        return parts
    parts += _company(condition.wheel, glyphs)
    parts.append(Part([(clock(frame.t_s), "strong"), (" ", "")]))
    if condition.lost is not None:
        parts.append(Part([("stopped", "dim"), ("  ", "")], 6))
    elif frame.recording_problem is not None:
        parts.append(Part([(f"{glyphs.warn}not all recorded", "bad"), ("  ", "")], 2))
    elif frame.recording:
        parts.append(Part([(f"{glyphs.record}REC", "bad"), ("  ", "")], 2))
    else:
        parts.append(Part([("not recording", "dim"), ("  ", "")], 6))
    if missing := heard(frame.crew):
        parts.append(Part([(f"{glyphs.warn}{missing}", "bad"), ("  ", "")], 2))
    parts.append(Part(_client(frame, glyphs), 4))
    if slowest := slowest_elsewhere(frame.client):
        parts.append(Part([(f"{plain(slowest, glyphs)} ", "dim")], 6))
    return parts


def _company(wheel: Wheel, glyphs: Glyphs) -> list[Part]:
    """Which screen drives and how many there are, where it is not this one alone."""
    who, screens = company(wheel)
    badge = [Part([(" VIEW ", "badge"), ("  ", "")], 1)] if wheel.view else []
    told = ((who, "warn" if not wheel.view else "dim", 3), (screens, "dim", 5))
    return badge + [Part([(plain(text, glyphs), role), ("  ", "")], rank) for text, role, rank in told if text]


def _client(frame: Frame, glyphs: Glyphs) -> Runs:
    client = frame.client
    if client is None:
        return [(f"client {UNKNOWN} ", "dim")]
    tone = _CLIENT_TONES[client.state]
    symbol = {Tone.WARN: glyphs.warn, Tone.BAD: glyphs.bad}.get(tone, "")
    lag_ms = client.lag_p99_ms if client.lag_p99_ms is not None else client.loop_lag_ms
    figure = TIGHT.latency(lag_ms) if client.reason is None else client_sign(client.reason, TIGHT)
    return [("client ", "dim"), (f"{symbol}{figure} ", "text" if tone is Tone.GOOD else tone.value)]


# -- settings -----------------------------------------------------------------------------------------------------


def settings(frame: Frame | None, condition: Condition, glyphs: Glyphs, width: int) -> Runs:
    """How the load is made, besides the sliders."""
    if frame is None:
        return []
    if frame.replay is not None:
        return _replay_bar(frame, frame.replay, glyphs, width)
    point = frame.target
    loop = "open loop" if point.rate_rps is not None else "closed loop"
    pace = f"think {TIGHT.duration(point.think_time_s)}" if point.rate_rps is None else _arrivals(point)
    words = [(loop, 2), (pace, 4)]
    if point.gate is not None:
        words.append((gate_text(point.gate), 0))
    if point.shared_prefix:
        words.append((f"{TIGHT.round_percent(point.shared_prefix)} shared prefix", 3))
    if frame.profile:
        words.append((f"profile {plain(frame.profile, glyphs)}", 5))
    if frame.stage:
        left = "" if frame.stage_left_s is None else f" {TIGHT.duration(round(frame.stage_left_s))} left"
        words.append((f"stage {plain(frame.stage, glyphs)}{left}", 1))
    elif frame.finished:
        words.append(("plan finished", 1))
    parts = [Part([(f" {words[0][0]}", "dim")], words[0][1])]
    parts += [Part([(f" {glyphs.sep} ", "faint"), (word, "dim")], rank) for word, rank in words[1:]]
    if frame.foreign and frame.endpoint.state is not EndpointState.DOWN:
        requests = "request" if round(frame.foreign) == 1 else "requests"
        foreign = f"{glyphs.warn}{TIGHT.whole(frame.foreign)} foreign {requests} on the server"
        parts.append(Part([(f" {glyphs.sep} ", "faint"), (foreign, "warn")], 0))
    if frame.server is not None and frame.server.late_ms is not None and frame.server.late_ms >= LATE_MS:
        late = f"{glyphs.warn}simulator late {TIGHT.latency(frame.server.late_ms)}"
        parts.append(Part([(f" {glyphs.sep} ", "faint"), (late, "warn")], 0))
    if condition.note:
        parts.append(Part([(f" {glyphs.sep} ", "faint"), (plain(condition.note, glyphs), "focus")], 0))
    figures, charts = TIGHT.duration(frame.window.span_s), TIGHT.duration(span_of(frame))
    spans = Part([(f"figures {figures} {glyphs.sep} charts {charts} ", "faint")], 6)
    return fit(parts, [spans], width, glyphs.more)


def _replay_bar(frame: Frame, replay: ReplayPosition, glyphs: Glyphs, width: int) -> Runs:
    """Where the replay stands, under the tracks of the sliders."""
    state = "end of it" if frame.finished else "playing" if replay.playing else "paused"
    label = f" {'replay':<{LABEL_CELLS - 1}}"
    figure = f"{state:>10} x{replay.speed:g} "
    cells = max(4, width - len(label) - FIGURE_CELLS)
    share = min(1.0, frame.t_s / replay.length_s) if replay.length_s > 0 else 1.0
    done = round(share * (cells - 1))
    track: Runs = [(glyphs.track_done * done, "flow"), (glyphs.knob, "knob")]
    return [(label, "text"), *track, (glyphs.track * (cells - 1 - done), "track"), (figure, "dim")]


def _arrivals(point: LoadPoint) -> str:
    if point.burstiness == 1:
        return "Poisson"
    return "constant" if point.burstiness == float("inf") else f"burstiness {point.burstiness:g}"


# -- events -------------------------------------------------------------------------------------------------------


class Entry(Struct, frozen=True, order=True):
    """One line of the event log."""

    t_s: float
    text: str
    role: str = "text"
    remedy: bool = False
    """Whether its last clause says what to do, and so is kept where the text is cut."""


def entries(frame: Frame | None, glyphs: Glyphs) -> list[Entry]:
    """Events, marks, movements of the load, and kinds of failures by their newest, in one list, oldest first."""
    if frame is None:
        return []
    roles = {"warning": "warn", "error": "bad"}
    signs = {"warning": f"{glyphs.warn} ", "error": f"{glyphs.bad} "}
    found = [
        Entry(
            event.t_s,
            signs.get(event.severity, "") + plain(event.text, glyphs),
            roles.get(event.severity, "text"),
            event.kind == "endpoint",
        )
        for event in frame.events
    ]
    found += [
        Entry(
            group.last_s, f"{glyphs.bad} {plain(failure_seen(group, TIGHT), glyphs)}", "bad", bool(group.retry_after_s)
        )
        for group in frame.failures
    ]
    found += [Entry(mark.t_s, f'mark "{plain(mark.text, glyphs)}"', "mark") for mark in frame.marks]
    told = [event.t_s for event in frame.events if event.kind == "load"]
    before: LoadChange | None = None
    for change in frame.changes:
        text = _movement(before, change, glyphs)
        before = change
        if text and not any(abs(change.t_s - t_s) < 0.5 for t_s in told):
            found.append(Entry(change.t_s, text, "dim"))
    return sorted(found)


def _movement(before: LoadChange | None, change: LoadChange, glyphs: Glyphs) -> str:
    if before is None:
        return ""
    old, new = before.point, change.point
    words = []
    for name, was, now in (
        ("concurrency", old.concurrency, new.concurrency),
        ("rate", old.rate_rps, new.rate_rps),
        ("prompt", old.prompt_tokens, new.prompt_tokens),
        ("output", old.output_tokens, new.output_tokens),
    ):
        if was != now and now is not None:
            words.append(f"{name} {now:g}" if was is None else f"{name} {was:g}{glyphs.arrow}{now:g}")
    if old.gate != new.gate:
        words.append(
            gate_text(new.gate) if None in (old.gate, new.gate) else f"gate {old.gate}{glyphs.arrow}{new.gate}"
        )
    reason = "" if change.reason in ("hand", "stage") else f" ({change.reason})"
    return ", ".join(words) + reason if words else ""


def event_line(found: Sequence[Entry], glyphs: Glyphs, width: int) -> Runs:
    """As many of the newest as fit, the newest last."""
    runs: Runs = []
    room = width - 1
    for entry in reversed(found):
        text = f"{clock(entry.t_s)} {entry.text}"
        need = len(text) + (3 if runs else 0)
        if need > room:
            if not runs:
                stamp = f" {clock(entry.t_s)} "
                left = width - len(stamp)
                whole = cut_inside(entry.text, left, glyphs.more) if entry.remedy else entry.text
                return [(stamp, "faint"), *cut([(whole, entry.role)], left, glyphs.more)]
            break
        sep: Runs = [(f" {glyphs.sep} ", "faint")] if runs else []
        runs = [(clock(entry.t_s) + " ", "faint"), (entry.text, entry.role), *sep, *runs]
        room -= need
    return [(" ", ""), *runs]


# -- caption and coach --------------------------------------------------------------------------------------------

NEWS_S = 4.0
"""So long an event that warns has the row that it shares with caption and coach."""


def is_news(found: Sequence[Entry], t_s: float) -> bool:
    """Whether one of the events is to be read now."""
    return any(entry.role != "dim" and 0 <= t_s - entry.t_s < NEWS_S for entry in found[-3:])


def story(scene: Scene | None, coached: str, glyphs: Glyphs) -> list[Runs]:
    """The caption of a demo's scene, then what the coach says."""
    rows: list[Runs] = []
    if scene is not None:
        head = f" {scene.number}/{scene.of} {scene.name} "
        rows.append([(plain(head, glyphs), "badge"), (" ", ""), (plain(scene.caption, glyphs), "strong")])
    if coached:
        rows.append([(f" {glyphs.focus} ", "focus"), (plain(coached, glyphs), "focus")])
    return rows


# -- keys ---------------------------------------------------------------------------------------------------------


def keys(shown: Sequence[tuple[str, str, str]], width: int) -> Runs:
    """`key word` pairs that fit: (key, word, action). A click on one does its action, where it has one."""
    runs: Runs = [(" ", "")]
    room = width - 1
    for key, word, action in shown:
        need = len(key) + len(word) + 3
        if need > room + 2:
            break
        link = f"#{action}" if action else ""
        runs += [(key, f"key{link}"), (" " + word, f"dim{link}"), ("  ", "")]
        room -= need
    return runs
