"""A trace as a load is made of it: when its requests are due, how long each was, and what their prompts have in common.

Columns throughout: a million requests take some 40 MB, and go to a worker as bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import asdict, replace

from llmtop.domain.bounds import TIME_S
from llmtop.domain.load import LoadPlan, LoadPoint, Replay, Stage
from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.read import read
from llmtop.traffic.rows import path_of_workload
from llmtop.traffic.table import Blocks, Floats, Ints, Traffic

Small = npt.NDArray[np.int32]

NONE = -1
"""A row that has no session, or no text of its own."""
WINDOWS = 600
"""Of a trace, at most, whose mean rates are shown and announced as what is wanted: a plan of a day stays as small as
that of ten minutes, and half a window off is nothing in a line a few hundred characters wide."""
WINDOWS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""As long as such a window may be."""
BEFORE_FIRST_S = 0.1
"""How long the load of a trace goes on before its first arrival: what begins with a run is over then, and connections
for those who come first are open."""
AFTER_LAST_S = 1.0
"""How long the plan of a trace goes on after its last arrival."""


class Recorded(Struct, frozen=True, kw_only=True):
    """Requests in order of arrival, all columns of shape (n,)."""

    start_s: Floats
    """When each is due, in seconds into the load; ascending."""
    prompt: Small
    """Tokens; 0: not told."""
    output: Small
    """Tokens; 0: not told."""
    session: Small | None = None
    """Numbers of conversations; -1: of none. None: nobody tells."""
    turn: Small | None = None
    """Place of each in its conversation, from 1."""
    text: Small | None = None
    """Numbers of endless texts, from whose start prompts are taken: a longer prompt of the same text begins with a
    shorter one. -1: the prompt has nothing in common with others."""
    blocks: Blocks | None = None
    """Whose ids say what prompts begin with; they go before `text`."""

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def sessions(self) -> int:
        """Of all numbers of conversations, one more than the largest."""
        return 0 if self.session is None else int(self.session.max(initial=NONE)) + 1

    def ids(self, place: int) -> list[int]:
        """Of the blocks that the prompt in this place begins with."""
        if self.blocks is None:
            return []
        ends = self.blocks.ends
        found: list[int] = self.blocks.ids[ends[place - 1] if place else 0 : ends[place]].tolist()
        return found

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: column for name, column in asdict(self).items() if isinstance(column, np.ndarray)}

    def taken(self, keep: npt.NDArray[np.bool_]) -> Recorded:
        """Only the rows where `keep` is true."""
        if keep.all():
            return self
        columns: dict[str, Any] = {name: column[keep] for name, column in self._columns().items()}
        if self.blocks is not None:
            counts = np.diff(self.blocks.ends, prepend=0)
            ids = self.blocks.ids[np.repeat(keep, counts)]
            columns["blocks"] = replace(self.blocks, ids=ids, ends=np.cumsum(counts[keep]))
        return replace(self, **columns)

    def packed(self) -> bytes:
        """What prompts are made of, without the times, for another process."""
        columns = self._columns()
        del columns["start_s"]
        if self.blocks is not None:
            columns |= {"ids": self.blocks.ids, "ends": self.blocks.ends}
        told: dict[str, Any] = {name: (column.dtype.str, column.tobytes()) for name, column in columns.items()}
        return msgspec.msgpack.encode({**told, "tokens": self.blocks.tokens if self.blocks is not None else 0})

    @classmethod
    def unpacked(cls, data: bytes) -> Recorded:
        told: dict[str, Any] = msgspec.msgpack.decode(data)
        tokens: int = told.pop("tokens")
        columns: dict[str, Any] = {name: np.frombuffer(body, kind) for name, (kind, body) in told.items()}
        blocks = Blocks(ids=columns.pop("ids"), ends=columns.pop("ends"), tokens=tokens) if tokens else None
        return cls(start_s=np.empty(0), blocks=blocks, **columns)


def read_recorded(workload: Workload, max_model_len: int | None = None) -> tuple[Recorded, tuple[str, ...], str]:
    """The requests of a trace as the workload wants them, what is to be said of the file, and what was read of it.

    Rows longer than `max_model_len` are left out. Raises FileError.
    """
    path = path_of_workload(workload)
    traffic = read(path)
    recorded, said = of_traffic(traffic), list(traffic.says)
    if workload.window_s is not None:
        recorded, cut = _within(path, recorded, workload.window_s)
        said += cut
    if max_model_len is not None:
        fits = recorded.prompt.astype(np.int64) + recorded.output <= max_model_len
        if not fits.any():
            raise FileError(path, f"no request fits into the {max_model_len} tokens that the model takes")
        if longer := len(recorded) - int(fits.sum()):
            over = f"longer than the {max_model_len:,} tokens of the model"
            said.append(f"{longer:,} of {len(recorded):,} requests left out: {over}")
            recorded = recorded.taken(fits)
    said += _drawn(recorded)
    recorded = replace(recorded, start_s=recorded.start_s / workload.speed)
    if not TIME_S.holds(lasts_s := float(recorded.start_s[-1])):
        most = f"a plan lasts {TIME_S.most / 86_400:g} at most: set a window"
        raise FileError(path, f"its requests lie {lasts_s / 86_400:,.0f} days apart; {most}")
    return recorded, tuple(said), _summary(path, recorded, traffic.source, workload.speed)


