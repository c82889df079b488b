"""The endpoint's state follows from what came back, and from nothing else."""

from __future__ import annotations

from session_fakes import REFUSED, ended

from llmtop.domain.endpoint import SILENCE_S, EndpointState
from llmtop.domain.request import REFUSALS, Outcome
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.session.watch import EndpointWatch


def tokens(t_s: float, count: int = 5) -> FactBatch:
    return FactBatch(t_s=t_s, bins=(LoadBin(t_s=t_s, span_s=0.25, target=1, in_flight=1, output_tokens=count),))


def test_a_token_means_up_and_only_the_change_is_told() -> None:
    watch = EndpointWatch()
    event = watch.observe(tokens(1.0))
    assert event is not None
    assert event.state is EndpointState.UP
    assert watch.observe(tokens(1.25)) is None


def test_one_refusal_is_not_down_but_a_row_of_them_is() -> None:
    watch = EndpointWatch()
    watch.observe(tokens(1.0))
    for _ in range(REFUSALS - 1):
        assert watch.observe(FactBatch(t_s=2.0, requests=(REFUSED,))) is None
    event = watch.observe(FactBatch(t_s=2.0, requests=(REFUSED,)))
    assert event is not None
    assert event.state is EndpointState.DOWN
    assert watch.last_error == "connection refused"


def test_a_good_answer_between_refusals_starts_the_row_anew() -> None:
    watch = EndpointWatch()
    watch.observe(tokens(1.0))
    fine = ended(Outcome.OK, 200)
    watch.observe(FactBatch(t_s=2.0, requests=(REFUSED, REFUSED, fine, REFUSED)))
    assert watch.state is EndpointState.UP


def test_a_refused_key_is_said_at_once() -> None:
    watch = EndpointWatch()
    watch.observe(FactBatch(t_s=1.0, requests=(ended(Outcome.HTTP_ERROR, 401, "Unauthorized"),)))
    assert watch.state is EndpointState.AUTH_FAILED
    assert watch.last_error == "Unauthorized"


def test_silence_with_requests_in_flight_is_stale_unless_scrapes_still_come() -> None:
    watch = EndpointWatch()
    watch.observe(tokens(1.0))
    late = 1.0 + SILENCE_S + 1
    scraped = FactBatch(t_s=late, server=(ServerSnapshot(t_s=late),), bins=tokens(late, count=0).bins)
    assert watch.observe(scraped) is None
    assert watch.observe(tokens(late + SILENCE_S + 1, count=0)) is not None
    assert watch.state is EndpointState.STALE
    watch.observe(tokens(late + 30))
    assert watch.state is EndpointState.UP
