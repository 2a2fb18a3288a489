"""Calls to Python: operators in place where the static types allow, everything else by its overload."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tiphys.api.cel import access, arithmetic, ast, equality, loops, runtime
from tiphys.api.cel.optionals import OR, OR_VALUE
from tiphys.api.cel.standard import CONVERSIONS, STANDARD
from tiphys.api.cel.types import Type
from tiphys.api.cel.writer import Writer

_STANDARD = frozenset(function.name for function in STANDARD.functions)
_SCALARS = frozenset(("bool", "int", "uint", "double", "timestamp", "duration"))
_DIRECT = _SCALARS | {"string", "bytes"}
_READS = frozenset((ast.INDEX, ast.OPTIONAL_INDEX, ast.OPTIONAL_SELECT))


def is_optional(one: Type) -> bool:
    return one.kind == "opaque" and one.name == "optional_type"


def is_attribute(node: Any) -> bool:
    """Whether upstream evaluates it as an attribute: a variable, a path from something, or a choice of such."""
    match node:
        case ast.Ident():
            return node.constant is None
        case ast.Select():
            return node.identifier is None or node.identifier.constant is None
        case ast.Call():
            return node.function in _READS or node.function == ast.CONDITIONAL
    return False


def own_cost(node: Any) -> int:
    """What reading an attribute costs besides its path; not counted where a conditional reads it."""
    if not is_attribute(node) or (isinstance(node, ast.Select) and node.test):
        return 0
    root = node
    while True:
        match root:
            case ast.Select() if root.identifier is None:
                root = root.operand
            case ast.Call() if root.function in _READS:
                root = root.args[0]
            case ast.Call() if root.function == ast.CONDITIONAL:
                return 0
            case _:
                return 1


def is_constant(node: Any) -> bool:
    """Whether upstream computes it beforehand, so that it costs nothing."""
    match node:
        case ast.Literal():
            return True
        case ast.Ident():
            return node.constant is not None
        case ast.ListNode():
            return all(map(is_constant, node.items))
        case ast.MapNode():
            return all(is_constant(entry.key) and is_constant(entry.value) for entry in node.entries)
        case ast.Call():
            conversion = node.function in CONVERSIONS and node.target is None and len(node.args) == 1
            return conversion and is_constant(node.args[0])
    return False


def converted(writer: Writer, code: str, one: Type) -> str:
    """The value of a schema's field from its JSON."""
    return code if one.from_json is None else f"{writer.bind(one.from_json)}({code})"


def optional_read(writer: Writer, operand: str, key: str, attribute: bool, result: Type) -> str:
    """`a.?b` and `a[?b]`: what is not there costs nothing."""
    found = writer.kept(f"{writer.bind(access.optional_at)}({operand}, {key})")
    item = result.parameters[0] if is_optional(result) else result
    if item.from_json is not None:
        writer.line(f"if {found}.present: {found} = type({found})({converted(writer, f'{found}.value', item)})")
    writer.cost(0 if attribute else 1)
    writer.run_cost(f"{found}.present", base=0)
    return found


def emit_call(writer: Writer, node: ast.Call) -> str:
    match node.function:
        case ast.AND | ast.OR:
            return loops.emit_logical(writer, node)
        case ast.CONDITIONAL:
            return loops.emit_conditional(writer, node)
    special = _OPERATORS.get(node.function)
    if special is not None:
        code = special(writer, node)
        if code is not None:
            return code
    return _general(writer, node)


# Reading


def _index(writer: Writer, node: ast.Call) -> str:
    operand, key = node.args
    one = operand.type
    codes = writer.operands(node.args)
    constant = is_constant(key)
    attribute = is_attribute(operand)
    if is_optional(one) and constant:
        return optional_read(writer, codes[0], codes[1], attribute, node.type)
    writer.cost((0 if attribute else 1) + (0 if is_attribute(key) and not constant else 1))
    if is_optional(one):
        return writer.kept(f"{writer.bind(access.optional_at)}({codes[0]}, {codes[1]})")
    if one.kind == "list" and key.type.kind == "int":
        return converted(writer, f"{writer.bind(access.item)}({codes[0]}, {codes[1]})", node.type)
    if one.kind == "map" and key.type.kind == "string":
        return converted(writer, f"{codes[0]}[{codes[1]}]", node.type)
    return converted(writer, f"{writer.bind(access.at)}({codes[0]}, {codes[1]})", node.type)


def _optional_index(writer: Writer, node: ast.Call) -> str:
    codes = writer.operands(node.args)
    key = node.args[1]
    if node.function == ast.OPTIONAL_INDEX and is_attribute(key):
        writer.cost(0)
        found = writer.kept(f"{writer.bind(access.optional_at)}({codes[0]}, {codes[1]})")
        writer.cost(0 if is_attribute(node.args[0]) else 1)
        return found
    code = codes[1]
    if node.function == ast.OPTIONAL_SELECT and isinstance(key, ast.Literal):
        one = node.args[0].type
        one = one.parameters[0] if is_optional(one) else one
        field = None if one.fields is None else one.fields.get(key.value)
        code = repr(key.value if field is None else field.key)
    return optional_read(writer, codes[0], code, is_attribute(node.args[0]), node.type)


