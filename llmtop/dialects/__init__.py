"""One table per dialect, as data: what its metrics, request fields, errors and flags are called.

The tables are the TOML files beside this module; nothing else in llmtop knows a server's names. A name that is not in
a table is not known, and shows as "metric absent", never as 0.

Every metric alias says what backs it: `capture` (seen in the answers of a real server) or `source` (read in the
server's source or documentation, which the table's `sources` name).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct, field

from llmtop.domain.endpoint import Dialect


class MetricKind(StrEnum):
    """How the value of a field of `ServerSnapshot` is read from a page of metrics."""

    GAUGE = "gauge"
    """The value of `name`, less that of `minus`, divided by that of `over`, where there are such."""
    COUNTER = "counter"
    """The value of `name`. Counters are written with and without `_total` by different versions: both match."""
    MEAN = "mean"
    """Over an interval: delta of `name`_sum / delta of `name`_count of a histogram or summary."""
    RATIO = "ratio"
    """Over an interval: delta of `name` / delta of `over`, both counters."""
    LABEL = "label"
    """The text of label `label` of the info metric `name`, as a number; "None" is not known."""


class Evidence(StrEnum):
    CAPTURE = "capture"
    SOURCE = "source"


class Combine(StrEnum):
    """How the series of one name (engines, ranks, models) become one value."""

    SUM = "sum"
    MAX = "max"
    MEAN = "mean"
    FIRST = "first"


class Signal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One alias of one figure."""

    kind: MetricKind
    name: str
    """As exported, with its prefix; of a histogram without `_sum`, `_count` and `_bucket`."""
    over: str | None = None
    minus: str | None = None
    label: str | None = None
    where: dict[str, str] = field(default_factory=dict)
    """Only series whose labels have these values. A label that a series lacks is not held against it."""
    combine: Combine = Combine.SUM
    scale: float = 1.0
    """The value is multiplied by this: 0.001 for milliseconds, 0.01 for percent."""
    evidence: Evidence


class JsonFact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure that the server tells in a JSON answer: where, and the way to it (`data.0.max_model_len`)."""

    path: str
    key: str
    evidence: Evidence


class FlagSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server tells some of its own settings. What is not named here is not kept: keys, tokens and paths."""

    path: str | None = None
    """Of a JSON answer; None: a page of metrics, as labels of `metric`."""
    metric: str | None = None
    keys: dict[str, str]
    """Name of the flag, as the server's command line has it -> way to its value, as in `JsonFact.key`, or label."""
    evidence: Evidence


class Detection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By what one knows the server. Each piece of evidence that holds counts; a dialect without any is not it."""

    metric_prefixes: tuple[str, ...] = ()
    bare_metrics: tuple[str, ...] = ()
    """Names of some metrics as versions export them that put no prefix before any."""
    owned_by: tuple[str, ...] = ()
    """`owned_by` of an entry of /v1/models."""
    server_headers: tuple[str, ...] = ()
    """Start of the Server header, in lower case."""
    json_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Path -> keys that its JSON answer must have, as in `JsonFact.key`."""
    common: tuple[str, ...] = ()
    """Those of these paths that others have as well: one of them alone is no evidence."""


class RequestFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is put into the body of a request besides model, prompt and stream."""

    max_tokens: str = "max_tokens"
    """Field of the asked output length."""
    min_tokens: str | None = None
    """Field of the least output length, where there is one."""
    pin: dict[str, Any] = field(default_factory=dict)
    """Fields that keep a stream from ending early."""
    pin_is_certain: bool = True
    """False: sent in the hope that it helps; a server that takes it may yet ignore it."""
    usage: bool = True
    """Whether `stream_options.include_usage` is understood."""
    continuous_usage: bool = False
    """Whether `stream_options.continuous_usage_stats` is understood: usage in every event, so that n tokens count n."""
    api: tuple[str, ...] = ("chat", "completions")
    evidence: Evidence = Evidence.SOURCE

    @property
    def pins_output(self) -> bool:
        return bool(self.pin) or self.min_tokens is not None


class Quirks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How its streams differ."""

    closes_after_stream: bool = False
    """Closes the connection after a streamed answer, whatever its headers promise."""


class Tokenizer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the server's own tokenizer is asked."""

    path: str
    text_field: str
    count_key: str | None = None
    """Where the answer has a number or a list of tokens; None: the answer is the list."""
    wants_model: bool = False
    evidence: Evidence


class LiveKnob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting that turns while the server runs."""

    value: str
    """The way to where it stands, as in `JsonFact.key`, in what one engine tells."""
    most: tuple[str, ...] = ()
    """Ways to the most that it takes; the first that tells it counts."""
    sent: str
    """As it is called when it is turned."""
    only: dict[str, float] = field(default_factory=dict)
    """Ways to other figures, and what they must be for this to be that setting."""


class LiveRoute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server shows settings that turn while it runs, and where they are turned."""

    read: tuple[str, ...]
    """Paths; the first that answers counts."""
    engines: str | None = None
    """The way to a list that has an entry for each engine; None: the answer stands for all of them."""
    turn: str
    method: str
    within: str | None = None
    """The object that what is sent stands in."""
    knobs: dict[str, tuple[LiveKnob, ...]]
    """Setting, as vLLM calls it -> what it is here; the first that the answer has counts."""
    evidence: Evidence


