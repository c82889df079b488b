"""A twin by the simplest law there is: steps of 10 ms and 0.25 ms a request, as many as there are slots."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.foresight import Interval
from llmtop.simulator.engine.twin import LEVELS, REACH, Asked, Foreseen, Known, Measured, Outside, Twin

ANSWER = 64
AS_IT_STANDS = Asked()


def band(value: float) -> Interval:
    return Interval(value, 0.9 * value, 1.1 * value)


class PlainTwin(Twin):
    off, band = 0.03, 0.10

    def __init__(self, levels: Sequence[Measured], known: Known) -> None:
        self.levels = len(levels)
        self.known = known
        self.most = max(level.running or level.load for level in levels)
        self.asked: list[Asked] = []

    def _slots(self, asked: Asked) -> float:
        room = asked.kv_tokens or self.known.kv_tokens or 1e9
        return min(asked.slots or self.known.slots or 1e9, room / 224)

    def _outside(self, asked: Asked) -> Outside | None:
        self.asked.append(asked)
        if self._slots(asked) > REACH * self.most:
            return Outside(f"{self._slots(asked):g} running is more than twice the {self.most:g}", "hold 96 users")
        return None

    def at(self, load: float, asked: Asked | None = None) -> Foreseen | Outside:
        asked = asked or AS_IT_STANDS
        running = min(load, self._slots(asked))
        tpot_s = 0.010 + 0.00025 * running
        rate = running / (0.2 + ANSWER * tpot_s)
        wait_s = (load - running) / rate
        ttft, tpot = band(0.2 + wait_s), band(tpot_s)
        return self._outside(asked) or Foreseen(
            load=load,
            ttft_p50_s=ttft,
            ttft_p95_s=ttft,
            tpot_p50_s=tpot,
            tpot_p95_s=tpot,
            output_tokens_per_s=band(rate * ANSWER),
            requests_per_s=band(rate),
            running=running,
            waiting=load - running,
            kv_usage=None,
        )

    def curve(self, asked: Asked | None = None, *, loads: Sequence[float] = ()) -> tuple[Foreseen, ...] | Outside:
        found = [self.at(load, asked) for load in loads or (1.0, 8.0, 32.0, 64.0)]
        outside = next((each for each in found if isinstance(each, Outside)), None)
        return outside or tuple(each for each in found if isinstance(each, Foreseen))

    def users_at(self, limits: Sequence[tuple[str, str, float]], asked: Asked | None = None) -> Interval | Outside:
        if (outside := self._outside(asked or AS_IT_STANDS)) is not None:
            return outside

        def holds(load: float) -> bool:
            at = self.at(load, asked)
            return isinstance(at, Foreseen) and all(
                getattr(at, f"{metric}_{stat}_s").value <= limit for metric, stat, limit in limits
            )

        return band(float(max((load for load in range(1, 500) if holds(load)), default=0)))

    def wall(self, asked: Asked | None = None) -> Interval | Outside:
        return band(self._slots(asked or AS_IT_STANDS))


def plain_fit(levels: Sequence[Measured], known: Known) -> PlainTwin | Outside:
    if len({level.load for level in levels}) < LEVELS:
        return Outside(f"{len(levels)} loads were measured, and a twin takes {LEVELS}", "hold one more for 10 s")
    return PlainTwin(levels, known)
