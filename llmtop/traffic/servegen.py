"""ServeGen's clients: no requests, but what they are drawn from (alibaba/ServeGen, data/*/*/chunk-*).

chunk-N-trace.csv      start_s,rate,cv,pattern,shape,scale of each window of one client: Gamma or Weibull gaps
chunk-N-dataset.json   {start_s: {"input_tokens": "{224: 0.0003, ...}", "output_tokens": "{...}"}}: shares of lengths

Requests are drawn as ServeGen draws them: gaps of a window after its pattern, stretched so that as many come as its
rate says. Prompt and answer are drawn apart: the data does not tell how they go together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from llmtop.domain.bounds import TOKENS
from llmtop.errors import FileError
from llmtop.inputs import bytes_of, reason
from llmtop.traffic.columns import Columns
from llmtop.traffic.lines import lines_of_file
from llmtop.traffic.table import Floats, Ints

MOST_DRAWN = 2_000_000
"""Requests: those of the busiest windows, which say what a server must carry. They are drawn in some seconds."""
MOST_RATE = 1e5
MOST_DATA = 200_000_000
"""Bytes of one client's lengths; the largest that there are have 4 MB."""
WINDOW_S = 600.0
"""Of a trace of one line."""
SEED = 0
TRACE, DATA = "-trace.csv", "-dataset.json"
HINT = "a ServeGen client is chunk-0-trace.csv (600,1.33,8.6,Weibull,0.38,0.40 a line) beside chunk-0-dataset.json"
_LINE = re.compile(rb"[0-9]+(?:\.0)?(?:,[0-9.eE+-]+){2},(?:Gamma|Weibull|),[0-9.eE+-]+,[0-9.eE+-]+\s*")
_SHARE = re.compile(rb"([0-9]{1,8}): *([0-9][0-9.eE+-]*)")
_Shares = tuple[Ints, Floats]
"""Lengths, and the share of requests that are no longer."""
_PROMPT, _OUTPUT = "input_tokens", "output_tokens"


class Window(Struct, frozen=True):
    """So long a stretch of what one client asked."""

    start_s: float
    rate_rps: float
    gamma: bool
    shape: float


class Client(Struct, frozen=True):
    """What one client asked."""

    number: int
    windows: tuple[Window, ...]
    lengths: dict[float, dict[str, bytes]]
    """What the data says of each stretch, unread."""


def is_trace(line: bytes) -> bool:
    """Whether a file that begins with this line is one client's trace."""
    return _LINE.fullmatch(line) is not None


def is_data(keys: Sequence[str]) -> bool:
    """Whether a JSON object with these keys may be one client's lengths."""
    return bool(keys) and all(key.isdigit() for key in keys)


def fill(columns: Columns, path: Path, most: int) -> None:
    """Draws requests of one client's trace, or of all in a folder, into the columns.

    Args:
        most: requests, where that is less than `MOST_DRAWN`.

    Raises FileError.
    """
    traces = [path]
    if path.is_dir():
        try:
            traces = sorted(path.glob(f"*{TRACE}"))
        except OSError as error:
            raise FileError(path, f"cannot be read: {reason(error)}") from None
        if not traces:
            raise FileError(path, f"is a folder without a client of ServeGen: {HINT}")
    clients = [_client(columns, number, trace) for number, trace in enumerate(traces)]
    _draw(columns, clients, min(most, MOST_DRAWN))


def _client(columns: Columns, number: int, trace: Path) -> Client:
    if not trace.name.endswith(TRACE):
        raise FileError(trace, f"is the trace of a client, whose lengths nobody finds: {HINT}")
    windows = []
    for row, line in enumerate(lines_of_file(trace), 1):
        if not is_trace(line):
            if line.strip():
                columns.number = row
                columns.sieve.leave_out(columns.odd("that are no window of a client", HINT))
            continue
        start, rate, _, pattern, shape, _ = line.decode().strip().split(",")
        try:
            window = Window(float(start), float(rate), pattern == "Gamma", float(shape))
        except ValueError:
            continue
        if pattern and 0 < window.rate_rps <= MOST_RATE and 0 < window.shape <= 1e6:
            windows.append(window)
    data = trace.with_name(trace.name.removesuffix(TRACE) + DATA)
    try:
        told = msgspec.json.decode(bytes_of(data, MOST_DATA), type=dict[str, dict[str, str]])
        lengths = {float(at): {name: text.encode() for name, text in of.items()} for at, of in told.items()}
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise FileError(data, f"is no JSON of a client's lengths; {HINT}") from None
    return Client(number, tuple(windows), lengths)


