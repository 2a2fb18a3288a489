"""The Common Expression Language, as Kubernetes speaks it: compiled to Python, with upstream's types, errors and costs.

    environment = Environment.kubernetes().with_variables({"self": types_of.schema(schema), "oldSelf": ...})
    program = environment.compile("self.replicas <= self.maxReplicas", expect=BOOL)    # raises CompileError
    program.type, program.estimated_cost()                                             # Type, Range(minimum, maximum)
    program.run({"self": obj}, budget)            # a plain value; raises EvaluationError or CostExceeded

An `Environment` never changes and its `with_...` methods return another one; make them once and keep them. A `Program`
is safe to run from several threads and keeps nothing of its input. Values going in are the decoded JSON objects
themselves, nothing is converted or copied up front; values coming out are JSON values or the classes of `values`.

`Budget(limit)` is shared by the runs of one request; without one only the limit of a single run holds. A variable that
the mapping does not have is an EvaluationError (`no such attribute(s): x`) when the expression comes to it.

How a library is declared: the docstring of `types`. The Kubernetes libraries are `libraries.for_version(major, minor)`.
"""

from __future__ import annotations

from tiphys.api.cel.costs import CallEstimate, Node, Range
from tiphys.api.cel.environment import Environment
from tiphys.api.cel.program import Program
from tiphys.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    PER_CALL_LIMIT,
    RUNTIME_BUDGET,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    Budget,
    CelError,
    CompileError,
    CostExceeded,
    EvaluationError,
    Field,
    Function,
    Library,
    Overload,
    ProgramError,
    Type,
    list_of,
    map_of,
    named,
    opaque,
    optional,
    type_of_type,
    type_parameter,
    wrapper,
)
from tiphys.api.cel.values import NONE, Duration, Optional, Timestamp, Uint, size_of, type_of

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "DURATION",
    "DYN",
    "INT",
    "NONE",
    "NULL",
    "PER_CALL_LIMIT",
    "RUNTIME_BUDGET",
    "STRING",
    "TIMESTAMP",
    "TYPE",
    "UINT",
    "Budget",
    "CallEstimate",
    "CelError",
    "CompileError",
    "CostExceeded",
    "Duration",
    "Environment",
    "EvaluationError",
    "Field",
    "Function",
    "Library",
    "Node",
    "Optional",
    "Overload",
    "Program",
    "ProgramError",
    "Range",
    "Timestamp",
    "Type",
    "Uint",
    "list_of",
    "map_of",
    "named",
    "opaque",
    "optional",
    "size_of",
    "type_of",
    "type_of_type",
    "type_parameter",
    "wrapper",
]
