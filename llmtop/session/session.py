"""The run: the load, the scrapes, the meter and the recorder on one clock, tick by tick."""

from __future__ import annotations

import asyncio
import itertools
import platform
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from llmtop import __version__
from llmtop.dialects import DIALECTS
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
from llmtop.domain.endpoint import (
    Dialect,
    EndpointInfo,
    EndpointState,
    EndpointStatus,
)
from llmtop.domain.frame import Frame, Offer
from llmtop.domain.load import LoadPoint
from llmtop.domain.plain import LONG, plain
from llmtop.domain.run import (
    Chapter,
    Ending,
    Event,
    EventKind,
    FactBatch,
    JudgedLevel,
    Mark,
    RunMeta,
    SearchEnded,
    Severity,
    joined,
    safe_meta,
)
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe, reach, unchecked
from llmtop.errors import (
    EndpointAuthFailed,
    EndpointError,
    EndpointUnreachable,
    ServeError,
    UsageError,
    UsersError,
)
from llmtop.load.canary import CanaryLane
from llmtop.load.engine import LoadEngine
from llmtop.meter.frames import FrameBuilder
from llmtop.profiles import at_slots
from llmtop.session.away import Away, Driven, absent_in, same_process, turned
from llmtop.session.bank import Bank
from llmtop.session.driving import canary_for, engine_for, wanted_of
from llmtop.session.options import SessionOptions
from llmtop.session.recorder import Recorder
from llmtop.session.scaling import Scaling, source_of
from llmtop.session.status import endpoint_label, endpoint_status, info_changes, run_name, settings_of
from llmtop.session.targets import SIMULATED, slots_of, slots_told, target_of
from llmtop.session.watch import EndpointWatch
from llmtop.telemetry.gpu import GpuReader
from llmtop.telemetry.scraper import Scraper
from llmtop.wording.between import IN_TURN
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.gate import gate_idle
from llmtop.wording.knobs import moved_text, replicas_text
from llmtop.wording.replicas import started_anew
from llmtop.wording.restarts import RESTARTED, back_text, changes_text, restarted_text
from llmtop.wording.sentences import expected_peak

Fact = TypeVar("Fact")

TICK_S = 0.25
RETRY_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses before an endpoint that is down is tried again; the last one repeats."""
RETURN_S = (1.0, 2.0)
"""The same for one that went away under the run: how long it takes is told, and somebody waits to go on."""
KNOBS_S = 10.0
"""How often it is looked whether somebody else has turned a knob of a real server."""
NAMED_S = 2.5
"""How long a server that was started anew under a plan may take to say what it is now: the run may end meanwhile."""
DRAIN_S = 5.0
"""How long a leaving session waits for the server's own count to come back."""
START_S = 90.0
"""How long an endpoint may take to answer a probe whose every question has a limit of its own: a model that is loaded
from disk by the first request takes a minute."""
START_BEYOND_PLAN_S = 20.0
"""A run is not to take much longer than its plan, even if all of that time is spent on waiting for its first answer."""


