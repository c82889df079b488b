"""One scheduling step, as vLLM V1 does it.

Source: vLLM `vllm/v1/core/sched/scheduler.py::schedule`. There is no prefill or decode phase: each step lets every
sequence's computed tokens catch up with the tokens it has, running sequences first, within one token budget.
"""

from __future__ import annotations

import math

from llmtop.simulator.engine.blocks import BlockPool
from llmtop.simulator.engine.config import EngineConfig
from llmtop.simulator.engine.request import Sequence
from llmtop.simulator.engine.statistics import EngineStatistics
from llmtop.simulator.engine.steptime import StepLoad
from llmtop.simulator.engine.waiting import WaitingQueue


class StepPlan:
    """One step: which sequences compute how many tokens, and how long it takes. Commit it to get its tokens.

    Plans are committed in the order in which they were made.
    """

    __slots__ = (
        "admitted",
        "budget",
        "chunks",
        "context",
        "cursor",
        "decodes",
        "duration_ns",
        "preempted",
        "start_ns",
    )

    def __init__(self, budget: int) -> None:
        self.budget = budget
        """Tokens still to give out while the plan is made."""
        self.cursor = 0
        """Which running sequence is looked at while the plan is made."""
        self.decodes: list[Sequence] = []
        """Sequences that compute one token each and sample the next."""
        self.chunks: list[tuple[Sequence, int, int, bool]] = []
        """(sequence, tokens computed before, new tokens, whether it samples) of prompts and recomputed prompts."""
        self.context = 0
        """Sum of the contexts of `decodes`, in tokens."""
        self.admitted: list[Sequence] = []
        self.preempted: list[Sequence] = []
        self.start_ns = 0
        self.duration_ns = 0

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns

    @property
    def tokens(self) -> int:
        """New tokens that the step computes."""
        tokens = len(self.decodes)
        for _sequence, _before, new, _samples in self.chunks:
            tokens += new
        return tokens

    @property
    def sequences(self) -> int:
        """How many take part in it."""
        return len(self.decodes) + len(self.chunks)

    @property
    def load(self) -> StepLoad:
        """What the step costs, for a step model."""
        return StepLoad(
            tokens=self.tokens,
            sequences=self.sequences,
            decodes=len(self.decodes),
            decode_context=self.context,
            chunks=tuple([(before, new) for _sequence, before, new, _samples in self.chunks]),
        )


