"""How what owns a service's pods scales, as a fake kubectl on PATH tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPlan
from llmtop.domain.places import KubeService, place_in
from llmtop.domain.profile import Profile
from llmtop.domain.replicas import ReplicaCounts
from llmtop.errors import UsageError
from llmtop.load.selftest import known_times
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session
from llmtop.telemetry import kubectl as kubectl_module
from llmtop.telemetry.kube_scaling import EVERY_LOOKS, KubeDeployment
from llmtop.telemetry.kubectl import Kubectl
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.scaling import Deployed, ScaleWatch, Standing
from tests.telemetry.fleet import FakeKubectl, endpoint, slice_of
from tests.waiting import runs

URL = "k8s://prod/vllm"


def may_not(verb: str, resource: str, group: str = "") -> dict[str, Any]:
    of_group = f' in API group "{group}"'
    said = f'{resource} is forbidden: User "me" cannot {verb} resource "{resource}"{of_group} in the namespace "prod"'
    return {"err": f"Error from server (Forbidden): {said}\n", "code": 1}


def out(thing: object) -> dict[str, Any]:
    return {"out": json.dumps(thing)}


def pod(name: str, ready: bool = True, **meta: Any) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "vllm-7d9"}
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": str(ready)}]
    status = {"phase": "Running", "conditions": conditions}
    return {"metadata": {"name": name, "ownerReferences": [owner], **meta}, "status": status}


def deployment(replicas: int, begun: int, ready: int, kind: str = "Deployment") -> dict[str, Any]:
    status = {"replicas": begun, "readyReplicas": ready}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "vllm"}}}
    return {"kind": kind, "metadata": {"name": "vllm"}, "spec": spec, "status": status}


def autoscaler(desired: int, kind: str = "Deployment") -> dict[str, Any]:
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "vllm"}, "maxReplicas": 4}
    name = "keda-hpa-vllm"
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"currentReplicas": 1, "desiredReplicas": desired},
    }


def cluster(*pods: dict[str, Any], owner: dict[str, Any], desired: int | None = None, **others: Any) -> dict[str, Any]:
    """What kubectl answers of a service, its pods, and what scales them."""
    kind = owner["kind"].lower()
    both = [owner] if desired is None else [owner, autoscaler(desired, owner["kind"])]
    return {
        "get service": out({"kind": "Service", "spec": {"selector": {"app": "vllm", "tier": "gpu"}}}),
        "get pods": out({"items": pods}),
        "get replicaset/vllm-7d9": out({"metadata": {"ownerReferences": [{"kind": "Deployment", "name": "vllm"}]}}),
        "get horizontalpodautoscaler": out({"items": both[1:]}),
        f"get {kind}/vllm": out({"items": both} if desired is not None else owner),
        **others,
    }


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return FakeKubectl(folder)


@pytest.fixture
async def source(kubectl: FakeKubectl) -> AsyncIterator[KubeDeployment]:
    asked = Kubectl()
    yield KubeDeployment(URL, KubeService("prod", "vllm", "", ""), asked)
    await asked.close()


async def test_a_deployment_with_its_autoscaler_is_seen_from_the_decision_to_the_first_token(
    kubectl: FakeKubectl, source: KubeDeployment
) -> None:
    watch, t_s, told = ScaleWatch(source), 0.0, []
    looks = [
        (cluster(pod("a"), owner=deployment(1, 1, 1), desired=1), ()),
        (cluster(pod("a"), owner=deployment(1, 1, 1), desired=2), ()),
        (cluster(pod("a"), pod("b", ready=False), owner=deployment(2, 2, 1), desired=2), ()),
        (cluster(pod("a"), pod("b"), owner=deployment(2, 2, 2), desired=2), ()),
        (cluster(pod("a"), pod("b"), owner=deployment(2, 2, 2), desired=2), (ReplicaSeen(name="b", served=True),)),
        (cluster(pod("a", deletionTimestamp="x"), pod("b"), owner=deployment(1, 2, 1), desired=1), ()),
        (cluster(pod("b"), owner=deployment(1, 1, 1), desired=1), ()),
    ]
    for answers, seen in looks:
        kubectl.answer(answers)
        t_s += 1.0
        told += await watch.look(lambda: t_s, seen)  # noqa: B023 - asked at once
        assert watch.problem == ""
    assert [(step.t_s, step.kind, step.replicas, step.name) for step in told if not step.since] == [
        (2.0, "desired", 2, ""),
        (3.0, "created", 2, "b"),
        (4.0, "ready", 2, "b"),
        (5.0, "serving", 1, "b"),
        (6.0, "desired", 1, ""),
        (6.0, "ready", 1, "a"),
        (7.0, "gone", 1, "a"),
    ]
    counts = ReplicaCounts(told)
    assert (counts.desired, counts.created, counts.ready, counts.serving) == (1, 1, 1, 1)
    asked = [" ".join(arguments) for arguments, *_ in kubectl.asked]
    assert sum(line.startswith("get pods -l app=vllm,tier=gpu -n prod") for line in asked) == len(looks) - 2, (
        "not as long as the owner counts as many: when more are wanted, and when one has generated something"
    )
    assert sum("deployment/vllm horizontalpodautoscaler/keda-hpa-vllm" in line for line in asked) == len(looks)


async def test_a_deployment_that_stands_still_is_asked_once_a_look(
    kubectl: FakeKubectl, source: KubeDeployment
) -> None:
    """Its pods are listed when its own counts differ, and every so many looks all the same."""
    kubectl.answer(cluster(pod("a"), pod("b"), owner=deployment(2, 2, 2), desired=2))
    looks = 2 * EVERY_LOOKS
    for _ in range(looks):
        assert await source.look() == Deployed(desired=2, replicas=(Standing("a", True), Standing("b", True)))
    asked = [arguments[1] for arguments, *_ in kubectl.asked]
    assert asked.count("pods") == 2
    assert len(asked) == looks + 2 + 3, "and three times to find out who owns them"
    kubectl.answer(cluster(pod("a"), pod("c", ready=False), owner=deployment(2, 2, 1), desired=2))
    assert await source.look() == Deployed(desired=2, replicas=(Standing("a", True), Standing("c", False)))


def is_keeper(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # a zombie as well: that of another test
        return "kubectl_keeper" in " ".join(process.cmdline())
    return False


async def test_what_is_looked_at_for_pages_and_for_scaling_is_asked_by_one_process(
    kubectl: FakeKubectl, tmp_path: Path
) -> None:
    """The pages of a service and whatever scales it, in one session: all that kubectl starts has one parent."""
    slices = {"get endpointslices": out({"items": [slice_of(1, endpoint("a", "127.0.0.1", ready=False))]})}
    kubectl.answer(cluster(pod("a"), owner=deployment(1, 1, 1), desired=1, **slices))
    async with known_times() as url:
        profile = Profile(name="hand", plan=LoadPlan(stages=()))
        given = Endpoint(base_url=url, metrics_urls=(URL,))
        session = Session(SessionOptions(profile=profile, run_file=str(tmp_path / "r.llmtop"), endpoint=given))
        await session.start()
        try:
            wanted = {"endpointslices", "pods", "deployment/vllm"}
            async with asyncio.timeout(30):
                while not wanted <= {arguments[1] for arguments, *_ in kubectl.asked}:
                    await asyncio.sleep(0.05)
            (keeper,) = filter(is_keeper, psutil.Process().children())
        finally:
            await session.close(0.0)
        assert not runs(keeper.pid)


async def test_without_an_autoscaler_the_owner_says_what_is_wanted(
    kubectl: FakeKubectl, source: KubeDeployment
) -> None:
    denied = {"get horizontalpodautoscaler": may_not("list", "horizontalpodautoscalers", "autoscaling")}
    kubectl.answer(cluster(pod("a"), owner=deployment(3, 1, 1), **denied))
    assert await source.look() == Deployed(desired=3, replicas=(Standing("a", True),))
    assert source.problem == ""


@pytest.mark.parametrize(
    ("kind", "meta"),
    [
        ("StatefulSet", {"ownerReferences": [{"kind": "StatefulSet", "name": "vllm"}]}),
        ("LeaderWorkerSet", {"labels": {"leaderworkerset.sigs.k8s.io/name": "vllm"}}),
    ],
)
async def test_other_owners_are_found(
    kubectl: FakeKubectl, source: KubeDeployment, kind: str, meta: dict[str, Any]
) -> None:
    kubectl.answer(cluster(pod("vllm-0", **meta), owner=deployment(2, 1, 1, kind), desired=4))
    assert (await source.look() or Deployed()).desired == 4


async def test_what_scales_can_be_named_and_its_counts_stand_for_pods_that_may_not_be_listed(
    kubectl: FakeKubectl,
) -> None:
    place = place_in(f"{URL}?scale=deploy/vllm")
    assert place == KubeService("prod", "vllm", "", "", "deployment/vllm")
    source = KubeDeployment(URL, place, asked := Kubectl())
    kubectl.answer(cluster(owner=deployment(3, 2, 1), desired=3, **{"get pods": may_not("list", "pods")}))
    told = await source.look()
    await asked.close()
    assert told == Deployed(desired=3, replicas=(Standing("", True), Standing("", False)))
    assert source.problem.startswith(f"{URL}: kubectl is forbidden to list pods in namespace prod")


async def test_a_kubectl_that_fails_midway_keeps_what_was_known_and_says_why(
    kubectl: FakeKubectl, source: KubeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, known = ScaleWatch(source), cluster(pod("a"), pod("b"), owner=deployment(2, 2, 2), desired=2)
    kubectl.answer(known)
    assert ReplicaCounts(await watch.look(lambda: 1.0, ())).ready == 2
    fewer = cluster(pod("a"), pod("b"), owner=deployment(2, 2, 1), desired=2)
    kubectl.answer({**fewer, "get pods": may_not("list", "pods")})
    assert await watch.look(lambda: 2.0, ()) == []
    assert "forbidden to list pods" in watch.problem
    kubectl.answer({"get": {"err": "The connection to the server was refused\n", "code": 1}})
    assert await watch.look(lambda: 3.0, ()) == []
    assert "kubectl says The connection to the server was refused" in watch.problem
    kubectl.answer({name: {"out": "no JSON"} for name in known})
    assert await watch.look(lambda: 4.0, ()) == []
    assert "something that is no" in watch.problem
    limit_s = Kubectl.ask.__kwdefaults__ or {}
    monkeypatch.setitem(limit_s, "limit_s", 0.3)
    kubectl.answer({name: {"sleep": 60} for name in known})
    assert await watch.look(lambda: 5.0, ()) == []
    assert "took longer than" in watch.problem
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{kubectl.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    kubectl.answer(cluster(pod("a"), pod("b"), pod("c"), owner=deployment(3, 3, 3), desired=3))
    assert [step.kind for step in await watch.look(lambda: 6.0, ())] == ["desired", "created", "ready"]
    assert watch.problem == ""


async def test_pods_that_nothing_owns_are_said_with_what_to_type(kubectl: FakeKubectl, source: KubeDeployment) -> None:
    kubectl.answer(cluster(pod("a", ownerReferences=[]), owner=deployment(1, 1, 1)))
    assert await source.look() == Deployed(replicas=(Standing("a", True),))
    assert source.problem.endswith("name it, as in k8s://prod/vllm?scale=deployment/NAME")


@pytest.mark.parametrize("query", ["scale=vllm", "scale=pod/vllm", "scale=deployment/", "size=deployment/vllm", ""])
def test_what_cannot_scale_is_refused(query: str) -> None:
    with pytest.raises(UsageError, match=r"write it like k8s://.*scale=deployment/NAME"):
        place_in(f"{URL}?{query}")


async def test_no_kubectl_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    source = KubeDeployment(URL, KubeService("prod", "vllm", "", ""), Kubectl())
    assert await source.look() is None
    assert "there is no kubectl on PATH" in source.problem
    assert kubectl_module.LIMIT_S == 5.0