# Comparing


def _equals(writer: Writer, node: ast.Call) -> str:
    left, right = node.args
    negated = node.function == ast.NOT_EQUALS
    kinds = {left.type.kind, right.type.kind}
    codes = writer.operands(node.args)
    _equality_cost(writer, node, codes)
    if len(kinds) == 1 and kinds <= _DIRECT:
        return f"({codes[0]} {'!=' if negated else '=='} {codes[1]})"
    for at, side in enumerate(node.args):
        if isinstance(side, ast.Literal) and side.value is None:
            return f"({codes[1 - at]} is {'not ' if negated else ''}None)"
    for at, side in enumerate(node.args):
        if side.type.normal is not None:
            codes[at] = f"{writer.bind(side.type.normal)}({codes[at]})"
    return f"({'not ' if negated else ''}{writer.bind(equality.equal)}({codes[0]}, {codes[1]}))"


def _equality_cost(writer: Writer, node: ast.Call, codes: list[str]) -> None:
    """Count a comparison; `codes` become names where the cost needs the values too."""
    kinds = [one.type.kind for one in node.args]
    if any(kind in _SCALARS for kind in kinds):
        writer.cost(1)
        if all(kind in _SCALARS for kind in kinds):
            return
        writer.cost(-1)
    for at, side in enumerate(node.args):
        if isinstance(side, ast.Literal) and type(side.value) in (str, bytes) and kinds[0] == kinds[1]:
            _literal_cost(writer, len(side.value), codes, 1 - at)
            return
    codes[:] = [writer.kept(code) for code in codes]
    if set(kinds) <= {"string"} or set(kinds) <= {"bytes"}:
        cost = f"{writer.bind(math.ceil)}(min(len({codes[0]}), len({codes[1]})) * 0.1)"
    else:
        count = runtime.inequality_cost if node.function == ast.NOT_EQUALS else runtime.equality_cost
        cost = f"{writer.bind(count)}({codes[0]}, {codes[1]})"
    writer.run_cost(cost)


def _literal_cost(writer: Writer, length: int, codes: list[str], other: int) -> None:
    if length == 0:
        return
    codes[other] = writer.kept(codes[other])
    if length <= 10:
        writer.run_cost(f"(1 if {codes[other]} else 0)")
    else:
        writer.run_cost(f"{writer.bind(math.ceil)}(min(len({codes[other]}), {length}) * 0.1)")


_ORDER = {
    "_<_": ("<", equality.less),
    "_<=_": ("<=", equality.less_equal),
    "_>_": (">", equality.greater),
    "_>=_": (">=", equality.greater_equal),
}


def _compared(writer: Writer, node: ast.Call) -> str:
    codes = writer.operands(node.args)
    kinds = {one.type.kind for one in node.args}
    sign, function = _ORDER[node.function]
    if kinds <= {"string"} or kinds <= {"bytes"}:
        _equality_cost(writer, node, codes)
    else:
        writer.cost(1)
    if (len(kinds) == 1 and kinds <= _DIRECT - {"double"}) or kinds == {"int", "uint"}:
        return f"({codes[0]} {sign} {codes[1]})"
    return f"{writer.bind(function)}({codes[0]}, {codes[1]})"


def _not(writer: Writer, node: ast.Call) -> str:
    code = writer.emit(node.args[0])
    writer.cost(1)
    if node.args[0].type.kind == "bool":
        return f"(not {code})"
    return f"{writer.bind(runtime.negation)}({code})"


def _in(writer: Writer, node: ast.Call) -> str:
    value, container = node.args
    if isinstance(container, ast.ListNode) and is_constant(container) and not container.optional:
        literal = _in_constants(writer, value, container)
        if literal is not None:
            return literal
    codes = writer.operands(node.args)
    kind = container.type.kind
    if kind == "list":
        codes = [writer.kept(code) for code in codes]
        writer.run_cost(f"len({codes[1]})", check=True)
    else:
        writer.cost(1)
    if kind in ("list", "map") and value.type.kind == "string":
        return f"({codes[0]} in {codes[1]})"
    return f"{writer.bind(equality.contains)}({codes[1]}, {codes[0]})"


def _in_constants(writer: Writer, value: ast.Node, container: ast.ListNode) -> str | None:
    """`x in [constants]`: upstream makes a set of them, which costs nothing."""
    if not container.items:
        return "False"
    values = [item.value for item in container.items if isinstance(item, ast.Literal)]
    if len(values) < len(container.items) or any(isinstance(one, bytes) for one in values):
        return None
    code = writer.emit(value)
    if value.type.kind == "string":
        return f"({code} in {writer.bind(frozenset(one for one in values if isinstance(one, str)))})"
    return f"{writer.bind(equality.contains)}({writer.bind(values)}, {code})"


# Arithmetic

_IN_PLACE = {ast.ADD: "+", "_-_": "-", "_*_": "*"}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    ast.ADD: arithmetic.add,
    "_-_": arithmetic.subtract,
    "_*_": arithmetic.multiply,
    "_/_": arithmetic.divide,
    "_%_": arithmetic.modulo,
}


