"""A run file gives back what was put in, survives a kill, and says what is wrong with a file that is none."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState, RequestShape
from llmtop.domain.load import LoadPoint
from llmtop.domain.plain import plain
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import Canary, Event, EventKind, FactBatch, LoadChange, Mark, RunMeta, Severity
from llmtop.domain.samples import ClientSample, GpuSnapshot, LoadBin, ServerSnapshot
from llmtop.errors import RunFileError
from llmtop.meter.facts import Facts
from llmtop.recording import schema
from llmtop.recording.reader import RunReader
from llmtop.recording.writer import RunWriter, new_run_path
from tests.waiting import until

META = RunMeta(
    llmtop_version="0.1.0",
    started_at=1.7e9,
    endpoint=Endpoint(base_url="http://127.0.0.1:8000", api_key_env="LLMTOP_TEST_KEY"),
    info=EndpointInfo(dialect=Dialect.VLLM, model="m"),
    profile=Profile(name="hand"),
)

SMALL = st.floats(0, 1e4)
TEXT = st.text(max_size=12).map(plain)
OPTIONAL = st.none() | SMALL


def batches_of(ticks: int) -> st.SearchStrategy[list[FactBatch]]:
    """Batches as a session tells them: a bin each, and facts of any time, since some are told late."""
    return st.tuples(*(batch_at(number) for number in range(1, ticks + 1))).map(list)


def batch_at(number: int) -> st.SearchStrategy[FactBatch]:
    t_s = number * 0.25
    inside = st.floats(0, t_s)
    some = {"max_size": 2}
    requests = st.builds(
        RequestRecord,
        scheduled_ns=st.integers(0, 2**50),
        dispatched_ns=st.integers(0, 2**50),
        sent_ns=st.none() | st.integers(0, 2**50),
        connect_ns=st.none() | st.integers(0, 2**40),
        headers_ns=st.none(),
        first_token_ns=st.none() | st.integers(0, 2**50),
        first_answer_ns=st.none(),
        last_token_ns=st.none(),
        end_ns=inside.map(lambda s: int(s * 1e9)),
        started_at=SMALL,
        asked_prompt_tokens=st.integers(0, 9999),
        asked_output_tokens=st.integers(0, 9999),
        prompt_tokens=st.integers(0, 9999),
        output_tokens=st.integers(0, 9999),
        token_source=st.sampled_from(TokenSource),
        prompt_source=st.none() | st.sampled_from(TokenSource),
        timed_tokens=OPTIONAL,
        hidden_tokens=st.integers(0, 2**40),
        outcome=st.sampled_from(Outcome),
        error=st.none() | TEXT,
        client_limited=st.none() | st.booleans(),
    )
    return st.builds(
        FactBatch,
        t_s=st.just(t_s),
        bins=st.builds(
            LoadBin,
            t_s=st.just(t_s),
            span_s=st.just(0.25),
            target=SMALL,
            in_flight=st.integers(0, 99),
            ttft_ms=st.lists(SMALL, **some).map(tuple),
            gap_ms=st.none() | st.tuples(SMALL, SMALL, SMALL),
            gap_sum_ms=OPTIONAL,
            gap_counts=st.lists(st.tuples(st.integers(0, 99), st.integers(1, 99)), **some).map(tuple),
        ).map(lambda b: (b,)),
        requests=st.lists(requests, **some).map(tuple),
        server=st.lists(
            st.builds(ServerSnapshot, t_s=inside, running=OPTIONAL, replicas=st.just((("a", 1.0, None, 0.5),))), **some
        ).map(tuple),
        gpu=st.lists(
            st.builds(GpuSnapshot, t_s=inside, index=st.integers(0, 7), throttle=st.just(("power",))), **some
        ).map(tuple),
        client=st.lists(
            st.builds(
                ClientSample,
                t_s=inside,
                worker=st.integers(0, 3),
                lag_p99_ms=OPTIONAL,
                reads=st.none() | st.integers(0, 99),
                state=st.sampled_from([None, "green", "amber", "red"]),
                reason=st.none() | TEXT,
            ),
            **some,
        ).map(tuple),
        changes=st.lists(
            st.builds(
                LoadChange,
                inside,
                st.builds(LoadPoint, concurrency=st.integers(0, 99), burstiness=st.just(float("inf")))
                | st.builds(LoadPoint, rate_rps=st.floats(0, 99)),
                st.just("stage"),
                st.none() | TEXT,
            ),
            **some,
        ).map(tuple),
        marks=st.lists(st.builds(Mark, inside, TEXT), **some).map(tuple),
        canaries=st.lists(st.builds(Canary, inside, OPTIONAL, TEXT), **some).map(tuple),
        events=st.lists(
            st.builds(
                Event,
                inside,
                st.sampled_from(get_args(EventKind)),
                TEXT,
                st.sampled_from(get_args(Severity)),
                st.none() | st.sampled_from(EndpointState),
            ),
            **some,
        ).map(tuple),
    )


@given(batches=batches_of(3))
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_what_is_read_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, batches: list[FactBatch]) -> None:
    path = tmp_path_factory.mktemp("run") / "a.llmtop"
    writer = RunWriter(path, META)
    for batch in batches:
        writer.write(batch)
    writer.close(ended_s=0.75)
    assert writer.problem is None
    with RunReader(path) as run:
        assert list(run.batches()) == batches
        assert run.meta == msgspec.structs.replace(META, ended_s=0.75)
        assert run.complete
    assert [file.name for file in path.parent.iterdir()] == ["a.llmtop"]


def _kept(path: Path) -> list[int]:
    """In flight in each batch that is in the file now."""
    with RunReader(path) as run:
        return [batch.bins[0].in_flight for batch in run.batches()]


def test_a_kill_loses_at_most_the_last_moment(tmp_path: Path) -> None:
    path = tmp_path / "killed.llmtop"
    script = (
        "import sys, pathlib\n"
        "from llmtop.domain.endpoint import Endpoint\n"
        "from llmtop.domain.profile import Profile\n"
        "from llmtop.domain.run import FactBatch, RunMeta\n"
        "from llmtop.domain.samples import LoadBin\n"
        "from llmtop.recording.writer import RunWriter\n"
        "where, what = Endpoint(base_url='http://x'), Profile(name='p')\n"
        "meta = RunMeta(llmtop_version='0', started_at=0.0, endpoint=where, profile=what)\n"
        "writer = RunWriter(pathlib.Path(sys.argv[1]), meta)\n"
        "for n in range(1, 5):\n"
        "    writer.write(FactBatch(t_s=n / 4, bins=(LoadBin(t_s=n / 4, span_s=0.25, target=1, in_flight=n),)))\n"
        "    if n % 2 == 0:\n"
        "        print(n, flush=True)\n"
        "        sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"2\n"
        until(lambda: len(_kept(path)) == 2)
        child.stdin.write(b"go on\n")
        assert child.stdout.readline() == b"4\n"
        child.kill()
    with RunReader(path) as run:
        assert not run.complete
        assert run.length_s >= 0.5
    assert _kept(path)[:2] == [1, 2]


def test_no_api_key_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", "sk-very-secret")
    path = tmp_path / "a.llmtop"
    RunWriter(path, META).close(0.0)
    assert b"sk-very-secret" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"x" * 200])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.llmtop"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=r"other\.llmtop: not a run file"):
        RunReader(path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE meta (key, value)")
    database.close()
    with pytest.raises(RunFileError, match="another program's"):
        RunReader(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such file"):
        RunReader(tmp_path / "no.llmtop")
    with pytest.raises(RunFileError, match="folder"):
        RunReader(tmp_path)


def test_a_newer_schema_is_refused_and_an_older_one_read(tmp_path: Path) -> None:
    path = tmp_path / "a.llmtop"
    writer = RunWriter(path, META)
    writer.write(FactBatch(t_s=0.25, bins=(LoadBin(t_s=0.25, span_s=0.25, target=1, in_flight=1),)))
    writer.close(0.25)
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE bin DROP COLUMN gaps")
    for table in (schema.CHAPTER, schema.TESTED, schema.SEARCH_END, schema.CANARY, schema.SCALE_STEP):
        database.execute(f"DROP TABLE {table.name}")
    database.commit()
    with RunReader(path) as run:
        assert next(run.batches()).bins[0].gaps == 0
    database.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(schema.VERSION + 1),))
    database.commit()
    database.close()
    with pytest.raises(RunFileError, match="update llmtop"):
        RunReader(path)


@pytest.mark.parametrize(("question", "asks"), [(None, Question.CAPACITY), ("hold", Question.HOLD)])
def test_a_profile_that_was_searched_before_it_had_a_question_asks_for_a_capacity(
    tmp_path: Path, question: str | None, asks: Question
) -> None:
    path = tmp_path / "old.llmtop"
    RunWriter(path, META).close(3.0)
    database = sqlite3.connect(path)
    told = json.loads(database.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()[0])
    told["profile"] |= {"search": True, "question": question}
    database.execute("UPDATE meta SET value = ? WHERE key = 'run'", (json.dumps(told),))
    database.commit()
    database.close()
    with RunReader(path) as run:
        assert run.meta.profile.asks is asks
        assert run.meta.profile.search == (asks is Question.CAPACITY)


@pytest.mark.parametrize("key", ["request_shape", "what a newer llmtop knows"])
def test_what_a_probe_learned_is_read_whether_the_reader_knows_more_or_less(tmp_path: Path, key: str) -> None:
    path = tmp_path / "a.llmtop"
    shape = RequestShape(dropped=("ignore_eos",), max_tokens="max_completion_tokens", least_tokens=16)
    info = EndpointInfo(dialect=Dialect.VLLM, model="m", request_shape=shape)
    RunWriter(path, msgspec.structs.replace(META, info=info)).close(3.0)
    with RunReader(path) as run:
        assert run.meta.info == info
    database = sqlite3.connect(path)
    told = json.loads(database.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()[0])
    known = told["info"].pop(key, None)
    told["info"] |= {} if known else {key: {"a": [1]}}
    database.execute("UPDATE meta SET value = ? WHERE key = 'run'", (json.dumps(told),))
    database.commit()
    database.close()
    with RunReader(path) as run:
        assert run.meta.info == (msgspec.structs.replace(info, request_shape=RequestShape()) if known else info)


SCHEMA_1 = """
CREATE TABLE request ("told_s" REAL, "scheduled_ns" INTEGER, "dispatched_ns" INTEGER, "sent_ns" INTEGER,
    "connect_ns" INTEGER, "headers_ns" INTEGER, "first_token_ns" INTEGER, "first_answer_ns" INTEGER,
    "last_token_ns" INTEGER, "end_ns" INTEGER, "started_at" REAL, "asked_prompt_tokens" INTEGER,
    "asked_output_tokens" INTEGER, "prompt_tokens" INTEGER, "output_tokens" INTEGER, "first_chunk_tokens" INTEGER,
    "chunks" INTEGER, "max_gap_ns" INTEGER, "cached_tokens" INTEGER, "token_source" TEXT, "outcome" TEXT,
    "status" INTEGER, "error" TEXT, "finish_reason" TEXT, "retry_after_s" REAL, "stage" TEXT, "in_flight_min" INTEGER,
    "in_flight_max" INTEGER, "worker" INTEGER, "client_limited" INTEGER);
