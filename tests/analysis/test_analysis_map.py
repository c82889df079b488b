"""The map: its contour against a server whose truth is a formula, what ends an exploration, and bad input."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable

import pytest
from facts_by_hand import requests_of
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis import foretold, mapping
from llmtop.analysis.explore import MOST_LEVELS, SURE, Explorer, lengths_of, why_not
from llmtop.analysis.levels import Level
from llmtop.analysis.mapper import Mapper
from llmtop.analysis.measured import MeasuredCurve
from llmtop.domain.commands import SetLoad
from llmtop.domain.foresight import Interval
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.map import Map, MapCell, MapEdge, Stand, half_band
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Chapter, FactBatch, LoadChange, RunMeta
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.steering import Step
from llmtop.meter.facts import Facts
from llmtop.wording.chapters import LENGTHS
from llmtop.wording.mapping import contour_text, missing_text, no_map_text

SLO = parse_slo("ttft_p95<2s,tpot_p95<500ms")
BASE = LoadPoint(concurrency=0, prompt_tokens=200, output_tokens=11)
SLOTS, BASE_TTFT_S = 8, 0.1


class Formula:
    """`SLOTS` requests run at once, each for a time that grows with its prompt; the rest wait in order."""

    def __init__(self, service: Callable[[int], float] = lambda prompt: 0.4 + prompt / 1000) -> None:
        self.service = service
        self.facts = Facts()
        self.t_s = 0.0
        self.point = BASE
        self.fails_from: int | None = None
        self.late = False
        self.levels: set[tuple[int, int]] = set()
        self._waiting: deque[tuple[float, LoadPoint]] = deque()
        self._running: list[tuple[float, int, float, float, LoadPoint]] = []
        """When each ends, its number, when it was sent and got its slot, and what it was."""
        self._count = 0

    def truth(self, prompt: int) -> int:
        """Users at the SLO: the slots, and as many more as leave within the room of the TTFT limit."""
        return math.floor(SLOTS + SLOTS / self.service(prompt) * (2.0 - BASE_TTFT_S))

    def drive(self, point: LoadPoint, reason: str = "map") -> None:
        """One second more of this load."""
        changes = (LoadChange(self.t_s, point, reason),) if point != self.point else ()  # type: ignore[arg-type]
        self.point = point
        self.levels.add((point.prompt_tokens, int(point.value)))
        bins, ended = [], []
        for _ in range(4):
            self.t_s += 0.25
            ended += self._run_until(self.t_s)
            there = len(self._waiting) + len(self._running)
            bins.append(LoadBin(t_s=self.t_s, span_s=0.25, target=point.value, in_flight=there, sent=1))
        lag_ms = 500.0 if self.late else 0.1
        client = (ClientSample(t_s=self.t_s, lag_p99_ms=lag_ms, lag_max_ms=lag_ms, cpu=0.2, tpot_ms=20.0),)
        batch = FactBatch(t_s=self.t_s, changes=changes, bins=tuple(bins), requests=tuple(ended), client=client)
        self.facts.extend(batch)

    def _run_until(self, until_s: float) -> list[RequestRecord]:
        ended, now_s = [], until_s - 0.25
        while True:
            while len(self._waiting) + len(self._running) < int(self.point.value):
                self._waiting.append((now_s, self.point))
            while self._waiting and len(self._running) < SLOTS:
                sent_s, point = self._waiting.popleft()
                self._count += 1
                # no two are equally long, so that users do not go in step
                run_s = self.service(point.prompt_tokens) * (0.95 + 0.1 * (0.618 * self._count % 1))
                heapq.heappush(self._running, (now_s + run_s, self._count, sent_s, now_s, point))
            if not self._running or self._running[0][0] > until_s:
                return ended
            now_s, _, sent_s, began_s, point = heapq.heappop(self._running)
            failing = self.fails_from is not None and self.point.value >= self.fails_from
            ended.append(_record(sent_s, began_s + BASE_TTFT_S, now_s, point, failing))


def _record(sent_s: float, first_s: float, end_s: float, point: LoadPoint, failing: bool) -> RequestRecord:
    sent_ns, first_ns, end_ns = (round(1e9 * each) for each in (sent_s, first_s, end_s))
    ok = not failing
    return RequestRecord(
        scheduled_ns=sent_ns,
        dispatched_ns=sent_ns,
        sent_ns=sent_ns,
        connect_ns=None,
        headers_ns=first_ns if ok else None,
        first_token_ns=first_ns if ok else None,
        first_answer_ns=first_ns if ok else None,
        last_token_ns=end_ns if ok else None,
        end_ns=end_ns,
        started_at=0.0,
        asked_prompt_tokens=point.prompt_tokens,
        asked_output_tokens=point.output_tokens,
        prompt_tokens=point.prompt_tokens,
        output_tokens=point.output_tokens if ok else 0,
        chunks=point.output_tokens if ok else 0,
        outcome=Outcome.OK if ok else Outcome.HTTP_ERROR,
        status=None if ok else 500,
    )


def meta(most: int = 256, context: int | None = 4096) -> RunMeta:
    told = meta_of()
    profile = replace(told.profile, caps=Caps(max_concurrency=most), slo=SLO)
    return replace(told, profile=profile, info=replace(told.info, max_model_len=context))


def explored(server: Formula, run: RunMeta | None = None, slo: Slo = SLO) -> tuple[Explorer, Step, list[str]]:
    """To its end; (explorer, last step, all marks)."""
    explorer, marks = Explorer(slo, BASE, run or meta()), []
    while (step := explorer.next(server.facts, server.t_s)).want is not None:
        marks += step.marks
        assert isinstance(step.want, SetLoad)
        assert step.want.reason == "map"
        server.drive(step.want.point)
        assert server.t_s < 3000
    return explorer, step, [*marks, *step.marks]


def test_an_exploration_finds_the_contour_within_ten_percent() -> None:
    server = Formula()
    explorer, step, marks = explored(server)
    known = explorer.map
    assert known is not None
    assert known.lengths[0] == 50
    assert known.lengths[-1] == 800
    for length in (50, 100, 200, 400, 800):
        users = known.users_at(length)
        assert users is not None
        assert users.value == pytest.approx(server.truth(length), rel=0.1)
        assert 0.95 * users.low <= server.truth(length) <= 1.05 * users.high  # of a p95, a few percent fewer
    for length in explorer.lengths:
        edge = known.users_at(length)
        assert edge is not None
        assert min(cell.load for cell in known.cells if cell.prompt_tokens == length) <= 0.4 * edge.value
    assert explorer.levels <= MOST_LEVELS
    assert explorer.levels == len({point for point in server.levels if point[1]})
    assert known.band is not None
    assert known.band <= SURE
    assert server.point == BASE, "the prompts are as long as they were"
    assert marks == ["map: exploring 50, 200, 800 prompt tokens", f"map: {step.text}"]
    assert f"{known.contour[-1].users and known.contour[-1].users.value:.0f} users at 800 tokens" in step.text


def test_what_was_measured_by_hand_is_not_measured_again() -> None:
    server = Formula()
    edge = server.truth(200)
    for users in (edge - 2, edge + 2):
        for _ in range(16):
            server.drive(BASE.at("concurrency", users), "hand")
    first = Explorer(SLO, BASE, meta()).next(server.facts, server.t_s)
    assert first.point is not None
    assert first.point.prompt_tokens != 200
    known = Mapper(SLO).map(server.facts, meta())
    assert known is not None
    assert [cell.stand for cell in known.cells if cell.measured] == ["near", "broken"]
    assert known.missing == "drag prompt to 800 for 10 s, or s explores"


def test_a_step_of_the_contour_is_told_as_one() -> None:
    found = [(50, 68.0), (200, 52.0), (230, 30.0), (270, 26.0), (800, 9.0)]
    edges = [MapEdge(prompt_tokens=at, users=Interval(users, 0.95 * users, 1.05 * users)) for at, users in found]
    known = Map(contour=mapping.joined(edges))
    assert [edge.drops for edge in known.contour] == [False, True, False, False, False]
    assert contour_text(known).endswith("with a step between 200 and 230 tokens")
    inside = known.users_at(201)
    assert inside is not None
    assert (inside.low, inside.high) == (pytest.approx(0.95 * 30), pytest.approx(1.05 * 52))


def test_an_exploration_goes_no_higher_than_it_may_and_says_so() -> None:
    server = Formula(lambda prompt: 0.1 + prompt / 10_000)
    explorer, step, _ = explored(server, meta(most=20))
    assert max(users for _, users in server.levels) == 20
    assert "at least 20 users at 800 tokens" in step.text
    assert step.text.endswith("the load ends at 20 users (--max-concurrency)")
    assert explorer.map is not None
    assert explorer.map.band is None


def test_an_exploration_proves_the_load_that_it_ends_with_however_far_the_limits_are() -> None:
    slo = parse_slo("ttft_p95<60s")
    explorer, step, _ = explored(Formula(), meta(most=6), slo)
    assert "at least 6 users at 800 tokens" in step.text
    assert explorer.map is not None
    top = [cell for cell in explorer.map.cells if cell.load == 6]
    assert len(top) == 3
    assert all(cell.n >= 59 and cell.stand == "ok" for cell in top)


def _hand(server: Formula) -> None:
    server.drive(BASE.at("concurrency", 3), "hand")


def _restart(server: Formula) -> None:
    server.facts.extend(FactBatch(t_s=server.t_s, chapters=(Chapter(server.t_s, "the server has restarted", "1"),)))


def _late(server: Formula) -> None:
    server.late = True


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (_hand, "somebody took the wheel"),
        (_restart, "the server was restarted or set otherwise"),
        (_late, "the client was the bottleneck"),
    ],
)
def test_whatever_spoils_it_ends_it_with_a_sentence(what: Callable[[Formula], None], why: str) -> None:
    server, explorer = Formula(), Explorer(SLO, BASE, meta())
    for second in range(80):
        step = explorer.next(server.facts, server.t_s)
        if step.want is None:
            break
        assert isinstance(step.want, SetLoad)
        server.drive(step.want.point)
        if second == 12:
            what(server)
    assert step.want is None
    assert why in step.text


def test_requests_that_fail_at_every_load_end_it() -> None:
    server = Formula()
    server.fails_from = 1
    _, step, _ = explored(server)
    assert step.want is None
    assert "more requests fail at 200 tokens than the SLO allows" in step.text
    assert len(server.levels) <= 4


@pytest.mark.parametrize(
    ("prompt", "context", "lengths"),
    [
        (192, None, (48, 192, 768)),
        (192, 8192, (48, 192, 768)),
        (2048, 4096, (128, 512, 2048)),
        (2048, 8192, (512, 2048, 8170)),
        (20, 4096, (20, 80)),
    ],
)
def test_lengths_are_those_that_the_context_has_room_for(
    prompt: int, context: int | None, lengths: tuple[int, ...]
) -> None:
    assert lengths_of(replace(BASE, prompt_tokens=prompt), context) == lengths


def test_what_cannot_be_explored_is_refused_with_a_reason() -> None:
    assert "--concurrency" in (why_not(SLO, BASE.at("rate", 3.0), Workload()) or "")
    assert "--think-time 0" in (why_not(SLO, replace(BASE, think_time_s=1.0), Workload()) or "")
    assert "--slo" in (why_not(parse_slo("error_ratio<1%"), BASE, Workload()) or "")
    assert "own" in (why_not(SLO, BASE, Workload(source="jsonl", file="rows.jsonl")) or "")
    assert why_not(SLO, BASE, Workload()) is None


def test_the_contour_between_two_lengths_is_a_straight_line_of_what_a_user_costs() -> None:
    edges = [
        MapEdge(prompt_tokens=at, users=Interval(1e4 / at, 0.95e4 / at, 1.05e4 / at)) for at in (100, 200, 400, 800)
    ]
    known = Map(contour=mapping.joined(edges))
    middle = known.users_at(300)
    assert middle is not None
    assert middle.value == pytest.approx(1e4 / 300)
    assert known.users_at(99) is None
    assert known.users_at(801) is None
    assert known.band == pytest.approx(0.05)
    assert half_band(Interval(10, 9, 11)) == pytest.approx(0.1)


def test_two_lengths_far_apart_promise_no_band() -> None:
    edges = [MapEdge(prompt_tokens=at, users=Interval(1e4 / at, 0.95e4 / at, 1.05e4 / at)) for at in (100, 800)]
    assert Map(contour=mapping.joined(edges)).band is None


def test_a_level_of_few_requests_says_nothing_of_the_slo() -> None:
    server = Formula()
    for _ in range(3):
        server.drive(BASE.at("concurrency", 2), "hand")
    known = Mapper(SLO).map(server.facts, meta())
    assert known is None or known.contour[0].held is None
    assert mapping.tested_of((), SLO) == ()


def test_a_level_that_cannot_be_judged_is_no_load_that_held() -> None:
    server = Formula()
    for users, seconds in ((2, 30), (4, 6)):
        for _ in range(seconds):
            server.drive(BASE.at("concurrency", users), "hand")
    known = Mapper(SLO).map(server.facts, meta())
    assert known is not None
    assert [(cell.load, cell.stand) for cell in known.cells if cell.measured] == [(2, "ok"), (4, None)]
    assert 15 <= known.cells[1].n < 59
    assert known.contour[0].held == 2
    assert "at least 2 users at 200 tokens" in known.text


def test_a_level_that_cannot_be_judged_is_no_lower_bound_of_the_contour() -> None:
    server = Formula()
    for users, seconds in ((4, 6), (60, 40)):
        for _ in range(seconds):
            server.drive(BASE.at("concurrency", users), "hand")
    known = Mapper(SLO).map(server.facts, meta())
    assert known is not None
    assert [cell.stand for cell in known.cells if cell.measured] == [None, "broken"]
    assert (known.contour[0].held, known.contour[0].users) == (None, None)
    told = missing_text(known, None)
    assert told == "hold 4 users at 200 tokens longer: too few requests to judge, or s explores"


def test_lengths_of_a_configuration_before_a_knob_was_turned_are_told() -> None:
    def curve(prompt: int, slots: str) -> MeasuredCurve:
        point = replace(BASE, prompt_tokens=prompt).at("concurrency", 8)
        parts = {
            LENGTHS: f"{prompt}/11 tok",
            "max_num_seqs": f"max_num_seqs {slots}",
            "num_gpu_blocks": "num_gpu_blocks 768",
        }
        return MeasuredCurve(parts, "concurrency", point, (Level(load=8.0),), requests_of([]))  # type: ignore[arg-type]

    turned = [curve(192, "32"), curve(768, "32"), curve(192, "2")]
    assert mapping.lengths_before(turned) == ((192, 768), "max_num_seqs 32 → 2")
    assert mapping.lengths_before(turned[:2]) == ((), "")
    assert mapping.lengths_before([]) == ((), "")
    assert no_map_text(*mapping.lengths_before(turned)) == (
        "levels of two prompt lengths make a map, and it has fewer since max_num_seqs 32 → 2, before which it had "
        "192, 768 tokens: drag prompt, or n and s in the cockpit"
    )
    assert "since" not in no_map_text((), "")


def test_no_cell_is_foreseen_that_a_level_belies() -> None:
    held = MapCell(load=20.0, prompt_tokens=400, n=90, stand="ok")
    broke = MapCell(load=40.0, prompt_tokens=200, n=90, stand="broken")

    def belied(load: float, prompt: int, stand: Stand) -> bool:
        cell = MapCell(load=load, prompt_tokens=prompt, stand=stand)
        return any(foretold._contradicts(each, cell) for each in (held, broke))

    assert belied(10.0, 300, "broken")
    assert belied(50.0, 300, "ok")
    assert not belied(30.0, 300, "broken")
    assert not belied(30.0, 300, "ok")
    assert not belied(10.0, 500, "broken")
