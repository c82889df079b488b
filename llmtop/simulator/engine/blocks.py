"""The KV block pool: free queue, reference counts and the prefix cache.

Copied in behaviour from vLLM `vllm/v1/core/block_pool.py`: blocks leave the free queue at its head; a freed block that
holds a hashed prefix goes to the tail and can be found again until it is reused (LRU); blocks of a request are freed
from its end, so that the head of a prompt lives longest. A cached block that nobody owns counts as free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """Blocks 1 to num_blocks-1; block 0 is the null block and is never handed out.

    Law: `used + free = num_blocks - 1`, and the reference count of a block is the number of its owners.

    Args:
        num_blocks: blocks of the KV cache, the null block included.
        unhashed_first: freed blocks without a hash go to the head of the free queue instead of its tail.
    """

    __slots__ = ("_block_of", "_free", "_hash_of", "_leaked", "_refs", "num_blocks", "unhashed_first")

    def __init__(self, num_blocks: int, unhashed_first: bool = True) -> None:
        self.num_blocks = num_blocks
        self.unhashed_first = unhashed_first
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._refs: dict[int, int] = {}
        self._hash_of: dict[int, int] = {}
        self._block_of: dict[int, int] = {}
        self._leaked = 0

    @property
    def free(self) -> int:
        """Blocks that can be taken now, cached ones included."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Blocks with an owner, leaked ones included."""
        return len(self._refs) + self._leaked

    @property
    def usage(self) -> float:
        """Share of the usable blocks that are in use, 0 to 1 (vLLM's kv_cache_usage_perc)."""
        return 1.0 - len(self._free) / max(1, self.num_blocks - 1)

    @property
    def cached(self) -> int:
        """Blocks that a prefix can hit."""
        return len(self._hash_of)

    def take(self, count: int) -> list[int]:
        """Take `count` blocks from the head of the free queue; what they cached is forgotten.

        The caller has made sure that so many are free.
        """
        free, refs, hash_of = self._free, self._refs, self._hash_of
        blocks = []
        for _ in range(count):
            block, _none = free.popitem(last=False)
            key = hash_of.pop(block, None)
            if key is not None:
                del self._block_of[key]
            refs[block] = 1
            blocks.append(block)
        return blocks

    def find(self, keys: Iterable[int]) -> list[int]:
        """The cached blocks of the longest run of `keys` from the first on. Takes nothing."""
        block_of = self._block_of
        found = []
        for key in keys:
            block = block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def unowned(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` are in the free queue: sharing them makes the free queue shorter by so many."""
        return sum(block not in self._refs for block in blocks)

    def share(self, blocks: Iterable[int]) -> None:
        """Become one more owner of each of these cached blocks."""
        refs = self._refs
        for block in blocks:
            owners = refs.get(block, 0)
            if owners == 0:
                del self._free[block]
            refs[block] = owners + 1

    def remember(self, blocks: Iterable[int], keys: Iterable[int]) -> None:
        """From now on each key finds its full block. A key that is known already keeps the block it has."""
        block_of, hash_of = self._block_of, self._hash_of
        for block, key in zip(blocks, keys, strict=True):
            if key not in block_of and block not in hash_of:
                block_of[key] = block
                hash_of[block] = key

    def release(self, blocks: Sequence[int]) -> None:
        """Give up one ownership of each block, last block first."""
        free, refs = self._free, self._refs
        for block in reversed(blocks):
            owners = refs[block]
            if owners > 1:
                refs[block] = owners - 1
                continue
            del refs[block]
            free[block] = None
            if self.unhashed_first and block not in self._hash_of:
                free.move_to_end(block, last=False)

    def leak(self, blocks: Sequence[int]) -> None:
        """Lose one ownership of each block without freeing it: a block that nobody else owns is gone for good."""
        for block in blocks:
            owners = self._refs.pop(block)
            if owners > 1:
                self._refs[block] = owners - 1
                continue
            self._forget(block)
            self._leaked += 1

    def grow(self, count: int) -> None:
        """Add `count` new free blocks at the tail of the queue."""
        first = max(max(self._free, default=0), max(self._refs, default=0), self.num_blocks - 1) + 1
        self._free.update(dict.fromkeys(range(first, first + count)))
        self.num_blocks += count

    def shrink(self, count: int) -> int:
        """Take up to `count` free blocks away for good, from the head of the queue; returns how many were taken."""
        taken = min(count, len(self._free))
        for _ in range(taken):
            block, _none = self._free.popitem(last=False)
            self._forget(block)
        self.num_blocks -= taken
        return taken

    def owners(self) -> dict[int, int]:
        """Reference count of every owned block (a copy, for audits)."""
        return dict(self._refs)

    def _forget(self, block: int) -> None:
        key = self._hash_of.pop(block, None)
        if key is not None:
            del self._block_of[key]
