"""A file of another tool, known by its content: the one door by which foreign measurements come in."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmtop.analysis.sides import Side
from llmtop.domain.plain import plain
from llmtop.domain.slo import Slo
from llmtop.errors import FileError
from llmtop.exchange import aiperf, benchmark_report, guidellm, inference_perf, inferencex, sglang, vllm
from llmtop.exchange.fields import Fields
from llmtop.exchange.foreign import LEVEL, Foreign, Group, grouped
from llmtop.exchange.heads import GZIP, YAML
from llmtop.inputs import bytes_of

MOST_BYTES = 256_000_000
"""Of a file, unpacked: a detailed result of 10,000 requests with 2,000 gaps each."""
MOST_YAML = 4_000_000
"""Bytes: it is read a hundred times slower."""
MOST_ENTRIES = 1_000_000
"""Lines, or objects of an array."""
MOST_LOADS = 1000
FORMATS = (
    "vllm bench serve, SGLang bench_serving, GuideLLM 2, AIPerf and genai-perf JSON, AIPerf records, inference-perf, "
    "llm-d Benchmark Report 0.2 and InferenceX rows"
)

_ONE: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[Fields], Foreign | tuple[Foreign, ...]]], ...] = (
    (guidellm.is_one, guidellm.read),
    (benchmark_report.is_one, benchmark_report.read),
    (inference_perf.is_one, inference_perf.read),
    (aiperf.is_one, aiperf.read),
    (sglang.is_one, sglang.read),
    (vllm.is_one, vllm.read),
    (inferencex.is_one, inferencex.read),
)
"""How the object of a format is known, and what reads it; the first that knows it has it."""


def sides_in(path: Path, slo: Slo) -> tuple[Side, ...]:
    """What another tool has measured, judged by `slo`: a side for each configuration in the file, at least one.

    Raises FileError: it is of no format that is read, of an unknown version, or damaged.
    """
    return tuple(group.side(slo) for group in groups_in(path, read(path)))


def groups_in(path: Path, runs: tuple[Foreign, ...]) -> tuple[Group, ...]:
    """The configurations of a file. Raises FileError: no load is known in it."""
    groups = grouped(name_of(path), runs)
    if not groups:
        raise FileError(path, "does not say at which load it was measured, nor what tells it: give it with --load")
    return groups


def name_of(path: Path) -> str:
    return plain(path.name.removesuffix(".gz").rpartition(".")[0] or path.name, 80)


def read(path: Path) -> tuple[Foreign, ...]:
    """Every load in a file, in its order. Raises FileError: see `sides_in`."""
    values = _values(path)
    if values and all(aiperf.is_record(each) for each in values):
        return (aiperf.read_records(Fields(each, path, f"line {at}") for at, each in enumerate(values, 1)),)
    found: list[Foreign] = []
    for at, value in enumerate(values, 1):
        fields = Fields(value, path, "" if len(values) == 1 else f"entry {at}")
        reader = next((reader for is_one, reader in _ONE if is_one(value)), None)
        if reader is None:
            raise _unknown(path, value, at, len(values))
        told = reader(fields)
        found += [told] if isinstance(told, Foreign) else told
        if len(found) > MOST_LOADS:
            raise FileError(path, f"has more than {MOST_LOADS:,} loads, the most that are read")
    if not found:
        raise FileError(path, "has nothing in it that was measured")
    for run in found:
        if run.load is not None and not LEVEL.holds(run.load):
            raise FileError(path, f"a load must be {LEVEL.allowed}, not {run.load:g}")
    return tuple(found)


def _unknown(path: Path, value: dict[str, Any], at: int, of: int) -> FileError:
    keys = plain(", ".join(list(value)[:5]) or "none", 80)
    where = "" if of == 1 else f"entry {at} "
    return FileError(path, f"{where}is of no known format (its first keys: {keys}); read are {FORMATS}")


# -- from bytes to objects ---------------------------------------------------------------------------------------------


def _values(path: Path) -> list[dict[str, Any]]:
    """The objects of a file: one, those of an array, or one a line. Raises FileError."""
    data = bytes_of(path, MOST_BYTES)
    if data.startswith(GZIP):
        data = _unpacked(path, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(path, f"is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise FileError(path, "is empty")
    value = _yaml(path, text) if YAML.match(text) else _json(path, text)
    values = value if isinstance(value, list) else [value]
    if len(values) > MOST_ENTRIES:
        raise FileError(path, f"has more than {MOST_ENTRIES:,} entries, the most that are read")
    for at, each in enumerate(values, 1):
        if not isinstance(each, dict):
            raise FileError(path, f"entry {at} is no object; read are {FORMATS}")
    return values


def _unpacked(path: Path, data: bytes) -> bytes:
    """What a gzip file holds. Raises FileError: damaged, cut off, or larger than is read."""
    parts, size = [], 0
    while data:
        stream = zlib.decompressobj(wbits=31)
        try:
            part = stream.decompress(data, MOST_BYTES - size + 1)
        except zlib.error as error:
            raise FileError(path, f"is no whole gzip file ({error})") from None
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise FileError(path, f"unpacks to more than {MOST_BYTES / 1e6:,.0f} MB, the most that is read")
        if not stream.eof:
            raise FileError(path, "is a gzip file that was cut off")
        data = stream.unused_data
    return b"".join(parts)


def _json(path: Path, text: str) -> Any:
    """One value, or the values of lines. Numbers that JSON has not (`Infinity`) are taken. Raises FileError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not text.lstrip().startswith("{") or "Extra data" not in error.msg:
            raise _damaged(path, error) from None
    except (RecursionError, ValueError) as error:
        raise FileError(path, _why(error)) from None
    return list(_lines(path, text))


def _lines(path: Path, text: str) -> Iterator[Any]:
    for at, line in enumerate(text.splitlines(), 1):
        if at > MOST_ENTRIES:
            raise FileError(path, f"has more than {MOST_ENTRIES:,} lines, the most that are read")
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(path, f"line {at} is not JSON: {plain(error.msg, 80)} at column {error.colno}") from None
        except (RecursionError, ValueError) as error:
            raise FileError(path, f"line {at} {_why(error)}") from None


def _damaged(path: Path, error: json.JSONDecodeError) -> FileError:
    if error.doc.lstrip()[:1] not in ("{", "["):
        return FileError(path, f"is of no known format; read are {FORMATS}")
    return FileError(path, f"is not JSON: {plain(error.msg, 80)} at line {error.lineno}, column {error.colno}")


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deep to be a result"
    return f"has a number in it that nobody means ({plain(str(error), 60)})"


def _yaml(path: Path, text: str) -> Any:
    """A Benchmark Report as llm-d writes it. Raises FileError: the library for it is not there, too."""
    try:
        import yaml
    except ImportError:
        raise FileError(
            path, "is YAML, for which a library is wanted: pip install 'llmtop[yaml]'; or give the report as JSON"
        ) from None
    if len(text) > MOST_YAML:
        raise FileError(path, f"is YAML of more than {MOST_YAML / 1e6:g} MB, the most that is read: give it as JSON")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise FileError(path, f"is not YAML: {plain(' '.join(str(error).split()), 160)}") from None
