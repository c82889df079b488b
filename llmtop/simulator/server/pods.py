"""The replicas of a simulated deployment: wanted, begun, ready, at work, gone; and the autoscaler that wants them.

Every step has its true time, so that what an observer has seen can be held against it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from math import ceil
from time import perf_counter_ns, time

from llmtop.simulator.engine import EngineStatistics
from llmtop.simulator.engine.autoscaling import Autoscaling, ScaleOrder, read_scale
from llmtop.simulator.server.replica import Replica

LOOK_S = 0.25
"""How often the autoscaler looks."""
GRACE_S = 30.0
"""How long a replica that is to go may take to end what it is at."""
ROOM = 0.8
"""Of the slots of those that stay: so full they may be where one is to go."""
PAST = 64
"""Replicas that are gone and decisions that were made are remembered up to so many."""


class Pod:
    """One replica's life. Times are seconds since the deployment began; None: not yet."""

    def __init__(self, number: int, created_s: float) -> None:
        self.number, self.name = number, f"pod-{number}"
        self.created_s = created_s
        self.replica: Replica | None = None
        """What runs; None: nothing yet, or any more."""
        self.statistics: EngineStatistics | None = None
        """What it has counted."""
        self.served_ns: int | None = None
        """When it had generated its first token, if it is gone."""
        self.ready_s: float | None = None
        self.started_at = 0.0
        """Unix time at which it was ready: its process tells it."""
        self.leaves_s: float | None = None
        """Since when it gets no request any more."""
        self.gone_s: float | None = None

    @property
    def takes(self) -> bool:
        """Whether it is given requests."""
        return self.replica is not None and self.leaves_s is None


