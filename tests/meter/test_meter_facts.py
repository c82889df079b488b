"""Columns keep what was put in, in order, and forget only the oldest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ServerSnapshot
from llmtop.meter.facts import SERVER_COLUMNS, Facts, Table


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=40), max_size=20), st.integers(8, 60))
def test_a_capped_table_holds_the_newest_rows(batches: list[list[float]], cap: int) -> None:
    table = Table(("a",), cap=cap)
    for batch in batches:
        table.extend([(value,) for value in batch])
    everything = [value for batch in batches for value in batch]
    kept = table.column("a").tolist()
    assert kept == everything[len(everything) - len(kept) :]
    assert table.dropped == len(everything) - len(kept)
    assert len(kept) <= max(cap, max((len(batch) for batch in batches), default=0))
    assert len(kept) >= min(len(everything), cap // 2)


def test_unknown_is_nan_and_zero_is_zero() -> None:
    facts = Facts()
    facts.extend(FactBatch(t_s=1.0, server=(ServerSnapshot(t_s=1.0, running=0.0),)))
    assert facts.server.column("running").tolist() == [0.0]
    assert np.isnan(facts.server.column("waiting")).all()


def test_what_several_servers_in_turn_have_told_is_nobodys() -> None:
    """Also what was told before they were found out, and what a scraper that starts anew takes for one server's."""
    facts = Facts()
    one = ServerSnapshot(t_s=1.0, running=7.0, kv_usage=0.9)
    facts.extend(FactBatch(t_s=1.0, server=(one,)))
    assert facts.in_turn_s is None
    facts.extend(FactBatch(t_s=2.0, server=(ServerSnapshot(t_s=2.0),)))
    facts.extend(FactBatch(t_s=3.0, server=(ServerSnapshot(t_s=3.0, running=2.0, max_num_seqs=8.0),)))
    assert facts.in_turn_s == 2.0
    assert facts.server.column("t_s").tolist() == [1.0, 2.0, 3.0]
    assert all(np.isnan(facts.server.column(name)).all() for name in SERVER_COLUMNS[1:])
    assert not ServerSnapshot(t_s=1.0, process_start_s=1.0).is_nobodys
