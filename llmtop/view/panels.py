"""From a frame to what the panels show."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.frame import Distribution, Frame, Replicas, Series
from llmtop.domain.run import LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, SloTarget
from llmtop.meter.frames import RECENT, STALE_S
from llmtop.meter.replicas import imbalance, is_uneven
from llmtop.view.condition import Condition, is_stale, span_of
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.raster import Cell, Layer, Tick, TimeAxis, Values
from llmtop.view.tone import Tone, judge_target
from llmtop.wording.figures import TIGHT
from llmtop.wording.replicas import called, counted, short_name, times

ONE_MOVE_S = 2.5
"""A ramp changes the load once a second, and a hand that looks for a load about as often."""


WAITS_S = 1.0
"""A canary that waits for less is answered before its age is read."""


class PanelView(Struct, frozen=True, kw_only=True):
    """What one panel shows. Values in the unit of `layers`."""

    title: str
    notes: tuple[str, ...] = ()
    """Small words beside the figure, from the fullest wording to the shortest: the first that fits is shown."""
    figure: str
    limit: str = ""
    tone: Tone = Tone.GOOD
    layers: tuple[Layer, ...] = ()
    dots: Values = ()
    """Drawn one by one over the layers, each as a `dot`."""
    dot: Cell = ("o", "")
    axis: TimeAxis = TimeAxis(0.0, 1.0, 60.0)
    ticks: tuple[Tick, ...] = ()
    limit_at: float | None = None
    floor: float = 1.0
    """The y axis never ends below this."""
    ceiling: float | None = None
    label: Callable[[float], str] = TIGHT.round_count
    """How a round y value is written beside the axis."""
    absent: str | None = None
    """Instead of a chart: why there is nothing to draw."""
    stale: bool = False
    drawn: str = ""
    """What the last layer is, where the title is of something else: p95, under a title of the SLO's p99."""
    write: Callable[[float | None], str] = TIGHT.count
    """How a value of `layers` is written as a figure."""
    about: str = ""
    """Before figures that are estimated."""
    cursor_s: float | None = None
    """The moment that is read; None: now."""


def short_limit(target: SloTarget | None) -> str:
    return "" if target is None else TIGHT.limit(target.metric, target.limit)


def panels(frame: Frame, slo: Slo, glyphs: Glyphs, condition: Condition, path: str = "") -> tuple[PanelView, ...]:
    """The six charts, in the order of their numbers.

    Args:
        path: what makes the latencies void, as `Assessment.path`.
    """
    stale = is_stale(frame, condition)
    axis = TimeAxis(frame.timeline.end_s, frame.timeline.step_s, span_of(frame))
    ticks = _ticks(frame, glyphs)
    views: tuple[PanelView, ...] = (
        _ttft(frame, slo.target("ttft"), glyphs),
        _tpot(frame, slo.target("tpot"), glyphs),
        _queue(frame, slo.target("queue"), glyphs),
        _kv(frame, slo.target("kv"), glyphs),
        _output(frame, glyphs),
        _errors(frame, slo.target("error_ratio")),
    )
    if path:
        views = (*(_void(view, plain(path, glyphs)) for view in views[:2]), *views[2:])
    if frame.window.error_ratio == 1:
        views = (*(_of_failures(view) for view in views[:2]), *views[2:])
    return tuple(_settled(view, axis, ticks, stale) for view in views)


def _of_failures(view: PanelView) -> PanelView:
    """A latency of requests that all fail is no good news."""
    tone = Tone.UNKNOWN if view.tone is Tone.GOOD else view.tone
    return replace(view, notes=("all fail",), tone=tone, stale=True)


def _void(view: PanelView, path: str) -> PanelView:
    """A figure that is not the server's: what is to be typed stands in the verdict."""
    why = path.partition("; ")[0]
    return replace(view, figure="void", notes=(), limit="", tone=Tone.UNKNOWN, absent=why)


def _settled(view: PanelView, axis: TimeAxis, ticks: tuple[Tick, ...], stale: bool) -> PanelView:
    tone = Tone.STALE if (stale or view.stale) and view.tone is not Tone.UNKNOWN else view.tone
    return replace(view, axis=axis, ticks=ticks, stale=stale or view.stale, tone=tone)


def moves(changes: Iterable[LoadChange], apart_s: float = ONE_MOVE_S) -> list[float]:
    """When the load began to move: changes that follow each other sooner than `apart_s` (a ramp) are one move.

    A stage begins a move of its own, unless it follows the begin of one sooner than that.
    """
    found: list[float] = []
    before: LoadChange | None = None
    for change in changes:
        other = before is None or (change.reason, change.stage) != (before.reason, before.stage)
        since = None if before is None else found[-1] if other else before.t_s
        if since is None or change.t_s - since >= apart_s:
            found.append(change.t_s)
        before = change
    return found