class Pods:
    """All replicas of one deployment.

    Args:
        plan: how many there are, and what decides.
        make: a replica with an engine of its own, whose number in the deployment it is given.
        slots: requests that one replica runs at once, now.
    """

    def __init__(self, plan: Autoscaling, make: Callable[[int], Replica], slots: Callable[[], int]) -> None:
        self.plan = plan
        self.desired = 0
        self.decided: deque[tuple[float, int]] = deque(maxlen=PAST)
        """When another number was wanted, and which."""
        self.present: list[Pod] = []
        """Begun and not gone, the oldest first."""
        self.past: deque[Pod] = deque(maxlen=PAST)
        self._make, self._slots = make, slots
        self._loop = asyncio.get_running_loop()
        self._timers: set[asyncio.TimerHandle] = set()
        self._script: set[asyncio.TimerHandle] = set()
        self._began_ns = 0
        self._number = 0
        self._queued_s: float | None = None
        self._roomy_s: float | None = None
        self._turn = 0

    # Life

    def boot(self) -> None:
        """Begin anew with as many as there are at the start, all of them ready."""
        self.close()
        self._began_ns = perf_counter_ns()
        self.present, self._number = [], 0
        self.past.clear()
        self.decided.clear()
        self._queued_s = self._roomy_s = None
        self._decide(self.plan.replicas)
        for _ in range(self.plan.replicas):
            self._ready(self._create())
        self.follow(self.plan.scale)
        self._look_later()

    def close(self) -> None:
        for timer in (*self._timers, *self._script):
            timer.cancel()
        self._timers.clear()
        self._script.clear()
        for replica in self.replicas:
            replica.close()

    @property
    def now_s(self) -> float:
        return (perf_counter_ns() - self._began_ns) / 1e9

    @property
    def replicas(self) -> list[Replica]:
        """Those that run, the oldest first."""
        return [pod.replica for pod in self.present if pod.replica is not None]

    @property
    def began(self) -> list[Pod]:
        """All that were begun, as far as they are remembered, in that order."""
        return sorted((*self.past, *self.present), key=lambda pod: pod.number)

    @property
    def taking(self) -> list[Pod]:
        return [pod for pod in self.present if pod.takes]

    def least_loaded(self) -> Pod:
        return min(self.taking, key=lambda pod: pod.replica.load if pod.replica is not None else 0)

    def next_in_turn(self) -> Pod:
        """For a new connection."""
        taking = self.taking
        self._turn += 1
        return taking[self._turn % len(taking)]

    def served_s(self, pod: Pod) -> float | None:
        """When it had generated its first token; None: not yet."""
        first_ns = pod.served_ns if pod.replica is None else pod.replica.first_token_ns
        return None if first_ns is None else max(0.0, (first_ns - self._began_ns) / 1e9)

    # Scaling

    def follow(self, script: str) -> None:
        """Do what this script says in the place of any other; its times count from now. Raises ValueError."""
        orders = read_scale(script)
        for timer in self._script:
            timer.cancel()
        self._script.clear()
        for order in orders:
            self._later(order.at_s, partial(self.scale, order), self._script)

    def scale(self, order: ScaleOrder) -> None:
        """That many are wanted now. Those that are too many go, the youngest first, when they have ended their work."""
        self._decide(order.replicas)
        staying = [pod for pod in self.present if pod.leaves_s is None]
        plan = self.plan
        begins_s = plan.scale_delay_s if order.created_s is None else order.created_s
        starts_s = plan.pod_start_s if order.ready_s is None else max(0.0, order.ready_s - begins_s)
        for _ in range(order.replicas - len(staying)):
            self._later(begins_s, lambda: self._begin(starts_s))
        for pod in staying[order.replicas :]:
            self._leave(pod)

    def drop_to(self, count: int) -> None:
        """Only the oldest stay, at once: what runs on the others breaks off."""
        self._decide(count)
        for pod in self.present[count:]:
            if pod.replica is not None:
                pod.replica.drop()
            self._gone(pod)

    def _decide(self, replicas: int) -> None:
        if replicas != self.desired or not self.decided:
            self.desired = replicas
            self.decided.append((self.now_s, replicas))

    def _begin(self, starts_s: float) -> None:
        if sum(pod.leaves_s is None for pod in self.present) < self.desired:  # else it is not wanted any more
            pod = self._create()
            self._later(starts_s, lambda: self._ready(pod))

    def _create(self) -> Pod:
        self._number += 1
        pod = Pod(self._number, self.now_s)
        self.present.append(pod)
        return pod

    def _ready(self, pod: Pod) -> None:
        if pod.gone_s is None and pod.leaves_s is None:
            pod.replica = self._make(pod.number)
            pod.statistics = pod.replica.engine.statistics
            pod.ready_s, pod.started_at = self.now_s, time()

    def _leave(self, pod: Pod) -> None:
        if pod.leaves_s is None:
            pod.leaves_s = self.now_s
        if pod.replica is not None and pod.replica.load and self.now_s - pod.leaves_s < GRACE_S:
            self._later(LOOK_S, lambda: self._leave(pod))
            return
        if pod.replica is not None:
            pod.replica.drop()
        self._gone(pod)

    def _gone(self, pod: Pod) -> None:
        if pod in self.present:
            pod.gone_s = self.now_s
            if pod.replica is not None:
                pod.served_ns, pod.replica = pod.replica.first_token_ns, None
            self.present.remove(pod)
            self.past.append(pod)

    # The autoscaler

    def _look_later(self) -> None:
        self._later(LOOK_S, self._look)

    def _look(self) -> None:
        plan, taking = self.plan, self.taking
        if plan.autoscale_queue is not None and len(taking) == self.desired:  # else it waits for what it has decided
            waiting = sum(replica.engine.waiting for replica in self.replicas)
            running = sum(replica.engine.running for replica in self.replicas)
            is_long = waiting > plan.autoscale_queue * len(taking)
            self._queued_s = (self.now_s if self._queued_s is None else self._queued_s) if is_long else None
            is_roomy = not waiting and running <= ROOM * self._slots() * (len(taking) - 1)
            self._roomy_s = (self.now_s if self._roomy_s is None else self._roomy_s) if is_roomy else None
            wanted = min(plan.max_replicas, max(len(taking) + 1, ceil(waiting / plan.autoscale_queue)))
            if self._since(self._queued_s) >= plan.autoscale_for_s and wanted > len(taking):
                self._queued_s = None
                self.scale(ScaleOrder(self.now_s, wanted))
            elif plan.scale_down_s is not None and self._since(self._roomy_s) >= plan.scale_down_s:
                self._roomy_s = None
                if len(taking) > plan.replicas:
                    self.scale(ScaleOrder(self.now_s, len(taking) - 1))
        self._look_later()

    def _since(self, since_s: float | None) -> float:
        return -1.0 if since_s is None else self.now_s - since_s

    def _later(self, wait_s: float, do: Callable[[], None], among: set[asyncio.TimerHandle] | None = None) -> None:
        timers = self._timers if among is None else among

        def due() -> None:
            timers.discard(timer)
            do()

        timer = self._loop.call_later(wait_s, due)
        timers.add(timer)


def listing(pods: Pods) -> dict[str, object]:
    """The deployment as who runs it sees it: what is wanted, each replica's state, and when what has come about."""
    return {
        "t_s": pods.now_s,
        "scales": pods.plan.scales or len(pods.present) > 1 or len(pods.decided) > 1,
        "desired": pods.desired,
        "decided": [{"t_s": t_s, "replicas": replicas} for t_s, replicas in pods.decided],
        "created": len(pods.present),
        "ready": len(pods.taking),
        "serving": sum(pods.served_s(pod) is not None for pod in pods.taking),
        "replicas": [_told(pods, pod) for pod in pods.present],
        "gone": [_told(pods, pod) for pod in pods.past],
    }


def _told(pods: Pods, pod: Pod) -> dict[str, object]:
    return {
        "name": pod.name,
        "ready": pod.takes,
        "created_s": pod.created_s,
        "ready_s": pod.ready_s,
        "serving_s": pods.served_s(pod),
        "gone_s": pod.gone_s,
        "metrics": f"/replicas/{pod.name}/metrics",
    }
