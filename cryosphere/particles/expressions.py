"""Conditions and quantities made of the columns of a table, such as ``rlnClassNumber == 1 and angle(s2) > 12``.

The grammar is a small part of Python's: comparisons (also chained, ``in`` and ``not in`` lists), ``and``, ``or``,
``not``, ``+ - * /``, numbers, quoted text, and column names; names that Python has no word for stand in backquotes
(`` `ctf/df1_A` ``). What looks like a call, ``std(angle(s2))`` or ``distance("A:1-120", "A:150-214")``, is the name of
a column too, in one way of writing it (:meth:`Condition.columns`). All is parsed, not run: nothing else is understood.
Whole numbers are compared exactly, and reckoned with in float64.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import reduce
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Float

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
_MOST_LEVELS = 60
_HINT = "use column names, numbers, 'text', < <= > >= == != in, + - * /, and, or, not"


class _Expression:
    """A text of the grammar above.

    Parameters
    ----------
    text : str
        The expression.
    source : str
        Where it was given, for messages.

    Raises
    ------
    ConfigError
        If the text cannot be parsed.
    """

    def __init__(self, text: str, source: str = "particles.select") -> None:
        self.text, self.source = text, source
        self._quoted: dict[str, str] = {}
        try:
            self._tree = ast.parse(re.sub(r"`([^`]+)`", self._placeholder, text).strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConfigError(f"{source}: {text!r} cannot be understood; {_HINT}.") from None
        level, depth = [self._tree], 0
        while level := [part for node in level for part in ast.iter_child_nodes(node)]:
            depth += 1
            if depth > _MOST_LEVELS:
                raise ConfigError(f"{source}: {text[:60]!r}… is nested too deeply; make it shorter.")

    def _placeholder(self, match: re.Match) -> str:
        """Name that stands for a quoted column while the text is parsed."""
        name = f"_quoted_{len(self._quoted)}"
        self._quoted[name] = match[1]
        return name

    @property
    def columns(self) -> set[str]:
        """Names of the columns in it: as written, but for leading underscores, and calls as ``f(x,"text")``.

        Raises
        ------
        ConfigError
            If there is a call of something else than names, quoted text and such calls.
        """
        return set(self._columns_in(self._tree))

    def _columns_in(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Name | ast.Call):
            yield self._column(node)
        else:
            for part in ast.iter_child_nodes(node):
                yield from self._columns_in(part)

    def _column(self, node: ast.AST) -> str:
        """The one way of writing a column's name."""
        match node:
            case ast.Name(id=name):
                return self._quoted.get(name, name.removeprefix("_"))
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as parts, keywords=[]) if name not in self._quoted:
                return f"{name}({','.join(self._argument(part) for part in parts)})"
        self._refuse(f"{ast.unparse(node)!r} is not understood; {_HINT}")

    def _argument(self, node: ast.AST) -> str:
        match node:
            case ast.Name() | ast.Call():
                name = self._column(node)
                return f"`{name}`" if isinstance(node, ast.Name) and not name.isidentifier() else name
            case ast.Constant(value=str() as text):
                return '"' + " ".join(text.replace('"', "'").split()) + '"'
        self._refuse(f"{ast.unparse(node)!r} is not understood as part of a column's name; {_HINT}")

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
            case ast.Name() | ast.Call():
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
        return f"`{self._column(node)}`" if isinstance(node, ast.Name | ast.Call) else ast.unparse(node)

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"{self.source} {self.text!r}: {problem}.")


class Condition(_Expression):
    """A condition on the columns of a table: yes or no for every row."""

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


class Quantity(_Expression):
    """A number for every row of a table, made of its columns: ``angle(s2)``, ``-std(z1)``, ``(z1 + z2) / 2``."""

    def values(self, columns: Mapping[str, np.ndarray]) -> Float[np.ndarray, " row"]:
        """The numbers; NaN where one of a column is missing.

        Raises
        ------
        ConfigError
            If a column is not there or is text, or the expression gives something else than a number per row.
        """
        self.require(columns)
        with np.errstate(all="ignore"):
            try:
                result = self._number(self._tree, columns)
            except OverflowError:
                self._refuse("a number in it is too large")
        if result.ndim != 1:
            self._refuse("it gives no number per row; name a column, such as z1")
        return result


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind not in "biuf")
