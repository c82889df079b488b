"""Answers in JSON that are odd: every key of every dialect's, replaced by everything that it should not be."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from llmtop.dialects import COUNT_LIMIT, DIALECTS, DialectTable
from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.question import Answer
from llmtop.endpoint.trace import Trace
from llmtop.errors import EndpointError
from llmtop.telemetry.answers import LIVE_FIELDS, AnswerReader
from llmtop.telemetry.signals import is_figure
from llmtop.telemetry.summary import Reading, summarise

ODD: tuple[Any, ...] = (
    None,
    True,
    "",
    "4096",
    "x" * 100_000,
    "\x1b]52;c;eA==\x07",
    "\ud800",
    0,
    -1,
    1e300,
    10**400,
    float("nan"),
    float("inf"),
    [],
    [[]],
    {},
    {"0": {"a": None}},
)
Way = tuple[str | int, ...]


def answers_of(table: DialectTable) -> dict[str, Any]:
    """What a server of this dialect answers, as far as its table tells."""
    answers: dict[str, Any] = {
        "/v1/models": {"object": "list", "data": [{"id": "m", "owned_by": next(iter(table.detection.owned_by), "x")}]}
    }
    ways = [(fact.path, fact.key) for facts in table.json_facts.values() for fact in facts]
    ways += [(fact.path, fact.key) for fact in table.version_facts]
    ways += [(path, key) for path, keys in table.detection.json_keys.items() for key in keys]
    for path, key in ways:
        _put(answers.setdefault(path, {}), key.split("."), 64)
    if table.tokenizer is not None:
        count: Any = {table.tokenizer.count_key: 9} if table.tokenizer.count_key else [1, 2]
        answers.setdefault(table.tokenizer.path, count)
    if table.slots_path is not None:
        answers[table.slots_path] = [
            {"n_ctx": 100, "is_processing": True, "n_prompt_tokens": 4, "next_token": [{"n_decoded": 3}]}
        ]
    return answers


def _put(place: Any, way: list[str], value: object) -> None:
    """Set what is at the end of a way, making what is missing of it."""
    step: Any = int(way[0]) if isinstance(place, list) else way[0]
    if isinstance(place, list) and step >= len(place):
        place.append({})
    if len(way) == 1:
        if isinstance(place, list) or step not in place:
            place[step] = value
        return
    if isinstance(place, dict) and step not in place:
        place[step] = [] if way[1].isdecimal() else {}
    _put(place[step], way[1:], value)


def places(answer: Any, way: Way = ()) -> Iterator[Way]:
    """The ways to everything in an answer, itself included."""
    yield way
    inner = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    for step, value in inner:
        yield from places(value, (*way, step))


def replaced(answer: Any, way: Way, value: Any) -> Any:
    if not way:
        return value
    copy = list(answer) if isinstance(answer, list) else dict(answer)
    copy[way[0]] = replaced(answer[way[0]], way[1:], value)
    return copy


class Net:
    """Answers instead of a server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, Any] = {}
        for room in ("endpoint.probe", "endpoint.client", "telemetry.answers"):
            monkeypatch.setattr(f"llmtop.{room}.ask", self.ask)
        monkeypatch.setattr("llmtop.endpoint.reach.failure_to_connect", self.connect)
        monkeypatch.setattr(EndpointClient, "generate", self.generate)

    async def ask(self, client: object, url: str, **_: object) -> Answer:
        path = url.removeprefix("http://127.0.0.1:1")
        if path not in self.answers:
            return Answer(404, b"{}")
        return Answer(200, json.dumps(self.answers[path]).encode())

    async def connect(self, *_: object) -> None:
        return None

    @staticmethod
    async def generate(
        client: object, prompt: str, tokens: int, api: str, trace: Trace, sink: object, **carried: object
    ) -> None:
        trace.outcome, trace.status = Outcome.OK, 200


def cases(dialect: Dialect) -> Iterator[tuple[str, Way, Any]]:
    """Path, way and what stands there."""
    answers = answers_of(DIALECTS[dialect])
    for path, answer in answers.items():
        yield from itertools.product((path,), places(answer), ODD)


async def is_taken(net: Net, dialect: Dialect, answers: dict[str, Any]) -> None:
    """A probe and a scrape of these answers end well or in words, with figures that can be."""
    net.answers = answers
    said: list[str] = []
    endpoint = Endpoint(base_url="http://127.0.0.1:1")
    for given in (None, dialect):
        try:
            info = await probe(msgspec.structs.replace(endpoint, dialect=given, model=None), Caps())
        except EndpointError as error:
            said.append(error.problem)
            continue
        msgspec.json.encode(info)
        for figure in (info.max_model_len, info.max_num_seqs):
            assert figure is None or 1 <= figure <= COUNT_LIMIT
        assert len(info.server or "") < 200
        assert info.dialect in Dialect
    assert all("lists no model" in problem or "no list of models" in problem for problem in said)
    reader = AnswerReader("http://127.0.0.1:1", DIALECTS[dialect])
    await reader.read(None, 0.0)  # type: ignore[arg-type]
    assert all(map(is_figure, reader.values.values()))
    assert all(value >= 1 for field, value in reader.values.items() if field not in LIVE_FIELDS)
    reading = Reading(name="a", table=DIALECTS[dialect], answers=reader.values, slots=reader.slots)
    msgspec.json.encode(summarise(1.0, 0.0, [reading]))


@pytest.mark.parametrize("dialect", [*Dialect])
async def test_what_a_table_names_is_used(monkeypatch: pytest.MonkeyPatch, dialect: Dialect) -> None:
    net = Net(monkeypatch)
    net.answers = answers_of(DIALECTS[dialect])
    info = await probe(Endpoint(base_url="http://127.0.0.1:1", dialect=dialect), Caps())
    told = DIALECTS[dialect].json_facts
    assert (info.max_model_len, info.max_num_seqs) == tuple(
        64 if field in told else None for field in ("max_model_len", "max_num_seqs")
    )


@pytest.mark.parametrize("dialect", [*Dialect])
async def test_odd_answers_are_used_or_left_out(monkeypatch: pytest.MonkeyPatch, dialect: Dialect) -> None:
    net = Net(monkeypatch)
    answers = answers_of(DIALECTS[dialect])
    for path, way, value in itertools.islice(cases(dialect), 0, None, 13):
        await is_taken(net, dialect, {**answers, path: replaced(answers[path], way, value)})


@pytest.mark.faults
@pytest.mark.parametrize("dialect", [*Dialect])
async def test_all_odd_answers_are_used_or_left_out(monkeypatch: pytest.MonkeyPatch, dialect: Dialect) -> None:
    net = Net(monkeypatch)
    answers = answers_of(DIALECTS[dialect])
    for path, way, value in cases(dialect):
        await is_taken(net, dialect, {**answers, path: replaced(answers[path], way, value)})
        await asyncio.sleep(0)


def test_a_model_is_called_by_a_text_or_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(monkeypatch)
    ids = ["m", 5, "", None, [], {}, True, "x" * 5000, -1]
    net.answers = {"/v1/models": {"data": [*({"id": name} for name in ids), {}, 1, None]}}
    info = asyncio.run(probe(Endpoint(base_url="http://127.0.0.1:1"), Caps()))
    assert info.models == ("m", "5")


def test_of_thousands_of_models_the_first_thousand_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(monkeypatch)
    net.answers = {"/v1/models": {"data": [{"id": f"m{number}"} for number in range(5_000)]}}
    info = asyncio.run(probe(Endpoint(base_url="http://127.0.0.1:1", model="m4999"), Caps()))
    assert (info.model, len(info.models)) == ("m4999", 1000)