def _calculated(writer: Writer, node: ast.Call) -> str:
    codes = writer.operands(node.args)
    kinds = {one.type.kind for one in node.args}
    kind = kinds.pop() if len(kinds) == 1 else ""
    sign = _IN_PLACE.get(node.function)
    if kind in ("string", "bytes"):
        codes = [writer.kept(code) for code in codes]
        total = " + ".join(f"len({code})" for code in codes)
        writer.run_cost(f"{writer.bind(math.ceil)}(({total}) * 0.1)", check=True)
        return f"({codes[0]} + {codes[1]})"
    writer.cost(1)
    if kind == "list":
        return f"{writer.bind(runtime.joined)}({codes[0]}, {codes[1]})"
    if sign and kind == "int":
        result = writer.fresh()
        value = f"({result} := {codes[0]} {sign} {codes[1]})"
        within = f"-9223372036854775808 <= {value} <= 9223372036854775807"
        return f"({result} if {within} else {writer.bind(arithmetic.overflow)}())"
    if sign and kind == "double":
        return f"({codes[0]} {sign} {codes[1]})"
    return f"{writer.bind(_ARITHMETIC[node.function])}({codes[0]}, {codes[1]})"


def _negated(writer: Writer, node: ast.Call) -> str:
    code = writer.emit(node.args[0])
    writer.cost(1)
    return f"{writer.bind(arithmetic.negate)}({code})"


# Functions


def _size(writer: Writer, node: ast.Call) -> str | None:
    if len(node.overloads) != 1 or node.operands[0].type.kind not in ("string", "bytes", "list", "map"):
        return None
    code = writer.emit(node.operands[0])
    writer.cost(1)
    return f"len({code})"


_TEXT = {"startsWith": "{0}.startswith({1})", "endsWith": "{0}.endswith({1})", "contains": "({1} in {0})"}


def _text(writer: Writer, node: ast.Call) -> str | None:
    """`startsWith`, `endsWith`, `contains` of strings."""
    if node.target is None or any(one.type.kind != "string" for one in node.operands):
        return None
    codes = writer.operands(node.operands)
    codes[0] = writer.kept(codes[0])
    cost = f"{writer.bind(math.ceil)}(len({codes[0]}) * 0.1)"
    if node.function == "contains":
        codes[1] = writer.kept(codes[1])
        cost += f" * {writer.bind(math.ceil)}(len({codes[1]}) * 0.1)"
    writer.run_cost(cost)
    return _TEXT[node.function].format(*codes)


def _either(writer: Writer, node: ast.Call) -> str | None:
    """`or` and `orValue` of optionals: the argument only when it is needed."""
    if node.target is None or len(node.args) != 1:
        return None
    found = writer.kept(writer.emit(node.target))
    result = writer.fresh()
    piece = writer.captured(node.args[0])
    with writer.block(f"if {found}.present:"):
        writer.line(f"{result} = {found}" if node.function == OR else f"{result} = {found}.value")
    with writer.block("else:"):
        writer.assign(result, piece)
    return result


def _general(writer: Writer, node: ast.Call) -> str:
    """A call by its overload; with several, or when an argument is dyn, by the values' types."""
    constant = is_constant(node)
    codes = writer.operands(node.operands)
    overloads = node.overloads
    dynamic = len(overloads) > 1 or any(_is_open(one.type) for one in node.operands)
    if dynamic and node.function not in ("dyn", "type"):
        both = writer.fresh()
        call = runtime.dispatcher(node.function, overloads, node.function in _STANDARD)
        writer.line(f"{both} = {writer.bind(call)}({', '.join(codes)})")
        if not constant:
            writer.run_cost(f"{both}[1]", check=True)
        return f"{both}[0]"
    overload = overloads[0]
    name = writer.bind(overload.implementation, "f")
    if constant or isinstance(overload.cost, int):
        writer.cost(0 if constant else int(overload.cost))  # type: ignore[arg-type]
        return f"{name}({', '.join(codes)})"
    codes = [writer.kept(code) for code in codes]
    result = writer.kept(f"{name}({', '.join(codes)})")
    writer.run_cost(f"{writer.bind(overload.cost)}(({', '.join(codes)},), {result})", check=True)
    return result


def _is_open(one: Type) -> bool:
    return one.kind in ("dyn", "any", "error", "type_param")


_OPERATORS: dict[str, Callable[[Writer, ast.Call], str | None]] = {
    ast.INDEX: _index,
    ast.OPTIONAL_INDEX: _optional_index,
    ast.OPTIONAL_SELECT: _optional_index,
    ast.EQUALS: _equals,
    ast.NOT_EQUALS: _equals,
    **dict.fromkeys(_ORDER, _compared),
    ast.NOT: _not,
    ast.IN: _in,
    **dict.fromkeys(_ARITHMETIC, _calculated),
    ast.NEGATE: _negated,
    "size": _size,
    **dict.fromkeys(_TEXT, _text),
    OR: _either,
    OR_VALUE: _either,
}
