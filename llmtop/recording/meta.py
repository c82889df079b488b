"""What a run was, read from its file and checked."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from llmtop.domain.plain import plain
from llmtop.domain.profile import Profile, Question
from llmtop.domain.run import RunMeta, safe_meta
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.errors import RunFileError
from llmtop.recording import schema
from llmtop.recording.limits import broken, fitting, found, range_of

LONGEST_META = 2**21
"""Characters; the timeline of a day driven by hand is some 100 000."""
MOST_MODELS = 1000
"""Of those that an endpoint lists: more are not kept."""
_WHERE = re.compile(r"^(?P<problem>.*) - at `(?:key in )?\$(?P<key>.*)`$", re.DOTALL)
"""How a decoder says where it stopped."""


class _SearchedProfile(msgspec.Struct):
    search: bool = False


class _Searched(msgspec.Struct):
    """How a run file says that a capacity was searched where its profile has no question."""

    profile: _SearchedProfile


def meta_text(meta: RunMeta) -> str:
    """The meta as it is kept, in which `read_meta` finds nothing wrong whatever a server said of itself."""
    info = meta.info
    if info is not None:
        figures = {name: getattr(info, name) for name in ("max_model_len", "max_num_seqs")}
        for name, value in figures.items():
            low, high = range_of(name, int)
            figures[name] = value if value is not None and low <= value <= high else None
        meta = replace(meta, info=replace(info, models=info.models[:MOST_MODELS], **figures))
    return msgspec.json.encode(_cut(meta)).decode()


def _cut(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return replace(value, **{name: _cut(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, tuple):
        return tuple(map(_cut, value))
    return fitting(value, "") if type(value) is str else value


def read_meta(database: sqlite3.Connection, path: Path) -> RunMeta:
    """The meta of an open run file.

    Raises:
        RunFileError: it is missing, of a newer llmtop, or something in it cannot be; names the key.
        sqlite3.Error: the file cannot be read.
    """
    told = dict(database.execute("SELECT key, value FROM meta LIMIT 100"))
    version = _text(path, told, "schema")
    if not version.isdecimal() or not 0 < len(version) < 10 or int(version) == 0:
        raise RunFileError(path, f"must be the number of a schema, and is {found(version)}", "meta: schema")
    if int(version) > schema.VERSION:
        raise RunFileError(
            path,
            f"written by llmtop {plain(str(told.get('llmtop_version')), 40)} with schema {version}; "
            f"this llmtop reads up to schema {schema.VERSION}: update llmtop",
        )
    run = _text(path, told, "run")
    meta = _decoded(path, run)
    for problem in _problems(meta):
        raise RunFileError(path, problem[1], f"meta: {problem[0]}")
    return safe_meta(meta)


def _text(path: Path, told: dict[object, object], key: str) -> str:
    value = told.get(key)
    if not isinstance(value, str) or len(value) > LONGEST_META:
        what = f"{len(value)} characters" if isinstance(value, str) else found(value)
        raise RunFileError(path, f"must be text of at most {LONGEST_META} characters, and is {what}", f"meta: {key}")
    return value


def _decoded(path: Path, run: str) -> RunMeta:
    try:
        meta = msgspec.json.decode(run, type=RunMeta)
        told = msgspec.json.decode(run, type=_Searched)
    except RecursionError as error:
        raise RunFileError(path, "is nested too deeply", "meta: run") from error
    except (msgspec.MsgspecError, ValueError) as error:
        where = _WHERE.match(str(error))
        problem, key = (where["problem"], f"meta: run{where['key']}") if where else (str(error), "meta: run")
        raise RunFileError(path, plain(problem, 200), plain(key, 200)) from error
    if told.profile.search and meta.profile.question is None:
        profile = replace(meta.profile, question=Question.CAPACITY)
        return replace(meta, profile=profile)
    return meta


def _problems(meta: RunMeta) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) of all that no run can have, one by one."""
    out_of_range = broken(meta, "run", "run")
    if out_of_range is not None:
        yield out_of_range
    yield from _of_slo(meta.profile.slo)
    yield from _of_plan(meta.profile)
    try:
        urlsplit(meta.endpoint.base_url)
    except ValueError as error:
        yield "run.endpoint.base_url", f"{found(meta.endpoint.base_url)} is no URL ({error})"


def _of_slo(slo: Slo) -> Iterator[tuple[str, str]]:
    places = ((place, at, target) for place in ("targets", "named") for at, target in enumerate(getattr(slo, place)))
    for place, at, target in places:
        key = f"run.profile.slo.{place}[{at}]"
        if bool(target.kind) != (place == "named"):
            yield f"{key}.kind", f"must be {'a name' if place == 'named' else 'empty'}"
        if (target.metric in LATENCIES) != (target.stat is not None):
            yield f"{key}.stat", f"{target.metric} {'must have a' if target.stat is None else 'has no'} statistic"
        if target.limit <= 0:
            yield f"{key}.limit", "must be above zero"


def _of_plan(profile: Profile) -> Iterator[tuple[str, str]]:
    if profile.peak is not None and profile.peak <= 0:
        yield "run.profile.peak", "must be above zero"
    for at, stage in enumerate(profile.plan.stages):
        if stage.duration_s <= 0:
            yield f"run.profile.plan.stages[{at}].duration_s", "must be above zero"
