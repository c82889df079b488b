"""The Prometheus text format, read fast enough for a scrape beside a running load.

A page of an eight-engine server has about 3600 lines that are the same at every scrape but for their numbers. So the
part before the number, `name{labels}`, is parsed once and kept; afterwards a line costs one split, one look-up and one
`float()`. Lines that are not samples are skipped, never guessed at: a metric that cannot be read is absent, not zero.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4, quoted UTF-8 names of 1.0.0, and the
exemplars and timestamps that some exporters add; both are dropped).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec import Struct

CACHE_LIMIT = 20_000
"""Heads kept per parser. A page that never repeats a head (a label with a request id) empties the cache, not memory."""
SLICE_BYTES = 1 << 13
"""Read in one go: at most 2 ms, whatever is in it."""
LINE_BYTES = 1 << 16
"""A longer line is no sample. An info metric with all of vLLM's settings has 3 kB."""
SERIES_LIMIT = 5_000
"""Series of one page that are wanted: ten times those of a vLLM with eight engines. To add them up takes 10 ms."""
FIGURE_LIMIT = 1e30
"""No figure of a server is as large: a GPU does 1e23 operations in a year."""
_SIGN = 4
"""Letters of a name by which a whole slice is left out."""
_START = 6
"""Letters of a name by which a line is left out before it is looked at any closer."""

_MARK = b"\xef\xbb\xbf"
"""A byte order mark."""
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')
_LABEL = re.compile(rf"[ \t]*([a-zA-Z_][a-zA-Z0-9_]*|{_QUOTED.pattern})[ \t]*=[ \t]*{_QUOTED.pattern}[ \t]*")
_ESCAPE = re.compile(r'\\([\\n"])')


class MetricSeries(Struct, frozen=True):
    """What a sample is of: a metric's name (with its `_sum`, `_count`, `_bucket` or `_total`) and its labels."""

    name: str
    labels: dict[str, str]
    identity: frozenset[tuple[str, str]]
    """The labels, to tell whether a page has a series twice."""


Sample = tuple[MetricSeries, float]
T = TypeVar("T")


class TooManySeries(Exception):
    """A page has more than `SERIES_LIMIT` series of the names that are wanted."""


