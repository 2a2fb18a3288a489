"""Selectors of devices: CEL expressions over the variable `device`, compiled and weighed when they are written.

    device.driver == "gpu.example.com" && device.attributes["gpu.example.com"].model == "a"

The types are those of KEP-4381 (structured parameters): attributes by domain and name, of which only the greatest size
is known, and capacities as quantities.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tiphys.api.validation.errors import Errors

if TYPE_CHECKING:
    from tiphys.api.cel import Environment

LONGEST, COSTLIEST = 10 * 1024, 1_000_000
"""Of an expression: bytes, and units of cost."""
_DOMAIN, _NAME, _DRIVER, _VALUE, _ENTRIES = 63, 32, 63, 64, 32
_REMEMBERED = 256


def check(errors: Errors, path: str, expression: str) -> None:
    """Refuse an expression at `path` that is too long or too costly, or that does not compile to a boolean."""
    if len(expression.encode()) > LONGEST:
        errors.too_long(path, LONGEST)
        return
    problem, cost = _compiled(expression)
    if problem:
        errors.invalid(path, expression, problem)
    elif cost > COSTLIEST:
        errors.forbidden(path, "too complex, exceeds cost limit")


@lru_cache(maxsize=_REMEMBERED)
def _compiled(expression: str) -> tuple[str, int]:
    """What is wrong with an expression, and the most that it can cost."""
    from tiphys.api.cel import CompileError

    try:
        program = environment().compile(expression)
    except CompileError as error:
        return f"compilation failed: {error}", 0
    if program.type.kind not in ("bool", "any") or program.type.nullable:
        return f"must evaluate to bool or the unknown type, not {program.type}", 0
    return "", program.estimated_cost().maximum


@cache
def environment() -> Environment:
    """CEL with `device`."""
    from tiphys.api.cel import BOOL, STRING, Environment, Field, Type, map_of, named
    from tiphys.api.cel.comprehensions import BINDINGS
    from tiphys.api.cel.libraries.quantities import QUANTITY

    domain, name = STRING.with_size(_DOMAIN), STRING.with_size(_NAME)
    value = Type("any", "any").with_size(_VALUE)
    fields = {
        "allowMultipleAllocations": BOOL.with_size(1),
        "driver": STRING.with_size(_DRIVER),
        "attributes": map_of(domain, map_of(name, value, _ENTRIES), _ENTRIES),
        "capacity": map_of(domain, map_of(name, QUANTITY, _ENTRIES), _ENTRIES),
    }
    device = named("kubernetes.DRADevice", {key: Field(key, type) for key, type in fields.items()})
    return Environment.kubernetes().with_libraries(BINDINGS).with_variables({"device": device})