def _ticks(frame: Frame, glyphs: Glyphs) -> tuple[Tick, ...]:
    moved = moves(frame.changes)[len(frame.changes) == RECENT :]  # where a full list begins, no move is known to
    changes = [Tick(t_s, glyphs.change, "change") for t_s in moved]
    signs = dict(zip(("desired", "serving", "gone"), glyphs.scaling, strict=True))
    scaled = [Tick(step.t_s, signs[step.kind], "strong") for step in frame.scaling if step.kind in signs]
    return (*changes, *scaled, *(Tick(mark.t_s, glyphs.mark, "mark") for mark in frame.marks))


def _latency(name: str, target: SloTarget | None, window: Distribution, p50: Values, p95: Values) -> PanelView:
    stat = target.stat if target is not None and target.stat else "p95"
    value: float | None = getattr(window, stat)
    limit_ms = None if target is None else target.limit * 1e3
    history = [None if point is None else point / 1e3 for point in (p50 if stat == "p50" else p95)]
    notes: tuple[str, ...] = (f"n {window.n}", f"n{window.n}")
    if stat != "p50" and window.p50 is not None:
        notes = (f"p50 {TIGHT.latency(window.p50)}  n {window.n}", *notes)
    return PanelView(
        title=f"{name} {stat}",
        notes=notes,
        figure=TIGHT.latency(value),
        limit=short_limit(target),
        tone=judge_target(None if value is None else value / 1e3, target, history),
        layers=(Layer(p50, "area", None, True), Layer(p95, "line", "over")),
        limit_at=limit_ms,
        floor=1.0,
        label=TIGHT.round_latency,
        drawn=f"{name} p95",
        write=TIGHT.latency,
    )


def _ttft(frame: Frame, target: SloTarget | None, glyphs: Glyphs) -> PanelView:
    timeline = frame.timeline
    view = _latency("TTFT", target, frame.window.ttft, timeline.ttft_p50_ms, timeline.ttft_p95_ms)
    felt = _felt(frame)
    if not felt and not any(timeline.canary_ms):
        return view
    notes = [f"{glyphs.canary} {text}" for text in felt]
    wide = (f"{view.notes[0]}  {notes[0]}",) if notes else ()
    return replace(view, notes=(*wide, *notes, *view.notes), dots=timeline.canary_ms, dot=(glyphs.canary, "strong"))


def _felt(frame: Frame) -> tuple[str, ...]:
    """What a new user feels, the fullest wording first; while one waits for longer than it takes to read, how long."""
    felt, waits_s = frame.new_user, frame.new_user_waits_s
    if waits_s is not None and waits_s >= WAITS_S:
        age = TIGHT.latency(waits_s * 1e3)
        return f"new user waiting {age}", f"waits {age}", f">{age}"
    if felt is None:
        return ()
    if felt.p50_ms is None:
        return "new user: no token", "no token"
    p50, most = TIGHT.latency(felt.p50_ms), TIGHT.latency(felt.max_ms)
    return f"new user {p50}, max {most}", f"new user {p50}", p50


def _tpot(frame: Frame, target: SloTarget | None, glyphs: Glyphs) -> PanelView:
    timeline = frame.timeline
    view = _latency("TPOT", target, frame.window.tpot, timeline.tpot_p50_ms, timeline.tpot_p95_ms)
    view = replace(view, about=glyphs.about) if frame.guesses_tokens else view
    return replace(view, figure=view.about + view.figure) if frame.window.tpot.n else view


def _server_panel(frame: Frame, value: float | None, what: str, glyphs: Glyphs) -> tuple[str | None, str, bool]:
    """Why a server figure is absent (or None), its age where it is no longer current, and whether that is so."""
    if frame.endpoint.metrics is not None:
        return f"n/a: {plain(frame.endpoint.metrics, glyphs)}", "", False
    if frame.server is not None and value is None:
        return f"n/a: the server does not export {what}", "", False
    age_s = 0.0 if frame.server is None else frame.server.age_s
    return (None, f"{TIGHT.duration(round(age_s))} old", True) if age_s > STALE_S else (None, "", False)


