"""The load of a run, made for the endpoint as a probe has found it: what is said, by whom, and how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from llmtop.domain.crew import CrewSpec
from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.run import EventKind, Severity
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.trial import Wanted
from llmtop.load.canary import FAR_HEADS, CanaryLane
from llmtop.load.engine import LoadEngine
from llmtop.load.files import auto_workers
from llmtop.load.here import Here
from llmtop.load.messages import WorkerSetup
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers
from llmtop.load.post import Children, Crew
from llmtop.load.setup import Setup
from llmtop.load.visits import visits_of
from llmtop.session.options import SessionOptions
from llmtop.session.sizing import count_words
from llmtop.traffic.rows import path_of_workload
from llmtop.wording.sentences import SHARED_CONNECTIONS, WORKLOAD
from llmtop.workload import userfile
from llmtop.workload.carrying import Carried, extra_of
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

Tell = Callable[[EventKind, str, Severity], None]


async def engine_for(
    options: SessionOptions,
    endpoint: Endpoint,
    info: EndpointInfo,
    client: EndpointClient,
    *,
    wanted: LoadPoint | None,
    origin_ns: int,
    tell: Tell,
) -> LoadEngine:
    """The load that the options' profile plans, in this process or in several.

    Args:
        wanted: what a hand has commanded, in the plan's place; None, or no load: nothing.
        origin_ns: zero of the run clock, by `perf_counter_ns`.
        tell: hears what a reader of the run wants to know.
    """
    profile, seed = options.profile, options.seed
    workload, caps = profile.workload, profile.caps
    api = _api_for(workload.api, info)
    if api != workload.api and endpoint.api.only != api:
        tell("endpoint", f"the endpoint cannot stream {workload.api}: {api} is used instead", "warning")
    if workload.affinity == "session" and client.access.uses_stock:
        tell("load", SHARED_CONNECTIONS, "warning")
    salt = time.perf_counter_ns()  # of this contact alone: no prompt of an earlier one is found in a cache
    prompts = await asyncio.to_thread(PromptSource, workload, max_model_len=info.max_model_len, salt=salt)
    for note in prompts.notes:
        tell("load", f"{WORKLOAD}{note}", "warning")
    if prompts.summary:
        tell("load", f"{WORKLOAD}{prompts.summary}", "info")
    if workload.source == "python":
        tell("load", userfile.note(path_of_workload(workload)), "info")
    if not options.skip_checks:
        told = await count_words(
            client, prompts, profile.plan.base, api, info.has_tokenize, info.max_model_len, extra_of(workload)
        )
        if told is not None:
            tell("load", told, "info")
    pacer = Pacer(profile.plan, seed)
    if wanted:
        pacer = Pacer.hold(wanted, seed)
    elif prompts.arrivals_s is not None and not profile.plan.stages:
        from llmtop.workload.recorded import BEFORE_FIRST_S, trace_plan  # takes numpy in, as no other source does

        due_s = prompts.arrivals_s + BEFORE_FIRST_S
        pacer = Pacer(trace_plan(due_s, profile.plan.base), seed, times=due_s.tobytes())
    crew = await _crew_of(options.workers, caps)
    if crew is not None:
        shared = WorkerSetup(
            endpoint=endpoint,
            info=info,
            workload=workload,
            caps=caps,
            origin_ns=origin_ns,
            seed=seed,
            api=api,
            start=profile.start,
            salt=salt,
            sizes=prompts.sizes,
            workers=crew.size,
            recorded=b"" if prompts.recorded is None else prompts.recorded.packed(),
        )
        return LoadEngine(Workers(shared, crew), pacer, caps, shared.now)
    setup = Setup(
        client=client,
        script=OneShot(prompts),
        visits=await asyncio.to_thread(visits_of, workload, prompts, client),
        caps=caps,
        origin_ns=origin_ns,
        seed=seed,
        api=api,
        carried=Carried(workload, seed),
        start=profile.start,
    )
    return LoadEngine(Here(setup), pacer, caps, setup.now)


async def _crew_of(spec: CrewSpec, caps: Caps) -> Crew | None:
    """The load workers that there are, where this process is not to send the load itself. Raises as `reach`."""
    if spec.is_here:
        size = spec.count or auto_workers(caps.max_concurrency)
        return Children(size) if size > 1 else None
    from llmtop.cluster import reach  # what it is reached by takes its time to import

    return await reach(spec)


def wanted_of(workload: Workload) -> Wanted:
    """What a load of this workload will ask."""
    models = tuple(model.name for model in workload.models)
    return Wanted(api=workload.api, extra=extra_of(workload), models=models)


async def canary_for(
    options: SessionOptions, endpoint: Endpoint, info: EndpointInfo, engine: LoadEngine, *, origin_ns: int
) -> CanaryLane | None:
    """The lane beside the load of `engine`, which goes on as long as there is any; None: none is asked for."""
    profile, rate_rps = options.profile, options.profile.canary
    if rate_rps is None:
        return None
    salt = time.perf_counter_ns() + FAR_HEADS
    prompts = await asyncio.to_thread(PromptSource, Workload(), max_model_len=info.max_model_len, salt=salt)
    return CanaryLane(
        rate_rps,
        EndpointClient(endpoint, info, profile.caps, origin_ns),
        prompts,
        _api_for(profile.workload.api, info),
        lambda: time.perf_counter_ns() - origin_ns,
        lambda: engine.target.value > 0,
        extra_of(profile.workload),
    )


def _api_for(wanted: str, info: EndpointInfo) -> str:
    """The workload's API, or the one that the endpoint has: a base model has no chat."""
    return wanted if wanted in info.apis or not info.apis else info.apis[0]
