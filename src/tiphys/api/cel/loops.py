"""Comprehensions as Python loops, `&&`, `||` and `?:` as branches, with CEL's treatment of failures.

`a && b` is false when either is, also when the other fails; `all` and `exists` work alike over their items. A failure
is kept and raised in the end unless another value decides.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.cel import access, ast, operators, runtime
from tiphys.api.cel.comprehensions import insert
from tiphys.api.cel.costs import LIST
from tiphys.api.cel.writer import Piece, Writer

_INFALLIBLE = frozenset((ast.EQUALS, ast.NOT_EQUALS, ast.AND, ast.OR, ast.NOT, ast.CONDITIONAL))


def can_fail(node: Any) -> bool:
    """Whether evaluating it may raise; True when in doubt."""
    match node:
        case ast.Literal() | ast.Ident():
            return False
        case ast.Select():
            plain = isinstance(node.operand, ast.Ident) and node.operand.type.kind in ("object", "map")
            return node.identifier is None and not (node.test and plain)
        case ast.Call() if node.function in _INFALLIBLE:
            compares = node.function in (ast.EQUALS, ast.NOT_EQUALS)
            return any(can_fail(one) or (one.type.kind == "dyn" and not compares) for one in node.args)
    return True


def _boolean(writer: Writer, node: ast.Node, discount: int = 0) -> Piece:
    piece = writer.captured(node, discount)
    if node.type.kind == "bool":
        return piece
    return piece._replace(code=f"{writer.bind(runtime.truth)}({piece.code})")


def emit_logical(writer: Writer, node: ast.Call) -> str:
    """`&&` and `||` over all their terms."""
    conjunction = node.function == ast.AND
    neutral = "True" if conjunction else "False"
    result = writer.fresh()
    failing = [can_fail(term) or term.type.kind == "dyn" for term in node.args]
    error = writer.fresh("e") if any(failing[:-1]) else ""
    if error:
        writer.line(f"{error} = None")
    for at, term in enumerate(node.args):
        piece = _boolean(writer, term)
        if at == 0:
            _attempt(writer, result, piece, error if failing[at] else "", neutral)
            continue
        with writer.block(f"if {result}:" if conjunction else f"if not {result}:"):
            _attempt(writer, result, piece, error if failing[at] else "", neutral)
    if error:
        undecided = result if conjunction else f"not {result}"
        writer.flush()
        writer.line(f"if {error} is not None and {undecided}: raise {error}")
    return result


def _attempt(writer: Writer, target: str, piece: Piece, error: str, neutral: str) -> None:
    """The piece's value to `target`; a failure goes to `error`, if that is a name, and counts as `neutral`."""
    if not error:
        writer.assign(target, piece)
        return
    with writer.block("try:"):
        writer.assign(target, piece)
    with writer.block("except FAILURES as f:"):
        writer.line(f"{error} = {error} or f")
        writer.line(f"{target} = {neutral}")


def emit_conditional(writer: Writer, node: ast.Call) -> str:
    test, then, other = node.args
    condition = writer.emit(test)
    if test.type.kind != "bool":
        condition = f"{writer.bind(runtime.truth)}({condition})"
    first = writer.captured(then, operators.own_cost(then))
    second = writer.captured(other, operators.own_cost(other))
    if not first.lines and not second.lines and first.cost == second.cost:
        writer.cost(first.cost)
        return f"({first.code} if {condition} else {second.code})"
    result = writer.fresh()
    with writer.block(f"if {condition}:"):
        writer.assign(result, first)
    with writer.block("else:"):
        writer.assign(result, second)
    return result


def emit_fold(writer: Writer, node: ast.Comprehension) -> str:
    if node.kind == "bind":
        return _bind(writer, node)
    header, scope, starts = _range(writer, node)
    writer.locals.append(scope)
    result = _FOLDS[node.kind](writer, node, header, starts)
    writer.locals.pop()
    return result


def _range(writer: Writer, node: ast.Comprehension) -> tuple[str, dict[str, str], list[str]]:
    """The loop's header, its variables, and the statements that each round begins with."""
    code = writer.emit(node.iterated)
    one = node.iterated.type
    item = one.parameters[-1] if one.kind in ("list", "map") else one
    first = writer.fresh("x")
    if node.variable2:
        second = writer.fresh("x")
        source = {"list": f"enumerate({code})", "map": f"{code}.items()"}.get(
            one.kind, f"{writer.bind(access.pairs)}({code})"
        )
        header, scope, value = (
            f"for {first}, {second} in {source}:",
            {node.variable: first, node.variable2: second},
            second,
        )
    else:
        source = code if one.kind in ("list", "map") else f"{writer.bind(access.iterable)}({code})"
        header, scope, value = f"for {first} in {source}:", {node.variable: first}, first
    starts = []
    if item.from_json is not None and (one.kind == "list" or node.variable2):
        starts.append(f"{value} = {operators.converted(writer, value, item)}")
    return header, scope, starts