CREATE TABLE client_sample ("told_s" REAL, "t_s" REAL, "state" TEXT, "reason" TEXT, "lag_p50_ms" REAL,
    "lag_p99_ms" REAL, "loop_lag_ms" REAL, "send_slip_p99_ms" REAL, "cpu" REAL, "coalesced_ratio" REAL,
    "gc_pause_ms" REAL, "steal" REAL, "chunks_per_s" REAL, "workers" INTEGER, "workers_lost" INTEGER,
    "fd_limit" INTEGER, "stamp_source" TEXT);
"""
"""The tables of schema 1 that later ones differ in."""


def test_a_file_of_schema_1_keeps_its_judgement_of_the_client(tmp_path: Path) -> None:
    """It has states instead of what they were judged by; nothing in it is judged again by other figures."""
    path = tmp_path / "old.llmtop"
    RunWriter(path, META).close(3.0)
    database = sqlite3.connect(path)
    database.executescript(f"DROP TABLE request; DROP TABLE client_sample; {SCHEMA_1}")
    database.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    for t_s, state, cpu in ((1.0, "green", 0.99), (2.0, "red", 0.1)):
        row = (t_s, t_s, state, f"said {state}", 0.1, 0.2, 1.0, 0.3, cpu, 0.01, 0.0, 0.0, 99.0, 2, 1, 1024, "kernel")
        database.execute(f"INSERT INTO client_sample VALUES ({', '.join('?' * 17)})", row)
    for end_s, limited in ((0.9, 0), (1.9, 0), (2.5, 1)):
        stamps = [round(end_s * 1e9) - 500_000_000] * 8
        row = (3.0, *stamps, round(end_s * 1e9), 0.0, 1, 1, 1, 1, 1, 1, None, None, "usage", "ok", 200, None, "stop")
        database.execute(f"INSERT INTO request VALUES ({', '.join('?' * 30)})", (*row, None, None, 2, 3, 1, limited))
    database.commit()
    database.close()
    with RunReader(path) as run:
        facts = Facts.of(run.batches())
        samples = [sample for batch in run.batches() for sample in batch.client]
    assert [(sample.state, sample.reason, sample.workers) for sample in samples] == [
        ("green", "said green", 2),
        ("red", "said red", 2),
    ]
    assert facts.client.column("red").tolist() == [0.0, 1.0]
    assert facts.requests.column("client_limited").tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("version", [2, 3])
def test_requests_recorded_before_schema_4_keep_the_tpot_that_was_judged_with_them(
    tmp_path: Path, version: int
) -> None:
    """They do not say how many tokens were streamed: all that were counted, and what came first came at once."""
    path = tmp_path / "old.llmtop"
    stamps = dict.fromkeys(("scheduled_ns", "dispatched_ns", "sent_ns", "connect_ns", "headers_ns"), 0)
    record = RequestRecord(
        **stamps,
        first_token_ns=1_000_000_000,
        first_answer_ns=None,
        last_token_ns=3_000_000_000,
        end_ns=3_000_000_000,
        started_at=0.0,
        asked_prompt_tokens=1,
        asked_output_tokens=12,
        prompt_tokens=1,
        output_tokens=12,
        first_chunk_tokens=2,
        chunks=5,
        outcome=Outcome.OK,
        timed_tokens=4.0,
        hidden_tokens=7,
        prompt_source=TokenSource.USAGE,
    )
    writer = RunWriter(path, META)
    writer.write(FactBatch(t_s=3.0, requests=(record,)))
    writer.close(3.0)
    with RunReader(path) as run:
        (told,) = (each for batch in run.batches() for each in batch.requests)
    assert (told, told.tpot_s) == (record, 0.5)
    database = sqlite3.connect(path)
    for column in ("timed_tokens", "hidden_tokens", "prompt_source"):
        database.execute(f"ALTER TABLE request DROP COLUMN {column}")
    database.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(version),))
    database.commit()
    database.close()
    with RunReader(path) as run:
        (told,) = (each for batch in run.batches() for each in batch.requests)
    assert (told.timed_tokens, told.hidden_tokens, told.prompt_source) == (None, 0, None)
    assert told.tpot_s == 0.2


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.llmtop"
    path.write_text("mine")
    with pytest.raises(RunFileError, match="exists already"):
        RunWriter(path, META)
    assert path.read_text() == "mine"


def test_paths_tell_time_and_name_and_do_not_clash(tmp_path: Path) -> None:
    first = new_run_path("vllm http://h:1/x", 1.7e9, tmp_path)
    first.touch()
    second = new_run_path("vllm http://h:1/x", 1.7e9, tmp_path)
    assert first.name.endswith("-vllm-http-h-1-x.llmtop")
    assert second != first


def test_a_word_that_this_version_does_not_know_is_named_with_those_that_it_knows() -> None:
    """A newer llmtop with more words writes a newer schema."""
    read = schema.EVENT.reader(["t_s", "kind", "text", "severity", "state"])
    with pytest.raises(schema.BrokenRow, match="severity must be one of info, warning, error, and is text 'rain'"):
        read((1.0, "load", "it rains", "rain", None))
