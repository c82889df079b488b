"""The run: the load, the scrapes, the meter and the recorder on one clock, tick by tick."""

from __future__ import annotations

import asyncio
import itertools
import platform
import time

import msgspec

from llmtop import __version__
from llmtop.domain.commands import (
    AddMark,
    Command,
    Export,
    Imagine,
    InjectFault,
    Note,
    Quit,
    Restart,
    Seek,
    Seen,
    SetKnob,
    SetLoad,
    SetRecording,
    ShowMap,
    Steer,
    StopLoad,
)
from llmtop.domain.endpoint import EndpointInfo, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, Offer
from llmtop.domain.plain import plain
from llmtop.domain.run import Ending, FactBatch, Mark, RunMeta, Severity
from llmtop.errors import EndpointAuthFailed, EndpointError, EndpointUnreachable, ServeError, UsageError
from llmtop.load.engine import LoadEngine
from llmtop.session.away import Away, absent_in, same_process
from llmtop.session.contact import Contact
from llmtop.session.finding import find_out, in_time
from llmtop.session.journal import Journal
from llmtop.session.known import Known
from llmtop.session.meant import Meant
from llmtop.session.options import SessionOptions
from llmtop.session.recorder import Recorder
from llmtop.session.slots import try_gate, with_peak
from llmtop.session.status import endpoint_label, endpoint_status, run_name, settings_of
from llmtop.session.targets import SIMULATED, slots_told, target_of
from llmtop.session.turning import Turning
from llmtop.session.watch import EndpointWatch
from llmtop.session.work import Work, cancelled
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.restarts import RESTARTED, back_text, changes_text, restarted_text
from llmtop.wording.running import stood_still_text

TICK_S = 0.25
RETRY_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses before an endpoint that is down is tried again; the last one repeats."""
RETURN_S = (1.0, 2.0)
"""The same for one that went away under the run: how long it takes is told, and somebody waits to go on."""
NAMED_S = 2.5
"""How long a server that was started anew under a plan may take to say what it is now: the run may end meanwhile."""
DRAIN_S = 5.0
"""How long a leaving session waits for the server's own count to come back."""


