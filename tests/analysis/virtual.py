"""A hand-driven session against the simulated engine in virtual time: facts as a live run would record them."""

from __future__ import annotations

from collections.abc import Callable

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import FactBatch, LoadChange, RunMeta
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import Engine, Preset, StepPlan
from llmtop.simulator.engine.driver import Lengths, VirtualDriver, Visit

BIN_S = 0.25


def meta_of(name: str = "virtual") -> RunMeta:
    return RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://127.0.0.1:8000", simulated=True),
        info=EndpointInfo(dialect=Dialect.VLLM, model="sim"),
        profile=Profile(name=name),
    )


class _ProbedEngine(Engine):
    """An engine that calls back after each scheduling decision, when a real server would write its gauges."""

    probe: Callable[[int], None] | None = None

    def plan(self, now_ns: int) -> StepPlan | None:
        plan = super().plan(now_ns)
        if self.probe is not None:
            self.probe(now_ns)
        return plan


class VirtualSession:
    """Closed-loop users against a virtual engine; `facts` grows as `run_until` moves the clock.

    Args:
        limits: whether the server tells its own limits.
        gauges: whether it has metrics at all.
    """

    def __init__(
        self,
        preset: Preset,
        point: LoadPoint,
        *,
        seed: int = 0,
        output_cv: float = 0.3,
        prompt_cv: float = 0.3,
        gauges: bool = True,
        limits: bool = True,
    ) -> None:
        self.facts = Facts()
        self.meta = meta_of()
        self._preset = preset
        self._engine = _ProbedEngine(preset.config, preset.step_model, seed)
        self._driver = VirtualDriver(self._engine, preset.overhead, seed)
        self._point = point
        self._cv = (prompt_cv, output_cv)
        self._gauges, self._limits = gauges, limits
        self._in_flight: dict[int, Visit] = {}
        self._visits = self._driver.run()
        self._bin_s = BIN_S
        self._scrape_s = 1.0
        self._sent = self._ok = self._tokens = 0
        self.finished = 0
        self.sent_total = 0
        self.facts.extend(FactBatch(t_s=0.0, changes=(LoadChange(0.0, point),)))
        self._engine.probe = self._tick
        self._fill()

    @property
    def now_s(self) -> float:
        return self._driver.now_ns * 1e-9

    def command(self, point: LoadPoint) -> None:
        if point != self._point:
            self._point = point
            self.facts.extend(FactBatch(t_s=self.now_s, changes=(LoadChange(self.now_s, point),)))
        self._fill()

    def run_until(self, t_s: float) -> None:
        """Move the clock to the first end of a request at or after `t_s`."""
        for visit in self._visits:
            del self._in_flight[visit.number]
            self._record(visit)
            self._fill()
            if self.now_s >= t_s:
                return

    def _fill(self) -> None:
        self._tick(self._driver.now_ns)
        target = self._point.concurrency or 0
        lengths = Lengths(
            prompt_tokens=self._point.prompt_tokens,
            output_tokens=self._point.output_tokens,
            prompt_cv=self._cv[0],
            output_cv=self._cv[1],
        )
        while len(self._in_flight) < target:
            visit = self._driver.send(self._driver.now_ns, lengths)
            self._in_flight[visit.number] = visit
            self._sent += 1
            self.sent_total += 1

    def _record(self, visit: Visit) -> None:
        self.finished += 1
        self._ok += 1
        self._tokens += visit.output_tokens
        record = RequestRecord(
            scheduled_ns=visit.sent_ns,
            dispatched_ns=visit.sent_ns,
            sent_ns=visit.sent_ns,
            connect_ns=0,
            headers_ns=visit.sent_ns,
            first_token_ns=visit.first_token_ns,
            first_answer_ns=visit.first_token_ns,
            last_token_ns=visit.end_ns,
            end_ns=visit.end_ns,
            started_at=0.0,
            asked_prompt_tokens=self._point.prompt_tokens,
            asked_output_tokens=self._point.output_tokens,
            prompt_tokens=visit.prompt_tokens,
            output_tokens=visit.output_tokens,
            chunks=visit.output_tokens,
            token_source=TokenSource.USAGE,
            outcome=Outcome.OK,
        )
        self.facts.extend(FactBatch(t_s=self.now_s, requests=(record,)))

    def _tick(self, now_ns: int) -> None:
        """Close the bins and take the scrapes that are due by now (with the state of now: a step is short)."""
        now_s, engine = now_ns * 1e-9, self._engine
        bins = []
        while self._bin_s <= now_s:
            waiting = [visit.sent_ns for visit in self._in_flight.values() if visit.first_token_ns < 0]
            oldest = (self._bin_s - min(waiting) * 1e-9) if waiting else None
            bins.append(
                LoadBin(
                    t_s=self._bin_s,
                    span_s=BIN_S,
                    target=float(self._point.concurrency or 0),
                    in_flight=len(self._in_flight),
                    prefilling=len(waiting),
                    oldest_prefill_s=oldest,
                    sent=self._sent,
                    ok=self._ok,
                    output_tokens=self._tokens,
                )
            )
            self._sent = self._ok = self._tokens = 0
            self._bin_s += BIN_S
        server = []
        while self._gauges and self._scrape_s <= now_s:
            config = self._preset.config
            server.append(
                ServerSnapshot(
                    t_s=self._scrape_s,
                    running=engine.running,
                    waiting=engine.waiting,
                    kv_usage=engine.kv_usage,
                    preemptions_total=engine.statistics.preemptions,
                    requests_total=self.finished,
                    max_num_seqs=config.max_num_seqs if self._limits else None,
                    num_gpu_blocks=config.num_gpu_blocks if self._limits else None,
                    block_size=config.block_size if self._limits else None,
                )
            )
            self._scrape_s += 1.0
        if bins or server:
            self.facts.extend(FactBatch(t_s=now_s, bins=tuple(bins), server=tuple(server)))
