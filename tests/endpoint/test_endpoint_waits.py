"""How long a server asks to wait: every header and every form of it, none of which is taken for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.endpoint.waits import LONGEST_S, wait_s

NOW_S = 1_790_000_000.0
"""Mon, 21 Sep 2026 14:13:20 GMT."""
DATE = ("date", "Mon, 21 Sep 2026 14:13:20 GMT")
LATER = "Mon, 21 Sep 2026 14:13:50 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": LATER}, 30.0),
        ({"retry-after": "Monday, 21-Sep-26 14:13:50 GMT"}, 30.0),
        ({"retry-after": "Mon Sep 21 14:13:50 2026"}, 30.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "2", "x-ratelimit-reset-requests": "6m0s"}, 2.0),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-requests": "1.5s", "x-ratelimit-remaining-requests": "0"}, 1.5),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": f"{NOW_S + 12:.0f}"}, 12.0),
        ({"x-ratelimit-reset": f"{(NOW_S + 12) * 1000:.0f}"}, 12.0),
        ({"ratelimit-reset": "7"}, 7.0),
        ({"retry-after": "120 seconds"}, 120.0),
        ({"x-retry-after": "3"}, 3.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"x-rate-limit-reset": "8"}, 8.0),
        ({"ratelimit": '"default";r=0;t=11'}, 11.0),
        ({"ratelimit": "limit=100, remaining=0, reset=9"}, 9.0),
        ({"ratelimit": '"default";r=50;t=11'}, None),
        ({"anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:13:50Z"}, 30.0),
        ({"anthropic-ratelimit-requests-reset": "2026-09-21T16:13:50+02:00"}, 30.0),
        # the limit that is spent counts, not the one that is not
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-tokens": "9s",
                "x-ratelimit-remaining-tokens": "0",
            },
            9.0,
        ),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "59"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "9s"}, 1.0),
        # what is no time is no wait
        ({}, None),
        *(
            ({"retry-after": value}, None)
            for value in ("", "soon", "-1", "nan", "inf", "1e3", "1_000", "\u0663", "5 s x")
        ),
        ({"retry-after": "99999999"}, None),
        ({"x-ratelimit-reset-requests": "1s and more"}, None),
        ({"x-ratelimit-reset-requests": "s"}, None),
    ],
)
def test_a_wait_is_read_in_every_form(headers: dict[str, str], wait: float | None) -> None:
    found = wait_s(429, headers.items(), NOW_S)
    assert found == (None if wait is None else pytest.approx(wait, abs=1e-6))


@pytest.mark.parametrize("ours_s", [NOW_S, NOW_S - 3600, NOW_S + 3600])
def test_a_date_is_held_against_the_servers_own_clock(ours_s: float) -> None:
    assert wait_s(503, [("retry-after", LATER), DATE], ours_s) == 30.0


def test_limits_are_told_with_every_answer_and_ask_for_a_wait_only_where_they_refuse() -> None:
    assert wait_s(400, [("x-ratelimit-reset-requests", "5s")], NOW_S) is None
    assert wait_s(500, [("retry-after", "5")], NOW_S) == 5.0


@given(value=st.text(max_size=40), name=st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "date"]))
def test_whatever_a_header_says_is_a_wait_within_bounds_or_none(value: str, name: str) -> None:
    found = wait_s(429, [(name, value)], NOW_S)
    assert found is None or 0 <= found < LONGEST_S
