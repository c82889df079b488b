"""The mutator makes the small faults it promises, and only programs."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BENCH = Path(__file__).parent / "bench"


def load(name: str) -> ModuleType:
    """A script of the bench, which is no package."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


mutants = load("mutants")

SOURCE = '''"""Says 1 < 2."""

__slots__ = ("a", 3)
LIMIT: "Literal[4]" = 50


class Thing(Base, order=True):
    """Doc 5."""

    @cached(6)
    def found(self, values: "tuple[7]", least: float = 0.5) -> "dict[8]":
        assert values is not None
        if not values:  # not less
            return None
        print("much", 9)
        pairs = zip(values, values, strict=True)
        text = f"{len(values) + 10} of them" + "."
        return min(values) + least if text else -1
'''


def changed(source: str) -> list[tuple[str, str, str]]:
    """(kind, line, mutated line) of every mutant of a source."""
    raw = source.encode()
    return [(mutant.kind, *mutant.lines(raw)) for site in mutants.find(raw) for mutant in site]


def test_every_kind_of_fault_is_made_where_it_belongs_and_nowhere_else() -> None:
    last = "return min(values) + least if text else -1"
    head = 'def found(self, values: "tuple[7]", least: float = 0.5) -> "dict[8]":'
    assert sorted(changed(SOURCE)) == sorted(
        [
            ("constant", 'LIMIT: "Literal[4]" = 50', 'LIMIT: "Literal[4]" = 100'),
            ("constant", 'LIMIT: "Literal[4]" = 50', 'LIMIT: "Literal[4]" = 25'),
            ("constant", head, head.replace("0.5", "1.0")),
            ("constant", head, head.replace("0.5", "0.25")),
            ("guard", "if not values: # not less", "if (not values) and False: # not less"),
            ("guard", "if not values: # not less", "if (not values) or True: # not less"),
            ("not", "if not values: # not less", "if values: # not less"),
            ("return", last, "return None"),
            ("guard", last, last.replace("min", "max")),
            ("arithmetic", last, last.replace("+", "-")),
            ("guard", last, last.replace("if text", "if (text) and False")),
            ("guard", last, last.replace("if text", "if (text) or True")),
            ("constant", last, last.replace("-1", "-2")),
            ("constant", last, last.replace("-1", "-0")),
        ]
    )


OPERATORS = "x = (a <\n b is not c) or (d)  # or\\\n\ny = not (é) not  in (e // 2 - 0.0)\nz += 11 if (y) else True"


def test_operators_are_found_between_their_operands() -> None:
    assert [after for _, _, after in changed(OPERATORS) if "z" not in after] == [
        "x = (a <=",
        "x = (a >=",
        "b is c) or (d) # or\\",
        "b is not c) and (d) # or\\",
        "y = (é) not in (e // 2 - 0.0)",
        "y = not (é) in (e // 2 - 0.0)",
        "y = not (é) not in (e * 2 - 0.0)",
        "y = not (é) not in (e // 3 - 0.0)",
        "y = not (é) not in (e // 1 - 0.0)",
        "y = not (é) not in (e // 2 + 0.0)",
        "y = not (é) not in (e // 2 - 1.0)",
    ]


def test_no_mutant_is_unparsable_and_each_is_another_program() -> None:
    for source in (SOURCE, OPERATORS):
        raw = source.encode()
        for mutant in (mutant for site in mutants.find(raw) for mutant in site):
            assert ast.dump(ast.parse(mutant.applied(raw))) != ast.dump(ast.parse(raw))
            assert mutant.sound(raw)


def test_a_change_that_is_none_or_no_program_is_not_sound() -> None:
    raw = b"x = 1"
    at = {"file": "", "line": 1, "kind": "", "start": 4, "stop": 5, "first": 1, "last": 1, "inside": False}
    assert [mutants.Mutant(new=new, **at).sound(raw) for new in (b"2", b" 1", b")")] == [True, False, False]


def test_a_mutant_knows_the_lines_of_its_statement_and_whether_a_call_runs_them() -> None:
    sites = mutants.find(SOURCE.encode())
    (constant,) = {(m.first, m.last, m.inside) for site in sites for m in site if m.line == 4}
    (guard,) = {(m.first, m.last, m.inside) for site in sites for m in site if m.line == 13}
    assert constant == (4, 4, False)
    assert guard == (13, 13, True)
