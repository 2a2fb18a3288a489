"""The macro `list.sortBy(x, key)` of cel-go's `lists` extension: the items in the order of their keys."""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.cel import ast
from tiphys.api.cel.comprehensions import bound
from tiphys.api.cel.macros import Macro, MacroError, accumulated, boolean, call, fold, method, variable_name

BY_KEYS = "@sortByAssociatedKeys"
_INPUT = "@__sortBy_input__"
_SORTABLE = (ast.ListNode, ast.Select, ast.Ident, ast.Comprehension, ast.Call)


def _sort_by(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    """Bind the list, map it to its keys, sort one by the other."""
    if not isinstance(target, _SORTABLE):
        text = "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
        raise MacroError(target.offset if target is not None else offset, text)
    names = (variable_name(arguments[0]), "")
    step = call(offset, ast.ADD, accumulated(offset), ast.ListNode(offset, [arguments[1]]))
    parts = (ast.ListNode(offset, []), boolean(offset, True), step)
    keys = fold(offset, "list", ast.Ident(offset, _INPUT), names, parts)
    return bound(offset, _INPUT, target, method(offset, BY_KEYS, ast.Ident(offset, _INPUT), keys))


SORT_BY = Macro("sortBy", 2, True, _sort_by)