class Session:
    """One run, in whichever process it is created (inside a running event loop).

    `start`, `frame`, `take_facts`, `command`, `close`; `failed` is a future that raises if a part of the session does.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._origin_ns = time.perf_counter_ns()
        self._endpoint = options.endpoint or SIMULATED
        self._target = target_of(options)
        meta = RunMeta(
            llmtop_version=__version__,
            started_at=time.time(),
            endpoint=self._endpoint,
            profile=options.profile,
            label=options.label,
            baselines=options.baselines,
            seed=options.seed,
            host=platform.node(),
            preset=options.preset if self._endpoint.simulated else None,
            settings=settings_of(options) if self._endpoint.simulated or options.serving else options.settings,
        )
        self.meta = safe_meta(meta)
        self._builder = FrameBuilder()
        self._watch = EndpointWatch()
        self._client: EndpointClient | None = None
        self._scraper: Scraper | None = None
        self._scraping: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        """For replicas."""
        self._scaling: Scaling | None = None
        self._gpus = GpuReader()
        self._engine: LoadEngine | None = None
        self._canary: CanaryLane | None = None
        self._flying: asyncio.Task[None] | None = None
        """The lane at work."""
        self._recorder = Recorder()
        self._stood: dict[str, float] = {}
        """Where the knobs stood at the last chapter."""
        self._turned: dict[str, float | str] = {}
        """Knobs that were turned, to what they stand at."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._untold: list[FactBatch] = []
        self._scraped: list[ServerSnapshot] = []
        self._gpu_samples: list[GpuSnapshot] = []
        self._marks: list[Mark] = []
        self._events: list[Event] = []
        self._chapters: list[Chapter] = []
        self._noted: list[JudgedLevel | SearchEnded] = []
        self._starts = 1
        self._retry_at_s: float | None = None
        self._wanted: LoadPoint | None = None
        self._driven = Driven()
        self._away: Away | None = None
        self._offer: Offer | None = None
        self._seen: ServerSnapshot | None = None
        """The last scrape that told something."""
        self._turning = asyncio.Lock()
        self._apart = False
        """The contact was ended for a restart."""
        self._resumes: LoadPoint | None = None
        """What was driven before it, unless somebody has commanded a load since."""
        self._set: dict[str, str] = {}
        """By the server's command."""
        self._problem = ""
        """With that command, as far as it was told."""
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False
        self._draining: asyncio.Task[None] | None = None
        self._hurried = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def t_s(self) -> float:
        """Now, on the run clock."""
        return (time.perf_counter_ns() - self._origin_ns) / 1e9

    # ── Life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start the target if it is ours to start, open the run file, and begin to connect.

        Raises:
            RunFileError: the run file cannot be made.
            EndpointError: the endpoint cannot be driven, and the session is not `patient`.
        """
        self._endpoint = await self._target.start()
        self._set = {} if self._target.status is None else dict(self._target.status.settings)
        self.meta = safe_meta(msgspec.structs.replace(self.meta, endpoint=self._endpoint))
        if self._options.patient:
            self._record()
            self._connect()
        else:
            info = await self._probe_in_time()
            self._record()
            await self._begin(info)
        self._spawn(self._tick_forever())
        if self._target.bank is not None:
            self._spawn(self._read_forever(self._target.bank))

    def _record(self) -> None:
        """Raises RunFileError: the run file that was asked for cannot be made."""
        name = self._options.label or self.meta.preset or endpoint_label(self.meta)
        self._recorder.open(self._options.run_file, name, self.meta)
        self._tell_of_recording()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            if isinstance(error, UsersError):
                self._tell("load", f"the run has ended: {error}", "error")
            self.failed.set_exception(error)

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
        await _cancel(self._tasks)
        if self._engine is not None:
            await self._engine.close()
            self._tick()
            self._draining = asyncio.create_task(self._see_the_server_drain(0.0 if self._hurried else drain_s))
            await asyncio.wait({self._draining})
            if not self._draining.cancelled():
                self._draining.result()
        if ending is not None:
            self._tell("load", why or ENDED_BY[ending], "info" if ending in (Ending.PLAN, Ending.HAND) else "warning")
        self._tick()
        ended_s = self._builder.t_s
        self.meta = msgspec.structs.replace(self.meta, ended_s=ended_s, ending=ending)
        for part in (self._scraper, self._scaling, self._client):
            if part is not None:
                await part.close()
        try:
            await self._end_writing(ended_s, ending)
        finally:
            await self._target.close()  # a server takes its time to end; the run file does not wait for it

    async def _end_writing(self, ended_s: float, ending: Ending | None) -> None:
        nothing = self._engine is None and not self.frame().marks
        if nothing or not self._options.kept:
            await asyncio.to_thread(self._recorder.discard)
            return
        await asyncio.to_thread(self._recorder.close, ended_s, ending)
        self._tell_of_recording()
        if self._events:
            last = FactBatch(t_s=self.t_s, events=_taken(self._events))
            self._builder.consume(last)
            self._untold.append(last)

    def hurry(self) -> None:
        """Close without waiting for the server any longer."""
        self._hurried = True
        if self._draining is not None:
            self._draining.cancel()

    async def _see_the_server_drain(self, drain_s: float) -> None:
        """Wait until the server's own count is back to what was there beside us; say so if it does not come back."""
        scraper, foreign = self._scraper, self.frame().foreign or 0.0
        if scraper is None or drain_s <= 0 or (scraper.missing is not None and not scraper.partly):
            return
        deadline_s = self.t_s + drain_s
        while self.t_s < deadline_s:
            snapshot = await scraper.scrape()
            self._scraped.append(snapshot)
            left = None if snapshot.running is None else snapshot.running + (snapshot.waiting or 0.0)
            if left is None:
                return
            if left <= foreign:
                self._tell("load", "the server has drained")
                return
            await asyncio.sleep(TICK_S)
        self._tell("load", f"{drain_s:g} s after all of ours were cancelled the server still has {left:g}", "warning")

    # ── Connecting ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _probe(self) -> EndpointInfo:
        """What the endpoint is, and which of its knobs turn. Raises EndpointError."""
        info, bank = await self._find_out(), self._target.bank
        return info if bank is None or self._options.skip_checks else await bank.look(info)

    async def _find_out(self) -> EndpointInfo:
        caps, away = self._options.profile.caps, self._away
        wanted = wanted_of(self._options.profile.workload)
        if not self._options.skip_checks:
            return await probe(self._endpoint, caps, reached=away.reach if away else None, wanted=wanted)
        if self._engine is not None:
            await reach(self._endpoint, caps)  # after an outage: that nobody looked is no sign that it is back
        return unchecked(self._endpoint, wanted)

    async def _probe_in_time(self) -> EndpointInfo:
        plan_s = self._options.profile.plan.duration_s
        limit_s = min(START_S, plan_s + START_BEYOND_PLAN_S) if plan_s else START_S
        try:
            async with asyncio.timeout(limit_s):
                return await self._probe()
        except TimeoutError:
            problem = f"did not say within {limit_s:g} s what it is: is the server hung or still loading?"
            raise EndpointUnreachable(self._endpoint.base_url, problem) from None

    def _connect(self) -> None:
        """See to it that the endpoint is asked for until it answers."""
        if self._connecting is None or self._connecting.done():
            self._connecting = self._spawn(self._connect_patiently())

    async def _connect_patiently(self) -> None:
        """Probe until the endpoint answers; every failure shows, with a countdown to the next try."""
        pauses_s = RETRY_S if self._away is None else RETURN_S
        for pause_s in itertools.chain(pauses_s, itertools.repeat(pauses_s[-1])):
            try:
                info = await self._probe()
            except EndpointError as error:
                if self._away is not None and isinstance(error, EndpointUnreachable):
                    self._away.absent = True
                state = EndpointState.AUTH_FAILED if isinstance(error, EndpointAuthFailed) else EndpointState.DOWN
                self._note(self._watch.to(state, self.t_s, error.problem))
                self._retry_at_s = self.t_s + pause_s
                await asyncio.sleep(pause_s)
            else:
                self._retry_at_s = None
                await self._begin(info)
                if self._watch.state is not EndpointState.DOWN and self._away is None:
                    return

    async def _begin(self, info: EndpointInfo) -> None:
        """The endpoint answers: take up the load, or offer it again to who saw the server go away."""
        if self._apart:
            await self._begin_anew(info)
        elif self._away is not None:
            await self._come_back(self._away, info)
        else:
            self._note(self._watch.to(EndpointState.UP, self.t_s))
            await self._expect_peak(info)
            await self._try_gate(info)
            await self._make_contact(info)

    def _fall(self, restarted: bool = False) -> None:
        """The server went away: no load from now on, until a hand takes it up again."""
        assert self._engine is not None
        if self._away is None:
            self._away, self._offer = Away(self.t_s, self._driven.at(self.t_s, self._engine.target)), None
        self._away.restarted = self._away.restarted or restarted
        self._engine.cut()
        self._wanted = self._engine.target
        self._connect()

    async def _come_back(self, away: Away, info: EndpointInfo) -> None:
        """It generates again: what it is now is told, and belongs to an epoch of its own if it was started anew."""
        changes, seen, first = self._changes(info), self._seen, None
        if self._options.patient or changes:  # connections, counters and prompts are those of a process
            await self._end_contact()
            self._learn_of_start(info)
            first = await self._make_contact(info)
        same = same_process(seen, first)
        restarted = away.started_anew(same, bool(changes))
        if restarted:
            self._starts += 1
            self._begin_chapter(restarted_text(changes))
        elif changes:
            self._begin_chapter(changes_text(changes))
        text = back_text(self.t_s - away.since_s, changes, restarted, same)
        rests = self._wanted is not None and not self._wanted.value
        self._tell("endpoint", f"the server is {text}{'; the load stays at 0 until you set it' if rests else ''}")
        if away.driven is not None and rests:
            self._offer = Offer(self.t_s, away.driven, text)
        self._away = None
        self._note(self._watch.to(EndpointState.UP, self.t_s))

    async def _start_anew(self) -> None:
        """The server was started anew under a plan, which goes on: say what it is now, if it says so at once."""
        t_s = self.t_s
        changes: tuple[str, ...] = ()
        self._starts += 1
        try:
            async with asyncio.timeout(NAMED_S):
                info = await self._probe()
        except (TimeoutError, EndpointError):
            pass
        else:
            changes = self._changes(info)
            self._learn_of_start(info)
        self._tell("server", f"{restarted_text(changes)}: a new curve begins", "warning")
        self._begin_chapter(restarted_text(changes), t_s)

    def _changes(self, info: EndpointInfo) -> tuple[str, ...]:
        """What a probe has found otherwise than what is known."""
        before, client = self.meta.info, self._client
        if before is None or client is None:
            return ()
        known = msgspec.structs.replace(before, flags=turned(before.flags, self._stood))
        return info_changes(known, client.access.shown(info))

    def _learn_of_start(self, info: EndpointInfo) -> None:
        """Keep what the server was at first beside what it is now."""
        before = self.meta.info
        if self.meta.began is None and before is not None and self._changes(info):
            began = msgspec.structs.replace(before, findings=(), models=())
            self.meta = safe_meta(msgspec.structs.replace(self.meta, began=began))
        if self._client is not None:
            self._learn(self._client, info)

    async def _expect_peak(self, info: EndpointInfo) -> None:
        """Let a profile whose peak comes from the server's slots know them."""
        profile = self._options.profile
        if not profile.peak_from_slots:
            return
        slots = await slots_of(self._target, self._endpoint, info)
        own, profile = profile.peak, at_slots(profile, slots)
        self._options = msgspec.structs.replace(self._options, profile=profile)
        self.meta = safe_meta(msgspec.structs.replace(self.meta, profile=profile))
        self._tell("load", expected_peak(profile.peak or 0, own or 0, slots, profile.caps.max_concurrency))

    async def _try_gate(self, info: EndpointInfo) -> None:
        """Say of a gate that the server itself is as narrow."""
        gates = self._options.profile.plan.gates
        slots = await slots_of(self._target, self._endpoint, info) if gates else None
        if slots is not None and slots <= max(gates, default=0):
            self._tell("load", gate_idle(max(gates), slots), "warning")

    async def _make_contact(self, info: EndpointInfo) -> ServerSnapshot | None:
        """Client, scraper and load for the endpoint as a probe has found it.

        Returns:
            After a server was away, what its metrics say first; None: nothing, or nobody was away.
        """
        self._client = client = EndpointClient(self._endpoint, info, self._options.profile.caps, self._origin_ns)
        self._learn(client, info)
        self._scraper = scraper = Scraper(
            msgspec.structs.replace(self._endpoint, model=info.model), info.dialect, self._origin_ns
        )
        if self._away is None:
            await scraper.reach()
        first = await scraper.scrape() if self._away is not None else None
        told = first if scraper.fresh else None
        self._scraping = self._spawn(self._scrape_forever(scraper))
        if self._scaling is None:
            self._scaling = Scaling(
                source_of(self._endpoint, info),
                now_s=lambda: self.t_s,
                renew=self._renew,
                waiting=lambda: (self._seen and self._seen.waiting) or 0.0,
                tell=self._tell,
            )
        self._looking = self._spawn(self._scaling.run(lambda: scraper.seen))
        self._engine = await engine_for(
            self._options,
            self._endpoint,
            info,
            client,
            wanted=self._wanted,
            origin_ns=self._origin_ns,
            tell=self._tell,
        )
        self._spawn(self._engine.run())
        options = self._options
        self._canary = await canary_for(options, self._endpoint, info, self._engine, origin_ns=self._origin_ns)
        if self._canary is not None:
            self._flying = self._spawn(self._canary.run())
        return told

    def _renew(self) -> int | None:
        """Have the load open new connections, if there is any."""
        return self._engine.renew() if self._engine is not None and self._engine.in_flight else 0

    async def _end_contact(self) -> None:
        """End client, scraper and load; the load that was commanded stays the one that is wanted."""
        beside = (self._scraping, self._looking, self._flying)
        await _cancel({task for task in beside if task is not None})
        if self._engine is not None:
            self._wanted = self._engine.target
            await self._engine.close()
            self._tick()
        for part in (self._scraper, self._client):
            if part is not None:
                await part.close()

    def _learn(self, client: EndpointClient, info: EndpointInfo) -> None:
        """What is known of the endpoint from now on, for the screen, the run file and the verdicts."""
        info = client.access.shown(info)
        endpoint = msgspec.structs.replace(self._endpoint, model=info.model, dialect=info.dialect)
        source = client.stamp_source
        self.meta = safe_meta(msgspec.structs.replace(self.meta, endpoint=endpoint, info=info, stamp_source=source))
        self._recorder.update_meta(self.meta)

    @property
    def _beside_us(self) -> bool:
        """Whether the GPUs of this machine are the server's."""
        return not self._endpoint.simulated and self._endpoint.is_here

    def _heed(self, dialect: Dialect) -> None:
        """The metrics are another dialect's than the endpoint was taken for: they count where nothing was known."""
        info, client = self.meta.info, self._client
        if info is None or client is None or dialect is info.dialect:
            return
        title = DIALECTS[dialect].title
        if self._endpoint.dialect is None and info.dialect is Dialect.OPENAI:
            for each in (client, *((self._canary.client,) if self._canary is not None else ())):
                each.use(dialect, each.bodies.model, each.bodies.shape)
            self._learn(client, msgspec.structs.replace(info, dialect=dialect, has_metrics=True))
            self._tell("endpoint", f"its metrics are those of {title}: taken for {title} from now on")
        else:
            taken = DIALECTS[info.dialect].title
            self._tell("endpoint", f"its metrics are those of {title}, though it is taken for {taken}", "warning")

    async def _scrape_forever(self, scraper: Scraper) -> None:
        seen, lacking, said = scraper.dialect, None, None
        while True:
            started_s = self.t_s
            snapshot = await scraper.scrape()
            if scraper.fresh:
                if not scraper.in_turn:
                    snapshot = self._target.over(snapshot)
                self._scraped.append(snapshot)
                self._seen = snapshot
            if scraper.dialect is not seen:
                seen = scraper.dialect
                self._heed(seen)
            for name in scraper.anew:
                self._tell("server", started_anew(name), "warning")
            missing = None if scraper.in_turn else scraper.missing
            stays = missing == lacking and bool(self._endpoint.metrics_urls)
            if missing is not None and missing != said and (scraper.partly or stays):
                said = missing
                self._tell("server", missing, "warning")
            lacking = missing
            said = None if missing is None else said
            if scraper.restarted:
                self._hear_of_start()
            if scraper.in_turn and scraper.fresh:
                self._tell("server", scraper.missing or IN_TURN, "warning")
                if self._target.bank is not None:
                    self._target.bank.withdraw(replicas_text())
            self._gpu_samples.extend(scraper.gpus)
            if self._beside_us and not scraper.gpus:
                self._gpu_samples.extend(await asyncio.to_thread(self._gpus.read, self.t_s))
            await asyncio.sleep(max(0.0, 1.0 - (self.t_s - started_s)))

    async def _read_forever(self, bank: Bank) -> None:
        """Others may turn the server's knobs as well: what they turned is a configuration of its own."""
        while True:
            await asyncio.sleep(KNOBS_S)
            async with self._turning:
                before = bank.knobs
                if self._away is None and not self._apart and await bank.again():
                    text = moved_text(before, bank.knobs)
                    self._tell("server", text, "warning")
                    self._begin_chapter(text)

    def _hear_of_start(self) -> None:
        """The metrics say that another process answers."""
        if self._away is not None:
            self._away.restarted = True
        elif self._options.patient and self._engine is not None:
            self._note(self._watch.to(EndpointState.CONNECTING, self.t_s))
            self._tell("server", f"{RESTARTED}: the load is 0 until it generates again", "warning")
            self._fall(restarted=True)
        else:
            self._spawn(self._start_anew())

    # ── Ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _tick_forever(self) -> None:
        tick = 0
        while True:
            tick += 1
            await asyncio.sleep(max(0.0, tick * TICK_S - self.t_s))
            self._tick()

    def _tick(self) -> None:
        """Everything that became known since the last tick, as one batch: recorded, shown, and judged by the watch."""
        load = (self._engine.take(),) if self._engine is not None else ()
        t_s, noted = self.t_s, _taken(self._noted)
        own = FactBatch(
            t_s=t_s,
            server=_taken(self._scraped),
            gpu=_taken(self._gpu_samples),
            marks=_taken(self._marks),
            events=_taken(self._events),
            chapters=_taken(self._chapters),
            tested=tuple(fact for fact in noted if isinstance(fact, JudgedLevel)),
            searches=tuple(fact for fact in noted if isinstance(fact, SearchEnded)),
            canaries=() if self._canary is None else self._canary.take(),
            scaling=() if self._scaling is None else self._scaling.take(),
        )
        batch = joined(t_s, (*load, own))
        self._builder.consume(batch)
        self._untold.append(batch)
        self._recorder.write(batch)
        self._tell_of_recording()
        before = self._watch.state
        self._note(self._watch.observe(batch))
        if self._watch.state is EndpointState.DOWN and before is not EndpointState.DOWN and self._can_fall:
            self._fall()
        if self._away is None:
            self._driven.note(batch.changes)
        elif absent_in(batch):
            self._away.absent = True
        self._heed_command()
        self._heed_stop()

    def _heed_stop(self) -> None:
        """Where there is no load any more, nothing else of ours is in flight."""
        if self._canary is not None:
            self._canary.look()

    @property
    def _can_fall(self) -> bool:
        """Whether there is a load that could: none while the server restarts because it was asked to."""
        return self._engine is not None and not self._apart

    def _tell_of_recording(self) -> None:
        for severity, text in self._recorder.news():
            self._tell("recording", text, severity)

    def _begin_chapter(self, text: str, t_s: float | None = None) -> None:
        """What is measured from now on, or from `t_s` on, is another configuration's."""
        info = self.meta.info
        served = () if info is None else (info.dialect, info.model, info.server)
        knobs = (f"{name}={value:g}" for name, value in sorted(self._target.knobs.items()))
        status = self._target.status
        settings = () if status is None else (f"{name}={value}" for name, value in status.settings)
        key = " ".join((f"start={self._starts}", *(str(each) for each in served if each), *knobs, *settings))
        self._stood = dict(self._target.knobs)
        turned_to = self._turned.items()
        self._turned = {name: to for name, to in turned_to if isinstance(to, str) or self._stood.get(name) == to}
        bank = self._target.bank
        traits = () if info is None else turned(info.traits, self._stood, 1 if bank is None else bank.engines)
        self._chapters.append(Chapter(self.t_s if t_s is None else t_s, plain(text, LONG), key, traits))

    def _note(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)

    def _tell(self, kind: EventKind, text: str, severity: Severity = "info") -> None:
        self._events.append(Event(self.t_s, kind, plain(text, LONG), severity))

    # ── What a screen sees and asks ───────────────────────────────────────────────────────────────────────────────

    def take_facts(self) -> tuple[FactBatch, ...]:
        """The batches since the last call, in order. Whoever wants all facts calls this often enough."""
        return _taken(self._untold)

    def frame(self) -> Frame:
        engine = self._engine
        return self._builder.frame(
            self._status(),
            max_concurrency=self._options.profile.caps.max_concurrency,
            stage=engine.stage if engine else None,
            stage_left_s=engine.stage_left_s if engine else None,
            profile=self.meta.profile.name,
            braked=engine.braked if engine else None,
            run_file=None if self._recorder.path is None else str(self._recorder.path),
            recording=self._recorder.on,
            recording_problem=self._recorder.problem,
            offer=self._offer,
            canary_since_s=None if self._canary is None else self._canary.since_s,
            finished=engine.finished if engine else False,
        )

    def _status(self) -> EndpointStatus:
        retry_at_s, command, bank = self._retry_at_s, self._target.status, self._target.bank
        return msgspec.structs.replace(
            endpoint_status(self.meta, self._watch.state, self._watch.since_s, self._watch.last_error),
            retry_in_s=None if retry_at_s is None else max(0.0, retry_at_s - self.t_s),
            awaited=self._away.stage if self._away else None,
            away_s=self.t_s - self._away.since_s if self._away else 0.0,
            metrics=self._scraper.missing if self._scraper and not self._scraper.partly else None,
            named=run_name(self.meta, self._turned),
            knobs=dict(self._target.knobs),
            knob_most={} if bank is None else dict(bank.most),
            knobs_by="" if bank is None else bank.by,
            no_knobs="" if bank is None else bank.none,
            slots=slots_told(self._target.knobs, self.meta.info, self._seen),
            faults=dict(self._target.faults),
            command=command,
            last_error=command.work if command is not None and command.work else self._watch.last_error,
        )

    async def command(self, command: Command) -> None:
        """Carry out what a screen asks. What cannot be done is said in an event."""
        match command:
            case SetLoad(reason="search" | "hold" | "map" | "demo") if self._away is not None:
                pass  # it does not know yet that nobody is there
            case SetLoad(point, gate_alone=True):
                self._put_behind(point)
            case SetLoad(point, reason):
                self._wanted, self._resumes = point, None
                self._withdraw()
                if self._engine is not None:
                    self._engine.command(point, reason)
                self._heed_stop()
            case StopLoad():
                self._resumes = None
                if self._engine is not None:
                    self._engine.cut()
                self._heed_stop()
                base = self._options.profile.plan.base if self._engine is None else self._engine.target
                self._wanted = base.at(base.axis, 0)
                self._withdraw()
            case AddMark(text):
                self._marks.append(Mark(self.t_s, plain(text)))
            case SetRecording(on):
                self._recorder.turn(on)
                self._tell("recording", "recording" if self._recorder.on else "recording paused")
            case Note(fact):
                self._noted.append(fact)
            case Restart(settings):
                self._spawn(self._restart(dict(settings)))
            case SetKnob() | InjectFault():
                # A server that hangs must not keep the next command waiting, which may be to stop the load.
                self._spawn(self._turn(command))
            case Seek() | Steer() | Imagine() | ShowMap() | Export() | Seen() | Quit():
                pass

    def _put_behind(self, point: LoadPoint) -> None:
        """The gate of `point`, and the load as it is now: whoever turned the gate may not have seen yet that it fell.

        What may be taken up again stays so, behind the same gate.
        """
        gate, engine = point.gate, self._engine
        self._wanted = point if engine is None else msgspec.structs.replace(engine.target, gate=gate)
        if engine is not None:
            engine.command(self._wanted, "hand")
        if self._resumes is not None:
            self._resumes = msgspec.structs.replace(self._resumes, gate=gate)
        if self._offer is not None:
            point = msgspec.structs.replace(self._offer.point, gate=gate)
            self._offer = msgspec.structs.replace(self._offer, point=point)
        if self._away is not None and self._away.driven is not None:
            self._away.driven = msgspec.structs.replace(self._away.driven, gate=gate)

    def _withdraw(self) -> None:
        """A hand has set a load: there is no other to take up again."""
        self._offer = None
        if self._away is not None:
            self._away.driven = None

    async def _turn(self, wish: SetKnob | InjectFault) -> None:
        async with self._turning:
            before = self._target.knobs.get(wish.name)
            whose: EventKind = "simulator" if self._target.bank is None else "server"
            try:
                done = await self._target.turn(wish)
                self._tell(whose, done)
                if isinstance(wish, SetKnob):
                    self._turned[wish.name] = wish.value
                    self._begin_chapter(done if before is None else f"{wish.name} {before:g} → {wish.value:g}")
            except EndpointError as error:
                self._tell(whose, error.problem, "warning")
                if (now := self._target.knobs.get(wish.name)) != before:
                    self._begin_chapter(f"{wish.name} {before} → {now}")
            except UsageError as error:
                self._tell(whose, str(error), "warning")

    async def _restart(self, settings: dict[str, str]) -> None:
        """Start the server again, or change it, while there is no load; what was driven before goes on after it."""
        async with self._turning:
            if self._connecting is not None:
                await _cancel({self._connecting})
            engine = self._engine
            if engine is not None and not self._apart:
                self._apart, self._resumes = True, engine.target
                self._away = self._offer = None
                engine.cut()
                await self._end_contact()
                self._scraper = None
                self._wanted = self._resumes or self._wanted
            self._retry_at_s = None
            self._note(self._watch.to(EndpointState.CONNECTING, self.t_s))
            try:
                await self._target.restart(settings)
            except (ServeError, UsageError, EndpointError) as error:
                base = self._wanted or self._options.profile.plan.base
                self._wanted = base.at(base.axis, 0)
                if self._target.status is not None and not self._target.status.runs:
                    self._note(self._watch.to(EndpointState.DOWN, self.t_s, str(error)))
                    return
            self._connect()

    async def _begin_anew(self, info: EndpointInfo) -> None:
        """The server answers after a restart that was asked for: what is measured now is measured with its settings."""
        told = self._changes(info)
        self._learn_of_start(info)
        await self._make_contact(info)
        self._apart = False
        self._starts += 1
        status = self._target.status
        before, now = self._set, {} if status is None else dict(status.settings)
        silent = [name for name in now if now[name] != before.get(name) and name not in dict(info.traits)]
        changes = (*(f"{name} {before.get(name) or '?'} → {now[name]}" for name in silent), *told)
        self._set = now
        self._turned |= now
        self._begin_chapter(restarted_text(changes))
        rests = "" if self._wanted is not None and self._wanted.value else "; the load stays at 0 until you set it"
        self._tell("server", f"{restarted_text(changes)}{rests}")
        self._note(self._watch.to(EndpointState.UP, self.t_s))

    def _heed_command(self) -> None:
        """Tell once what went wrong with the server's command; a server that is gone gets no load."""
        status = self._target.status
        problem = "" if status is None else status.problem
        if problem and problem != self._problem:
            self._tell("server", problem, "error")
        self._problem = problem
        gone = status is not None and problem and not status.runs and not self._apart
        if gone and self._engine is not None and self._watch.state is not EndpointState.DOWN:
            self._engine.cut()
            self._note(self._watch.to(EndpointState.DOWN, self.t_s, problem))


def _taken(pile: list[Fact]) -> tuple[Fact, ...]:
    taken = tuple(pile)
    pile.clear()
    return taken


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
