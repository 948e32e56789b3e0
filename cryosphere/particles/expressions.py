"""Conditions on the columns of a table, such as ``rlnLogLikeliContribution > 1e5 and rlnClassNumber == 1``.

The grammar is a small part of Python's: comparisons (also chained, ``in`` and ``not in`` lists), ``and``, ``or``,
``not``, ``+ - * /``, numbers, quoted text, and column names; names that Python has no word for stand in backquotes
(`` `ctf/df1_A` ``). It is parsed, not run: nothing else is understood.
Whole numbers are compared exactly, and reckoned with in float64.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import NoReturn

import numpy as np
from jaxtyping import Bool

from cryosphere.errors import ConfigError

_ARITHMETIC: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_HINT = "use column names, numbers, 'text', < <= > >= == != in, + - * /, and, or, not"


class Condition:
    """A condition on the columns of a table.

    Parameters
    ----------
    text : str
        The condition.
    source : str
        Where it was given, for messages.

    Raises
    ------
    ConfigError
        If the text is not a condition of the grammar above.
    """

    def __init__(self, text: str, source: str = "particles.select") -> None:
        self.text, self.source = text, source
        self._quoted: dict[str, str] = {}
        try:
            self._tree = ast.parse(re.sub(r"`([^`]+)`", self._placeholder, text).strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            raise ConfigError(f"{source}: {text!r} cannot be understood; {_HINT}.") from None

    def _placeholder(self, match: re.Match) -> str:
        """Name that stands for a quoted column while the text is parsed."""
        name = f"_quoted_{len(self._quoted)}"
        self._quoted[name] = match[1]
        return name

    @property
    def columns(self) -> set[str]:
        """Names of the columns in it, as written."""
        return {self._column(node) for node in ast.walk(self._tree) if isinstance(node, ast.Name)}

    def _column(self, node: ast.Name) -> str:
        return self._quoted.get(node.id, node.id.removeprefix("_"))

    def holds(self, columns: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " row"]:
        """Say for every row of a table whether the condition holds; where a number of a column is missing (NaN), it
        does not, whatever is asked.

        Raises
        ------
        ConfigError
            If a column is not there (the nearest name is given), text and numbers are mixed up, or the result is
            not a yes or no per row.
        """
        self.require(columns)
        with np.errstate(all="ignore"):
            try:
                result = self._value(self._tree, columns)
            except OverflowError:
                self._refuse("a number in it is too large")
        if not isinstance(result, np.ndarray) or result.dtype != bool:
            self._refuse("it gives no yes or no per row; compare a column with something, such as rlnClassNumber == 1")
        for name in self.columns:
            if columns[name].dtype.kind == "f":
                result = result & ~np.isnan(columns[name])
        return result

    def require(self, names: Collection[str]) -> None:
        """Refuse the condition if one of its columns is not among ``names``, and give the nearest that is."""
        for name in sorted(self.columns):
            if name not in names:
                near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.8)
                there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(names))}"
                self._refuse(f"there is no column {name!r}; {there}")

    def _value(self, node: ast.AST, columns: Mapping[str, np.ndarray]):
        """Value of a part of the condition: an array per row, a number or text."""
        match node:
            case ast.Constant(value=value) if type(value) in (int, float, str):
                return value
            case ast.Name():
                return columns[self._column(node)]
            case ast.BoolOp(op=op, values=parts):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return reduce(combine, [self._truth(part, columns) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return ~self._truth(part, columns)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if type(value) is int:
                return -value
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return -self._number(part, columns)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self._number(left, columns), self._number(right, columns))
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [left, *others]
                pairs = zip(sides, ops, others, strict=False)
                return reduce(np.logical_and, [self._compare(*pair, columns) for pair in pairs])
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                self._refuse("write 'and' and 'or' for & and |")
        self._refuse(f"{ast.unparse(node)!r} is not understood; {_HINT}")

    def _compare(self, left: ast.AST, op: ast.cmpop, right: ast.AST, columns: Mapping[str, np.ndarray]):
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                self._refuse("'in' wants a list, such as rlnClassNumber in [1, 3]")
            found = reduce(np.logical_or, [self._compare(left, ast.Eq(), item, columns) for item in right.elts])
            return found if isinstance(op, ast.In) else np.logical_not(found)
        if type(op) not in _COMPARISONS:
            self._refuse(f"'is' is not understood; {_HINT}")
        one, other = self._value(left, columns), self._value(right, columns)
        if _is_text(one) != _is_text(other):
            text, number = (left, right) if _is_text(one) else (right, left)
            self._refuse(f"{self._word(text)} is text and {self._word(number)} is not; put quotes about text only")
        return _COMPARISONS[type(op)](one, other)

    def _truth(self, node: ast.AST, columns: Mapping[str, np.ndarray]):
        value = self._value(node, columns)
        if not isinstance(value, np.ndarray | np.bool_) or value.dtype != bool:
            self._refuse(f"{self._word(node)} is no yes or no; compare it with something")
        return value

    def _number(self, node: ast.AST, columns: Mapping[str, np.ndarray]):
        value = self._value(node, columns)
        if _is_text(value) or (isinstance(value, np.ndarray) and value.dtype == bool):
            self._refuse(f"{self._word(node)} is no number, and cannot be reckoned with")
        return np.asarray(value, dtype=np.float64)

    def _word(self, node: ast.AST) -> str:
        return f"`{self._column(node)}`" if isinstance(node, ast.Name) else ast.unparse(node)

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"{self.source} {self.text!r}: {problem}.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind not in "biuf")
