"""Rows of any log as they are read, in arrays; at the end one table in order of arrival."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtop.domain.bounds import TOKENS, Quantity
from llmtop.domain.plain import plain
from llmtop.errors import FileError
from llmtop.traffic.rows import MOST_REASONS, Odd, Sieve
from llmtop.traffic.table import Blocks, Floats, Ints, Traffic

MOST_ROWS = 10_000_000
"""Of a table: 600 MB of columns."""
OUTPUT_TOKENS = Quantity("tokens", 0, TOKENS.most, TOKENS.unit, whole=True)
ARRIVAL_S = Quantity("arrival", 0, 1e11, "seconds")
"""Of any clock; how far they lie apart is what counts."""
TOOK_S = Quantity("duration", 0, 86_400, "seconds")
"""Of a request: what is said to have taken longer was counted by two clocks."""
UNTOLD = float("nan")
WITHOUT_TIME, WITHOUT_TOKENS = "without a time", "without tokens"
AGAIN = "that stand there again under the same id"
FAR_SHARE, FAR_TIMES, FEWEST_FOR_FAR = 0.02, 50.0, 100
"""When the span of a log is not that of its requests: so few of so many make it so many times longer."""
_WALL_DIGITS = 6
"""Behind the point of seconds: what is counted from 1970 is known to some 0.2 us, and what ended as another began would
else lap over it."""
_ROWS_AT_ONCE = 1 << 16
"""Whose blocks are put in order together: all at once they would take three times their memory."""
NO_ID = 0
"""Of `ids`: no other row is the same request."""
NO_SESSION = 0
"""Of `sessions` as they are read."""


class Columns:
    """What has been read of a file.

    Args:
        path: the file, for errors.
        most: rows; a longer file is refused.
        noun: what a row of it is.

    `start`, `prompt` and `output` have an entry for each row that was kept; each other column has as many, or none.
    """

    def __init__(self, path: object, *, most: int = MOST_ROWS, noun: str = "rows") -> None:
        self.path = path
        self.sieve = Sieve(path, noun)
        self.number = 0
        """Of the line or entry that is read now."""
        self.unit = "line"
        self.start = array("d")
        self.prompt = array("q")
        self.output = array("q")
        self.e2e = array("d")
        self.ttft = array("d")
        self.cached = array("q")
        self.sessions = array("q")
        """Hashes of their names; equal ones are one conversation."""
        self.ids = array("q")
        """Hashes of the ids of requests."""
        self.block_ids = array("i")
        self.block_ends = array("q")
        self.block_tokens = 0
        self.passed: Counter[str] = Counter()
        """Rows that are no requests to an LLM, by what they are."""
        self._most = most
        self._dropped: npt.NDArray[np.bool_] | None = None

    def add(self, start_s: float, prompt: int, output: int) -> None:
        """Raises FileError: too many."""
        if len(self.start) >= self._most:
            raise FileError(self.path, f"has more than {self._most:,} requests: cut it")
        self.start.append(start_s)
        self.prompt.append(prompt)
        self.output.append(output)

    def add_blocks(self, ids: Sequence[int]) -> None:
        """What the prompt of the row that was added begins with."""
        end = len(self.block_ids)
        for kind in ("i", "q"):
            try:
                self.block_ids.extend(ids)
                break
            except OverflowError:
                self.block_ids = array("q", self.block_ids[:end])
                if kind == "q":
                    self.block_ids.extend(hash(number) for number in ids)
        self.block_ends.append(len(self.block_ids))

    def extend(self, start_s: Floats, prompt: Ints, output: Ints) -> None:
        """As `add`, of many rows."""
        if len(self.start) + len(start_s) > self._most:
            raise FileError(self.path, f"has more than {self._most:,} requests: cut it")
        self.start.frombytes(start_s.tobytes())
        self.prompt.frombytes(prompt.tobytes())
        self.output.frombytes(output.tobytes())

    def leave_out(self, rows: npt.NDArray[np.bool_], why: str) -> None:
        """Rows that were read, where it is true: they are left out in the end."""
        if count := int(np.count_nonzero(rows)):
            self._dropped = rows
            self.sieve.set_aside(why, count)

    def odd(self, why: str, problem: str, key: str = "") -> Odd:
        """The row that is read now, as one that cannot be used: `key` is where in it."""
        return Odd(why, FileError(self.path, problem, f"{self.unit} {self.number}{key}"))

    def table(
        self,
        source: str,
        nothing: str,
        *,
        scale_s: float = 1.0,
        wall: bool = False,
        sort_said: bool = True,
        enable: str = "",
    ) -> Traffic:
        """All that was read, which is gone afterwards.

        Args:
            source: what it is, as it is said.
            nothing: what is wrong with a file that has no rows.
            scale_s: seconds of one unit of `start`.
            wall: whether `start` counts from 1970.
            sort_said: whether rows are in order of arrival in an ordinary file of that kind.
            enable: what is to be done about a log without outputs.

        Raises FileError: no row of it can be used.
        """
        self.sieve.kept = len(self.start)
        self._say_passed()
        self.sieve.check(self._nothing(nothing))
        start = np.frombuffer(self.start)
        if scale_s != 1.0:
            start *= scale_s
        rows = self._order(start, sort_said=sort_said)
        self.sieve.kept = len(start) if rows is None else len(rows)
        first_s = float(start.min() if rows is None else start[rows[0]])
        start = (start if rows is None else start[rows]) - first_s
        if wall:
            np.round(start, _WALL_DIGITS, out=start)
        self._say_far(start)
        self.start = array("d")
        output = self._taken("output", rows)
        self._say_outputs(output, enable)
        return Traffic(
            source=source,
            start_s=start,
            prompt=self._taken("prompt", rows),
            output=output,
            began_at=first_s if wall else None,
            e2e_s=self._floats("e2e", rows, rounded=wall),
            ttft_s=self._floats("ttft", rows, rounded=wall),
            session=self._numbered(rows),
            cached=self._told("cached", rows),
            blocks=self._blocks(rows),
            says=self.sieve.said,
        )

    def _say_passed(self) -> None:
        if self.passed:
            what = ", ".join(f"{count:,} {what}" for what, count in self.passed.most_common(MOST_REASONS))
            self.sieve.notes.append(f"{self.sieve.noun} passed over, no requests to an LLM: {what}")

    def _nothing(self, nothing: str) -> str:
        return f"{nothing}: {self.sieve.notes[0]}" if self.passed else nothing

    def _say_far(self, start_s: Floats) -> None:
        """What a clock that was wrong for a moment does to a log: its span is no longer that of its requests."""
        count, span_s = len(start_s), float(start_s[-1])
        if count < FEWEST_FOR_FAR:
            return
        few = int(count * FAR_SHARE / 2)
        most_s = float(start_s[count - 1 - few] - start_s[few])
        if span_s > FAR_TIMES * most_s:
            within = f"{1 - FAR_SHARE:.0%} of the requests came within {most_s:,.4g} s of {span_s:,.4g} s"
            self.sieve.notes.append(f"{within}: where the others do not belong to it, cut them; its span is theirs")

    def _say_outputs(self, output: Ints, enable: str) -> None:
        missing = len(output) - int(np.count_nonzero(output))
        if missing == len(output):
            self.sieve.notes.append(f"no output tokens in it{': ' if enable else ''}{enable}")
        elif missing:
            self.sieve.notes.append(f"{missing:,} of {len(output):,} requests tell no output tokens")

    def _order(self, start: Floats, *, sort_said: bool) -> Ints | None:
        """The rows that are kept, in order of arrival; None: all, as they stand."""
        backwards = int(np.count_nonzero(np.diff(start) < 0))
        if backwards and sort_said:
            self.sieve.notes.append(f"not in order of time, sorted: {backwards:,} of {len(start):,} {self.sieve.noun}")
        order = np.argsort(start, kind="stable") if backwards else None
        if self._dropped is not None:
            order = np.arange(len(start)) if order is None else order
            order = order[~self._dropped[order]]
        return self._without_repeats(order) if self.ids else order

    def _without_repeats(self, order: Ints | None) -> Ints | None:
        """Of rows with the same id the earliest."""
        ids = self._taken("ids", order)
        _, firsts = np.unique(ids, return_index=True)
        keep = ids == NO_ID
        keep[firsts] = True
        if keep.all():
            return order
        self.sieve.set_aside(AGAIN, int(np.count_nonzero(~keep)))
        return np.flatnonzero(keep) if order is None else order[keep]

    def _taken(self, name: str, rows: Ints | None) -> Ints:
        """A column in order of arrival; what it was read into is given up."""
        column = getattr(self, name)
        setattr(self, name, array(column.typecode))
        taken: Ints = np.frombuffer(column, dtype=np.int64)
        return taken if rows is None or not len(taken) else taken[rows]

    def _floats(self, name: str, rows: Ints | None, *, rounded: bool) -> Floats | None:
        """None where nobody tells."""
        column = getattr(self, name)
        if not column:
            return None
        setattr(self, name, array(column.typecode))
        taken = np.frombuffer(column)
        taken = taken if rows is None else taken[rows]
        if rounded:
            np.round(taken, _WALL_DIGITS, out=taken)
        return None if np.isnan(taken).all() else taken

    def _told(self, name: str, rows: Ints | None) -> Ints | None:
        """As `_taken`; None where no row tells."""
        taken = self._taken(name, rows)
        return taken if len(taken) and (taken >= 0).any() else None

    def _numbered(self, rows: Ints | None) -> Ints | None:
        """Numbers of sessions, from 0 in order of their first request."""
        if not self.sessions:
            return None
        hashes = self._taken("sessions", rows)
        _, firsts, of = np.unique(hashes, return_index=True, return_inverse=True)
        firsts[hashes[firsts] == NO_SESSION] = -1
        ranks = np.empty(len(firsts), dtype=np.int64)
        ranks[np.argsort(firsts)] = np.arange(len(firsts)) - int((firsts == -1).any())
        numbers: Ints = ranks[of]
        return numbers if (numbers >= 0).any() else None

    def _blocks(self, rows: Ints | None) -> Blocks | None:
        if not self.block_ids:
            return None
        ends = self._taken("block_ends", None)
        ids: npt.NDArray[np.signedinteger[Any]] = np.frombuffer(self.block_ids, dtype=self.block_ids.typecode)
        self.block_ids = array("i")
        if rows is not None:
            begins = np.concatenate(([0], ends[:-1]))
            counts = (ends - begins)[rows]
            taken = np.empty(int(counts.sum()), dtype=ids.dtype)
            ends = np.cumsum(counts)
            for first in range(0, len(rows), _ROWS_AT_ONCE):
                some = slice(first, first + _ROWS_AT_ONCE)
                size, end = counts[some], ends[some]
                begin = int(end[0] - size[0])
                places = np.repeat(begins[rows[some]] - end + size, size) + np.arange(begin, end[-1])
                taken[begin : end[-1]] = ids[places]
            ids = taken
        return Blocks(ids=ids, ends=ends, tokens=self.block_tokens)


def took(seconds: float) -> float:
    """How long something took; nan where that is not told, or cannot be."""
    return seconds if 0 <= seconds <= TOOK_S.most else UNTOLD


def hashed(text: str) -> int:
    """Of an id or the name of a session: 0 of none."""
    return hash(text) if text else 0


def whole(value: object) -> int:
    """Tokens as a log tells them: a number, or text that is one; -1: none or no number of tokens."""
    if type(value) is int:
        return value if 0 <= value <= TOKENS.most else -1
    if isinstance(value, float):
        return int(value) if OUTPUT_TOKENS.holds(value) and value == int(value) else -1
    if isinstance(value, str):
        if len(value) < 8 and value.isdigit() and value.isascii():
            return int(value)
        text = value.strip().removesuffix(".0")
        return whole(int(text)) if len(text) <= 20 and text.isascii() and text.isdigit() else -1
    return -1


def shown(value: object) -> str:
    """A value of a row where it is the fault, as it is told: no more than a few of its characters."""
    return repr(plain(str(value), 40))
