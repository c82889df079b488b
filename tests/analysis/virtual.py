"""A session against the simulated engine in virtual time: facts as a live run would record them, faults included."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import ChangeReason, Chapter, FactBatch, JudgedLevel, LoadChange, RunMeta, SearchEnded
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import Engine, Preset, StepPlan
from llmtop.simulator.engine.driver import Lengths, VirtualDriver, Visit

BIN_S = 0.25
SCRAPE_S = 1.0
KnobValue = bool | int | float | str | None


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
    """Users or arrivals against a virtual engine; `facts` grows as `run_until` moves the clock.

    Args:
        limits: whether the server tells its own limits.
        gauges: whether it has metrics at all.
        foreign: users of somebody else on the same server, seen in its gauges only.
        probed_slots: whether the probe found the slots.
        reason: who commands the load.
        client: whether samples of the client are told; without, it is taken to be quick.
        streamed: whether tokens are counted as they come, as a live run does; without, as their request ends.

    Faults, to be set at any time: `engine.step_time_factor`, `.extra_step_ns`, `.step_model`; `fails` (share of
    requests that fail at once with HTTP 500), `refuses_above` (in flight, from which a proxy answers 503),
    `rss_per_s`, `leaked_blocks_per_s`, `late` (the client is the bottleneck), `warm` (share of prompts in the prefix
    cache, unasked).
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
        foreign: int = 0,
        probed_slots: bool = False,
        client: bool = False,
        streamed: bool = False,
        reason: ChangeReason = "hand",
    ) -> None:
        self.facts = Facts()
        self.batches: list[FactBatch] = []
        """All that was told, for what reads a run file."""
        self.meta = meta_of()
        if probed_slots:
            self.meta = replace(self.meta, info=replace(self.meta.info, max_num_seqs=preset.config.max_num_seqs))
        self.fails = 0.0
        self.refuses_above: int | None = None
        self.rss, self.rss_per_s = 1.0e9, 0.0
        self.leaked_blocks_per_s = 0.0
        self.late = False
        self.warm = 0.0
        self.hooks: list[tuple[float, Callable[[], None]]] = []
        """(when, what to do then): faults that come by themselves, in order."""
        self.reason = reason
        self._preset = preset
        self._seed = seed
        self._random = random.Random(7919 * seed + 1)
        self._point = point
        self._cv = (prompt_cv, output_cv)
        self._gauges, self._limits, self._foreign, self._client = gauges, limits, foreign, client
        self._streamed = streamed
        self._starts = 0
        self._in_flight: dict[int, Visit] = {}
        self._asked: dict[int, LoadPoint] = {}
        self._others: set[int] = set()
        self._held: list[int] = []
        """When those began to wait whom the gate holds, in order."""
        self._waited: dict[int, int] = {}
        """How long the gate held a request, by its number."""
        self._first_ms: list[float] = []
        """TTFT of the first tokens of this bin whose requests have ended in it, too."""
        self._due: list[tuple[int, int]] = []
        """(when, number of users): those who think, and in open loop the next arrival."""
        self._bin_s, self._scrape_s, self._second_s = BIN_S, SCRAPE_S, 1.0
        self._sent = self._ok = self._errors = self._tokens = 0
        self.finished = 0
        self.sent_total = 0
        self._boot()
        self._tell(FactBatch(t_s=0.0, changes=(LoadChange(0.0, point, reason),)))
        self._begin()

    def _boot(self) -> None:
        now_ns = 0
        if self._starts:
            now_ns, self.engine.probe = self._driver.now_ns, None
        self.engine = _ProbedEngine(self._preset.config, self._preset.step_model, self._seed + self._starts)
        self._driver = VirtualDriver(self.engine, self._preset.overhead, self._seed + self._starts)
        self._driver.now_ns = now_ns
        self._visits = self._driver.run()
        self._streamed_before = 0
        self._starts += 1
        self._others.clear()
        self._seen = [0.0] * 8
        self._lost = 0.0
        self.engine.probe = self._tick

    @property
    def now_s(self) -> float:
        return self._driver.now_ns * 1e-9

    # ── What a hand or a plan does ────────────────────────────────────────────────────────────────────────────────

    def command(self, point: LoadPoint, reason: ChangeReason | None = None) -> None:
        if point != self._point:
            self._point = point
            self._tell(FactBatch(t_s=self.now_s, changes=(LoadChange(self.now_s, point, reason or self.reason),)))
        self._begin()

    def turn(self, **knobs: KnobValue) -> None:
        """Turn knobs of the engine while it runs: a chapter."""
        self._preset = self._preset.with_knobs(knobs)
        self.engine.reconfigure(self._preset.config)
        key = " ".join(f"{name}={value}" for name, value in sorted(knobs.items()))
        self._tell(FactBatch(t_s=self.now_s, chapters=(Chapter(self.now_s, key, f"{self._starts} {key}"),)))

    def restart(self, *, told: bool = True) -> None:
        """The server is started anew: what runs on it fails, its counters begin at zero."""
        for visit in list(self._in_flight.values()):
            self._fail(visit, Outcome.TRUNCATED)
        self._in_flight.clear()
        self._held.clear()
        self._boot()
        if told:
            chapter = Chapter(self.now_s, "the server has restarted", str(self._starts))
            self._tell(FactBatch(t_s=self.now_s, chapters=(chapter,)))
        self._begin()

    def end(self, slo: Slo | None = None, plan: LoadPlan | None = None) -> RunMeta:
        """The meta of the run as it stands, ended now."""
        profile = self.meta.profile
        profile = replace(profile, slo=slo or profile.slo, plan=plan or profile.plan)
        return replace(self.meta, profile=profile, ended_s=self.facts.t_s)

    def note(self, learned: Iterable[JudgedLevel | SearchEnded]) -> None:
        """Keep what a search has learned among the facts."""
        facts = tuple(learned)
        tested = tuple(fact for fact in facts if isinstance(fact, JudgedLevel))
        ended = tuple(fact for fact in facts if isinstance(fact, SearchEnded))
        self._tell(FactBatch(t_s=self.now_s, tested=tested, searches=ended))

    def run_until(self, t_s: float) -> None:
        """Move the clock to the first end of a request at or after `t_s`; without any load, to `t_s` itself."""
        while self.now_s < t_s:
            driver = self._driver
            for visit in self._visits:
                if driver is not self._driver:
                    break
                if visit.number in self._others:
                    self._others.discard(visit.number)
                elif self._in_flight.pop(visit.number, None) is not None:
                    self._record(visit)
                    self._comes_back()
                self._fill()
                if self.now_s >= t_s:
                    return
            if driver is not self._driver:
                continue
            self._visits = driver.run()
            if self.now_s < t_s:
                self._driver.now_ns = round(min(t_s, self._due[0][0] * 1e-9 if self._due else t_s) * 1e9)
                self._tick(self._driver.now_ns)
                self._fill()

    # ── Users ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        self._tick(self._driver.now_ns)
        if self._point.rate_rps is not None:
            self._due = []
            if self._point.rate_rps > 0:
                heapq.heappush(self._due, (self._driver.now_ns + self._pause_ns(self._point.rate_rps), 1))
        else:
            self._due = self._due if self._point.think_time_s else []
        self._fill()

    def _pause_ns(self, rate_rps: float) -> int:
        shape = self._point.burstiness
        pause_s = 1 / rate_rps if math.isinf(shape) else self._random.gammavariate(shape, 1 / (shape * rate_rps))
        return max(1, round(1e9 * pause_s))

    def _comes_back(self) -> None:
        if self._point.concurrency is not None and self._point.think_time_s:
            heapq.heappush(self._due, (self._driver.now_ns + round(1e9 * self._point.think_time_s), 1))

    def _fill(self) -> None:
        """Let everybody send who is to by now, and keep one arrival in the driver's future to wake it."""
        now_ns, point = self._driver.now_ns, self._point
        if point.rate_rps is not None:
            while self._due and self._due[0][0] <= now_ns:
                at_ns, _ = heapq.heappop(self._due)
                self._come(now_ns)
                heapq.heappush(self._due, (at_ns + self._pause_ns(point.rate_rps), 1))
        else:
            while self._due and self._due[0][0] <= now_ns:
                heapq.heappop(self._due)
            spare = 0
            while self._under_way + len(self._due) < (point.concurrency or 0) and spare < 100_000:
                self._come(now_ns)
                spare += 1
        self._admit(now_ns)
        while len(self._others) < self._foreign:
            self._others.add(self._driver.send(now_ns, self._lengths()).number)

    def _lengths(self) -> Lengths:
        point = self._point
        return Lengths(
            prompt_tokens=point.prompt_tokens,
            output_tokens=point.output_tokens,
            prompt_cv=self._cv[0],
            output_cv=self._cv[1],
            shared_prefix=max(point.shared_prefix, self.warm),
        )

    @property
    def _under_way(self) -> int:
        return len(self._in_flight) + len(self._held)

    def _come(self, at_ns: int) -> None:
        """To the gate, if there is one."""
        self._sent += 1
        self.sent_total += 1
        if self._point.gate is None and not self._held:
            self._send(at_ns)
        else:
            self._held.append(at_ns)

    def _admit(self, now_ns: int) -> None:
        while self._held and (self._point.gate is None or len(self._in_flight) < self._point.gate):
            came_ns = self._held.pop(0)
            before = set(self._in_flight)
            self._send(now_ns)
            self._waited |= dict.fromkeys(self._in_flight.keys() - before, now_ns - came_ns)

    def _send(self, at_ns: int) -> None:
        refused = self.refuses_above is not None and len(self._in_flight) >= self.refuses_above
        if refused or (self.fails and self._random.random() < self.fails):
            visit = Visit(-self.sent_total, at_ns, self._point.prompt_tokens, 0)
            self._fail(visit, Outcome.HTTP_ERROR, 503 if refused else 500)
            if self._point.concurrency is not None:  # the user tries again a little later
                heapq.heappush(self._due, (at_ns + 100_000_000, 1))
            return
        visit = self._driver.send(at_ns, self._lengths())
        self._in_flight[visit.number] = visit

    # ── What is told ──────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, batch: FactBatch) -> None:
        self.batches.append(batch)
        self.facts.extend(batch)

    def _fail(self, visit: Visit, outcome: Outcome, status: int | None = None) -> None:
        self._errors += 1
        now_ns = max(self._driver.now_ns, visit.sent_ns) + 2_000_000
        self._tell(FactBatch(t_s=self.now_s, requests=(self._row(visit, outcome, now_ns, status),)))

    def _record(self, visit: Visit) -> None:
        self.finished += 1
        if visit.rejected:
            self._fail(visit, Outcome.HTTP_ERROR, 400)
            return
        self._ok += 1
        self._tokens += 0 if self._streamed else visit.output_tokens
        if visit.first_token_ns > (self._bin_s - BIN_S) * 1e9:
            self._first_ms.append(self._ttft_ms(visit))
        self._tell(FactBatch(t_s=self.now_s, requests=(self._row(visit, Outcome.OK, visit.end_ns),)))

    def _row(self, visit: Visit, outcome: Outcome, end_ns: int, status: int | None = None) -> RequestRecord:
        ok = outcome is Outcome.OK
        return RequestRecord(
            scheduled_ns=visit.sent_ns,
            dispatched_ns=visit.sent_ns,
            sent_ns=visit.sent_ns,
            held_ns=self._waited.pop(visit.number, 0),
            connect_ns=0,
            headers_ns=visit.sent_ns if ok else None,
            first_token_ns=visit.first_token_ns if ok else None,
            first_answer_ns=visit.first_token_ns if ok else None,
            last_token_ns=visit.end_ns if ok else None,
            end_ns=end_ns,
            started_at=0.0,
            asked_prompt_tokens=self._point.prompt_tokens,
            asked_output_tokens=self._point.output_tokens,
            prompt_tokens=visit.prompt_tokens,
            output_tokens=visit.output_tokens if ok else 0,
            chunks=visit.output_tokens if ok else 0,
            token_source=TokenSource.USAGE,
            outcome=outcome,
            status=status,
        )

    def _tick(self, now_ns: int) -> None:
        """Close the bins and take the scrapes that are due by now (with the state of now: a step is short)."""
        now_s = now_ns * 1e-9
        while self.hooks and self.hooks[0][0] <= now_s:
            self.hooks.pop(0)[1]()
        bins, server, client = [], [], []
        while self._bin_s <= now_s:
            bins.append(self._bin())
            self._bin_s += BIN_S
        while self._gauges and self._scrape_s <= now_s:
            server.append(self._snapshot())
            self._scrape_s += SCRAPE_S
        while self._client and self._second_s <= now_s:
            lag_ms = 500.0 if self.late else 0.1
            client.append(ClientSample(t_s=self._second_s, lag_p99_ms=lag_ms, lag_max_ms=lag_ms, cpu=0.2, tpot_ms=20.0))
            self._second_s += 1.0
        if self._due and self._due[0][0] <= now_ns:
            self._fill()
        if bins or server or client:
            self._tell(FactBatch(t_s=now_s, bins=tuple(bins), server=tuple(server), client=tuple(client)))

    def _ttft_ms(self, visit: Visit) -> float:
        return (visit.first_token_ns - visit.sent_ns + self._waited.get(visit.number, 0)) / 1e6

    def _bin(self) -> LoadBin:
        waiting = [visit.sent_ns for visit in self._in_flight.values() if visit.first_token_ns < 0]
        waiting = [*self._held, *waiting]
        since_ns, until_ns = (self._bin_s - BIN_S) * 1e9, self._bin_s * 1e9
        came = [visit for visit in self._in_flight.values() if since_ns < visit.first_token_ns <= until_ns]
        if self._streamed:
            streamed = self._driver.gauges.output_tokens
            self._tokens, self._streamed_before = streamed - self._streamed_before, streamed
        told = LoadBin(
            t_s=self._bin_s,
            span_s=BIN_S,
            target=self._point.value,
            in_flight=self._under_way,
            prefilling=len(waiting),
            oldest_prefill_s=(self._bin_s - min(waiting) * 1e-9) if waiting else None,
            sent=self._sent,
            ok=self._ok,
            errors=self._errors,
            output_tokens=self._tokens,
            ttft_ms=(*self._first_ms, *map(self._ttft_ms, came)),
        )
        self._first_ms.clear()
        self._sent = self._ok = self._errors = self._tokens = 0
        return told

    def _snapshot(self) -> ServerSnapshot:
        config, engine = self.engine.config, self.engine
        done, told = engine.statistics, self._limits
        self.rss += self.rss_per_s * SCRAPE_S
        self._lost += self.leaked_blocks_per_s * SCRAPE_S
        if self._lost >= 1:
            engine.pool.leak(engine.pool.take(min(int(self._lost), engine.pool.free)))
            self._lost %= 1
        tokens, ttft, prefill = done.iteration_tokens, done.ttft, done.prefill_time
        now = [tokens.sum, tokens.count, done.prefix_hits, done.prefix_queries, ttft.sum, ttft.count]
        now += [prefill.sum, prefill.count]
        grown = [float(a - b) for a, b in zip(now, self._seen, strict=True)]
        self._seen = [float(each) for each in now]
        mean_tokens, hits, mean_ttft, mean_prefill = (
            part / whole if whole else None for part, whole in zip(grown[::2], grown[1::2], strict=True)
        )
        return ServerSnapshot(
            t_s=self._scrape_s,
            running=engine.running,
            waiting=engine.waiting,
            kv_usage=engine.kv_usage,
            preemptions_total=done.preemptions,
            prefix_queries_total=done.prefix_queries,
            prefix_hits_total=done.prefix_hits,
            prefix_hit_ratio=hits,
            generation_tokens_total=done.generation_tokens,
            requests_total=done.finished["length"] + done.finished["stop"],
            iteration_tokens_mean=mean_tokens,
            ttft_mean_s=mean_ttft,
            prefill_mean_s=mean_prefill,
            rss_bytes=self.rss,
            max_num_seqs=config.max_num_seqs if told else None,
            max_num_batched_tokens=config.max_num_batched_tokens if told else None,
            num_gpu_blocks=config.num_gpu_blocks if told else None,
            block_size=config.block_size if told else None,
        )