def _begin(writer: Writer, starts: list[str]) -> None:
    writer.check_limit()
    for line in starts:
        writer.line(line)


def _quantified(writer: Writer, node: ast.Comprehension, header: str, starts: list[str]) -> str:
    """`all` and `exists`: the item that decides ends the loop, but upstream looks at its condition once more."""
    conjunction = node.kind == "all"
    neutral, goes_on, round_cost = ("True", "not {}", 2) if conjunction else ("False", "{}", 3)
    predicate = node.step.args[1] if isinstance(node.step, ast.Call) else node.step
    result, error = writer.fresh(), writer.fresh("e") if can_fail(predicate) else ""
    writer.line(f"{result} = {neutral}")
    if error:
        writer.line(f"{error} = None")
    with writer.block(header):
        _begin(writer, [])
        writer.cost(round_cost)
        writer.flush()
        writer.line(f"if {goes_on.format(result)}: break")
        writer.flush()
        for line in starts:
            writer.line(line)
        writer.cost(1)
        _attempt(writer, result, _boolean(writer, predicate), error, neutral)
    if error:
        undecided = result if conjunction else f"not {result}"
        writer.line(f"if {error} is not None and {undecided}: raise {error}")
    writer.cost(1)
    return result


def _exists_one(writer: Writer, node: ast.Comprehension, header: str, starts: list[str]) -> str:
    predicate = node.step.args[0] if isinstance(node.step, ast.Call) else node.step
    count = writer.fresh()
    writer.line(f"{count} = 0")
    with writer.block(header):
        _begin(writer, starts)
        holds = writer.fresh()
        writer.assign(holds, _boolean(writer, predicate))
        with writer.block(f"if {holds}:"):
            writer.cost(2)
            writer.line(f"{count} += 1")
    writer.cost(2)
    return f"({count} == 1)"


def _kept_step(node: ast.Comprehension) -> tuple[ast.Node | None, ast.Call]:
    """The filter, if there is one, and the step that adds something."""
    step = node.step
    assert isinstance(step, ast.Call)
    if step.function != ast.CONDITIONAL:
        return None, step
    added = step.args[1]
    assert isinstance(added, ast.Call)
    return step.args[0], added


def _collected(writer: Writer, node: ast.Comprehension, header: str, starts: list[str]) -> str:
    """`map`, `filter`, `transformList`, `transformMap`, `transformMapEntry`."""
    keep, step = _kept_step(node)
    result = writer.fresh()
    writer.line(f"{result} = {'[]' if node.kind == 'list' else '{}'}")
    add = _append if node.kind == "list" else _insert
    with writer.block(header):
        _begin(writer, starts)
        if keep is None:
            add(writer, result, step)
        else:
            holds = writer.fresh()
            writer.assign(holds, _boolean(writer, keep))
            with writer.block(f"if {holds}:"):
                add(writer, result, step)
    writer.cost(1)
    return result


def _append(writer: Writer, result: str, step: ast.Call) -> None:
    items = step.args[1]
    assert isinstance(items, ast.ListNode)
    code = writer.emit(items.items[0])
    writer.cost(2 if operators.is_constant(items) else 2 + LIST)
    writer.line(f"{result}.append({code})")


def _insert(writer: Writer, result: str, step: ast.Call) -> None:
    codes = writer.operands(step.args[1:])
    writer.cost(2)
    writer.line(f"{writer.bind(insert)}({result}, {', '.join(codes)})")


def _bind(writer: Writer, node: ast.Comprehension) -> str:
    """A local variable. Its value is computed first, a failure is raised where the variable is used."""
    name = writer.fresh("b")
    piece = writer.captured(node.initial)
    if can_fail(node.initial):
        error = writer.fresh("e")
        writer.line(f"{error} = None")
        _attempt(writer, name, piece, error, "None")
        code = f"({name} if {error} is None else {writer.bind(runtime.again)}({error}))"
    else:
        writer.assign(name, piece)
        code = name
    writer.locals.append({node.accumulator: code})
    result = writer.kept(writer.emit(node.result))
    writer.locals.pop()
    return result


_FOLDS = {
    "all": _quantified,
    "exists": _quantified,
    "exists_one": _exists_one,
    "list": _collected,
    "map": _collected,
}
