"""A run that is told by hand, and an output that keeps what it hears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Command, Seen
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.domain.load import Caps, LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Ended, FactBatch, RunMeta, Told
from llmtop.domain.samples import LoadBin
from llmtop.errors import FileError

BASE = LoadPoint(concurrency=1, prompt_tokens=32, output_tokens=8)
META = RunMeta(
    llmtop_version="0",
    started_at=0.0,
    endpoint=Endpoint(base_url="http://h"),
    profile=Profile(name="p", plan=LoadPlan(stages=(), base=BASE), caps=Caps(max_concurrency=64)),
)
INFO = EndpointInfo(dialect=Dialect.VLLM, model="m")
CONNECTED = RunMeta(**{**{name: getattr(META, name) for name in META.__struct_fields__}, "info": INFO})


def frame(t_s: float = 0.0, **fields: Any) -> Frame:
    return Frame(seq=0, t_s=t_s, endpoint=EndpointStatus(state=EndpointState.UP), target=BASE, **fields)


def batch(t_s: float, **fields: Any) -> FactBatch:
    return FactBatch(t_s=t_s, bins=(LoadBin(t_s=t_s, span_s=0.25, target=1, in_flight=1),), **fields)


def record(outcome: Outcome, status: int | None) -> RequestRecord:
    """A request that came to this end."""
    stamps = ("sent_ns", "connect_ns", "headers_ns", "first_token_ns", "first_answer_ns", "last_token_ns")
    lengths = ("asked_prompt_tokens", "asked_output_tokens", "prompt_tokens", "output_tokens")
    return RequestRecord(
        scheduled_ns=0,
        dispatched_ns=0,
        end_ns=1,
        started_at=0.0,
        outcome=outcome,
        status=status,
        **dict.fromkeys(stamps),
        **dict.fromkeys(lengths, 1),
    )


class FakeLink:
    """Tells what it was given, once; keeps what it was sent."""

    def __init__(self, meta: RunMeta | None = CONNECTED) -> None:
        self.told = [Told(meta=meta)]
        self.sent: list[Command] = []
        self.shown = frame()
        self.last = Told()
        """Told once it is closed."""
        self.look: Callable[[], object] = lambda: None
        """Called whenever somebody looks."""
        self.closed = 0

    @property
    def asked(self) -> list[Command]:
        """What it was sent, but for the word that the run is attended to."""
        return [command for command in self.sent if command != Seen()]

    def frame(self) -> Frame:
        self.look()
        return self.shown

    def take(self) -> Told:
        return self.told.pop(0) if self.told else Told()

    def send(self, command: Command) -> None:
        self.sent.append(command)

    def close(self) -> None:
        self.closed += 1
        self.told.append(structs.replace(self.last, ended=Ended()))


class Diary:
    """An output that keeps what it hears."""

    def __init__(self, fails: str = "") -> None:
        self.heard: list[str] = []
        self.last: Assessment | None = None
        self._fails = fails

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what == self._fails:
            raise FileError("diary.txt", "no room left")

    def begin(self, meta: RunMeta) -> None:
        self._hear("begin")

    def tell(self, batch: FactBatch) -> None:
        self._hear(f"tell {batch.t_s:g}")

    def judged(self, assessment: Assessment) -> None:
        self.last = assessment
        self._hear("judged")

    def end(self, meta: RunMeta) -> None:
        self._hear("end")
