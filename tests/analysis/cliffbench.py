"""The labelled curves and sessions, read from the archive, and the score of a detector on them."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from llmtop.analysis.levels import Level
from llmtop.analysis.sessions import Gauges, Requests
from llmtop.analysis.steps import StepFunction
from llmtop.domain.verdicts import CliffVerdict, Kind
from llmtop.exchange.levels import parse_levels

ARCHIVE = Path(__file__).parent / "data" / "cliffbench.tar.gz"


@cache
def files() -> dict[str, str]:
    with tarfile.open(ARCHIVE) as archive:
        return {
            member.name: stream.read().decode()
            for member in archive.getmembers()
            if (stream := archive.extractfile(member)) is not None
        }


@dataclass(frozen=True)
class Case:
    name: str
    truth: dict
    levels: tuple[Level, ...]

    @property
    def kind(self) -> str:
        return self.truth["kind"]


@cache
def cases() -> tuple[Case, ...]:
    found = []
    for name, truth in json.loads(files()["truth.json"]).items():
        path = truth["file"] if truth["set"] == "synthetic" else f"real/{name}.levels.csv"
        found.append(Case(name, truth, parse_levels(files()[path])))
    return tuple(found)


@dataclass(frozen=True)
class Score:
    """Shares on one set of curves; `false_cliffs` is a count."""

    hard_level: float
    hard_10: float
    hard_25: float
    soft: float
    covered: float
    false_cliffs: int
    nulls: int
    cause: float


def score(judged: Sequence[tuple[Case, CliffVerdict]]) -> Score:
    hard = [(case, v) for case, v in judged if case.kind == "hard"]
    soft = [(case, v) for case, v in judged if case.kind == "soft"]
    none = [v for case, v in judged if case.kind == "none"]
    gauged = [(case, v) for case, v in hard if case.truth["set"] == "synthetic" and v.kind is Kind.CLIFF]

    def share(pairs: Sequence[tuple[Case, CliffVerdict]], test: Callable[[Case, CliffVerdict], bool]) -> float:
        return sum(v.at is not None and test(case, v) for case, v in pairs) / len(pairs)

    return Score(
        hard_level=share(hard, _within_a_level),
        hard_10=share(hard, lambda case, v: abs(math.log(v.at / case.truth["knee"])) <= math.log(1.1)),
        hard_25=share(hard, lambda case, v: abs(math.log(v.at / case.truth["knee"])) <= math.log(1.25)),
        soft=share(soft, lambda case, v: case.truth["lo"] <= v.at <= case.truth["hi"]),
        covered=share(hard, lambda case, v: v.low <= case.truth["knee"] <= v.high),
        false_cliffs=sum(v.kind is Kind.CLIFF for v in none),
        nulls=len(none),
        cause=share(gauged, lambda case, v: v.cause == case.truth["cause"]),
    )


def _within_a_level(case: Case, verdict: CliffVerdict) -> bool:
    loads = [level.load for level in case.levels]
    places = [sum(load <= at for load in loads) for at in (case.truth["knee"], verdict.at)]
    return verdict.kind is Kind.CLIFF and abs(places[0] - places[1]) <= 1


SESSIONS = {"closed_up_down": 32.0, "closed_kv": 34.72, "closed_no_cliff": None}


def session(name: str, until_s: float) -> tuple[Requests, StepFunction, Gauges, np.ndarray]:
    """What was known of a slider session at `until_s`: finished requests, in flight, gauges, ages of those waiting."""
    rows = np.genfromtxt(io.StringIO(files()[f"sessions/{name}.csv"]), delimiter=",", names=True)
    server = np.genfromtxt(io.StringIO(files()[f"sessions/{name}.server.csv"]), delimiter=",", names=True)
    rows = rows[np.argsort(rows["t_submit"], kind="stable")]
    rows = rows[rows["t_submit"] <= until_s]
    server = server[server["t"] <= until_s]
    in_flight = StepFunction.of_intervals(rows["t_submit"], np.fmin(rows["t_done"], until_s + 1))
    waiting = rows[~(rows["t_first"] <= until_s)]
    done = rows[rows["t_done"] <= until_s]
    tokens = np.maximum(1, done["output_tokens"] - 1)
    requests = Requests(
        sent_s=done["t_submit"],
        first_token_s=done["t_first"],
        end_s=done["t_done"],
        ttft_s=done["t_first"] - done["t_submit"],
        tpot_s=(done["t_done"] - done["t_first"]) / tokens,
        e2e_s=done["t_done"] - done["t_submit"],
        ok=np.ones(len(done), dtype=bool),
        error=np.zeros(len(done), dtype=bool),
        prompt_tokens=done["prompt_tokens"],
        output_tokens=done["output_tokens"],
    )
    preemptions = np.diff(server["preempt_total"], prepend=0.0)
    gauges = Gauges(server["t"], server["running"], server["waiting"], server["kv"], preemptions)
    return requests, in_flight, gauges, until_s - waiting["t_submit"]