def _summary(path: Path, recorded: Recorded, source: str, speed: float) -> str:
    """`12 requests of conv.csv over 1 h, x2 (Azure trace), 8 sessions`"""
    requests = "1 request" if len(recorded) == 1 else f"{len(recorded):,} requests"
    times = "" if speed == 1 else f", x{speed:g}"
    sessions = 0 if recorded.session is None else len(np.unique(recorded.session[recorded.session != NONE]))
    talks = f", {sessions:,} sessions" if sessions else ""
    lasts = _lasting(float(recorded.start_s[-1]))
    return f"{requests} of {plain(path.name, 60)} over {lasts}{times} ({source.partition(' (')[0]}){talks}"


def of_traffic(traffic: Traffic) -> Recorded:
    """All requests of a table.

    A later turn of a conversation begins with the prompt of the turn before where it is longer; one that is not begins
    anew: its history was cut.
    """
    session = turn = text = None
    if traffic.session is not None and (traffic.session != NONE).any():
        session, turn, text = _talks(traffic.session, traffic.prompt)
    return Recorded(
        start_s=traffic.start_s,
        prompt=traffic.prompt.astype(np.int32),
        output=traffic.output.astype(np.int32),
        session=session,
        turn=turn,
        text=text,
        blocks=traffic.blocks,
    )


def _talks(sessions: Ints, prompt: Ints) -> tuple[Small, Small, Small]:
    """Session, turn and text of each row; sessions are numbered from 0."""
    numbers, session = np.unique(sessions, return_inverse=True)
    session = session.astype(np.int64) - int(numbers[0] == NONE)
    order = np.argsort(session, kind="stable")
    grouped, lengths = session[order], prompt[order]
    first = np.concatenate(([True], grouped[1:] != grouped[:-1]))
    starts = np.flatnonzero(first)
    turns = np.arange(len(order)) - starts[np.cumsum(first) - 1] + 1
    begins = first | np.concatenate(([True], (lengths[1:] <= lengths[:-1]) | (lengths[:-1] == 0)))
    texts = np.cumsum(begins) - 1
    texts[lengths == 0] = NONE
    turn, text = np.empty(len(order), np.int32), np.empty(len(order), np.int32)
    turn[order], text[order] = turns, texts
    alone = session == NONE
    turn[alone], text[alone] = 1, NONE
    return session.astype(np.int32), turn, text


def _within(path: Path, recorded: Recorded, window_s: tuple[float, float]) -> tuple[Recorded, list[str]]:
    """What lies in a window of the trace, whose start is the load's; raises FileError where nothing does."""
    begin_s, end_s = window_s
    last_s = float(recorded.start_s[-1])
    lasts = f"the trace lasts {_lasting(last_s)}"
    if begin_s > last_s:
        raise FileError(path, f"begins at {_lasting(begin_s)}, and {lasts}", "window")
    kept = recorded.taken((recorded.start_s >= begin_s) & (recorded.start_s < end_s))
    if not len(kept):
        raise FileError(path, f"no request came from {_lasting(begin_s)} to {_lasting(end_s)}; {lasts}", "window")
    said = [f"the window ends at {_lasting(end_s)}, and {lasts}"] if end_s > last_s + AFTER_LAST_S else []
    return replace(kept, start_s=kept.start_s - begin_s), said


def _drawn(recorded: Recorded) -> list[str]:
    """What is to be said of rows that do not tell how long they were."""
    said = []
    for side, column in (("prompt", recorded.prompt), ("answer", recorded.output)):
        if missing := int((column == 0).sum()):
            of = f"{missing:,} of {len(column):,} requests do not tell the length of their {side}"
            said.append(f"{of}: drawn as the profile says")
    return said


def _lasting(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:,.1f} min"


def trace_plan(start_s: Floats, base: LoadPoint) -> LoadPlan:
    """One stage whose rate is that at which the requests of a trace came, until a second after the last."""
    lasts_s = float(start_s[-1]) + AFTER_LAST_S
    window_s = next((window_s for window_s in WINDOWS_S if lasts_s <= WINDOWS * window_s), lasts_s / WINDOWS)
    stage = Stage(name="trace", duration_s=lasts_s, shape=rates(start_s, window_s))
    return LoadPlan(stages=(stage,), base=base)


def rates(start_s: Floats, window_s: float) -> Replay:
    """The mean rate of arrivals in each window, as a load shape: a point each, and one where nothing comes."""
    places, counts = np.unique((start_s // window_s).astype(np.int64), return_counts=True)
    points: list[tuple[float, LoadPoint]] = []
    ended = 0
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        if place > ended:
            points.append((ended * window_s, LoadPoint(rate_rps=0.0)))
        points.append((place * window_s, LoadPoint(rate_rps=count / window_s)))
        ended = place + 1
    return Replay(tuple(points))
