"""A fleet that a test changes while it is looked at: a kubectl on PATH that answers from files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

KUBECTL = """#!/bin/sh
{ printf '%s\\n' "$$" "$#" "$@"; export -p; echo end; } > 'HOME/asked/'$$
cd -P 'HOME/answers'
name="$1 $2"
case "$name" in */*) name="${name%%/*}%${name#*/}" ;; esac
[ -d "$name" ] || name="$1"
cd "$name" || exit 1
[ ! -f sleep ] || exec sleep "$(cat sleep)"
cat err >&2
cat out
[ ! -f forward ] || exec 'PYTHON' -IS forward.py "$4"
exit "$(cat code)"
"""
"""A shell begins ten times sooner than Python does."""
FORWARD = """
import json, socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print("Forwarding from 127.0.0.1:%d -> 8000" % listener.getsockname()[1], flush=True)
def through(one):
    with open("forward") as ports:
        other = socket.create_connection(("127.0.0.1", json.load(ports)[sys.argv[1]]))
    def pump(a, b):
        while piece := a.recv(65536):
            b.sendall(piece)
        b.close()
    threading.Thread(target=pump, args=(one, other), daemon=True).start()
    pump(other, one)
while True:
    threading.Thread(target=through, args=(listener.accept()[0],), daemon=True).start()
"""

FORBIDDEN = (
    "Error from server (Forbidden): endpointslices.discovery.k8s.io is forbidden: "
    'User "system:serviceaccount:prod:loadtest" cannot list resource "endpointslices" in API group "discovery.k8s.io" '
    'in the namespace "prod"\n'
)
NOT_FOUND = 'Error from server (NotFound): services "vllm" not found\n'


class Asked(NamedTuple):
    """One start of it."""

    arguments: list[str]
    variables: set[str]
    """By name."""
    pid: int


class FakeKubectl:
    """`kubectl` in a folder of its own, which is to be put on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "asked").mkdir()
        self._program = folder / "kubectl"
        self._program.write_text(KUBECTL.replace("HOME", str(folder)).replace("PYTHON", sys.executable))
        self._program.chmod(0o755)
        self._answered = 0
        self.answer({})

    def answer(self, answers: dict[str, dict[str, Any]]) -> None:
        """By `VERB RESOURCE`, or by verb: what is written (`out`, `err`) and how it ends (`code`); `sleep`: seconds
        that it hangs; `forward`: it goes on as a port-forward to these ports of this machine, by pod."""
        self._answered += 1
        fresh = self.folder / f"answers-{self._answered}"
        for name, answer in answers.items():
            place = fresh / name.replace("/", "%")
            place.mkdir(parents=True)
            for part in ("out", "err", "code", "sleep"):
                if part in answer or part != "sleep":
                    (place / part).write_text(str(answer.get(part, 0 if part == "code" else "")))
            if "forward" in answer:
                (place / "forward").write_text(json.dumps(answer["forward"]))
                (place / "forward.py").write_text(FORWARD)
        fresh.mkdir(exist_ok=True)
        link = self.folder / "link"
        link.symlink_to(fresh)
        link.rename(self.folder / "answers")

    def lists(self, *slices: dict[str, Any], **others: dict[str, Any]) -> None:
        self.answer({"get endpointslices": {"out": json.dumps({"items": slices})}, **others})

    @property
    def asked(self) -> list[Asked]:
        """Its starts, in their order."""
        starts = sorted((self.folder / "asked").iterdir(), key=lambda path: (path.stat().st_mtime_ns, int(path.name)))
        told = [path.read_text().splitlines() for path in starts]
        return [_start(lines) for lines in told if lines[-1:] == ["end"]]


def _start(lines: list[str]) -> Asked:
    count = int(lines[1])
    named = (re.match(r"(?:export|declare -x) (\w+)", line) for line in lines[2 + count :])
    return Asked(lines[2 : 2 + count], {found[1] for found in named if found}, int(lines[0]))


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
