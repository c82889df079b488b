"""Laws of the KV block pool: nothing is lost or owned twice, and what is cached is found until it is reused."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.simulator.engine import BlockPool, chain_hashes

STEPS = st.lists(st.tuples(st.sampled_from(["take", "share", "release", "leak", "grow", "shrink"]), st.integers(0, 9)))


def check(pool: BlockPool, owned: list[list[int]], total: int, lost: int) -> None:
    owners = Counter(block for blocks in owned for block in blocks)
    assert pool.owners() == dict(owners)
    assert pool.used == len(owners) + lost
    assert pool.free + pool.used == pool.num_blocks - 1 == total
    assert 0 not in owners
    assert 0.0 <= pool.usage <= 1.0
    assert pool.cached <= total


@settings(max_examples=100)
@given(STEPS, st.booleans())
def test_used_and_free_add_up_and_references_count_owners(steps: list[tuple[str, int]], unhashed_first: bool) -> None:
    pool = BlockPool(24, unhashed_first)
    owned: list[list[int]] = []
    total, lost = 23, 0
    for number, (verb, size) in enumerate(steps):
        if verb == "take" and size <= pool.free:
            blocks = pool.take(size)
            owned.append(blocks)
            pool.remember(blocks, [1 + 10 * (number % 3) + index for index in range(size)])
        elif verb == "share":
            hits = pool.find(1 + 10 * (size % 3) + index for index in range(size))
            pool.share(hits)
            owned.append(hits)
        elif verb == "release" and owned:
            pool.release(owned.pop(size % len(owned)))
        elif verb == "leak" and owned:
            gone = set(owned.pop(size % len(owned)))
            pool.leak(tuple(gone))
            lost += len(gone.difference(*owned))
        elif verb == "grow":
            pool.grow(size)
            total += size
        elif verb == "shrink":
            total -= pool.shrink(size)
        check(pool, owned, total, lost)
    for blocks in owned:
        pool.release(blocks)
    assert pool.used == lost


def test_a_freed_prefix_is_found_until_its_blocks_are_reused_and_its_head_lives_longest() -> None:
    pool = BlockPool(5)
    blocks = pool.take(3)
    pool.remember(blocks, (100, 101, 102))
    pool.release(blocks)
    assert pool.usage == 0.0
    assert pool.find((100, 101, 102)) == blocks
    pool.take(2)  # The block that was never used, then the tail of the freed prefix.
    assert pool.find((100, 101, 102)) == blocks[:2]
    pool.take(1)
    assert pool.find((100, 101, 102)) == blocks[:1]


def test_blocks_without_a_hash_are_reused_first_by_newer_engines_and_last_by_older_ones() -> None:
    for unhashed_first in (True, False):
        pool = BlockPool(4, unhashed_first)
        plain = pool.take(1)
        pool.release(plain)
        assert (pool.take(3)[0] == plain[0]) is unhashed_first


def test_sharing_takes_a_cached_block_out_of_the_free_queue_once() -> None:
    pool = BlockPool(4)
    block = pool.take(1)
    pool.remember(block, (7,))
    pool.release(block)
    assert pool.unowned(block) == 1
    pool.share(block)
    pool.share(block)
    assert pool.owners() == {block[0]: 2}
    assert pool.unowned(block) == 0
    pool.release(block)
    assert pool.used == 1


def test_a_chain_names_a_block_by_its_tokens_and_all_before_it() -> None:
    tokens = list(range(50))
    chain = chain_hashes(tokens)
    assert len(chain) == 3
    assert chain_hashes(tokens[:32]) == chain[:2]
    changed = chain_hashes([99, *tokens[1:]])
    assert not set(changed) & set(chain)
    assert chain_hashes([*tokens[:16], 99, *tokens[17:]])[0] == chain[0]
    assert min(chain) >= 0
