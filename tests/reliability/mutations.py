"""Small faults put into a source, one at a time: its syntax tree with one place of it changed."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import ndiff

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
}
_NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One place of a tree and what stands there instead.

    Attributes:
        scope: Dotted name of the function or class that the place is in, "" for the module's own.
        line: Where it begins.
        kind: Of the change.
        parent: Node above the place.
        field: Its field.
        index: Position in the field where that is a list.
        new: What stands there instead; None takes the element out of the list.
        before: The source's lines that change, without blanks around.
        after: What they become.
        repeat: 1 for the first of several in a scope that read alike.
    """

    scope: str
    line: int
    kind: str
    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST | None
    before: str
    after: str
    repeat: int

    @property
    def name(self) -> str:
        """What tells it apart within a module; does not change when lines move."""
        number = f" ({self.repeat})" if self.repeat > 1 else ""
        return f"{self.scope or 'module'}: {self.before} -> {self.after}{number}"

    def apply(self) -> ast.AST | None:
        """Change the tree; return what stood there."""
        held = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
            return held
        old = held[self.index]
        if self.new is None:
            del held[self.index]
        else:
            held[self.index] = self.new
        return old


@dataclass(frozen=True, kw_only=True)
class _Place:
    node: ast.AST
    parent: ast.AST
    field: str
    index: int | None
    scope: tuple[str, ...]
    statement: ast.stmt


def mutations(tree: ast.Module, *, only: tuple[str, ...] = ()) -> list[Mutation]:
    """Return every mutation of a tree, in the order of its source.

    Left out: docstrings, annotations, what is imported for types alone, arguments of decorators, progress bars, and the
    texts of errors and of what is logged, which say the same with other words.

    Args:
        tree: Of a module; its mutations refer to it.
        only: Names of functions and classes at the top, and of constants; all where it is empty.
    """
    found: list[Mutation] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for place in _places(tree):
        top = place.scope[0] if place.scope else _assigned(place.statement)
        if only and top not in only:
            continue
        for kind, new in _changes(place):
            mutation = Mutation(
                scope=".".join(place.scope),
                line=getattr(place.node, "lineno", place.statement.lineno),
                kind=kind,
                parent=place.parent,
                field=place.field,
                index=place.index,
                new=new,
                before="",
                after="",
                repeat=1,
            )
            before, after = _shown(mutation, place.statement)
            if before == after:
                continue
            seen[mutation.scope, before, after] += 1
            repeat = seen[mutation.scope, before, after]
            found.append(Mutation(**{**vars(mutation), "before": before, "after": after, "repeat": repeat}))
    return found


def _assigned(statement: ast.stmt) -> str:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return next((target.id for target in targets if isinstance(target, ast.Name)), "")


def _shown(mutation: Mutation, statement: ast.stmt) -> tuple[str, str]:
    """Return the lines of a statement that a mutation changes, before and after; the tree is left as it was."""
    before = ast.unparse(statement)
    if mutation.parent is not statement and statement is getattr(mutation.parent, mutation.field, None):
        raise AssertionError("a statement is a place in a list")
    held = getattr(mutation.parent, mutation.field)
    if mutation.index is not None and held[mutation.index] is statement:
        assert mutation.new is not None
        return before.splitlines()[0], ast.unparse(mutation.new)
    kept = list(held) if isinstance(held, list) else held
    mutation.apply()
    after = ast.unparse(statement)
    setattr(mutation.parent, mutation.field, kept)
    lines = list(ndiff(before.splitlines(), after.splitlines()))
    removed, added = (" ".join(line[2:].strip() for line in lines if line.startswith(mark)) for mark in "-+")
    return removed, added


