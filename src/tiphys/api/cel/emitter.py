"""The syntax tree to Python source: one function, compiled once, that runs on plain JSON values.

Costs are counted in the emitted code as upstream's interpreter counts them: a variable and every selection cost 1, a
call what its overload says, a list literal 10, a map 30, an object 40; constants nothing; the branches of a conditional
one less when they are variables or selections, because upstream reads them without counting the read itself
(cel-go, interpreter/runtimecost.go and planner.go).
"""

from __future__ import annotations

from typing import Any

from tiphys.api.cel import access, ast, loops, operators, runtime
from tiphys.api.cel.costs import LIST, MAP, STRUCT
from tiphys.api.cel.program import Compiled
from tiphys.api.cel.types import PER_CALL_LIMIT, Field, Type
from tiphys.api.cel.values import Struct
from tiphys.api.cel.writer import Writer


def compiled(node: ast.Node, variables: dict[str, Type]) -> Compiled:
    """The function that evaluates a checked tree."""
    writer = Writer(_emit)
    code = writer.emit(node)
    writer.flush()
    writer.line(f"r = {code}")
    source = "\n".join(_whole(writer, variables))
    namespace = dict(writer.names)
    exec(compile(source, "<cel>", "exec"), namespace)  # noqa: S102 - our own source; user text is in it only as repr
    function: Compiled = namespace["run"]
    return function


def _whole(writer: Writer, variables: dict[str, Type]) -> list[str]:
    bind = writer.bind
    lines = [*writer.functions, "def run(variables, budget=None):", " c = 0"]
    if writer.variables:
        lines.append(" try:")
        lines += [f"  {name} = variables[{key!r}]" for key, name in writer.variables.items()]
        lines += [" except KeyError as f:", f"  raise {bind(runtime.unbound)}(f) from None"]
    lines.append(" try:")
    for key, name in writer.variables.items():
        if variables[key].from_json is not None:
            lines.append(f"  {name} = {bind(variables[key].from_json)}({name})")
    lines += writer.text(2)
    lines += [" except FAILURES as f:", f"  {bind(runtime.settle)}(budget, c)"]
    lines.append(f"  raise {bind(runtime.failure)}(f) from None")
    if writer.dynamic:
        lines.append(f" if c > {PER_CALL_LIMIT}: raise {bind(runtime.exceeded)}(c, budget)")
    lines += [" if budget is not None:", "  budget.remaining -= c"]
    lines += [f"  if budget.remaining < 0: raise {bind(runtime.exhausted)}()", " return r"]
    return lines


def _emit(writer: Writer, node: Any) -> str:
    match node:
        case ast.Literal():
            return writer.constant(node.value)
        case ast.Ident():
            return _ident(writer, node)
        case ast.Select():
            return _select(writer, node)
        case ast.Call():
            return operators.emit_call(writer, node)
        case ast.ListNode():
            return _list(writer, node)
        case ast.MapNode():
            return _map(writer, node)
        case ast.StructNode():
            return _struct(writer, node)
    return loops.emit_fold(writer, node)


def _ident(writer: Writer, node: ast.Ident) -> str:
    if node.constant is not None:
        return writer.bind(node.constant)
    writer.cost(1)
    for scope in reversed(writer.locals):
        if node.name in scope:
            return scope[node.name]
    name = writer.variables.get(node.name)
    if name is None:
        name = writer.variables[node.name] = writer.fresh("v")
    return name


def _select(writer: Writer, node: ast.Select) -> str:
    if node.identifier is not None:
        return _ident(writer, node.identifier)
    operand = writer.emit(node.operand)
    one = node.operand.type
    field = _field(one, node.name)
    key = repr(node.name if field is None else field.key)
    attribute = operators.is_attribute(node.operand)
    if node.test:
        writer.cost(0 if attribute else 1)
        return _presence(writer, one, field, operand, key)
    if operators.is_optional(one):
        return operators.optional_read(writer, operand, key, attribute, node.type)
    writer.cost(1 if attribute else 2)
    if one.kind not in ("object", "map"):
        return f"{writer.bind(access.select)}({operand}, {key})"
    code = f"{operand}[{key}]"
    if field is not None and field.null_is_absent:
        value = writer.fresh()
        code = f"({value} if ({value} := {code}) is not None else {writer.bind(access.absent)}({key}))"
    return operators.converted(writer, code, node.type)


def _presence(writer: Writer, one: Type, field: Field | None, operand: str, key: str) -> str:
    """`has(operand.key)`."""
    if one.kind not in ("object", "map"):
        return f"{writer.bind(access.has)}({operand}, {key})"
    if field is not None and field.null_is_absent:
        return f"({operand}.get({key}) is not None)"
    return f"({key} in {operand})"


def _field(one: Type, name: str) -> Field | None:
    """The field of an object type: expressions may know it by an escaped name."""
    if operators.is_optional(one):
        one = one.parameters[0]
    return None if one.fields is None else one.fields.get(name)


def _list(writer: Writer, node: ast.ListNode) -> str:
    codes = writer.operands(node.items)
    if not operators.is_constant(node):
        writer.cost(LIST)
    if not node.optional:
        return f"[{', '.join(codes)}]"
    made = writer.kept("[]")
    for at, code in enumerate(codes):
        if at in node.optional:
            item = writer.kept(f"{writer.bind(access.present)}({code})")
            writer.line(f"if {item}.present: {made}.append({item}.value)")
        else:
            writer.line(f"{made}.append({code})")
    return made


def _map(writer: Writer, node: ast.MapNode) -> str:
    codes = writer.operands([part for entry in node.entries for part in (entry.key, entry.value)])
    if not operators.is_constant(node):
        writer.cost(MAP)
    pairs = list(zip(codes[::2], codes[1::2], strict=True))
    if any(entry.optional for entry in node.entries):
        made = writer.kept("{}")
        for entry, (key, value) in zip(node.entries, pairs, strict=True):
            _put(writer, made, key, value, entry.optional)
        return made
    if node.type.parameters[0].kind == "string" or not pairs:
        return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
    return f"{writer.bind(access.map_of_entries)}({', '.join(f'({key}, {value})' for key, value in pairs)})"


def _put(writer: Writer, made: str, key: str, value: str, optional: bool) -> None:
    if optional:
        item = writer.kept(f"{writer.bind(access.present)}({value})")
        writer.line(f"if {item}.present: {made}[{key}] = {item}.value")
    else:
        writer.line(f"{made}[{key}] = {value}")


def _struct(writer: Writer, node: ast.StructNode) -> str:
    codes = writer.operands([setter.value for setter in node.setters])
    writer.cost(STRUCT)
    made = writer.kept(f"{writer.bind(Struct)}({writer.bind(node.type)})")
    for setter, code in zip(node.setters, codes, strict=True):
        field = _field(node.type, setter.name)
        _put(writer, made, repr(setter.name if field is None else field.key), code, setter.optional)
    return made
