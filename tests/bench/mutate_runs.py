"""Runs tests against mutants, for `mutate.py`: in copies of the tree, and no oftener than it must.

What was found out is kept in the temporary folder, for each file of tests by itself: which lines its tests execute, and
which mutants they notice. So a new test is run against what survived, and nothing else is run again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

from mutants import Mutant

REPO = Path(__file__).parents[2]
CACHE = Path(tempfile.gettempdir()) / f"llmtop-mutate-{os.getuid()}"
OPTIONS = (
    *("-n", "0", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "mutate_plugin"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
PATIENCE = 5.0
"""A test that takes so many times its clean time, and `GRACE_S` more, is stuck, and has noticed the mutant."""
GRACE_S = 5.0
START_S = 30.0
"""Python, pytest and imports, on a busy machine."""
UNSURE_S = 0.5
"""A test that takes as long waits for something real: a failure must come twice."""


@dataclass(frozen=True, slots=True)
class CleanRun:
    """What the tests do on the clean tree: seconds of each, and the lines of the room that each executes."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, frozenset[int]]]
    modules: list[str]
    """What they import from elsewhere."""

    def tests_for(self, mutant: Mutant, own: str) -> list[str]:
        """Those that can see it, the most telling first. `own`: how the ids of the room's own tests begin."""
        touching = [test for test in self.seconds if mutant.file in self.lines[test]]
        span = range(mutant.first, mutant.last + 1)
        found = [test for test in touching if not self.lines[test][mutant.file].isdisjoint(span)]
        if not mutant.inside:
            found = list(self.seconds)
        found = found or [test for test in self.seconds if test.startswith(own)]
        return sorted(found, key=lambda test: (test not in touching, not test.startswith(own), self._cost(test)))

    def _cost(self, test: str) -> float:
        """A test that executes few lines besides, and takes little time, is the likeliest to fail and the cheapest."""
        return self.seconds[test] + sum(len(seen) for seen in self.lines[test].values()) / 5000


class Tree:
    """A copy of the working tree in a folder of its own, and the process whose forks run tests there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in tracked():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target)
        self._nursery = self._started([])

    def _started(self, modules: Sequence[str]) -> subprocess.Popen[str]:
        bench = self.folder / Path(__file__).parent.relative_to(REPO)
        names = self.folder / "mutate-modules.json"
        names.write_text(json.dumps(modules))
        return subprocess.Popen(
            [sys.executable, str(bench / "mutate_nursery.py"), str(names)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": f"{self.folder}{os.pathsep}{bench}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def warm(self, modules: Sequence[str]) -> None:
        """From now on these modules, none of which may be of the tree, are imported once."""
        self.close()
        self._nursery = self._started(modules)

    def close(self) -> None:
        self._nursery.communicate()

    def run(
        self, tests: Sequence[str], seconds: dict[str, float] | None = None, traced: str | None = None
    ) -> dict | None:
        """Run these tests here; what the plugin wrote. None: it took too long.

        Args:
            seconds: clean times of the tests: a test that takes much longer fails, and all are killed after even more.
            traced: record the lines of this folder, and do not stop at the first failure.
        """
        out, limits = self.folder / "mutate-out.json", self.folder / "mutate-limits.json"
        out.unlink(missing_ok=True)
        limit_s = {} if seconds is None else {test: GRACE_S + PATIENCE * seconds[test] for test in tests}
        limits.write_text(json.dumps(limit_s))
        whole_s = START_S + sum(limit_s.values()) if limit_s else None
        env = {"MUTATE_OUT": str(out), "MUTATE_LIMITS": str(limits)}
        env |= {"MUTATE_TRACED": str(self.folder / traced)} if traced else {"PYTHONDONTWRITEBYTECODE": "1"}
        options = [*OPTIONS, *([] if traced else ["-x"]), *tests]
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        print(json.dumps({"options": options, "env": env, "limit_s": whole_s}), file=self._nursery.stdin, flush=True)
        if not json.loads(self._nursery.stdout.readline()):
            return None
        if not out.exists():  # it did not come as far as the tests
            return {"failed": ["(start)"], "tests": {}}
        return json.loads(out.read_text())

    def notices(self, mutant: Mutant, tests: Sequence[str], seconds: dict[str, float]) -> str | None:
        """What noticed the mutant: the id of a test, or `(time)`. None: nothing did."""
        path, original = self.folder / mutant.file, REPO / mutant.file
        path.write_bytes(mutant.applied(original.read_bytes()))
        for cached in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            cached.unlink()
        try:
            return self._failing(tests, seconds)
        finally:
            shutil.copy2(original, path)

    def _failing(self, tests: Sequence[str], seconds: dict[str, float]) -> str | None:
        left = list(tests)
        while left:
            result = self.run(left, seconds)
            if result is None:
                return "(time)"
            if not result["failed"]:
                return None
            name = result["failed"][0]
            if name not in left or seconds[name] < UNSURE_S:
                return name
            again = self.run([name], seconds)
            if again is None or again["failed"]:
                return name
            left = left[left.index(name) + 1 :]
        return None


def tracked() -> list[str]:
    """Files of the working tree that git knows or would not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({name for name in names if (REPO / name).is_file()})