def _places(tree: ast.Module) -> Iterator[_Place]:
    """Yield the places of a tree that may be changed."""

    def below(node: ast.AST, scope: tuple[str, ...], statement: ast.stmt | None) -> Iterator[_Place]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params") or _is_silent(node, field):
                continue
            children = value if isinstance(value, list) else [value]
            for index, child in enumerate(children):
                if not isinstance(child, ast.AST) or _is_docstring(child, node, index):
                    continue
                inner = child if isinstance(child, ast.stmt) else statement
                assert inner is not None or isinstance(child, ast.type_ignore)
                if inner is None:
                    continue
                yield _Place(
                    node=child,
                    parent=node,
                    field=field,
                    index=index if isinstance(value, list) else None,
                    scope=scope,
                    statement=inner,
                )
                named = (*scope, child.name) if isinstance(child, _SCOPES) else scope
                yield from below(child, named, inner)

    yield from below(tree, (), None)


def _is_docstring(node: ast.AST, parent: ast.AST, index: int) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_silent(node: ast.AST, field: str) -> bool:
    """Tell whether what stands in a field of a node says something and does nothing."""
    if isinstance(node, ast.Raise):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        return name.startswith("logger.") or name in ("cast", "TypeVar", "re.compile", "tqdm", "bar.update")
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"


def _changes(place: _Place) -> Iterator[tuple[str, ast.AST | None]]:
    """Yield kinds of changes of a place, each with what stands there instead."""
    node, parent = place.node, place.parent
    if isinstance(node, _SCOPES):
        for number, decorator in enumerate(node.decorator_list):
            if not ast.unparse(decorator).startswith(("dataclass", "overload")):
                changed = copy.deepcopy(node)
                del changed.decorator_list[number]
                yield "decorator removed", changed
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            yield "comparison", _with_item(node, "ops", number, COMPARISONS[type(operator)]())
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield "arithmetic", _with(node, "op", ARITHMETIC[type(node.op)]())
    if isinstance(node, ast.BoolOp):
        yield "and/or", _with(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp):
        yield "sign or not removed", copy.deepcopy(node.operand)
    if isinstance(node, ast.Constant):
        yield from _constants(node, parent)
    if isinstance(node, ast.keyword) and isinstance(parent, ast.Call) and node.arg is not None:
        yield "keyword removed", None
    if isinstance(node, ast.Call) and len(node.args) > 1:
        first, second = node.args[:2]
        if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
            swapped = copy.deepcopy(node)
            swapped.args[:2] = swapped.args[1::-1]
            yield "arguments swapped", swapped
    if isinstance(node, ast.Slice):
        for side in ("lower", "upper"):
            bound = getattr(node, side)
            if bound is not None and not isinstance(bound, ast.Constant):
                off = ast.BinOp(copy.deepcopy(bound), ast.Add(), ast.Constant(1))
                yield "slice off by one", _with(node, side, off)
    if (place.field == "test" and isinstance(parent, ast.If | ast.IfExp | ast.While)) or place.field == "ifs":
        plain = isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], _NEGATED)
        if not plain and not isinstance(node, ast.UnaryOp):
            yield "condition negated", ast.UnaryOp(ast.Not(), copy.deepcopy(node))
    if isinstance(node, ast.Return) and not (
        node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    ):
        yield "nothing returned", ast.Return(ast.Constant(None))
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and not _is_silent(node.value, "")):
        yield "statement removed", ast.Pass()
    if isinstance(node, ast.Break):
        yield "break/continue", ast.Continue()
    if isinstance(node, ast.Continue):
        yield "break/continue", ast.Break()


def _constants(node: ast.Constant, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "constant", ast.Constant(value + 1)
        yield "constant", ast.Constant(value - 1)
    elif isinstance(value, str) and not isinstance(parent, ast.JoinedStr):
        yield "constant", ast.Constant(f"XX{value}")


def _with(node: ast.AST, field: str, value: ast.AST) -> ast.AST:
    changed = copy.copy(node)
    setattr(changed, field, value)
    return copy.deepcopy(changed)


def _with_item(node: ast.AST, field: str, index: int, value: ast.AST) -> ast.AST:
    items = list(getattr(node, field))
    items[index] = value
    changed = copy.copy(node)
    setattr(changed, field, items)
    return copy.deepcopy(changed)
