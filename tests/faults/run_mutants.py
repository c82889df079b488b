"""A small run file with every table filled, ways to damage it, and all that reads one."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llmtop.cli.assess import as_text
from llmtop.cli.profiles import save_run
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import (
    Call,
    Canary,
    Chapter,
    Event,
    FactBatch,
    JudgedLevel,
    LoadChange,
    LoadWorker,
    Mark,
    RunMeta,
    ScaleStep,
    SearchEnded,
)
from llmtop.domain.samples import ClientSample, GpuSnapshot, LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.errors import LlmtopError
from llmtop.host.judging import Judge
from llmtop.host.replay import ReplayLink
from llmtop.host.review import assess_run, review
from llmtop.meter.facts import Facts
from llmtop.recording import schema
from llmtop.recording.reader import RunReader
from llmtop.recording.writer import RunWriter
from llmtop.report.writing import FORMATS
from llmtop.view import charts, lines, tables
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ChartMode, Glyphs
from llmtop.view.panels import panels
from llmtop.view.verdict import verdict

LENGTH_S = 18.0
SLOWEST_S = 5.0
"""Nothing that a file holds may keep a reader busy for longer."""
_LOADS = (2, 6, 12)

META = RunMeta(
    llmtop_version="0.1.0",
    started_at=1.7e9,
    endpoint=Endpoint(base_url="http://127.0.0.1:8000"),
    info=EndpointInfo(dialect=Dialect.VLLM, model="m", max_model_len=4096, max_num_seqs=8),
    profile=Profile(
        name="fuzzed",
        plan=LoadPlan(
            stages=(
                Stage(name="steps", duration_s=12.0, shape=Steps(tuple(map(float, _LOADS)))),
                Stage(name="hold", duration_s=6.0, shape=Hold(concurrency=4)),
            )
        ),
    ),
    seed=7,
)


def _record(number: int, end_s: float) -> RequestRecord:
    end_ns, ok = round(end_s * 1e9), number % 7 != 3
    return RequestRecord(
        scheduled_ns=end_ns - 700_000_000,
        dispatched_ns=end_ns - 690_000_000,
        sent_ns=end_ns - 680_000_000,
        connect_ns=number % 3 * 1000,
        headers_ns=end_ns - 600_000_000,
        first_token_ns=end_ns - 500_000_000 if ok else None,
        first_answer_ns=end_ns - 500_000_000 if ok else None,
        last_token_ns=end_ns - 1_000_000 if ok else None,
        end_ns=end_ns,
        started_at=1.7e9 + end_s,
        asked_prompt_tokens=100,
        asked_output_tokens=20,
        prompt_tokens=100 + number % 5,
        output_tokens=20 if ok else 0,
        chunks=19,
        max_gap_ns=40_000_000,
        cached_tokens=3,
        token_source=TokenSource.USAGE,
        outcome=Outcome.OK if ok else Outcome.HTTP_ERROR,
        status=200 if ok else 503,
        error=None if ok else "too busy",
        finish_reason="length",
        retry_after_s=None if ok else 1.5,
        stage="steps",
        name="answer" if number % 2 else None,
        session=number // 2,
        turn=1 + number % 2,
        model="lora" if number % 5 == 0 else None,
    )


def _batch(tick: int) -> FactBatch:
    t_s = tick / 4
    load = _LOADS[min(2, int(t_s / 4))] if t_s < 12 else 4
    values = tuple(100.0 + (tick * 37 + place) % 80 for place in range(load))
    second = tick % 4 == 0
    point = LoadPoint(concurrency=load) if tick % 16 else LoadPoint(rate_rps=float(load))
    return FactBatch(
        t_s=t_s,
        bins=(
            LoadBin(
                t_s=t_s,
                span_s=0.25,
                target=load,
                in_flight=load,
                prefilling=1,
                oldest_prefill_s=0.1,
                sent=load,
                ok=load - 1,
                errors=1,
                output_tokens=20 * load,
                prompt_tokens=100 * load,
                ttft_ms=values,
                tpot_ms=tuple(value / 10 for value in values),
                e2e_ms=values,
                gap_ms=(9.0, 20.0, 40.0),
                gaps=100,
                gap_sum_ms=1000.0,
                gap_counts=((200, 50), (220, 50)),
            ),
        ),
        requests=tuple(_record(tick + place, t_s - place / 100) for place in range(load)),
        server=(
            ServerSnapshot(
                t_s=t_s,
                running=float(load),
                waiting=float(max(0, load - 8)),
                kv_usage=load / 20,
                preemptions_total=1.0,
                prompt_tokens_total=400.0 * tick,
                generation_tokens_total=80.0 * tick,
                requests_total=4.0 * tick,
                ttft_mean_s=0.1,
                prefix_hit_ratio=0.2,
                max_num_seqs=8.0,
                kv_capacity_tokens=10_000.0,
                process_start_s=1.6e9,
                replicas=(("a", 1.0, None, 0.5), ("b", 2.0, 1.0, 0.4)),
                estimated=("kv_usage",),
            ),
        )
        * second,
        gpu=(GpuSnapshot(t_s=t_s, index=0, name="gpu", utilisation=0.9, power_w=300.0, throttle=("power",)),) * second,
        client=(
            ClientSample(t_s=t_s, lag_p50_ms=0.1, lag_p99_ms=0.3, lag_max_ms=25.0, cpu=0.3, reads=200, coalesced=3),
        )
        * second,
        changes=(LoadChange(t_s, point, "stage", "steps"),) * (tick % 8 == 1 or tick == 16),
        marks=(Mark(t_s, "mark"),) * (tick % 8 == 2),
        events=(Event(t_s, "endpoint", "up", "info", EndpointState.UP),) * (tick % 8 == 3),
        chapters=(Chapter(t_s, "max_num_seqs 8 -> 9", f"k{tick}"),) * (tick % 24 == 20),
        tested=(
            JudgedLevel(t_s=t_s, load=load, slo="ttft_p95<2s", failed=("ttft_p95",), n=20, worst=(("ttft_p95", 2.5),)),
        )
        * (tick % 16 == 12),
        searches=(SearchEnded(t_s, "done", "it knows"),) * (tick in (40, 60, 71)),
        canaries=(Canary(t_s - 0.2, None if tick == 70 else 0.1, "HTTP 503" if tick == 70 else ""),) * (tick % 10 == 0),
        calls=(Call(t_s=t_s, duration_s=0.1, name="search", status=200 if tick % 8 else None, session=tick),)
        * (tick % 4 == 0),
        workers=(LoadWorker(t_s, 0, "h1:4711", -3.5e6, 1e-4, lost=tick == 64),) * (tick in (1, 64)),
        scaling=(ScaleStep(t_s, "desired", 1 + (tick > 1), "", tick == 1), ScaleStep(t_s, "ready", 2, "pod-1"))
        * (tick in (1, 40)),
    )


def write_run(path: Path) -> Path:
    """The run, whole."""
    writer = RunWriter(path, META)
    for tick in range(1, round(4 * LENGTH_S) + 1):
        writer.write(_batch(tick))
    writer.close(LENGTH_S)
    assert writer.problem is None
    return path


COLUMNS = [(table.name, name) for table in schema.BATCH_TABLES.values() for name in ("told_s", *table.columns)]
DEEP = "[" * 50_000
DAMAGES: dict[str, object] = {
    "text": "abc",
    "empty text": "",
    "a blob": b"\xff\x00\xfe",
    "nothing": None,
    "infinity": float("inf"),
    "minus one": -1,
    "minus a half": -0.5,
    "zero": 0,
    "1e9": 1e9,
    "2^53": 2**53,
    "1e30": 1e30,
    "2^63-1": 2**63 - 1,
    "1e308": 1e308,
    "1e6": 1e6,
    "1e15": 10**15,
    "deep JSON": DEEP,
    "JSON of another type": '{"a": [1, "b", null, NaN]}',
    "huge text": "x" * 200_000,
    "no UTF-8": b"\xc3\x28",
}
"""What is put in the place of a value."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, to be damaged."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        yield database


