"""The floors of the house, as code: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmtop"

FLOORS = {
    "llmtop.examples": 11,
    "llmtop.cli": 10,
    "llmtop.tui": 9,
    "llmtop.web": 9,
    "llmtop.host": 8,
    "llmtop.session": 7,
    "llmtop.cluster": 6,
    "llmtop.exchange": 6,
    "llmtop.recording": 6,
    "llmtop.report": 6,
    "llmtop.profiles": 6,
    "llmtop.sinks": 6,
    "llmtop.load": 5,
    "llmtop.telemetry": 5,
    "llmtop.simulator.server": 5,
    "llmtop.endpoint": 4,
    "llmtop.channel": 4,
    "llmtop.files": 4,
    "llmtop.view": 3,
    "llmtop.analysis": 3,
    "llmtop.simulator.engine": 2,
    "llmtop.dialects": 1,
    "llmtop.meter": 1,
    "llmtop.workload": 1,
    "llmtop.traffic": 1,
    "llmtop.wording": 1,
    "llmtop.domain": 0,
    "llmtop.errors": 0,
    "llmtop.isolation": 0,
    "llmtop.inputs": 0,
    "llmtop.users": 0,
    "llmtop": 0,
}
"""Room to floor; a module's room is the longest name that it starts with."""

SIDEWAYS = {
    ("llmtop.domain", "llmtop.errors"),
    ("llmtop.workload", "llmtop.traffic"),
    ("llmtop.inputs", "llmtop.errors"),
    ("llmtop.inputs", "llmtop.domain"),
}
"""Imports inside a floor: the words raise what the exception tree names, and what a user wrote is told in them."""

ONLY_IN = {
    "textual": ("llmtop.tui",),
    "plotext": ("llmtop.tui", "llmtop.report"),
    "rich": ("llmtop.tui", "llmtop.cli"),
    "aiohttp": ("llmtop.web",),
    "httpx": ("llmtop.endpoint", "llmtop.telemetry"),
    "distributed": ("llmtop.cluster",),
    "dask": ("llmtop.cluster",),
    "asyncssh": ("llmtop.cluster",),
}
PURE_BELOW = 4
SEES_ONLY = {
    "llmtop.view": {"llmtop.view", "llmtop.domain", "llmtop.errors", "llmtop.meter", "llmtop.wording"},
    "llmtop.tui": {"llmtop.tui", "llmtop.host", "llmtop.view", "llmtop.domain", "llmtop.errors", "llmtop.wording"},
}
"""Rooms that may see less than what lies below them: a view is given frames and opinions and not how they are made; a
screen asks the host of a run, and shows."""
NEVER = {("llmtop.session", "llmtop.analysis"), ("llmtop.load", "llmtop.analysis")}
"""What measures has no opinion."""
IMPURE = {"asyncio", "socket", "selectors", "time", "datetime", "threading", "subprocess", "multiprocessing", "secrets"}
"""Time, randomness and I/O are parameters on floors 0 to 3."""


def room_of(module: str) -> str:
    return max((room for room in FLOORS if module == room or module.startswith(room + ".")), key=len)


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All of them, at whatever depth: imports stand in no expression."""
    for each in body:
        yield each
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from statements(getattr(each, part, ()))


@cache
def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(deeper & MODULES.keys() or {node.module})
    return names


def test_a_module_imports_only_from_lower_floors() -> None:
    wrong = []
    for module, path in MODULES.items():
        room = room_of(module)
        for name in imports_of(path) if module != "llmtop.__main__" else ():
            other = room_of(name) if name.startswith("llmtop") else room
            if other != room and FLOORS[other] >= FLOORS[room] and (room, other) not in SIDEWAYS:
                wrong.append(f"{module} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[other]})")
    assert wrong == []


def test_foreign_libraries_stay_in_their_rooms() -> None:
    wrong = []
    for module, path in MODULES.items():
        room = room_of(module)
        roots = {name.partition(".")[0] for name in imports_of(path)}
        wrong += [f"{module} imports {each}" for each, rooms in ONLY_IN.items() if each in roots and room not in rooms]
        if FLOORS[room] < PURE_BELOW and module != "llmtop.__main__" and roots & IMPURE:
            wrong.append(f"{module} imports {roots & IMPURE}")
    assert wrong == []


def test_some_rooms_see_less_than_what_lies_below() -> None:
    for module, path in MODULES.items():
        room = room_of(module)
        seen = {room_of(name) for name in imports_of(path) if name.startswith("llmtop")}
        assert seen <= SEES_ONLY.get(room, seen), module
        assert not {(room, other) for other in seen} & NEVER, module


def test_no_module_imports_itself_by_a_detour() -> None:
    edges = {module: imports_of(path) & MODULES.keys() for module, path in MODULES.items()}
    while ends := [module for module, seen in edges.items() if not seen & edges.keys()]:
        for module in ends:
            del edges[module]
    assert not edges


def test_every_room_is_on_a_floor() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert {m for m in MODULES if room_of(m) == "llmtop"} <= {"llmtop", "llmtop.__main__", "llmtop.simulator"}
    assert rooms == set(FLOORS)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n")[-2].split())


def test_the_analysis_loads_no_screen_and_no_network() -> None:
    assert not loaded_by("import llmtop.analysis") & {"textual", "rich", "httpx", "plotext", "asyncio"}


def test_the_view_is_drawn_without_a_terminal() -> None:
    files = ", ".join(module for module in MODULES if room_of(module) == "llmtop.view")
    assert not loaded_by(f"import {files}") & {"textual", "rich", "plotext", "asyncio"}


def test_help_loads_nothing_heavy() -> None:
    helped = loaded_by(
        "import contextlib, io, llmtop.cli.main as cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): cli.main(['--help'])"
    )
    assert not helped & {"textual", "rich", "httpx", "numpy", "plotext", "msgspec", "asyncio"}


def test_the_first_screen_is_drawn_before_anything_is_loaded_that_it_does_not_need() -> None:
    drawn = loaded_by(
        "import asyncio, contextlib\n"
        "import llmtop.cli.live, llmtop.cli.main as cli\n"
        "from llmtop.cli.target import session_options\n"
        "from llmtop.domain.shown import Shown\n"
        "from llmtop.domain.slo import Slo\n"
        "from llmtop.host.attached import Attached\n"
        "from llmtop.tui.watch import LlmtopApp\n"
        "arguments = cli._parser('live').read(['--sim'], cli.COMMANDS)\n"
        "arguments.settings = None\n"
        "session_options(arguments, llmtop.cli.live._profile(arguments, 4), None, patient=True)\n"
        "class Host:\n"
        "    slo, shown = Slo(), lambda self: Shown()\n"
        "async def draw():\n"
        "    async with LlmtopApp(Host()).run_test(size=(120, 40)) as pilot:\n"
        "        await pilot.pause()\n"
        "asyncio.run(draw())"
    )
    assert "textual.screen" in drawn
    assert not drawn & {"numpy", "plotext", "httpx", "urllib.request", "http.client", "sqlite3"}
    assert not {"llmtop.analysis", "llmtop.recording", "llmtop.report", "llmtop.telemetry", "llmtop.host.host"} & drawn


def test_a_sessions_process_loads_no_screen_no_numpy_and_no_engine() -> None:
    loaded = loaded_by("import llmtop.session.process")
    assert not loaded & {"textual", "rich", "plotext", "numpy"}
    assert not {module for module in loaded if module.startswith("llmtop.simulator.engine")}
