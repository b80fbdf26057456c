"""Conditions on combinations of parameters: Python functions, or expressions such as ``batch >= 2 * envs``."""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kourou.experiments.failures import DescriptionError

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
Condition: TypeAlias = "str | Predicate | Sequence[str | Predicate] | None"
"""A function of the parameters, an expression, or several of which all have to hold; None: everything does."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_GRAMMAR = (ast.Expression, ast.And, ast.Or, ast.Load)


def predicate_of(condition: Condition) -> Predicate:
    """One function that says whether parameters meet a condition.

    An expression has names of parameters (``optimizer.lr`` for a dotted one), numbers, texts, lists, arithmetic,
    comparisons, ``in``, ``and``, ``or`` and ``not``; nothing is called, so it cannot do anything.

    Raises:
        DescriptionError: no such expression; when called, a name that is no parameter, or values that do not compare.
    """
    if condition is None:
        return lambda params: True  # noqa: ARG005 - a predicate takes the parameters
    if isinstance(condition, str):
        return _parse(condition)
    if callable(condition):
        return condition
    parts = [predicate_of(part) for part in condition]
    return lambda params: all(part(params) for part in parts)


def _parse(text: str) -> Predicate:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise DescriptionError(f"condition {text!r} is no expression: {error}") from error
    for node in ast.walk(tree):
        if not isinstance(node, (*_GRAMMAR, *_OPERATORS, *_EVALUATORS)):
            raise DescriptionError(
                f"condition {text!r} has a {type(node).__name__}; it may have names, values, arithmetic, comparisons, "
                "in, and, or, not"
            )

    def holds(params: Mapping[str, Any]) -> bool:
        try:
            return bool(_value(tree.body, params))
        except (TypeError, ArithmeticError) as error:
            raise DescriptionError(f"condition {text!r} fails for {dict(params)}: {error}") from error
        except LookupError as error:
            known = ", ".join(params) or "none"
            raise DescriptionError(
                f"condition {text!r}: there is no parameter {error.args[0]!r}, only {known}"
            ) from error

    return holds


def _value(node: ast.AST, params: Mapping[str, Any]) -> Any:
    evaluate: Callable[[Any, Mapping[str, Any]], Any] = _EVALUATORS[type(node)]
    return evaluate(node, params)


def _any_or_all(node: ast.BoolOp, params: Mapping[str, Any]) -> bool:
    enough = any if isinstance(node.op, ast.Or) else all
    return enough(_value(part, params) for part in node.values)


def _compared(node: ast.Compare, params: Mapping[str, Any]) -> bool:
    """Chains hold where each link does: ``1 < x < 5``."""
    values = [_value(part, params) for part in (node.left, *node.comparators)]
    links = zip(node.ops, itertools.pairwise(values), strict=True)
    return all(_OPERATORS[type(link)](*pair) for link, pair in links)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise DescriptionError("a dot in a condition stands between names only, as in optimizer.lr")


_EVALUATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Attribute: lambda node, params: params[_name(node)],
    ast.BinOp: lambda node, params: _OPERATORS[type(node.op)](_value(node.left, params), _value(node.right, params)),
    ast.BoolOp: _any_or_all,
    ast.Compare: _compared,
    ast.Constant: lambda node, params: node.value,  # noqa: ARG005 - evaluators share one signature
    ast.List: lambda node, params: [_value(item, params) for item in node.elts],
    ast.Name: lambda node, params: params[node.id],
    ast.Tuple: lambda node, params: [_value(item, params) for item in node.elts],
    ast.UnaryOp: lambda node, params: _OPERATORS[type(node.op)](_value(node.operand, params)),
}