def damage(path: Path, table: str, column: str, kind: str, *, every: int = 3) -> None:
    """Every so many rows one has something else in that column."""
    value = "CAST(? AS TEXT)" if kind == "no UTF-8" else "?"
    with opened(path) as database:
        database.execute(
            f'UPDATE {table} SET "{column}" = {value} WHERE rowid % {every} = {every - 1}', (DAMAGES[kind],)
        )


def swap(path: Path, table: str, one: str, other: str) -> None:
    """Every third row has two columns the wrong way round."""
    with opened(path) as database:
        database.execute(f'UPDATE {table} SET "{one}" = "{other}", "{other}" = "{one}" WHERE rowid % 3 = 2')


def meta_becomes(path: Path, *keys: str | int, value: object) -> None:
    """One value of the meta is another. `...` takes it away; text that begins with `raw:` stands there as it is."""
    with opened(path) as database:
        told = json.loads(database.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()[0])
        place = told
        for key in keys[:-1]:
            place = place[key]
        if value is ...:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
        text = json.dumps(told)
        if isinstance(value, str) and value.startswith("raw:"):
            text = text.replace(json.dumps(value), value.removeprefix("raw:"))
        database.execute("UPDATE meta SET value = ? WHERE key = 'run'", (text,))


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    """A few bytes are others, anywhere or in one page."""
    changed = bytearray(content)
    first = rng.randrange(len(content) // 4096) * 4096 if rng.random() < 0.5 else 0
    reach = 4096 if first else len(content)
    for _ in range(rng.choice((1, 4, 32, 400))):
        changed[first + rng.randrange(reach)] = rng.randrange(256)
    return bytes(changed)


# ── What reads a run ──────────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path) -> None:
    with RunReader(path) as run:
        for _ in run.batches():
            pass


def _shown(frame: Frame, slo: Slo, assessment: Assessment) -> None:
    glyphs, condition = Glyphs(), Condition()
    lines.header(frame, condition, glyphs, 100)
    verdict(frame, assessment, condition, glyphs, 100, 2)
    lines.settings(frame, condition, glyphs, 100)
    found = lines.entries(frame, glyphs)
    lines.event_line(found, glyphs, 100)
    tables.events(found, 100, 20)
    tables.percentiles(frame, assessment, False, glyphs, 100)
    for view in panels(frame, slo, glyphs, condition):
        for mode in ChartMode:
            charts.chart(view, charts.peak_of(view), mode, 60, 8)
        charts.figures(view, 60, glyphs)


def _replayed(path: Path) -> None:
    now_s = [0.0]
    link = ReplayLink(path, clock=lambda: now_s[0])
    judge, facts = Judge(link.meta.profile.slo), Facts()
    for share in (0.2, 0.7, 1.0):
        now_s[0] = share * link.length_s
        told = link.take()
        for batch in told.batches:
            facts.extend(batch)
        _shown(link.frame(), link.meta.profile.slo, judge(facts, told.meta or link.meta, full=share == 1.0))


def _reported(path: Path) -> None:
    report = review(path)
    for form in FORMATS.values():
        form.make(report).encode()


def _assessed(path: Path) -> None:
    opinion = assess_run(path).assessment
    as_text(opinion, opinion.cliff)


def _saved(path: Path) -> None:
    saved = save_run(path, "fuzzed")
    saved.unlink()


READERS: tuple[Callable[[Path], None], ...] = (_assessed, _reported, _replayed, _saved)


def _in_words(error: LlmtopError) -> str | None:
    text = str(error)
    return None if text.isprintable() and len(text) < 2000 else f"an error that is not fit to be shown: {text[:200]!r}"


def problem(path: Path) -> str | None:
    """What is wrong with how this file is read: another exception than one in words, or more than `SLOWEST_S`.

    What is refused as it is read is refused to all alike, and so is tried once.
    """
    for read in (_read, *READERS):
        started = time.process_time()
        try:
            read(path)
        except LlmtopError as error:
            said = _in_words(error)
            if said is not None or read is _read:
                return said
        except Exception as error:
            return f"{read.__name__}: {type(error).__name__}: {error}"[:300]
        took_s = time.process_time() - started
        if took_s > SLOWEST_S:
            return f"{read.__name__}: took {took_s:.1f} s"
    return None