def _queue(frame: Frame, target: SloTarget | None, glyphs: Glyphs) -> PanelView:
    server = frame.server
    waiting = None if server is None else server.waiting
    running = None if server is None else server.running
    note = "" if running is None else f"{TIGHT.count(running)} running"
    notes = (*_scaling(frame.replicas, note), *_spread(server, note), note)
    view = PanelView(title="queue", notes=notes, figure=TIGHT.count(waiting), floor=5.0)
    return _of_server(view, frame, waiting, frame.timeline.waiting, "its queue", target, glyphs)


def _scaling(replicas: Replicas | None, running: str) -> tuple[str, ...]:
    """How many replicas are ready while another number is wanted."""
    if replicas is None or replicas.desired in (None, replicas.ready):
        return ()
    told = counted(replicas.ready, replicas.desired)
    return (*(f"{running}  {text}" for text in told if running), *told)


def _spread(server: ServerSnapshot | None, running: str) -> tuple[str, ...]:
    """How many replicas run them and which is the fullest where the load is uneven, the fullest wording first."""
    rows = () if server is None else [row for row in server.replicas if row[1] is not None]
    found = imbalance(rows)
    if not rows or found is None:
        return ()
    of = "" if found.name.isdecimal() else f" on {len(rows)} replicas"
    if not is_uneven(found):
        return (f"{running}{of}",)
    short = called(short_name(found.name, [name for name, *_ in rows]))
    names = dict.fromkeys(f"{name} {times(found.ratio)}" for name in (called(found.name), short))
    wide = (*(f"{running}{of}, {name}" for name in names), *(f"{running}, {name}" for name in names), *names)
    return (*wide, f"{short} {times(found.ratio, TIGHT)}")


def _kv(frame: Frame, target: SloTarget | None, glyphs: Glyphs) -> PanelView:
    usage = None if frame.server is None else frame.server.kv_usage
    preemptions = frame.window.preemptions_per_s
    note = f"{TIGHT.count(preemptions)} preempt/s" if preemptions else ""
    view = PanelView(
        title="KV cache",
        notes=(note,),
        figure=TIGHT.percent(usage),
        floor=1.0,
        ceiling=1.0,
        label=TIGHT.round_percent,
        write=TIGHT.percent,
    )
    return _of_server(view, frame, usage, frame.timeline.kv_usage, "its KV cache usage", target, glyphs)


def _of_server(
    view: PanelView,
    frame: Frame,
    value: float | None,
    history: Series,
    what: str,
    target: SloTarget | None,
    glyphs: Glyphs,
) -> PanelView:
    """The panel of a figure that the server tells, if it tells it; its age stands in the place of its note."""
    absent, age, stale = _server_panel(frame, value, what, glyphs)
    return replace(
        view,
        notes=tuple(filter(None, (age,) if age else view.notes)),
        figure="n/a" if absent else view.figure,
        limit="" if absent else short_limit(target),
        tone=Tone.UNKNOWN if absent else judge_target(value, target, history),
        layers=(Layer(history, "flow-area", None, True), Layer(history, "flow", "over")),
        limit_at=None if target is None else target.limit,
        absent=absent,
        stale=stale,
    )


def _output(frame: Frame, glyphs: Glyphs) -> PanelView:
    window = frame.window
    value = window.output_tokens_per_s
    guessed = glyphs.about if frame.guesses_tokens else ""
    history = frame.timeline.output_tokens_per_s
    requests = window.requests_per_s
    return PanelView(
        title="output tok/s",
        notes=() if requests is None else (f"{TIGHT.count(requests)} req/s",),
        figure=TIGHT.count(value) if value is None else guessed + TIGHT.count(value),
        about=guessed,
        tone=Tone.UNKNOWN if value is None else Tone.GOOD,
        layers=(Layer(history, "area", None, True), Layer(history, "line")),
        floor=10.0,
    )


def _errors(frame: Frame, target: SloTarget | None) -> PanelView:
    ratio = frame.window.error_ratio
    totals = frame.totals
    history = frame.timeline.error_ratio
    ended = totals.ok + totals.errors
    return PanelView(
        title="errors",
        notes=_in_all(f"{TIGHT.whole(totals.errors)} of {TIGHT.whole(ended)}") if totals.errors else (),
        figure=TIGHT.percent(ratio),
        limit=short_limit(target),
        tone=judge_target(ratio, target, history),
        layers=(Layer(history, "area", None, True), Layer(history, "line", "over")),
        limit_at=None if target is None else target.limit,
        floor=0.02,
        ceiling=1.0,
        label=TIGHT.round_percent,
        write=TIGHT.percent,
    )


def _in_all(text: str) -> tuple[str, ...]:
    """What is of the run, beside a figure of its last seconds."""
    return (f"{text} in the run", f"run {text}", "")