class ExpositionParser:
    """Reads pages of one server; keeps what it learned about their lines.

    Args:
        wanted: names of the samples to keep, each perhaps with what it is called in what is returned; None keeps all. A
            name that is not wanted costs a tenth of one that is.
    """

    def __init__(self, wanted: Iterable[str] | Mapping[str, str] | None = None) -> None:
        called = wanted if isinstance(wanted, Mapping) else {name: name for name in wanted or ()}
        self._wanted = None if wanted is None else called
        starts = sorted({name[:_START] for name in self._wanted or ()})
        self._starts = None if self._wanted is None else (*starts, " ", "\t", "{")
        signs = Counter(name[:_SIGN].encode() for name in self._wanted or ())
        self._signs = None if self._wanted is None else [sign for sign, _ in signs.most_common()]
        """Without one of them a slice has nothing that is wanted; the likeliest first."""
        self._heads: dict[str, MetricSeries | None] = {}

    def parse(self, page: str | bytes) -> list[Sample]:
        """The samples of a page in its order, without `*_created` (the birth of a counter, not a figure).

        Never raises: what is not a sample line is left out.
        """
        return [sample for part in self.slices(page) for sample in part]

    def slices(self, page: str | bytes) -> Iterator[list[Sample]]:
        """The same, a few lines at a time, so that whoever shares a loop with something else can let it in between."""
        text = page.encode("utf-8", "replace") if isinstance(page, str) else page
        if len(self._heads) > CACHE_LIMIT:
            self._heads.clear()
        begin = len(_MARK) if text.startswith(_MARK) else 0
        while begin < len(text):
            end = text.rfind(b"\n", begin, begin + SLICE_BYTES) + 1
            if not end:
                end = text.find(b"\n", begin + SLICE_BYTES) + 1 or len(text)
            part = text[begin:end] if end - begin <= LINE_BYTES else b""
            begin = end
            is_foreign = self._signs is not None and not any(sign in part for sign in self._signs)
            yield [] if is_foreign else self._read(part.decode("utf-8", "replace"))

    def bounded(self, page: str | bytes) -> Iterator[list[Sample]]:
        """As `slices`. Raises TooManySeries."""
        series = 0
        for part in self.slices(page):
            series += len(part)
            if series > SERIES_LIMIT:
                raise TooManySeries
            yield part

    def _read(self, text: str) -> list[Sample]:
        known, starts = self._heads, self._starts
        samples: list[Sample] = []
        for line in text.split("\n"):
            if starts is not None and not line.startswith(starts):
                continue
            head, _, number = line.rpartition(" ")
            if head in known:
                series = known[head]
                if series is None:
                    continue
                try:
                    samples.append((series, float(number)))
                    continue
                except ValueError:
                    pass  # a tab before a timestamp, say: read as if the head were new
            if line and line[0] != "#":
                sample = self._learn(line)
                if sample is not None:
                    samples.append(sample)
        return samples

    def _learn(self, line: str) -> Sample | None:
        """Read a line whose head is new, and keep the head if the line is of the plain form `head number`."""
        parsed = _read_series(line)
        if parsed is None:
            return None
        series, end = parsed
        numbers = line[end:].partition(" # ")[0].split()
        if not 1 <= len(numbers) <= 2 or (end < len(line) and line[end] not in " \t" and line[end - 1] != "}"):
            return None
        try:
            value = float(numbers[0])
        except ValueError:
            return None
        kept = not series.name.endswith("_created") and (self._wanted is None or series.name in self._wanted)
        if kept and self._wanted is not None and self._wanted[series.name] != series.name:
            series = MetricSeries(self._wanted[series.name], series.labels, series.identity)
        if line[end:].rstrip("\r") == f" {numbers[0]}":
            self._heads[line[:end]] = series if kept else None
        return (series, value) if kept else None


def parse_exposition(page: str | bytes) -> list[Sample]:
    """All samples of one page. For a page that is read again and again, keep an `ExpositionParser`."""
    return ExpositionParser().parse(page)


def at_once(steps: Generator[None, None, T]) -> T:
    """What the steps come to, without a pause between them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def is_figure(value: float) -> bool:
    """Whether a number can be one of a server's: finite, not negative, not absurd."""
    return 0.0 <= value <= FIGURE_LIMIT


def _read_series(line: str) -> tuple[MetricSeries, int] | None:
    """The series that a line begins with and where it ends; None if it begins with none."""
    start = len(line) - len(line.lstrip(" \t"))
    if line.startswith("#", start):
        return None
    match = _NAME.match(line, start)
    name = match.group() if match else ""
    position = match.end() if match else start
    brace = position
    while brace < len(line) and line[brace] in " \t":
        brace += 1
    if not line.startswith("{", brace):
        return (_series(name, {}), position) if name else None
    position = brace + 1
    if not name:
        quoted = _QUOTED.match(line, position)
        if quoted is None:
            return None
        name, position = _unescape(quoted.group(1)), quoted.end()
        if line.startswith(",", position):
            position += 1
    labels: dict[str, str] = {}
    while label := _LABEL.match(line, position):
        labels[_unescape(label.group(1).strip('"'))] = _unescape(label.group(3))
        position = label.end()
        if not line.startswith(",", position):
            break
        position += 1
    while position < len(line) and line[position] in " \t":
        position += 1
    return (_series(name, labels), position + 1) if line.startswith("}", position) else None


def _series(name: str, labels: dict[str, str]) -> MetricSeries:
    return MetricSeries(name, labels, frozenset(labels.items()))


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: "\n" if match.group(1) == "n" else match.group(1), text)
