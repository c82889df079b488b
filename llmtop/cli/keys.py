"""The keys of every JSON object that llmtop prints, as a page: `python -m llmtop.cli.keys > llmtop/KEYS.md` renews it.

What a key means is the docstring of the field that it is written from, so the page cannot say anything else than the
code; a test holds the page and what is printed against each other.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from llmtop.analysis.thresholds import Crossing
from llmtop.cli.runs import RunEntry
from llmtop.domain.assessment import Assessment
from llmtop.domain.compared import Compared
from llmtop.domain.cost import Costs
from llmtop.domain.endpoint import EndpointInfo
from llmtop.domain.figures import RunFigures
from llmtop.domain.foresight import Foresight
from llmtop.domain.frame import Distribution, Frame, Totals
from llmtop.domain.rehearsed import Rehearsal
from llmtop.domain.run import Ending
from llmtop.domain.traffic import TrafficFigures
from llmtop.domain.tuning import Tune
from llmtop.domain.verdicts import CliffVerdict
from llmtop.exchange.told import ForeignSide
from llmtop.host.messages import Running
from llmtop.load.selftest import Row
from llmtop.profiles import ProfileEntry
from llmtop.report import ReportInput
from llmtop.report.tables import OVERALL
from llmtop.simulator.engine.prediction import PredictedPoint, Prediction
from llmtop.sinks.figures import Figures
from llmtop.wording.keys import FORMAT

HEAD = f"""# Keys of the JSON that llmtop prints

Every object begins with `format`, here {FORMAT}. Within a format keys are added, never renamed or removed. Units are in
the keys (`_s` seconds, `_ms` milliseconds); SLO limits are in seconds; shares are from 0 to 1; `null` is not known, 0
is measured. This page is made by `python -m llmtop.cli.keys`.
"""
HIDDEN = {(PredictedPoint, "samples")}


class Key(NamedTuple):
    """One key of an object: a type, or what stands there in words, and what it means."""

    kind: Any
    meaning: str = ""


Keys = Mapping[str, Key]


@cache
def keys_of(kind: type[Struct]) -> Keys:
    """The keys that a struct is written with, its tag first."""
    hints, meanings = get_type_hints(kind), _meanings(kind)
    tag = kind.__struct_config__
    keys = {tag.tag_field: Key(f'"{tag.tag}"')} if tag.tag_field else {}
    names = [name for name in kind.__struct_fields__ if (kind, name) not in HIDDEN]
    return keys | {name: Key(hints[name], meanings.get(name, "")) for name in names}


def _meanings(kind: type[Struct]) -> dict[str, str]:
    """The docstrings of fields, by name; those of a base, too."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] != "llmtop":
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        name = None
        for line in body.body:
            if name and isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
                told[name] = " ".join(str(line.value.value).split())
            name = line.target.id if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) else None
    return told


