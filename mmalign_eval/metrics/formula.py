"""Formulas: values of sums that can be written down, so that a result file says how its numbers are made.

A result file keeps each metric's sums and its formula as text; tables, comparisons and leaderboards compute values of
resampled sums from them without the task's code. The language is arithmetic on `s[0]`, `s[1]`, ... and a few
functions; dividing by zero is undefined (nan), so a formula needs no guards.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadInput

LONGEST = 100_000  # characters; those of this package's tasks stay below 5,000
DEEPEST = 100  # operators and functions inside one another
WIDEST = 100_000  # sums
_CHARACTERS = re.compile(r"[A-Za-z0-9_\s.,+\-*/()<>=\[\]]*")
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: np.where(np.equal(b, 0), np.nan, np.divide(a, np.where(np.equal(b, 0), 1.0, b))),
    ast.Pow: np.power,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Eq: np.equal,
}


def _sum(*values: Any) -> Any:
    return functools.reduce(operator.add, values)


def _mean(*values: Any) -> Any:
    """Undefined if one of them is."""
    return _sum(*values) / len(values)


def _mean_defined(*values: Any) -> Any:
    """Of those that are defined."""
    stacked = np.stack(np.broadcast_arrays(*values), axis=-1)
    there = np.isfinite(stacked)
    count = there.sum(axis=-1)
    return np.where(count > 0, np.where(there, stacked, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def _reach(level: Any, *points: Any) -> Any:
    """Y where x first comes up to a level, linear between points (x0, y0), (x1, y1), ...; nan if it never does.

    x may fall in between: its running maximum decides which point is the first.
    """
    level, *values = np.broadcast_arrays(level, *points)
    xs, ys = np.stack(values[0::2], axis=-1), np.stack(values[1::2], axis=-1)
    reached: np.ndarray = np.maximum.accumulate(xs, axis=-1) >= level[..., None]
    after = np.argmax(reached, axis=-1)[..., None]
    before = np.maximum(after - 1, 0)
    x0, x1, y0, y1 = (np.take_along_axis(v, i, axis=-1)[..., 0] for v in (xs, ys) for i in (before, after))
    step = x1 - x0
    share = np.where(step > 0, (level - x0) / np.where(step > 0, step, 1.0), 1.0)
    return np.where(reached.any(axis=-1), y0 + share * (y1 - y0), np.nan)


@dataclass(frozen=True)
class Function:
    """A function of the language.

    Attributes:
        call: What it does with numbers or arrays.
        least: Fewest arguments.
        most: Most of them; None: any number.
    """

    call: Callable[..., Any]
    least: int
    most: int | None

    def takes(self, arguments: int) -> bool:
        """Whether it can be called with so many."""
        return self.least <= arguments and (self.most is None or arguments <= self.most)


FUNCTIONS: dict[str, Function] = {
    "exp": Function(np.exp, 1, 1),
    "log": Function(np.log, 1, 1),
    "sqrt": Function(np.sqrt, 1, 1),
    "minimum": Function(np.minimum, 2, 2),
    "maximum": Function(np.maximum, 2, 2),
    "where": Function(np.where, 3, 3),  # its first argument is a comparison, and comparisons stand only there
    "sum": Function(_sum, 1, None),
    "mean": Function(_mean, 1, None),
    "mean_defined": Function(_mean_defined, 1, None),
    "defined_or": Function(lambda value, other: np.where(np.isfinite(value), value, other), 2, 2),
    "reach": Function(_reach, 3, None),
}
_CONSTANTS = {"nan": math.nan, "inf": math.inf}


class Formula(str):
    """The text of a formula; called with sums `[..., k]` it gives values `[...]`.

    Names: `s[i]` (the i-th sum), `nan`, `inf`; numbers; operators `+ - * / **`; functions: see `FUNCTIONS`;
    comparisons `> >= < <= ==` as first argument of `where`.

    Attributes:
        width: How many sums it needs: the largest `i` plus one.

    Raises:
        BadInput: When made of a text that is not such a formula.
    """

    __slots__ = ("_tree", "width")
    _tree: ast.expr
    width: int

    def __new__(cls, text: str) -> Formula:
        """Parses and checks the text."""
        self = super().__new__(cls, text)
        try:
            self._tree, self.width = _checked(text)
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            cause = str(error.msg if isinstance(error, SyntaxError) else error) or type(error).__name__
            raise BadInput(f"not a formula: {text[:80]!r} ({cause})") from error
        return self

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """Values of sums; nan where undefined."""
        with np.errstate(all="ignore"):
            value = np.asarray(_value(self._tree, sums), dtype=np.float64)
        return np.broadcast_to(value, sums.shape[:-1])


def put(formula: str, new: Callable[[int], str]) -> Formula:
    """The formula with another in the place of each sum: `new` says which, given the sum's number."""

    class Put(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            assert isinstance(node.slice, ast.Constant)
            assert isinstance(node.slice.value, int)
            return ast.parse(new(node.slice.value), mode="eval").body

    return Formula(ast.unparse(Put().visit(_parsed(Formula(formula)))))


def at(formula: str, offset: int) -> Formula:
    """The same formula of sums that stand `offset` further: for parts whose sums lie side by side."""
    return put(formula, lambda number: f"s[{number + offset}]")


def over(function: str, formulas: Sequence[str]) -> Formula:
    """`function(f1, f2, ...)`: `sum`, `mean` (undefined if one is), or `mean_defined` (of those that are)."""
    return Formula(f"{function}({', '.join(formulas)})")


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    if not _CHARACTERS.fullmatch(text):
        raise ValueError("only numbers, names, brackets and + - * / ** , . < > = are known")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python remarks on `1if`, which is refused
        return ast.parse(text, mode="eval").body


@functools.lru_cache(maxsize=1024)  # results of one task have the same formulas
def _checked(text: str) -> tuple[ast.expr, int]:
    tree = _parsed(text)
    return tree, _check(tree, DEEPEST)


def _check(node: ast.expr, depth: int) -> int:
    """Refuses everything that is not arithmetic on sums, since formulas come from files; returns the width."""
    if depth == 0:
        raise ValueError(f"more than {DEEPEST} levels")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and math.isfinite(value):
            return 0
        case ast.Name(id=name) if name in _CONSTANTS:
            return 0
        case ast.Subscript(value=ast.Name(id="s"), slice=ast.Constant(value=int(index))) if _a_sum(index):
            return index + 1
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _check(operand, depth - 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return max(_check(left, depth - 1), _check(right, depth - 1))
        case ast.Call(func=ast.Name(id="where"), args=[condition, *_], keywords=[]) if _compares(condition):
            assert isinstance(condition, ast.Compare)
            parts = [condition.left, *condition.comparators, *node.args[1:]]
            return _arguments("where", parts, len(node.args), depth)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS and name != "where":
            return _arguments(name, args, len(args), depth)
    raise ValueError(f"{ast.unparse(node)[:40]!r} is not known")


def _a_sum(index: int) -> bool:
    return not isinstance(index, bool) and 0 <= index < WIDEST


def _compares(node: ast.expr) -> bool:
    return isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE


def _arguments(name: str, parts: Sequence[ast.expr], number: int, depth: int) -> int:
    if not FUNCTIONS[name].takes(number) or (name == "reach" and number % 2 == 0):
        raise ValueError(f"{name} does not take {number} arguments")
    return max(_check(part, depth - 1) for part in parts)


def _value(node: ast.expr, sums: np.ndarray) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return np.float64(value)
        case ast.Name(id=name):
            return _CONSTANTS[name]
        case ast.Subscript(slice=ast.Constant(value=int(index))):
            return sums[..., index]
        case ast.UnaryOp(operand=operand):
            return -_value(operand, sums)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, sums), _value(right, sums))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE[type(op)](_value(left, sums), _value(right, sums))
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name].call(*(_value(arg, sums) for arg in args))
    raise AssertionError(node)  # _check let it through
