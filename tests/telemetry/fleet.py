"""A fleet that a test changes while it is looked at: a kubectl on PATH that answers from a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KUBECTL = """#!{python} -IS
import json, os, sys, time
home = {home!r}
with open(os.path.join(home, "asked"), "a") as log:
    log.write(json.dumps([sys.argv[1:], dict(os.environ), os.getpid(), os.getcwd()]) + "\\n")
with open(os.path.join(home, "answers.json")) as file:
    answers = json.load(file)
answer = answers.get(sys.argv[1] + " " + sys.argv[2], answers.get(sys.argv[1], {{"err": "unknown command", "code": 1}}))
time.sleep(answer.get("sleep", 0))
sys.stderr.write(answer.get("err", ""))
sys.stdout.write(answer.get("out", ""))
sys.stdout.flush()
if "forward" in answer:
    import socket, threading
    listener = socket.create_server(("127.0.0.1", 0))
    print("Forwarding from 127.0.0.1:%d -> 8000" % listener.getsockname()[1], flush=True)
    def through(one):
        other = socket.create_connection(("127.0.0.1", answer["forward"][sys.argv[4]]))
        def pump(a, b):
            while piece := a.recv(65536):
                b.sendall(piece)
            b.close()
        threading.Thread(target=pump, args=(one, other), daemon=True).start()
        pump(other, one)
    while True:
        threading.Thread(target=through, args=(listener.accept()[0],), daemon=True).start()
sys.exit(answer.get("code", 0))
"""

FORBIDDEN = (
    "Error from server (Forbidden): endpointslices.discovery.k8s.io is forbidden: "
    'User "system:serviceaccount:prod:loadtest" cannot list resource "endpointslices" in API group "discovery.k8s.io" '
    'in the namespace "prod"\n'
)
NOT_FOUND = 'Error from server (NotFound): services "vllm" not found\n'


class FakeKubectl:
    """`kubectl` in a folder of its own, which is to be put on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._program = folder / "kubectl"
        self._program.write_text(KUBECTL.format(python=sys.executable, home=str(folder)))
        self._program.chmod(0o755)
        self.answer({})

    def answer(self, answers: dict[str, dict[str, Any]]) -> None:
        """By `VERB RESOURCE`, or by verb: what is written and how it ends."""
        fresh = self.folder / "answers.new"
        fresh.write_text(json.dumps(answers))
        fresh.rename(self.folder / "answers.json")

    def lists(self, *slices: dict[str, Any], **others: dict[str, Any]) -> None:
        self.answer({"get endpointslices": {"out": json.dumps({"items": slices})}, **others})

    @property
    def asked(self) -> list[Any]:
        """[arguments, environment, pid, working directory] of each start."""
        log = self.folder / "asked"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def endpoint(name: str, address: str, ready: bool | None = True) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {} if ready is None else {"ready": ready, "serving": ready, "terminating": False},
        "targetRef": {"kind": "Pod", "name": name, "namespace": "prod"},
    }


def slice_of(port: int | list[tuple[str, int]], *endpoints: dict[str, Any], kind: str = "IPv4") -> dict[str, Any]:
    """An EndpointSlice of these pods."""
    ports = [("http", port)] if isinstance(port, int) else port
    named = [{"name": name, "port": number, "protocol": "TCP"} for name, number in ports]
    return {"addressType": kind, "endpoints": list(endpoints), "ports": named}
