"""Where the time to the first token went."""

from __future__ import annotations

import pytest

from llmtop.meter.split import split_ttft


def test_the_parts_of_ttft_add_up() -> None:
    split = split_ttft(1.0, 0.7, 0.4, 0.2)
    assert split.network_s == pytest.approx(0.3)
    assert split.other_s == pytest.approx(0.1)
    assert split.network_s + split.queue_s + split.prefill_s + split.other_s == pytest.approx(split.client_s)


def test_no_part_is_made_up() -> None:
    split = split_ttft(1.0, None, 0.4, None)
    assert (split.network_s, split.queue_s, split.prefill_s, split.other_s) == (None, 0.4, None, None)


def test_a_server_that_measures_more_than_the_client_is_noise() -> None:
    assert split_ttft(0.50, 0.51, None, None).network_s == 0.0
