"""The host of a run: one object that listens to it, judges it, steers it and tells others, whoever looks on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import (
    Command,
    Export,
    Imagine,
    InjectFault,
    Pilot,
    Quit,
    Restart,
    SaveProfile,
    Seen,
    SetKnob,
    SetLoad,
    ShowMap,
    Steer,
    StopLoad,
)
from llmtop.domain.frame import Frame
from llmtop.domain.run import Ended, Ending, RunMeta, Told
from llmtop.domain.shown import Answer, Shown, SinkState
from llmtop.domain.slo import Slo
from llmtop.domain.thresholds import RunThreshold
from llmtop.domain.verdicts import Bound, Kind
from llmtop.errors import LlmtopError, RunFileError, UsageError
from llmtop.host.judging import Judge
from llmtop.host.options import PATIENCE_S
from llmtop.host.outputs import Output, Outputs
from llmtop.host.steering import Helm
from llmtop.meter.facts import Facts
from llmtop.recording.reader import RunReader
from llmtop.wording.sinks import changes

if TYPE_CHECKING:
    from llmtop.analysis.sides import Side
    from llmtop.analysis.steady import Steerer

LISTEN_S = 0.25
ENDED: dict[Pilot, str] = {"search": "search ended: ", "hold": "", "map": "map: ", "demo": ""}
"""What is said before what one who steered has found."""
JUDGE_S = 1.0
"""An opinion costs 10 to 40 ms of CPU; nobody reads faster."""


class Link(Protocol):
    """The way to a run, live or recorded. `frame` and `send` may be called from any thread, `take` from one."""

    def frame(self) -> Frame | None:
        """The newest frame; None until the first has come."""
        ...

    def take(self) -> Told:
        """Everything that became known since the last call."""
        ...

    def send(self, command: Command, /) -> None:
        """Ask for something; nothing happens once the run has ended."""
        ...

    def close(self) -> None:
        """End the run in order and wait for it."""
        ...


class Host:
    """Attends to one run, from a thread of its own, from `start` to `close`: a screen that hangs changes nothing.

    Args:
        link: the run.
        slo: what it is judged by.
        outputs: who is told of it.
        search: let a capacity search take the wheel as soon as the endpoint answers.
        steerer: takes it in the search's place.
        baselines: reads earlier measurements and judges them by `slo`; called once, in a thread of its own.
        thresholds: what the run may not come to; judged at its end.
        clock: seconds of a monotonic clock; tests give their own.
    """

    left = False
    """Whoever asks it is in its own process: neither goes without the other."""

    def __init__(
        self,
        link: Link,
        slo: Slo,
        *,
        outputs: Sequence[Output] = (),
        search: bool = False,
        steerer: Steerer | None = None,
        baselines: Callable[[Slo], Sequence[Side]] | None = None,
        thresholds: Sequence[RunThreshold] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slo = slo
        self.facts = Facts()
        """All that was told. To be read from outside only after `close`."""
        self._link = link
        self._outputs = Outputs(outputs)
        self._sinks: tuple[SinkState, ...] = ()
        """As they were told of last."""
        self._judge = Judge(slo, thresholds=thresholds)
        self._helm = Helm(slo, link.send, wanted=search, steerer=steerer)
        self._exporting = threading.Lock()
        self._answering = threading.Lock()
        self._export_thread: threading.Thread | None = None
        self._baselines = baselines
        self._baselines_thread: threading.Thread | None = None
        self.unread: LlmtopError | None = None
        """Why an earlier measurement could not be read."""
        self._clock = clock
        self._judge_at = clock()
        self._meta: RunMeta | None = None
        self._assessment: Assessment | None = None
        self._answer: Answer | None = None
        self._ended: Ended | None = None
        self._failure: BaseException | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    # ── What a screen sees and asks ───────────────────────────────────────────────────────────────────────────────

    def shown(self) -> Shown:
        """The newest of everything. Raises what a bug in this host raised."""
        if self._failure is not None:
            raise self._failure
        return Shown(
            frame=self._link.frame(),
            assessment=self._assessment,
            meta=self._meta,
            steering=self._helm.steering,
            answer=self._answer,
            scene=self._helm.scene,
            sinks=self._outputs.states(),
            ended=self._ended,
        )

    def send(self, command: Command) -> None:
        """Carry out what concerns the host, pass on the rest. A load set by hand takes the wheel from a steerer."""
        if not isinstance(command, Seen):
            self._helm.touched()
        match command:
            case Steer(by, on):
                self._steer(by, on)
            case Imagine(settings):
                self._judge.imagined = settings
            case ShowMap(on):
                self._judge.maps = on
            case Export():
                self._export_thread = threading.Thread(target=self._export, name="export", daemon=True)
                self._export_thread.start()
            case SaveProfile():
                self._export_thread = threading.Thread(target=self._save_profile, name="profile", daemon=True)
                self._export_thread.start()
            case SetLoad(point, gate_alone=True) if self._helm.holds_behind(point.gate):
                self._link.send(command)
            case SetLoad() | StopLoad():
                self._helm.release(stopped=isinstance(command, StopLoad))
                self._link.send(command)
            case SetKnob() | InjectFault() | Restart():
                self._helm.touched(server=True)
                self._link.send(command)
            case _:
                self._link.send(command)

    def _steer(self, by: Pilot, on: bool) -> None:
        refusal = None
        if not on:
            self._helm.release()
        elif (frame := self._link.frame()) is not None and frame.replay is not None:
            refusal = "a recording is driven by nobody: this needs a live run"
        else:
            refusal = self._helm.steer(by, self._meta, None if frame is None else frame.target)
        if refusal is not None:
            self._say(refusal, refused=True)

    def _export(self) -> None:
        from llmtop.host.review import write_reports

        frame = self._link.frame()
        with self._exporting:
            try:
                if frame is None or frame.run_file is None:
                    raise UsageError("nothing is recorded yet")
                earlier = self._judge.baselines
                paths = write_reports(Path(frame.run_file), self.slo, baselines=lambda _: earlier)
            except LlmtopError as error:
                self._say(f"export: {error}", refused=True)
            else:
                self._say(f"exported {', '.join(str(path) for path in paths)}")

    def _save_profile(self) -> None:
        from llmtop.profiles import repeated_by, save_driven

        frame, facts, meta = self._link.frame(), self.facts, self._meta
        with self._exporting:
            try:
                if frame is None or meta is None:
                    raise UsageError("nothing was driven yet: there is no load to save")
                run_file = None if frame.run_file is None else Path(frame.run_file)
                if run_file is not None and (frame.replay is not None or facts.dropped):
                    with RunReader(run_file) as reader:
                        meta, facts = reader.meta, Facts.of(reader.batches())
                elif meta.ended_s is None:
                    meta = replace(meta, ended_s=facts.t_s)
                path = save_driven(meta, tuple(facts.changes), tuple(facts.chapters), run_file=run_file)
            except LlmtopError as error:
                self._say(f"profile: {error}", refused=True)
            else:
                self._say(f"profile saved: {repeated_by(path)}   ({path})")

    def read_baselines(self) -> None:
        """Read the earlier measurements now; `start` does so beside all else."""
        if self._baselines is None:
            return
        try:
            self._judge.baselines = tuple(self._baselines(self.slo))
        except LlmtopError as error:
            self.unread = error
            self._say(str(error), refused=True)

    def _say(self, text: str, *, refused: bool = False) -> None:
        with self._answering:
            number = 1 if self._answer is None else self._answer.number + 1
            self._answer = Answer(number, text, refused)

    # ── Life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> Self:
        self._thread = threading.Thread(target=self._attend, name="host", daemon=True)
        self._thread.start()
        if self._baselines is not None:
            read = threading.Thread(target=self.read_baselines, name="baselines", daemon=True)
            self._baselines_thread = read
            read.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attend(self) -> None:
        try:
            while self._ended is None and not self._closing.is_set():
                self.step()
                self._closing.wait(LISTEN_S)
        except BaseException as error:  # whoever asks next hears of it; nobody would attend to the load any more
            self._failure = error
            self._link.close()

    def step(self) -> None:
        """Listen once; once a second judge, and steer as often as that or closer."""
        self._listen()
        self._tell_sinks()
        now = self._clock()
        if self._meta is None:
            return
        judge = now >= self._judge_at
        if judge or self._helm.closely:
            self._steered(self._meta)
        if judge:
            self._judge_at = now + JUDGE_S
            self._form_opinion(self._meta)
        else:
            self._assessment = self._judge.imagine(self.facts, self._meta)

    def _steered(self, meta: RunMeta) -> None:
        by = self._helm.steering.by
        bound = Bound.NONE if self._assessment is None else self._assessment.diagnosis.bound
        found = self._helm.look(self.facts, meta, self._turns_at(), bound)
        if found is not None:
            self._say(ENDED[by] + found)

    def _turns_at(self) -> float | None:
        """The load at which latency turns, by the opinion of now."""
        cliff = None if self._assessment is None else self._assessment.cliff
        found = cliff is not None and cliff.kind is Kind.CLIFF and cliff.axis == "concurrency"
        return cliff.at if cliff is not None and found else None

    def _listen(self) -> None:
        told = self._link.take()
        if told.anew:
            self.facts = Facts()
        if told.meta is not None:
            self._meta = told.meta
            self._outputs.begin(told.meta)
        for batch in told.batches:
            self.facts.extend(batch)
            self._outputs.tell(batch)
        self._ended = self._ended or told.ended

    def _tell_sinks(self) -> None:
        """A sink that is down is said once, and that it is back."""
        before, self._sinks = self._sinks, self._outputs.states()
        for text, refused in changes(before, self._sinks):
            self._say(text, refused=refused)

    def _form_opinion(self, meta: RunMeta, full: bool | None = None) -> None:
        opinion = self._judge(self.facts, meta, full=full)
        if opinion is not self._assessment:
            self._assessment = opinion
            self._outputs.judged(opinion)

    def close(self, ending: Ending = Ending.HAND) -> None:
        """End the run in order, hear the last of it, judge it as a whole, end the outputs. May be called twice.

        The load ends first: an opinion or an output that takes its time keeps nothing running. A report that was asked
        for is written to its end.

        Raises:
            LlmtopError: an output failed.
        """
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        self._helm.release()
        self._link.send(Quit(ending))
        self._link.close()
        for thread in (self._thread, self._baselines_thread, self._export_thread):
            if thread is not None:
                thread.join(PATIENCE_S)
        if self._thread is not None and self._thread.is_alive():
            return
        if self._failure is None:
            self._listen()
            self._ended = self._ended or Ended()
            if self._meta is not None:
                self.facts = self._all_facts()
                if self._meta.ended_s is None:  # the session fell silent: what it told is all there is
                    self._meta = replace(self._meta, ended_s=self.facts.t_s)
                self._judge.imagined = ()
                self._form_opinion(self._meta, full=True)
        self._outputs.end()
        if self._outputs.error is not None and self._failure is None:
            raise self._outputs.error

    def _all_facts(self) -> Facts:
        """Those of the whole run: what a long one has dropped is read back from its file, if that is whole."""
        frame = self._link.frame()
        whole = frame is not None and frame.recording and frame.recording_problem is None
        if self.facts.dropped and frame is not None and frame.run_file is not None and whole:
            try:
                with RunReader(Path(frame.run_file)) as reader:
                    return Facts.of(reader.batches())
            except RunFileError:
                pass
        return self.facts