def _draw(columns: Columns, clients: Sequence[Client], most: int) -> None:
    rates: dict[float, float] = {}
    asking: Counter[float] = Counter()
    for client in clients:
        for window in client.windows:
            rates[window.start_s] = rates.get(window.start_s, 0.0) + window.rate_rps
            asking[window.start_s] += 1
    starts = np.array(sorted(rates))
    if not len(starts):
        return
    span_s = float(np.diff(starts).min()) if len(starts) > 1 else WINDOW_S
    rps = np.array([rates[start] for start in starts])
    drawn = _around_peak(rps * span_s + np.array([asking[start] for start in starts]), most)
    _say(columns, len(clients), starts, rps, drawn, span_s)
    begin_s, end_s = float(starts[drawn[0]]), float(starts[drawn[1]])
    lost = 0
    for client in clients:
        lengths = _Lengths(client)
        for window in client.windows:
            if begin_s <= window.start_s <= end_s:
                lost += _draw_window(columns, client.number, window, span_s, lengths.at(window.start_s))
    if lost:
        columns.sieve.set_aside("of clients whose lengths are not told", lost)


def _around_peak(totals: Floats, most: int) -> tuple[int, int]:
    """The first and last window of the longest stretch around the busiest one that has no more than `most` requests.

    `totals` are those of each window at most.
    """
    first = last = int(np.argmax(totals))
    count = totals[first]
    while True:
        before = totals[first - 1] if first > 0 else -1.0
        after = totals[last + 1] if last + 1 < len(totals) else -1.0
        if max(before, after) < 0 or count + max(before, after) > most:
            return first, last
        if after >= before:
            last, count = last + 1, count + after
        else:
            first, count = first - 1, count + before


def _say(columns: Columns, clients: int, starts: Floats, rps: Floats, drawn: tuple[int, int], span_s: float) -> None:
    all_s = float(starts[-1] - starts[0]) + span_s
    drawn_s = float(starts[drawn[1]] - starts[drawn[0]]) + span_s
    which = "all" if drawn_s == all_s else f"the {drawn_s / 3600:.3g} h at the peak"
    mean, peak = float(rps.sum()) * span_s / all_s, float(rps.max())
    columns.sieve.notes.append(
        f"drawn with seed {SEED} from {clients:,} clients of ServeGen, prompt and answer apart: {which} of "
        f"{all_s / 3600:.3g} h, in which {mean:.3g} requests/s came on average and {peak:.3g} in the busiest "
        f"{span_s / 60:.3g} min"
    )


def _draw_window(
    columns: Columns, number: int, window: Window, span_s: float, lengths: tuple[_Shares, _Shares] | None
) -> int:
    """How many requests cannot be drawn for want of lengths."""
    rng = np.random.default_rng((SEED, number, int(window.start_s)))
    count = int(window.rate_rps * span_s + rng.random())
    if lengths is None or not count:
        return count
    gaps = rng.gamma(window.shape, size=count + 1) if window.gamma else rng.weibull(window.shape, size=count + 1)
    total = float(gaps.sum())
    if not 0 < total < float("inf"):
        gaps, total = np.ones(count + 1), count + 1.0
    starts = window.start_s + np.cumsum(gaps[:-1]) * (span_s / total)
    columns.extend(starts, _drawn(rng, lengths[0], count), _drawn(rng, lengths[1], count))
    return 0


class _Lengths:
    """Of one client, each stretch read once."""

    def __init__(self, client: Client) -> None:
        self._told = client.lengths
        self._starts = sorted(client.lengths, reverse=True)
        self._read: dict[float, tuple[_Shares, _Shares] | None] = {}

    def at(self, start_s: float) -> tuple[_Shares, _Shares] | None:
        """Of prompt and answer, of the last stretch that tells both; None: there is none."""
        for begin_s in self._starts:
            if begin_s <= start_s:
                if begin_s not in self._read:
                    told = self._told[begin_s]
                    prompt, output = _lengths(told.get(_PROMPT, b"")), _lengths(told.get(_OUTPUT, b""))
                    self._read[begin_s] = None if prompt is None or output is None else (prompt, output)
                if (found := self._read[begin_s]) is not None:
                    return found
        return None


def _lengths(text: bytes) -> _Shares | None:
    """None: there are none."""
    found = list(_pairs(text))
    shares = np.cumsum([share for _, share in found])
    if not len(shares) or not 0 < shares[-1] < float("inf"):
        return None
    return np.array([length for length, _ in found], dtype=np.int64), shares / shares[-1]


def _pairs(text: bytes) -> Iterator[tuple[int, float]]:
    for match in _SHARE.finditer(text):
        try:
            length, share = int(match[1]), float(match[2])
        except ValueError:
            continue
        if length <= TOKENS.most and 0 <= share < float("inf"):
            yield length, share


def _drawn(rng: np.random.Generator, lengths: _Shares, count: int) -> Ints:
    values, shares = lengths
    places = np.minimum(np.searchsorted(shares, rng.random(count), side="right"), len(values) - 1)
    drawn: Ints = np.maximum(values[places], 1)
    return drawn
