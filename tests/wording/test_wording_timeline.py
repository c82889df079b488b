"""A rehearsal as rows of 80 columns."""

from __future__ import annotations

from llmtop.cli.letters import in_letters
from llmtop.domain.rehearsed import Act, Rehearsal
from llmtop.wording.timeline import WIDTH, summary, timeline


def request(turn: int, at_s: float, name: str = "answer", cached: int | None = 0, visit: int = 1) -> Act:
    return Act(
        kind="request",
        visit=visit,
        at_s=at_s,
        took_s=1.0,
        name=name,
        turn=turn,
        status=200,
        ttft_s=0.25,
        e2e_s=1.0,
        prompt_tokens=200,
        cached_tokens=cached,
        output_tokens=64,
    )


def told(*acts: Act, notes: tuple[str, ...] = (), visits: int = 1) -> Rehearsal:
    return Rehearsal(
        file="/home/me/rag.py", model="tiny", server="vLLM", visits=visits, took_s=5.0, acts=acts, notes=notes
    )


SEARCH = Act(kind="call", visit=1, at_s=0.0, took_s=0.5, name="search", status=200)
PAUSE = Act(kind="pause", visit=1, at_s=1.5, took_s=2.0)
REFUSED = Act(
    kind="request",
    visit=1,
    at_s=4.5,
    took_s=0.5,
    name="why",
    turn=3,
    ok=False,
    status=429,
    error="slow down please " * 5,
)


def test_each_thing_has_a_row_with_its_time_its_tokens_and_its_place_on_the_axis() -> None:
    rows = timeline(told(SEARCH, request(1, 0.5), PAUSE, request(2, 3.5, cached=150))).split("\n")
    assert rows[:7] == [
        "rag.py on tiny · vLLM",
        "",
        "    start                                      TTFT      E2E prompt cached   out",
        "   0.00 s  ══              search                     500 ms",
        "   0.50 s   ─███           1 answer          250 ms   1.00 s    200    0 %    64",
        "   1.50 s                  pause                      2.00 s",
        "   3.50 s            ─███  2 answer          250 ms   1.00 s    200   75 %    64",
    ]


def test_no_row_is_wider_than_a_terminal_that_nobody_has_made_wider() -> None:
    long_named = request(2, 2.0, name="a name of sixty characters that no column has any room for at all")
    note = "/home/me/rag.py:7 in run held the loop for 1003 ms: nothing was sent or read meanwhile; use a thread"
    text = timeline(told(SEARCH, request(1, 0.5), long_named, REFUSED, notes=(note,)))
    assert max(map(len, text.split("\n"))) <= WIDTH
    assert "HTTP 429: slow down" in text
    assert "held the loop for 1003 ms" in text
    assert "Nothing held" not in text


def test_the_sums_tell_what_the_prefix_cache_had_and_what_failed() -> None:
    assert summary(told(SEARCH, request(1, 0.5), PAUSE, request(2, 3.5, cached=150), REFUSED)) == (
        "3 requests (1 failed), 400 prompt tokens (37.5 % from the prefix cache), 128 output tokens, "
        "1 other HTTP request, 2 s of pauses in 5 s."
    )


def test_a_server_that_does_not_tell_of_its_cache_is_not_said_to_have_had_nothing() -> None:
    text = timeline(told(request(1, 0.5, cached=None)))
    assert "prefix cache" not in text
    assert "    200     --    64" in text


def test_visits_are_told_apart() -> None:
    text = timeline(told(request(1, 0.0), request(1, 2.0, visit=2), visits=2))
    assert text.index("visit 1") < text.index("0.00 s") < text.index("visit 2") < text.index("2.00 s")
    assert "and 2 visits" in text


def test_its_signs_have_letters_where_there_is_no_utf8() -> None:
    for sign in "─█═":
        letters, _ = in_letters(UnicodeEncodeError("ascii", sign, 0, 1, ""))
        assert letters in "-#="
