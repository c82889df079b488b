"""The twin: true to what it was fitted to, no number where it does not know."""

from __future__ import annotations

from llmtop.simulator.engine.twin import Asked, Band, Foreseen, Known, Measured, Outside, Twin, fit


def level(users: float, *, slots: int | None = None) -> Measured:
    """Of a server with steps of 8 ms and 0.1 ms a request, whose first token takes 30 ms and 0.5 ms a request."""
    running = min(users, slots or users)
    decoding = running
    for _ in range(50):
        tpot_s, first_s = 8e-3 + 1e-4 * decoding, 30e-3 + 5e-4 * decoding
        rate = decoding / (127 * tpot_s)
        decoding = running - rate * first_s
    ttft_s = first_s + (users - running) / rate
    return Measured(
        load=users,
        n=300,
        prompt_tokens=512,
        output_tokens=128,
        tpot_s=tpot_s,
        ttft_s=ttft_s,
        e2e_s=ttft_s + 127 * tpot_s,
        requests_per_s=rate,
        output_tokens_per_s=128 * rate,
        slots=slots,
    )


def twin_of(levels: list[Measured], known: Known | None = None) -> Twin:
    twin = fit(levels, known or Known(slots=256))
    assert isinstance(twin, Twin), twin
    return twin


def test_a_twin_returns_the_levels_that_it_was_fitted_to() -> None:
    levels = [level(users) for users in (4, 8, 16, 32)]
    twin = twin_of(levels)
    for measured in levels:
        found = twin.at(measured.load)
        assert isinstance(found, Foreseen)
        for band, true in (
            (found.tpot_p50_s, measured.tpot_s),
            (found.ttft_p50_s, measured.ttft_s),
            (found.output_tokens_per_s, measured.output_tokens_per_s),
        ):
            assert band is not None
            assert band.low < true < band.high
            assert abs(band.value / true - 1.0) < 0.02


def test_the_wall_is_the_slots_or_what_the_kv_cache_holds() -> None:
    twin = twin_of([level(users) for users in (4, 8, 16, 32)], Known(slots=256, kv_tokens=584 * 40))
    by_kv, by_slots = twin.wall(), twin.wall(Asked(slots=24))
    assert isinstance(by_kv, Band)
    assert by_kv.low < 40 < by_kv.high
    assert by_slots == Band(24.0, 24.0, 24.0)


def test_twice_what_was_measured_is_known_and_more_is_not() -> None:
    twin = twin_of([level(users) for users in (4, 8, 16, 32)])
    assert isinstance(twin.at(64), Foreseen)
    assert twin.at(65) == Outside("65 running is more than twice the 32 that were measured", "hold 37 users for 10 s")
