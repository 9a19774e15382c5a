"""Small changes of a module's source, each of which some test has to notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import attrs

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}


@attrs.frozen
class Mutant:
    """A change of one place.

    Attributes:
        line: where it begins, from 1.
        end: where it ends.
        function: the first and the last line of the function around it; `None` for what runs at import.
        within: the source line in which it begins.
        change: what is changed into what.
        source: the whole module with the change.
    """

    line: int
    end: int
    function: tuple[int, int] | None
    within: str
    change: str
    source: str = attrs.field(repr=False)


class _Finder(ast.NodeVisitor):
    """Collects (node, replacement) for a module."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.function: tuple[int, int] | None = None
        self._found: list[tuple[ast.AST, str, tuple[int, int] | None]] = []

    def add(self, node: ast.AST, after: str) -> None:
        self._found.append((node, after, self.function))

    def find(self) -> list[tuple[ast.AST, str, tuple[int, int] | None]]:
        self.visit(ast.parse(self.source))
        return self._found

    def text(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.source, node) or ""

    def visit_If(self, node: ast.If) -> None:
        if not _is_typing(node.test):
            self.negate(node.test)
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def negate(self, test: ast.expr) -> None:
        """A condition the other way round; a single comparison is turned round by itself."""
        if not isinstance(test, ast.Compare | ast.Constant) or (isinstance(test, ast.Compare) and len(test.ops) > 1):
            self.add(test, f"not ({self.text(test)})")

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1:
            left, right = self.text(node.left), self.text(node.comparators[0])
            self.add(node, f"{left} {_COMPARISONS[type(node.ops[0])]} {right}")
            if isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                turned = ">" if isinstance(node.ops[0], ast.Lt | ast.LtE) else "<"
                self.add(node, f"{left} {turned} {right}")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = "or" if isinstance(node.op, ast.And) else "and"
        self.add(node, "(" + f") {word} (".join(map(self.text, node.values)) + ")")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _OPERATORS.get(type(node.op))
        if other is not None and not _is_text(node):
            self.add(node, f"({self.text(node.left)}) {other} ({self.text(node.right)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, self.text(node.operand))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self.add(node, f"{node.value + 1!r}")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await) and not self.text(node).startswith("logger."):
            self.add(node, "None")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "None")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self.add(node, "return None")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self.add(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, "break")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Messages are not changed."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Whether it is raised is a condition; what it says is not changed."""

    def visit_arg(self, node: ast.arg) -> None:
        """Annotations are not changed."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        outer, self.function = self.function, self.function or (node.lineno, node.end_lineno or node.lineno)
        for part in node.body:
            self.visit(part)
        self.function = outer

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Call(self, node: ast.Call) -> None:
        if not (isinstance(node.func, ast.Attribute) and self.text(node.func).startswith("logger.")):
            self.generic_visit(node)


def _is_typing(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(part, ast.Constant) and isinstance(part.value, str | bytes) for part in (node.left, node.right)
    )


def mutants(source: str) -> Iterator[Mutant]:
    """Each change of a module that compiles and is no change of messages, types or log lines.

    Args:
        source: the module.
    """
    starts = [0]
    raw = source.encode()
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, after, function in _Finder(source).find():
        place: Any = node
        begin = starts[place.lineno - 1] + place.col_offset
        end = starts[place.end_lineno - 1] + place.end_col_offset
        # Lines stay where they are, so that the tests that run a line are known for the mutant, too.
        one_line = " ".join(after.split())
        padding = "\n" * (place.end_lineno - place.lineno)
        put = f"({one_line}{padding})" if isinstance(node, ast.expr) else one_line + padding
        text = (raw[:begin] + put.encode() + raw[end:]).decode()
        try:
            compile(text, "mutant", "exec", dont_inherit=True)
        except SyntaxError:
            continue
        within = source.splitlines()[place.lineno - 1].strip()
        before = " ".join(raw[begin:end].decode().split())
        yield Mutant(place.lineno, place.end_lineno, function, within, f"{before} -> {one_line}", text)