@cache
def state(*folders: str) -> str:
    """A digest of all that lies there, but for files of tests."""
    digest = hashlib.sha256()
    for name in tracked():
        if name.startswith(folders) and not Path(name).name.startswith("test_"):
            digest.update(name.encode() + b"\0" + (REPO / name).read_bytes())
    return digest.hexdigest()


@cache
def state_of_tests(file: str, only: str | None = None) -> str:
    """A digest of a file of tests, of what it is run on and of what lies beside it.

    Args:
        only: leave all tests of the file out but the one of this name.
    """
    whole = state("llmtop/", "profiles/", "pyproject.toml", "tests/conftest.py", str(Path(file).parent) + "/")
    source = (REPO / file).read_text()
    if only is not None:
        others = ast.parse(source)
        others.body = [node for node in others.body if not _is_test(node) or node.name == only]
        source = ast.dump(others)
    return hashlib.sha256(f"{whole} {file} {source}".encode()).hexdigest()[:16]


def _is_test(node: ast.stmt) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def state_of_test(test: str) -> str:
    """A digest of one test, by its id, and of all that is not another test; "" for what is no test."""
    file, _, name = test.partition("::")
    return state_of_tests(file, name.partition("[")[0]) if (REPO / file).is_file() else ""


def test_files(paths: Sequence[str]) -> list[str]:
    found: list[Path] = []
    for path in paths:
        found += [REPO / path] if (REPO / path).is_file() else sorted((REPO / path).rglob("test_*.py"))
    return [str(path.relative_to(REPO)) for path in found]


def clean_run(tree: Tree, room: str, files: Sequence[str]) -> CleanRun:
    """Run the tests of these files on the clean tree, where that is not known; what fails there judges nothing."""
    notes = {file: CACHE / f"clean-{room.replace('/', '_')}-{state_of_tests(file)}.json" for file in files}
    missing = [file for file, note in notes.items() if not note.exists()]
    if missing:
        print(f"clean run of {' '.join(missing)}", flush=True)
        result = tree.run(missing, traced=f"llmtop/{room}/")
        assert result is not None
        broken = {test for test in result["failed"] if (again := tree.run([test])) is None or again["failed"]}
        for test in sorted(broken):
            print(f"left out, it fails on the clean tree: {test}", flush=True)
        for file in missing:
            tests = {id_: told for id_, told in result["tests"].items() if id_.startswith(f"{file}::")}
            told = {"tests": {id_: tests[id_] for id_ in tests.keys() - broken}, "modules": result["modules"]}
            notes[file].write_text(json.dumps(told))
    seconds, lines, modules = {}, {}, {}
    for note in notes.values():
        told = json.loads(note.read_text())
        modules |= dict.fromkeys(told["modules"])
        for test, each in told["tests"].items():
            seconds[test] = each["s"]
            lines[test] = {file: frozenset(seen) for file, seen in each["lines"].items()}
    return CleanRun(seconds, lines, list(modules))


class Memory:
    """What is known of each mutant: which test noticed it, and which files of tests did not."""

    def __init__(self, files: Sequence[str]) -> None:
        self._now = {file: state_of_tests(file) for file in files}
        self._path = CACHE / f"mutants-{state('llmtop/', 'profiles/')[:16]}.json"
        self._told = self._read()
        self._lock = threading.Lock()

    def _read(self) -> dict[str, dict]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def killer(self, mutant: Mutant) -> str | None:
        """The test that noticed it, if it is as it was."""
        told = self._told.get(_key(mutant), {})
        killer = told.get("killer")
        return killer if killer is not None and told["by"] == state_of_test(killer) else None

    def untried(self, mutant: Mutant) -> set[str]:
        """Files of tests that have not been run against it as they are."""
        seen = self._told.get(_key(mutant), {}).get("blind", ())
        return {file for file, state in self._now.items() if state not in seen}

    def note(self, mutant: Mutant, killer: str | None) -> None:
        with self._lock:
            self._told = self._read()  # another run may have written since
            told = self._told.setdefault(_key(mutant), {"killer": None, "by": "", "blind": []})
            if killer is not None:
                told["killer"], told["by"] = killer, state_of_test(killer)
            else:
                told["killer"], told["blind"] = None, sorted({*told["blind"], *self._now.values()})
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(self._told))
            new.replace(self._path)


def _key(mutant: Mutant) -> str:
    return f"{mutant.file}:{mutant.start}:{mutant.stop}:{mutant.new.decode()}"
