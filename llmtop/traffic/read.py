"""The door to recorded requests: whatever a log is called, its content tells what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from llmtop.errors import FileError, UsageError
from llmtop.inputs import expanded
from llmtop.traffic import access, containers, litellm, mooncake, otel, servegen, tables, usage
from llmtop.traffic.columns import MOST_ROWS, Columns
from llmtop.traffic.documents import SAMPLE, Document, keys_of
from llmtop.traffic.lines import lines_of, lines_of_file
from llmtop.traffic.table import Traffic
from llmtop.traffic.times import Times

Unit = Literal["ms", "s"]
SOURCES = {
    "azure": "an Azure trace (TIMESTAMP,ContextTokens,GeneratedTokens)",
    "burstgpt": "a BurstGPT trace",
    "csv": "a plain list (arrival_s,input_tokens,output_tokens)",
    "mooncake": "a Mooncake trace",
    "servegen": "ServeGen's clients (a folder of chunk-*-trace.csv)",
    "litellm": "spend logs of LiteLLM",
    "otel": "OpenTelemetry spans as OTLP/JSON",
    "usage": "a log of OpenAI usage",
    "nginx": "an access log of nginx as JSON",
    "envoy": "an access log of Envoy as JSON",
}
"""What can be read, by the name that chooses it."""
KNOWN = "known are: " + ", ".join(SOURCES.values())


def read(path: str | Path, *, source: str | None = None, unit: Unit | None = None, most: int = MOST_ROWS) -> Traffic:
    """The requests of a log or trace, in order of arrival, the first at 0.

    Args:
        path: plain or compressed by gzip, in UTF-8 or UTF-16, with or without a byte order mark; or a folder of
            ServeGen's clients.
        source: one of `SOURCES`; None: told by the content.
        unit: of times that are plain numbers; None: guessed where the source does not tell, and said.
        most: requests; a longer file is refused.

    Raises:
        FileError: it cannot be read, is of no known kind, or no row of it can be used.
        UsageError: there is no such source.
    """
    place = expanded(path)
    if place.is_dir():
        return _servegen(Columns(place, most=most), place, most)
    return _read(place, lines_of_file(place), source, unit, most)


def parse(
    path: object, data: bytes, *, source: str | None = None, unit: Unit | None = None, most: int = MOST_ROWS
) -> Traffic:
    """As `read`, of the bytes of a file; `path` is for errors."""
    return _read(path, lines_of(path, (data,)), source, unit, most)


def _read(path: object, lines: Iterator[bytes], source: str | None, unit: Unit | None, most: int) -> Traffic:
    if source is not None and source not in SOURCES:
        raise UsageError(f"source {source!r} is not known; use {', '.join(SOURCES)}")
    head = list(islice(lines, SAMPLE))
    lines = chain(head, lines)
    if (bare := containers.way_in(head)) is not None:
        head, lines = list(map(bare, head)), map(bare, lines)
    columns = Columns(path, most=most)
    first = next(filter(None, map(bytes.strip, head)), b"")
    if servegen.is_trace(first) and source in (None, "servegen"):
        return _servegen(columns, Path(str(path)), most)
    if first[:1] in (b"{", b"[") or (any(map(keys_of, head)) and not _is_table(path, head)):
        return _documents(columns, lines, source, unit)
    return _tables(columns, lines, source, unit)


def _is_table(path: object, head: list[bytes]) -> bool:
    """Whether the first lines begin with the names of a known table, and not with what some program has said."""
    try:
        header = tables.Table(Columns(path), iter(head)).header
    except FileError:
        return False
    return any(known(header) for known in _TABLES.values())


def _servegen(columns: Columns, path: Path, most: int) -> Traffic:
    servegen.fill(columns, path, most)
    return columns.table("ServeGen clients", NOTHING, sort_said=False)


def _tables(columns: Columns, lines: Iterator[bytes], source: str | None, unit: Unit | None) -> Traffic:
    table = tables.Table(columns, lines)
    header = table.header
    for name, known in _TABLES.items():
        if known(header) and source in (None, name):
            return _FILLED[name](columns, table, unit)
    raise tables.no_such(columns.path, header, KNOWN)


_TABLES: dict[str, Callable[[tables.Header], bool]] = {
    "azure": lambda header: header.has(tables.AZURE),
    "csv": lambda header: header.has(tables.PLAIN),
    "burstgpt": lambda header: header.has(tables.BURSTGPT),
    "litellm": lambda header: header.has(litellm.NEEDS),
    "usage": lambda header: usage.is_usage({*header.names, *(name.lower() for name in header.names)}),
}


def _azure(columns: Columns, table: tables.Table, unit: Unit | None) -> Traffic:
    tables.fill(columns, table, tables.azure(columns, table.header, Times()))
    return columns.table("Azure trace", NOTHING, wall=True)


def _plain(columns: Columns, table: tables.Table, unit: Unit | None) -> Traffic:
    tables.fill(columns, table, tables.plain_list(columns, table.header))
    return columns.table("list of requests", NOTHING, scale_s=1e-3 if unit == "ms" else 1.0)


def _burstgpt(columns: Columns, table: tables.Table, unit: Unit | None) -> Traffic:
    tables.fill(columns, table, tables.burstgpt(columns, table.header))
    return columns.table("BurstGPT trace", NOTHING, scale_s=1e-3 if unit == "ms" else 1.0)


def _litellm_table(columns: Columns, table: tables.Table, unit: Unit | None) -> Traffic:
    taker = litellm.LiteLLM(columns)
    with tables.long_cells():
        tables.fill(columns, table, taker.row_of(table.header))
    return _of_litellm(columns, taker)


def _usage_table(columns: Columns, table: tables.Table, unit: Unit | None) -> Traffic:
    taker = usage.UsageLog(columns, unit)
    tables.fill(columns, table, taker.row_of(table.header))
    return _of_usage(columns, taker)


_FILLED = {
    "azure": _azure,
    "csv": _plain,
    "burstgpt": _burstgpt,
    "litellm": _litellm_table,
    "usage": _usage_table,
}


def _documents(columns: Columns, lines: Iterator[bytes], source: str | None, unit: Unit | None) -> Traffic:
    document = Document(columns, lines)
    name = source or _told(document)
    if not document.sample:
        raise FileError(columns.path, f"its first rows are no JSON objects; {KNOWN}")
    if source is None and document.sample and servegen.is_data(list(document.sample[0])):
        raise FileError(columns.path, f"has the lengths of a client: name its trace, or the folder; {servegen.HINT}")
    if name not in _LOGS:
        what = "is a JSON file" if source is None else f"is a JSON file, and source {source} is a table"
        raise FileError(columns.path, f"{what} of no known kind; {KNOWN}")
    return _LOGS[name](columns, document, unit)


def _told(document: Document) -> str | None:
    """Of what source most of the first rows are."""
    votes = Counter(next((name for name, known in _KEYS.items() if known(keys)), "") for keys in document.sample)
    votes.pop("", None)
    return votes.most_common(1)[0][0] if votes else None


_KEYS: dict[str, Callable[[Mapping[str, object]], bool]] = {
    "otel": lambda keys: any(name in keys for name in ("resourceSpans", "scopeSpans", "startTimeUnixNano", "batches")),
    "litellm": lambda keys: (
        "startTime" in keys and "prompt_tokens" in keys and ("call_type" in keys or "spend" in keys)
    ),
    "mooncake": lambda keys: "input_length" in keys and "timestamp" in keys,
    "envoy": lambda keys: "response_code" in keys and ("start_time" in keys or "duration" in keys),
    "nginx": lambda keys: "msec" in keys or "request_time" in keys or ("request" in keys and "status" in keys),
    "usage": usage.is_usage,
}
"""What the keys of a row tell, in the order in which it is asked."""


def _mooncake(columns: Columns, document: Document, unit: Unit | None) -> Traffic:
    taker = mooncake.Mooncake(columns, unit)
    document.fill(taker)
    return columns.table("Mooncake trace", f"{NOTHING}; {taker.hint}", scale_s=taker.done())


def _litellm(columns: Columns, document: Document, unit: Unit | None) -> Traffic:
    taker = litellm.LiteLLM(columns)
    document.fill(taker)
    return _of_litellm(columns, taker)


def _of_litellm(columns: Columns, taker: litellm.LiteLLM) -> Traffic:
    columns.sieve.notes.extend(taker.times.said())
    return columns.table("LiteLLM spend logs", NOTHING, wall=True, sort_said=False, enable=litellm.ENABLE)


def _otel(columns: Columns, document: Document, unit: Unit | None) -> Traffic:
    taker = otel.OTel(columns)
    document.fill(taker)
    taker.done()
    return columns.table("OpenTelemetry spans", NOTHING, wall=True, sort_said=False, enable=otel.ENABLE)


def _usage(columns: Columns, document: Document, unit: Unit | None) -> Traffic:
    taker = usage.UsageLog(columns, unit)
    document.fill(taker)
    return _of_usage(columns, taker)


def _of_usage(columns: Columns, taker: usage.UsageLog) -> Traffic:
    scale_s = taker.done()
    columns.sieve.notes.extend(taker.times.said())
    return columns.table(
        "usage log", f"{NOTHING}; {usage.HINT}", scale_s=scale_s, wall=taker.wall, sort_said=False, enable=usage.ENABLE
    )


def _nginx(columns: Columns, document: Document, unit: Unit | None) -> Traffic:
    return _of_access(columns, document, access.Access(columns, access.Nginx), "nginx access log")


def _envoy(columns: Columns, document: Document, unit: Unit | None) -> Traffic:
    return _of_access(columns, document, access.Access(columns, access.Envoy), "Envoy access log")


def _of_access(columns: Columns, document: Document, taker: access.Access, source: str) -> Traffic:
    document.fill(taker)
    columns.sieve.notes.extend(taker.said())
    return columns.table(source, NOTHING, wall=True, sort_said=False, enable=access.ENABLE)


_LOGS = {
    "mooncake": _mooncake,
    "litellm": _litellm,
    "otel": _otel,
    "usage": _usage,
    "nginx": _nginx,
    "envoy": _envoy,
}
NOTHING = "no request in it"
