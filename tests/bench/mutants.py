"""Small mutations of Python source: where they can be made, and the source that comes out. Pure.

A site is one place in the source; its variants are the mutants that can be made there. Source is changed by replacing
bytes, never by printing a syntax tree, so that a mutant is one line that a person can read beside the original.

What is left alone, because no test can be asked to see it: texts (f-strings with all inside them), annotations,
decorators, bases of classes, asserts, `__slots__`, `__all__`, `TYPE_CHECKING` and `__main__` blocks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
}
LEAVING = (ast.Return, ast.Continue, ast.Raise, ast.Break)
TELLING = ("print", "warn", "debug", "info", "warning", "error", "exception", "TypeVar")
"""Functions whose arguments are texts or types."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file.

    `first` to `last` are the lines of the statement (of its head, if it has a body) that is changed; `start` and `stop`
    are byte offsets of what `new` replaces.
    """

    file: str
    line: int
    kind: str
    start: int
    stop: int
    new: bytes
    first: int
    last: int
    inside: bool
    """Whether it lies in the body of a function: what does not, runs when the module is imported."""

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new + source[self.stop :]

    def lines(self, source: bytes) -> tuple[str, str]:
        """The lines that are changed, before and after, without the white space around and between them."""
        begin = source.rfind(b"\n", 0, self.start) + 1
        end = source.find(b"\n", self.stop)
        end = len(source) if end < 0 else end
        after = source[begin : self.start] + self.new + source[self.stop : end]
        return _one_line(source[begin:end]), _one_line(after)

    def sound(self, source: bytes) -> bool:
        """Whether it is another program than the original, and a program at all."""
        try:
            return ast.dump(ast.parse(self.applied(source))) != ast.dump(ast.parse(source))
        except SyntaxError:
            return False


def find(source: bytes, file: str = "") -> list[list[Mutant]]:
    """All sites, each with its variants, in the order of the source."""
    finder = _Finder(source, file)
    finder.visit(ast.parse(source))
    return sorted((site for site in finder.sites if site), key=lambda site: (site[0].start, site[0].stop, site[0].kind))


def _one_line(source: bytes) -> str:
    return " ".join(source.decode().split())


class _Finder(ast.NodeVisitor):
    def __init__(self, source: bytes, file: str) -> None:
        self._source, self._file = source, file
        self._line_starts = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        self._statement = (1, 1)
        self._depth = 0
        self.sites: list[list[Mutant]] = []

    def visit(self, node: ast.AST) -> None:
        outer = self._statement
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno
            self._statement = (node.lineno, max(node.lineno, last or node.lineno))
        super().visit(node)
        self._statement = outer

    # ── What is left alone ────────────────────────────────────────────────────────────────────────────────────────

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text, and before Python 3.12 the positions inside are wrong."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Tells the type checker something."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._all(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._all([value for value in (*node.args.defaults, *node.args.kw_defaults) if value is not None])
        self._depth += 1
        self._all(node.body)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(target, ast.Name) and target.id in ("__slots__", "__all__") for target in node.targets):
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # of `zip`: it guards against a bug, not against a fact
            self.visit(node.value)

    # ── Sites ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), op in zip(pairwise((node.left, *node.comparators)), node.ops, strict=True):
            pattern, others = COMPARISONS[type(op)]
            self._between(left, right, pattern, others, "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._between(left, right, old, (new,), "boolean")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not _is_text(node.left) and not _is_text(node.right):
            old, new = ARITHMETIC[type(node.op)]
            self._between(node.left, node.right, re.escape(old), (new,), "arithmetic")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC and not _is_text(node.value):
            old, new = ARITHMETIC[type(node.op)]
            self._between(node.target, node.value, re.escape(old + "="), (new + "=",), "arithmetic")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start, _ = self._span(node)
            match = re.compile(rb"not\s*").match(self._source, start)
            if match is not None:
                self._site("not", start, match.end(), ("",))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._site("constant", *self._span(node), (str(not value),))
        elif isinstance(value, int | float):
            self._site("constant", *self._span(node), _other_numbers(value))

    def visit_If(self, node: ast.If) -> None:
        if _names(node.test) & {"TYPE_CHECKING", "__name__"}:
            return
        if not node.orelse and len(node.body) == 1 and isinstance(node.body[0], LEAVING):
            self._forced(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._forced(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._forced(test, ("or True",))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in TELLING:
            return
        if isinstance(node.func, ast.Name) and name in ("min", "max"):
            self._site("guard", *self._span(node.func), ("max" if name == "min" else "min",))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return
        start, stop = self._span(value)
        text = self._source[start:stop].decode()
        variants = ["None"]
        if isinstance(value, ast.Compare | ast.BoolOp) or (
            isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)
        ):
            variants = [f"not ({text})"]
        elif isinstance(value, ast.BinOp) and not _is_text(value.left) and not _is_text(value.right):
            variants.append(f"-({text})")
        self._site("return", start, stop, variants)
        self.generic_visit(node)

    # ── Places in the text ────────────────────────────────────────────────────────────────────────────────────────────

    def _all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._line_starts[node.lineno - 1] + node.col_offset
        return start, self._line_starts[node.end_lineno - 1] + node.end_col_offset

    def _between(self, left: ast.expr, right: ast.expr, pattern: str, others: Sequence[str], kind: str) -> None:
        """Replace the operator between two operands; around it lie only brackets, white space and comments."""
        start, stop = self._span(left)[1], self._span(right)[0]
        gap = re.sub(rb"#[^\n]*", lambda match: b" " * len(match[0]), self._source[start:stop])
        match = re.search(pattern.encode(), gap)
        if match is not None:
            self._site(kind, start + match.start(), start + match.end(), others)

    def _forced(self, test: ast.expr, ends: Sequence[str] = ("and False", "or True")) -> None:
        """A condition that is asked (names bound in it stay bound) but has no say."""
        start, stop = self._span(test)
        text = self._source[start:stop].decode()
        self._site("guard", start, stop, [f"({text}) {end}" for end in ends])

    def _site(self, kind: str, start: int, stop: int, variants: Sequence[str]) -> None:
        line = self._source.count(b"\n", 0, start) + 1
        self.sites.append(
            [
                Mutant(self._file, line, kind, start, stop, new.encode(), *self._statement, self._depth > 0)
                for new in variants
            ]
        )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _names(node: ast.AST) -> set[str]:
    return set(_each_name(node))


def _each_name(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id


def _other_numbers(value: int | float) -> tuple[str, ...]:
    """Neighbours of a small whole number, and half and double of all others: a test can be asked to tell them apart."""
    if isinstance(value, int):
        near = [value + 1, value - 1] if value <= 10 else [2 * value, value // 2]
        return tuple(str(number) for number in near if number >= 0)
    return (repr(2 * value), repr(value / 2)) if value else ("1.0",)
