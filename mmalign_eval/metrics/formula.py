"""Formulas: values of sums that can be written down, so that a result file says how its numbers are made.

A result file keeps each metric's sums and its formula as text; tables, comparisons and leaderboards compute values of
resampled sums from them without the task's code. The language is arithmetic on `s[0]`, `s[1]`, ... and a few
functions; dividing by zero is undefined (nan), so a formula needs no guards.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import BadInput

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


def _mean(*values: Any) -> Any:
    """Undefined if one of them is."""
    return functools.reduce(operator.add, values) / len(values)


def _mean_defined(*values: Any) -> Any:
    """Of those that are defined."""
    stacked = np.stack(np.broadcast_arrays(*values), axis=-1)
    count = np.isfinite(stacked).sum(axis=-1)
    return np.where(count > 0, np.nansum(stacked, axis=-1) / np.maximum(count, 1), np.nan)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": np.where,
    "mean": _mean,
    "mean_defined": _mean_defined,
    "defined_or": lambda value, other: np.where(np.isfinite(value), value, other),
}
_CONSTANTS = {"nan": np.nan, "inf": np.inf}


class Formula(str):
    """The text of a formula; called with sums `[..., k]` it gives values `[...]`.

    Names: `s[i]` (the i-th sum), `nan`, `inf`; operators `+ - * / **` and comparisons (inside `where`); functions:
    see `FUNCTIONS`.

    Raises:
        BadInput: When made of a text that is not such a formula.
    """

    __slots__ = ("_tree",)
    _tree: ast.expr

    def __new__(cls, text: str) -> Formula:
        """Parses and checks the text."""
        self = super().__new__(cls, text)
        try:
            self._tree = ast.parse(text, mode="eval").body
            _check(self._tree)
        except (SyntaxError, ValueError, RecursionError) as error:
            raise BadInput(f"not a formula: {text[:80]!r} ({error})") from error
        return self

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """Values of sums; nan where undefined."""
        with np.errstate(all="ignore"):
            value = np.asarray(_value(self._tree, sums), dtype=np.float64)
        return np.broadcast_to(value, sums.shape[:-1])


def at(formula: str, offset: int) -> Formula:
    """The same formula of sums that stand `offset` further: for parts whose sums lie side by side."""

    class Shift(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            assert isinstance(node.slice, ast.Constant)
            assert isinstance(node.slice.value, int)
            return ast.Subscript(node.value, ast.Constant(node.slice.value + offset), node.ctx)

    return Formula(ast.unparse(Shift().visit(ast.parse(formula, mode="eval")).body))


def over(function: str, formulas: Sequence[str]) -> Formula:
    """`function(f1, f2, ...)`: `mean`, `mean_defined`, or `sum`, which is written with plus signs."""
    if function == "sum":
        return Formula(" + ".join(f"({f})" for f in formulas))
    return Formula(f"{function}({', '.join(formulas)})")


def _check(node: ast.expr) -> None:
    """Refuses everything that is not arithmetic on sums: formulas come from files."""
    match node:
        case ast.Constant(value=int() | float()):
            return
        case ast.Name(id=name) if name in _CONSTANTS:
            return
        case ast.Subscript(value=ast.Name(id="s"), slice=ast.Constant(value=int(index))) if index >= 0:
            return
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _check(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left)
            return _check(right)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            _check(left)
            return _check(right)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            for arg in args:
                _check(arg)
            return
    raise ValueError(f"{ast.unparse(node)[:40]!r} is not known")


def _value(node: ast.expr, sums: np.ndarray) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
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
            return FUNCTIONS[name](*(_value(arg, sums) for arg in args))
    raise AssertionError(node)  # _check let it through