class Scheduler:
    """Who is running, who is waiting, and who owns which blocks.

    Args:
        config: flags; may be replaced between steps.
        statistics: where admissions, preemptions and prefix hits are counted.
    """

    def __init__(self, config: EngineConfig, statistics: EngineStatistics) -> None:
        self.config = config
        self.statistics = statistics
        self.pool = BlockPool(config.num_gpu_blocks, config.unhashed_first)
        self.waiting = WaitingQueue(config.policy == "priority")
        self.running: list[Sequence] = []

    def end(self, sequence: Sequence, leak_share: float = 0.0) -> None:
        """Out of the engine, wherever it is: slot, queue place and blocks are free, but for a leaked share of them."""
        if sequence.running:
            self.running.remove(sequence)
            sequence.running = False
        else:
            self.waiting.remove(sequence)
        self._free(sequence, leak_share)
        sequence.finished = True

    def resize(self, num_gpu_blocks: int) -> None:
        """Give the pool so many blocks, preempting the last admitted when too few are free to go."""
        change = num_gpu_blocks - self.pool.num_blocks
        if change > 0:
            self.pool.grow(change)
        while change < 0:
            change += self.pool.shrink(-change)
            if change < 0:
                if not self.running:
                    break  # The rest has leaked: it is gone already.
                self.preempt(self.victim())

    def schedule(self, now_ns: int) -> StepPlan | None:
        """Plan the next step; None when nothing can run. Computed tokens advance at once, as if it had run."""
        plan = StepPlan(self.config.max_num_batched_tokens)
        self._schedule_running(plan)
        if not plan.preempted:
            self._admit(plan, now_ns)
        return plan if plan.decodes or plan.chunks else None

    def _threshold(self) -> int:
        """Most tokens of one prompt in this step."""
        crowd = len(self.running) + len(self.waiting)
        threshold = self.config.long_prefill_token_threshold
        return threshold if threshold and crowd > 1 else self.config.max_num_batched_tokens

    def _schedule_running(self, plan: StepPlan) -> None:
        running = self.running
        while plan.cursor < len(running) and plan.budget > 0:
            if self._schedule_decodes(plan):
                continue
            sequence = running[plan.cursor]
            new = min(sequence.target - sequence.computed, self._threshold(), plan.budget)
            if self._make_room(sequence, sequence.computed + new, plan):
                self._advance(sequence, new, plan)
                plan.cursor += 1
            elif not self.waiting.by_priority:
                return

    def _schedule_decodes(self, plan: StepPlan) -> bool:
        """Go on through the running sequences that want one token each, as far as the budget goes.

        False: the one at the cursor wants more than that, or a block where none is free.
        """
        decodes, context, idle, through = plan.decodes, 0, 0, True
        before = len(decodes)
        for sequence in self.running[plan.cursor : plan.cursor + plan.budget]:
            computed = sequence.computed + 1
            if sequence.target == computed:
                if computed > sequence.capacity:
                    if not self.pool.free:
                        through = False
                        break
                    self._grow(sequence, 1)
                decodes.append(sequence)
                context += computed
                sequence.computed = computed
                if computed < sequence.last_target:
                    sequence.target = computed + 1
            elif sequence.target < computed:  # its last token is being computed: it keeps its slot until that step ends
                idle += 1
            else:
                through = False
                break
        count = len(decodes) - before
        plan.budget -= count
        plan.context += context - count
        plan.cursor += count + idle
        return through

    def _make_room(self, sequence: Sequence, tokens: int, plan: StepPlan) -> bool:
        """Give `sequence` blocks for `tokens`, preempting others for it; False when it had to go itself."""
        need = -(-tokens // self.config.block_size) - len(sequence.blocks)
        while need > self.pool.free:
            victim = self.victim()
            self.preempt(victim, plan)
            if victim is sequence:
                return False
        if need > 0:
            self._grow(sequence, need)
        return True

    def victim(self) -> Sequence:
        """Who goes when blocks run out: the last admitted, or the least urgent under the priority policy."""
        if self.waiting.by_priority:
            return max(self.running, key=lambda sequence: (sequence.priority, sequence.arrival_ns))
        return self.running[-1]

    def preempt(self, victim: Sequence, plan: StepPlan | None = None) -> None:
        """Back to the queue without its blocks; what the plan in the making had for it is given back."""
        place = self.running.index(victim)
        del self.running[place]
        if plan is not None:
            plan.preempted.append(victim)
            if place < plan.cursor:
                plan.cursor -= 1
                self._take_out(victim, plan)
        self._free(victim)
        victim.computed = 0
        victim.running = False
        victim.preemptions += 1
        self.statistics.preemptions += 1
        self.waiting.push_front(victim)

    def _take_out(self, victim: Sequence, plan: StepPlan) -> None:
        """Undo what `plan` holds for `victim` (only under the priority policy can it hold anything)."""
        if victim in plan.decodes:
            plan.decodes.remove(victim)
            plan.budget += 1
            plan.context -= victim.computed - 1
            victim.target = victim.computed
            return
        for entry in plan.chunks:
            if entry[0] is victim:
                plan.chunks.remove(entry)
                plan.budget += entry[2]
                if entry[3]:
                    victim.target = victim.computed
                return

    def _admit(self, plan: StepPlan, now_ns: int) -> None:
        """Let waiting requests in from the head of the line; the first that does not fit stops it."""
        config, waiting, running, pool = self.config, self.waiting, self.running, self.pool
        if not len(waiting) or len(running) >= config.max_num_seqs:
            return
        threshold = self._threshold()
        passed: list[Sequence] = []
        while plan.budget > 0 and len(running) < config.max_num_seqs and len(waiting):
            sequence = waiting.head
            hits: list[int] = []
            if config.enable_prefix_caching:
                most = (sequence.target - 1) // config.block_size
                hits = pool.find(sequence.keys(0, most))
            cached = len(hits) * config.block_size
            wanted = min(sequence.target - cached, threshold)
            if not config.enable_chunked_prefill and wanted > plan.budget:
                if not config.skip_oversized:
                    break
                passed.append(waiting.pop())
                continue
            new = min(wanted, plan.budget)
            if not self._fits(sequence, hits, cached + new):
                break
            waiting.pop()
            self._start(sequence, hits, plan, now_ns)
            self._grow(sequence, self._blocks_at_admission(sequence, cached + new) - len(hits))
            self._advance(sequence, new, plan)
        for sequence in reversed(passed):
            waiting.push_front(sequence)

    def _blocks_at_admission(self, sequence: Sequence, tokens: int) -> int:
        if self.config.no_evict:
            tokens = sequence.last_target
        return -(-tokens // self.config.block_size)

    def _fits(self, sequence: Sequence, hits: list[int], tokens: int) -> bool:
        """Whether blocks for `tokens` (or the whole prompt, as configured) are free beside the watermark."""
        config = self.config
        need = self._blocks_at_admission(sequence, tokens)
        if config.reserve_full_isl:
            need = max(need, -(-sequence.target // config.block_size))
        watermark = int(config.watermark * config.num_gpu_blocks) if self.running else 0
        return need - len(hits) + self.pool.unowned(hits) + watermark <= self.pool.free

    def _start(self, sequence: Sequence, hits: list[int], plan: StepPlan, now_ns: int) -> None:
        """Give a waiting sequence its slot and the cached blocks of its head."""
        self.pool.share(hits)
        cached = len(hits) * self.config.block_size
        sequence.blocks = list(hits)
        sequence.capacity = cached
        sequence.hashed = len(hits)
        sequence.computed = cached
        sequence.running = True
        statistics = self.statistics
        statistics.admitted += 1
        if sequence.scheduled_ns < 0:
            sequence.scheduled_ns = now_ns
            sequence.cached_tokens = cached
        if self.config.enable_prefix_caching and not sequence.preemptions:
            statistics.prefix_queries += sequence.target
            statistics.prefix_hits += cached
        self.running.append(sequence)
        plan.admitted.append(sequence)

    def _grow(self, sequence: Sequence, count: int) -> None:
        """Take `count` more blocks."""
        if count > 0:
            self._remember_shared(sequence)
            sequence.blocks += self.pool.take(count)
            sequence.capacity = len(sequence.blocks) * self.config.block_size

    def _advance(self, sequence: Sequence, new: int, plan: StepPlan) -> None:
        """Schedule `new` tokens of a sequence that has the blocks for them."""
        before = sequence.computed
        plan.budget -= new
        sequence.computed = before + new
        samples = sequence.computed == sequence.target
        if new == 1 and samples:
            plan.decodes.append(sequence)
            plan.context += before
        else:
            plan.chunks.append((sequence, before, new, samples))
            self._remember_shared(sequence)
        if samples and sequence.target < sequence.last_target:
            sequence.target += 1

    def _remember_shared(self, sequence: Sequence) -> None:
        """As long as others may look for its blocks; nobody does for those of its own, before they are free."""
        if sequence.hashed < len(sequence.shared_keys):
            self._remember_full(sequence)

    def _remember_full(self, sequence: Sequence) -> None:
        """Tell the prefix cache of the blocks that have become full."""
        if self.config.enable_prefix_caching:
            hashed, full = sequence.hashed, sequence.computed // self.config.block_size
            if hashed < full:
                self.pool.remember(sequence.blocks[hashed:full], sequence.keys(hashed, full))
            sequence.hashed = full

    def _free(self, sequence: Sequence, leak_share: float = 0.0) -> None:
        if sequence.blocks:
            self._remember_full(sequence)
            lost = math.ceil(leak_share * len(sequence.blocks))
            self.pool.leak(sequence.blocks[:lost])
            self.pool.release(sequence.blocks[lost:])
            sequence.blocks = []
            sequence.capacity = 0
            sequence.hashed = 0