class Session:
    """One run, in whichever process it is created (inside a running event loop).

    `start`, `frame`, `take_facts`, `command`, `close`; `failed` is a future that raises if a part of the session does.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._recorder = Recorder()
        self._journal = Journal(self._recorder)
        self._work = Work(self._journal)
        self._target = target_of(options)
        endpoint = options.endpoint or SIMULATED
        meta = RunMeta(
            llmtop_version=__version__,
            started_at=time.time(),
            endpoint=endpoint,
            profile=options.profile,
            label=options.label,
            baselines=options.baselines,
            seed=options.seed,
            host=platform.node(),
            preset=options.preset if endpoint.simulated else None,
            settings=settings_of(options) if endpoint.simulated or options.serving else options.settings,
        )
        self._known = Known(endpoint, meta, self._recorder, self._journal)
        self._meant = Meant()
        self._watch = EndpointWatch()
        self._contact = Contact(self._known, self._meant, self._journal, self._work, self._hear_of_start)
        self._turning = Turning(self._known, self._journal)
        self._retry_at_s: float | None = None
        self._apart = False
        """The contact was ended for a restart."""
        self._problem = ""
        """With the server's command, as far as it was told."""
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False
        self.failed = self._work.failed

    @property
    def meta(self) -> RunMeta:
        return self._known.meta

    @property
    def t_s(self) -> float:
        """Now, on the run clock."""
        return self._journal.t_s

    # ── Life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start the target if it is ours to start, open the run file, and begin to connect.

        Raises:
            RunFileError: the run file cannot be made.
            EndpointError: the endpoint cannot be driven, and the session is not `patient`.
        """
        self._known.reached_at(await self._target.start(), self._target)
        info = None if self._options.patient else await in_time(self._options, self._known.endpoint, self._find_out())
        name = self._options.label or self.meta.preset or endpoint_label(self.meta)
        self._recorder.open(self._options.run_file, name, self.meta)
        self._journal.tell_of_recording()
        if info is None:
            self._connect()
        else:
            await self._begin(info)
        self._work.begin(self._tick_forever())
        if self._target.bank is not None:
            self._work.begin(self._turning.watch(self._target, self._target.bank, self._is_there))

    async def close(self, drain_s: float = DRAIN_S, ending: Ending | None = None, why: str = "") -> None:
        """Stop the load, see the server drain, close the run file, end what was started. May be called twice.

        Args:
            drain_s: how long to wait for the server's own count to come back.
            ending: how the run came to its end, where that is known; noted in `meta` with the run's length.
            why: how that is told; empty: as it usually is.
        """
        if self._closed:
            return
        self._closed = True
        await self._work.end()
        if self._contact.engine is not None:
            await self._contact.engine.close()
            self._tick()
            await self._contact.drain(self.frame().foreign or 0.0, drain_s, TICK_S)
        if ending is not None:
            severity: Severity = "info" if ending in (Ending.PLAN, Ending.HAND) else "warning"
            self._journal.tell("load", why or ENDED_BY[ending], severity)
        self._tick()
        ended_s = self._journal.builder.t_s
        self._known.ended(ended_s, ending)
        await self._contact.close()
        try:
            driven = self._contact.engine is not None or bool(self.frame().marks)
            await self._journal.end(ended_s, ending, kept=driven and self._options.kept)
        finally:
            await self._target.close()  # a server takes its time to end; the run file does not wait for it

    def hurry(self) -> None:
        """Close without waiting for the server any longer."""
        self._contact.hurry()

    # ── Connecting ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _find_out(self) -> EndpointInfo:
        """What the endpoint is, and which of its knobs turn. Raises EndpointError."""
        away, driven = self._meant.away, self._contact.engine is not None
        return await find_out(self._options, self._known.endpoint, self._target.bank, away, driven=driven)

    def _connect(self) -> None:
        """See to it that the endpoint is asked for until it answers."""
        if self._connecting is None or self._connecting.done():
            self._connecting = self._work.begin(self._connect_patiently())

    async def _connect_patiently(self) -> None:
        """Probe until the endpoint answers; every failure shows, with a countdown to the next try."""
        meant = self._meant
        pauses_s = RETRY_S if meant.away is None else RETURN_S
        for pause_s in itertools.chain(pauses_s, itertools.repeat(pauses_s[-1])):
            try:
                info = await self._find_out()
            except EndpointError as error:
                if meant.away is not None and isinstance(error, EndpointUnreachable):
                    meant.away.absent = True
                refused = isinstance(error, EndpointAuthFailed)
                self._see(EndpointState.AUTH_FAILED if refused else EndpointState.DOWN, error.problem)
                self._retry_at_s = self.t_s + pause_s
                await asyncio.sleep(pause_s)
            else:
                self._retry_at_s = None
                await self._begin(info)
                if self._watch.state is not EndpointState.DOWN and meant.away is None:
                    return

    async def _begin(self, info: EndpointInfo) -> None:
        """The endpoint answers: take up the load, or offer it again to who saw the server go away."""
        if self._apart:
            await self._begin_anew(info)
        elif self._meant.away is not None:
            await self._come_back(self._meant.away, info)
        else:
            self._see(EndpointState.UP)
            target, endpoint = self._target, self._known.endpoint
            profile = await with_peak(self._options.profile, target, endpoint, info, self._journal)
            if profile is not self._options.profile:
                self._options = msgspec.structs.replace(self._options, profile=profile)
                self._known.planned(profile)
            await try_gate(profile, target, endpoint, info, self._journal)
            await self._contact.make(self._options, self._target, info)

    # ── A server that goes away, or is another one ────────────────────────────────────────────────────────────────

    def _hear_of_start(self) -> None:
        """The metrics say that another process answers."""
        if self._meant.away is not None:
            self._meant.away.restarted = True
        elif self._options.patient and self._contact.engine is not None:
            self._see(EndpointState.CONNECTING)
            self._journal.tell("server", f"{RESTARTED}: the load is 0 until it generates again", "warning")
            self._fall(self._contact.engine, restarted=True)
        else:
            self._work.begin(self._start_anew())

    def _fall(self, engine: LoadEngine, restarted: bool = False) -> None:
        """The server went away: no load from now on, until a hand takes it up again."""
        self._meant.fall(self.t_s, engine.target, restarted=restarted)
        engine.cut()
        self._meant.point = engine.target
        self._connect()

    async def _come_back(self, away: Away, info: EndpointInfo) -> None:
        """It generates again: what it is now is told, and belongs to an epoch of its own if it was started anew."""
        known, meant, seen, first = self._known, self._meant, self._contact.scraping.seen, None
        changes = known.changes(self._contact.client, info)
        if self._options.patient or changes:  # connections, counters and prompts are those of a process
            await self._contact.end(self._tick)
            known.learn_of_start(self._contact.client, info)
            first = await self._contact.make(self._options, self._target, info)
        same = same_process(seen, first)
        restarted = away.started_anew(same, bool(changes))
        if restarted:
            known.starts += 1
            known.begin_chapter(self._target, restarted_text(changes))
        elif changes:
            known.begin_chapter(self._target, changes_text(changes))
        text = back_text(self.t_s - away.since_s, changes, restarted, same)
        rests = "; the load stays at 0 until you set it" if meant.rests else ""
        self._journal.tell("endpoint", f"the server is {text}{rests}")
        if away.driven is not None and rests:
            meant.offer = Offer(self.t_s, away.driven, text)
        meant.away = None
        self._see(EndpointState.UP)

    async def _start_anew(self) -> None:
        """The server was started anew under a plan, which goes on: say what it is now, if it says so at once."""
        t_s, known = self.t_s, self._known
        changes: tuple[str, ...] = ()
        known.starts += 1
        try:
            async with asyncio.timeout(NAMED_S):
                info = await self._find_out()
        except (TimeoutError, EndpointError):
            pass
        else:
            changes = known.changes(self._contact.client, info)
            known.learn_of_start(self._contact.client, info)
        self._journal.tell("server", f"{restarted_text(changes)}: a new curve begins", "warning")
        known.begin_chapter(self._target, restarted_text(changes), t_s)

    async def _restart(self, settings: dict[str, str]) -> None:
        """Start the server again, or change it, while there is no load; what was driven before goes on after it."""
        async with self._turning.alone:
            await cancelled([self._connecting])
            engine, meant = self._contact.engine, self._meant
            if engine is not None and not self._apart:
                self._apart = True
                meant.take_apart(engine.target)
                engine.cut()
                await self._contact.end(self._tick)
                self._contact.scraper = None
                meant.point = meant.resumes or meant.point
            self._retry_at_s = None
            self._see(EndpointState.CONNECTING)
            try:
                await self._target.restart(settings)
            except (ServeError, UsageError, EndpointError) as error:
                meant.rest(meant.point or self._options.profile.plan.base)
                if self._target.status is not None and not self._target.status.runs:
                    self._see(EndpointState.DOWN, str(error))
                    return
            self._connect()

    async def _begin_anew(self, info: EndpointInfo) -> None:
        """The server answers after a restart that was asked for: what is measured now is measured with its settings."""
        known = self._known
        told = known.changes(self._contact.client, info)
        known.learn_of_start(self._contact.client, info)
        await self._contact.make(self._options, self._target, info)
        self._apart = False
        known.starts += 1
        text = restarted_text((*known.settings_changed(self._target, info), *told))
        known.begin_chapter(self._target, text)
        driven = self._meant.point is not None and self._meant.point.value
        self._journal.tell("server", text if driven else f"{text}; the load stays at 0 until you set it")
        self._see(EndpointState.UP)

    # ── Ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _tick_forever(self) -> None:
        tick = 0
        while True:
            tick += 1
            await asyncio.sleep(max(0.0, tick * TICK_S - self.t_s))
            self._tick()

    def _tick(self) -> None:
        """Everything that became known since the last tick, as one batch: recorded, shown, and judged by the watch."""
        batch = self._journal.tick(self._contact.take())
        before, meant = self._watch.state, self._meant
        self._journal.note(self._watch.observe(batch))
        falls = self._watch.state is EndpointState.DOWN and before is not EndpointState.DOWN
        if falls and self._contact.engine is not None and not self._apart:  # apart it restarts, because it was asked to
            self._fall(self._contact.engine)
        if meant.away is None:
            meant.driven.note(batch.changes)
        elif absent_in(batch):
            meant.away.absent = True
        self._heed_command()
        self._contact.heed_stop()

    def _heed_command(self) -> None:
        """Tell once what went wrong with the server's command; a server that is gone gets no load."""
        status = self._target.status
        problem = "" if status is None else status.problem
        if problem and problem != self._problem:
            self._journal.tell("server", problem, "error")
        self._problem = problem
        gone = status is not None and problem and not status.runs and not self._apart
        if gone and self._contact.engine is not None and self._watch.state is not EndpointState.DOWN:
            self._contact.engine.cut()
            self._see(EndpointState.DOWN, problem)

    def _is_there(self) -> bool:
        return self._meant.away is None and not self._apart

    def _see(self, state: EndpointState, problem: str | None = None) -> None:
        """The endpoint is found in that state."""
        self._journal.note(self._watch.to(state, self.t_s, problem))

    def stood_still(self, for_s: float, slept: bool) -> None:
        """Nothing was done for so long, as the machine slept or this process had no turn of it."""
        self._journal.tell("client", stood_still_text(for_s, slept), "warning")

    # ── What a screen sees and asks ───────────────────────────────────────────────────────────────────────────────

    def take_facts(self) -> tuple[FactBatch, ...]:
        """The batches since the last call, in order. Whoever wants all facts calls this often enough."""
        return self._journal.take()

    def frame(self) -> Frame:
        engine = self._contact.engine
        return self._journal.builder.frame(
            self._status(),
            max_concurrency=self._options.profile.caps.max_concurrency,
            stage=engine.stage if engine else None,
            stage_left_s=engine.stage_left_s if engine else None,
            profile=self.meta.profile.name,
            braked=engine.braked if engine else None,
            run_file=None if self._recorder.path is None else str(self._recorder.path),
            recording=self._recorder.on,
            recording_problem=self._recorder.problem,
            offer=self._meant.offer,
            canary_since_s=None if self._contact.canary is None else self._contact.canary.since_s,
            finished=engine.finished if engine else False,
        )

    def _status(self) -> EndpointStatus:
        retry_at_s, away, scraper = self._retry_at_s, self._meant.away, self._contact.scraper
        command, bank = self._target.status, self._target.bank
        return msgspec.structs.replace(
            endpoint_status(self.meta, self._watch.state, self._watch.since_s, self._watch.last_error),
            retry_in_s=None if retry_at_s is None else max(0.0, retry_at_s - self.t_s),
            awaited=away.stage if away else None,
            away_s=self.t_s - away.since_s if away else 0.0,
            metrics=scraper.missing if scraper and not scraper.partly else None,
            named=run_name(self.meta, self._known.turned),
            knobs=dict(self._target.knobs),
            knob_most={} if bank is None else dict(bank.most),
            knobs_by="" if bank is None else bank.by,
            no_knobs="" if bank is None else bank.none,
            slots=slots_told(self._target.knobs, self.meta.info, self._contact.scraping.seen),
            faults=dict(self._target.faults),
            command=command,
            last_error=command.work if command is not None and command.work else self._watch.last_error,
        )

    async def command(self, command: Command) -> None:
        """Carry out what a screen asks. What cannot be done is said in an event."""
        engine, meant = self._contact.engine, self._meant
        match command:
            case SetLoad(reason="search" | "hold" | "map" | "demo") if meant.away is not None:
                pass  # it does not know yet that nobody is there
            case SetLoad(point, gate_alone=True):
                behind = meant.put_behind(point, None if engine is None else engine.target)
                if engine is not None:
                    engine.command(behind, "hand")
            case SetLoad(point, reason):
                meant.set(point)
                if engine is not None:
                    engine.command(point, reason)
                self._contact.heed_stop()
            case StopLoad():
                if engine is not None:
                    engine.cut()
                self._contact.heed_stop()
                base = self._options.profile.plan.base if engine is None else engine.target
                meant.set(base.at(base.axis, 0))
            case AddMark(text):
                self._journal.marks.append(Mark(self.t_s, plain(text)))
            case SetRecording(on):
                self._recorder.turn(on)
                self._journal.tell("recording", "recording" if self._recorder.on else "recording paused")
            case Note(fact):
                self._journal.noted.append(fact)
            case Restart(settings):
                self._work.begin(self._restart(dict(settings)))
            case SetKnob() | InjectFault():
                # A server that hangs must not keep the next command waiting, which may be to stop the load.
                self._work.begin(self._turning.turn(self._target, command))
            case Seek() | Steer() | Imagine() | ShowMap() | Export() | Seen() | Quit():
                pass