def documents() -> dict[str, Keys]:
    """What is printed, by the command that prints it."""
    verdicts = {name: key for name, key in keys_of(Assessment).items() if name != "t_s"}
    head = {"format": Key(int, f"{FORMAT}: the version of these keys.")}
    figures = Key(RunFigures | None, "Percentiles and rates.")
    endpoint = {"base_url", "dialect", "model", "server", "simulated", "preset", "settings"}
    code = {"exit_code": Key(int, "That of the command.")}
    run = {
        **code,
        "llmtop_version": Key(str),
        "profile": Key(str, "Its name."),
        "error": Key(str, "Only of a run that broke, and then in the place of all that follows: why."),
        "label": Key(str | None, "Name of the run, by --label."),
        "endpoint": Key("object", f"What was driven: {', '.join(f'`{name}`' for name in sorted(endpoint))}."),
        "duration_s": Key(float),
        "ending": Key(Ending, "How the run ended."),
        "interrupted": Key(bool, "Ended by a signal."),
        "totals": Key(Totals),
        "load_workers": keys_of(ReportInput)["load_workers"],
        "figures": figures,
        "run_file": Key(str | None, "The recording."),
        "recording_problem": keys_of(Frame)["recording_problem"],
    }
    prediction = dict(keys_of(Prediction))
    prediction["requests"] = Key(prediction["requests"].kind, "With --rows only.")
    return {
        "llmtop run --json": {**head, **run, **verdicts},
        "llmtop check --json": {**head, **code, **keys_of(Rehearsal)},
        "llmtop assess --json": {
            **head,
            "exit_code": run["exit_code"],
            **keys_of(CliffVerdict),
            "figures": figures,
            "load_workers": run["load_workers"],
            **verdicts,
        },
        "llmtop compare --json": {
            **head,
            **code,
            "compared": Key(tuple[Compared, ...], "Each of the others beside the first."),
            "crossed": Key(tuple[tuple[Crossing, ...], ...], "Of each, the thresholds of --fail-on that it reached."),
        },
        "llmtop import --json": {**head, "sides": Key(tuple[ForeignSide, ...], "One for each configuration.")},
        "llmtop traffic --json": {
            **head,
            **keys_of(TrafficFigures),
            "profile": Key(str | None, "The profile that was written."),
        },
        "llmtop tune --json": {
            **head,
            **code,
            "sentence": Key(str, "What it came to."),
            "flags": Key(str | None, "The winner's settings in the server's own words; null: there is no winner."),
            **keys_of(Tune),
            "restored": Key(bool | None, "Whether --apply put the first settings back; null: nothing was changed."),
            "problem": Key(str, "Why they are not back."),
            "wall_s": Key(float, "How long all of it took."),
        },
        "llmtop report -o FILE.json": {
            **head,
            "verdict": Key(str, "The title."),
            **{key: Key(Distribution, f"`figures.run.{name}`: milliseconds.") for key, name in OVERALL.items()},
            **keys_of(ReportInput),
        },
        "llmtop predict --json": {**head, **prediction, **verdicts},
        "llmtop predict --fit RUN --json": {
            **head,
            "run": Key(str, "The file that the twin was fitted to."),
            "slo": Key(str, "By which users are counted."),
            **keys_of(Foresight),
            "costs": Key(Costs | None, "What the foreseen users cost; null: nothing was stated."),
        },
        "llmtop doctor --json": {**head, **keys_of(EndpointInfo)},
        "llmtop selftest --json": {**head, "rows": Key(tuple[Row, ...]), "verdict": Key(str)},
        "llmtop profiles --json": {**head, "profiles": Key(tuple[ProfileEntry, ...])},
        "llmtop profiles show NAME --json": {
            **head,
            "profile": Key(ProfileEntry),
            "text": Key(str, "The file as it stands."),
        },
        "llmtop runs --json": {
            **head,
            "runs": Key(tuple[RunEntry, ...], "Newest first; 20, or with --all all."),
            "more": Key(int, "Older ones that are not among them."),
            "size": Key(int, "Bytes of all recordings."),
        },
        "llmtop ls --json": {**head, "running": Key(tuple[Running, ...], "Newest first.")},
        "llmtop run --out json=FILE": {**head, **keys_of(Figures)},
        "llmtop locate --json": {
            **head,
            **{name: Key(str, "A path.") for name in ("runs", "profiles", "settings", "state", "log")},
            "there": Key(tuple[str, ...], "Which of them exist."),
            "ignored": Key(tuple[str, ...], "Why a folder is not where the environment says."),
        },
    }


def page() -> str:
    """KEYS.md."""
    printed = documents()
    parts = [HEAD, *(_section(f"`{command}`", "", keys) for command, keys in printed.items())]
    for kind in sorted(_reached(printed), key=lambda kind: kind.__name__):
        doc = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).replace("None", "null")
        parts.append(_section(kind.__name__, doc, keys_of(kind)))
    return "\n".join(parts)


def _reached(printed: Mapping[str, Keys]) -> set[type[Struct]]:
    """Every struct in any of the objects."""
    reached: set[type[Struct]] = set()
    waiting = [key.kind for keys in printed.values() for key in keys.values()]
    while waiting:
        for kind in _structs(waiting.pop()):
            if kind not in reached:
                reached.add(kind)
                waiting += [key.kind for key in keys_of(kind).values()]
    return reached


def _structs(kind: Any) -> Iterator[type[Struct]]:
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for part in get_args(kind):
        yield from _structs(part)


def _section(title: str, doc: str, keys: Keys) -> str:
    lines = [f"## {title}", ""]
    if doc:
        lines += [doc, ""]
    lines += ["| key | is | meaning |", "|---|---|---|"]
    for name, key in keys.items():
        meaning = key.meaning.replace("|", "\\|").replace("None", "null")
        lines.append(f"| `{name}` | {_kind_text(key.kind)} | {meaning} |")
    return "\n".join([*lines, ""])


_WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
}


def _kind_text(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if kind in _WORDS:
        return _WORDS[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_kind_text(part) for part in parts)
    if origin is tuple:
        several = len(parts) == 2 and parts[1] is Ellipsis
        return f"list of {_kind_text(parts[0])}" if several else f"[{', '.join(map(_kind_text, parts))}]"
    if origin is dict:
        return f"object of {_kind_text(parts[1])}"
    if origin is Literal:
        return ", ".join(f'"{part}"' for part in parts)
    if issubclass(kind, StrEnum):
        return ", ".join(f'"{each}"' for each in kind)
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


if __name__ == "__main__":
    sys.stdout.write(page())