class ErrorExample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error body as the server writes it, and what it means."""

    status: int
    """0: an event inside a 200 stream."""
    body: str
    message: str
    """What a user is told."""
    evidence: Evidence


class Advice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's own flags, by what one wants of it. None: it has no such flag, or is not known."""

    more_slots: str | None = None
    """What to raise for more requests in one batch."""
    slots_divide: str | None = None
    """What those requests share, and what must be raised in the same proportion: else each has less of it."""
    more_kv: str | None = None
    """What to raise for a larger KV cache."""
    smaller_kv: str | None = None
    """What to set so that a token takes half the memory of the KV cache."""
    token_budget: str | None = None
    """What to raise for more tokens in one step, or to lower for smoother decoding."""
    enable_metrics: str | None = None
    enable_tokenize: str | None = None
    enable_usage: str | None = None
    max_model_len: str | None = None
    live_knobs: str | None = None
    """What to start it with so that knobs turn while it runs."""


class Histograms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it tells of each request, as names of histograms: what a Prometheus has kept of days of it."""

    prompt: str
    """Tokens."""
    output: str
    """Tokens."""
    e2e: str
    """Seconds."""
    model_label: str
    evidence: Evidence


class DialectTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that llmtop knows of one dialect."""

    dialect: Dialect
    title: str
    """Its name as people write it."""
    versions: str
    """What the table was made from."""
    sources: tuple[str, ...]
    default_port: int | None = None
    metrics_path: str | None = None
    """None: it has no metrics in the Prometheus format."""
    metrics_port: int | None = None
    """Where metrics have a port of their own."""
    slots_path: str | None = None
    """llama.cpp: JSON list of slots, from which KV usage is estimated."""
    version_facts: tuple[JsonFact, ...] = ()
    """Where the server tells its version; the first that answers counts."""
    tokenizer: Tokenizer | None = None
    metrics: dict[str, tuple[Signal, ...]] = field(default_factory=dict)
    """Field of `ServerSnapshot` -> aliases, newest first; the first one that the page has counts."""
    json_facts: dict[str, tuple[JsonFact, ...]] = field(default_factory=dict)
    """Field of `ServerSnapshot` -> where JSON answers tell it."""
    histograms: Histograms | None = None
    flags: tuple[FlagSource, ...] = ()
    """Where it tells its own settings; of one flag the first that tells it counts."""
    live: tuple[LiveRoute, ...] = ()
    """Its own ways to turn settings while it runs."""
    engine_label: str | None = None
    """The label that tells the engines of one server apart on a page of metrics."""
    detection: Detection = Detection()
    request: RequestFields = RequestFields()
    quirks: Quirks = Quirks()
    errors: tuple[ErrorExample, ...] = ()
    advice: Advice = Advice()


class _Tables(Mapping[Dialect, DialectTable]):
    """Reads a table when it is first asked for: nine of them would cost every start 30 ms."""

    def __init__(self) -> None:
        self._read: dict[Dialect, DialectTable] = {}

    def __getitem__(self, dialect: Dialect) -> DialectTable:
        table = self._read.get(dialect)
        if table is None:
            text = resources.files(__name__).joinpath(f"{Dialect(dialect).value}.toml").read_bytes()
            table = self._read[dialect] = msgspec.toml.decode(text, type=DialectTable)
        return table

    def __iter__(self) -> Iterator[Dialect]:
        return iter(Dialect)

    def __len__(self) -> int:
        return len(Dialect)


DIALECTS: Mapping[Dialect, DialectTable] = _Tables()


COUNT_LIMIT = 1e12
"""No server has as many tokens, requests or blocks."""
TEXT_LIMIT = 4096
"""Letters of a name or version. A model may be called by a path of a file."""


def dig(answer: Any, key: str) -> Any:
    """Follow `JsonFact.key` into a decoded answer; None where the way ends."""
    for part in key.split("."):
        if isinstance(answer, dict):
            answer = answer.get(part)
        elif isinstance(answer, list) and part.isdecimal() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            return None
    return answer


def number_at(answer: Any, key: str) -> float | None:
    """The number at `key` of a decoded answer; a text of digits counts as one. None: no number, or an absurd one."""
    found = dig(answer, key)
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return None
    return number if 0.0 <= number <= COUNT_LIMIT else None


def text_of(found: Any) -> str | None:
    """A name or version that a server tells; a number counts as one. None: neither, or an absurd one."""
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    if isinstance(found, str):
        return found.encode("utf-8", "replace").decode() if 0 < len(found) <= TEXT_LIMIT else None
    return str(found) if 0 <= found <= COUNT_LIMIT else None
