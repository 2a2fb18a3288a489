"""Python source in the making: lines and blocks, temporary names, constants, and the cost counted in `c`.

User text gets into the source only as the `repr` of short constants; everything else is bound by a made-up name.
Costs known beforehand are collected and written as one addition before the statements of a branch.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tiphys.api.cel import runtime
from tiphys.api.cel.types import PER_CALL_LIMIT

_DEEP = 6
"""More blocks than that within each other become a function: Python allows about twenty."""
_LONG = 160
"""A longer piece of code becomes a variable: Python's parser has limits on nesting."""


Line = tuple[int, str]
"""Depth of the block and the statement."""


class Piece(NamedTuple):
    """Code captured for a block: its statements, its static cost still to be added, the code of its value."""

    lines: list[Line]
    cost: int
    code: str


class Writer:
    """The body of one function."""

    def __init__(self, emit: Callable[[Writer, Any], str]) -> None:
        self._emit = emit
        self.lines: list[Line] = []
        self.names: dict[str, Any] = {"FAILURES": runtime.FAILURES}
        self.variables: dict[str, str] = {}
        """The environment's variables in use: name to the Python name."""
        self.locals: list[dict[str, str]] = []
        """Variables of macros: name to code, the innermost scope last."""
        self.dynamic = False
        """Whether the cost depends on the input."""
        self._bound: dict[int, str] = {}
        self.functions: list[str] = []
        """Source of functions for what nests too deeply to stand in one."""
        self._depth = 0
        self._nesting = 0
        self._segment = 0
        """Where the statements begin that the collected costs belong to."""
        self._starts: list[int] = []
        """Where the statements of operands in the making begin."""
        self._cost = 0
        self._count = 0

    def emit(self, node: Any) -> str:
        """The code of a value; the statements it needs are written."""
        code = self._outlined(node) if self._nesting > _DEEP else self._emit(self, node)
        return self.kept(code) if len(code) > _LONG else code

    def _outlined(self, node: Any) -> str:
        """Emit as a function of its own: it gets the variables it uses and gives the cost back, also of a failure."""
        kept = self.lines, self._cost, self._depth, self._segment, self._nesting, self._starts
        self.lines, self._cost, self._depth, self._segment, self._nesting, self._starts = [], 0, 0, 0, 0, []
        code = self.emit(node)
        self.flush()
        self.line(f"return c, {code}, None")
        body = [" try:", *self.text(2), " except FAILURES as f:", "  return c, None, f"]
        self.lines, self._cost, self._depth, self._segment, self._nesting, self._starts = kept
        name, result, error = self.fresh("g"), self.fresh(), self.fresh("e")
        arguments = ", ".join(("c", "budget", *_free(body, {"c", "budget", "f", *self.names, *self._functions()})))
        self.functions += [f"def {name}({arguments}):", *body]
        self.flush()
        self.line(f"c, {result}, {error} = {name}({arguments})")
        self.line(f"if {error} is not None: raise {error}")
        self.flush()
        return result

    # Names and constants

    def fresh(self, prefix: str = "t") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def bind(self, value: Any, prefix: str = "k") -> str:
        """A name for an object."""
        name = self._bound.get(id(value))
        if name is None:
            name = self.fresh(prefix)
            self._bound[id(value)] = name
            self.names[name] = value
        return name

    def constant(self, value: Any) -> str:
        if type(value) in (bool, type(None)):
            return repr(value)
        if type(value) is int:
            return repr(value) if value >= 0 else f"({value!r})"
        if type(value) in (str, bytes) and len(value) <= 60:
            return repr(value)
        return self.bind(value)

    # Statements

    def line(self, text: str) -> None:
        self.lines.append((self._depth, text))

    def kept(self, code: str) -> str:
        """The value of `code` in a variable; a name stays itself."""
        if code.isidentifier():
            return code
        name = self.fresh()
        self.line(f"{name} = {code}")
        return name

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        self.flush()
        self.line(header)
        self._depth += 1
        self._nesting += 1
        start = self._segment = len(self.lines)
        yield
        self.flush()
        if len(self.lines) == start:
            self.line("pass")
        self._depth -= 1
        self._nesting -= 1
        self._segment = len(self.lines)

    def captured(self, node: Any, discount: int = 0) -> Piece:
        """Emit for a block that is written later; `discount` is taken off its cost."""
        kept = self.lines, self._cost, self._depth, self._segment, self._starts
        self.lines, self._cost, self._depth, self._segment, self._starts = [], -discount, 0, 0, []
        self._nesting += 1
        code = self.emit(node)
        self._nesting -= 1
        piece = Piece(self.lines, self._cost, code)
        self.lines, self._cost, self._depth, self._segment, self._starts = kept
        return piece

    def assign(self, target: str, piece: Piece) -> None:
        """What was captured, its value to `target`."""
        self.lines.extend((self._depth + depth, text) for depth, text in piece.lines)
        self._cost += piece.cost
        self.line(f"{target} = {piece.code}")

    def _functions(self) -> list[str]:
        return [line[4 : line.index("(")] for line in self.functions if line.startswith("def ")]

    def text(self, indent: int) -> list[str]:
        """The lines of the source."""
        return [" " * (indent + depth) + text for depth, text in self.lines]

    def operands(self, nodes: list[Any]) -> list[str]:
        """The codes of several values, evaluated in their order also when later ones need statements."""
        codes: list[str] = []
        for node in nodes:
            self._starts.append(len(self.lines))
            code = self.emit(node)
            start = self._starts.pop()
            if len(self.lines) > start:
                self._keep_before(start, codes)
            codes.append(code)
        return codes

    def _keep_before(self, start: int, codes: list[str]) -> None:
        """Evaluate what `codes` has before the statements from `start` on."""
        added = self.lines[start:]
        del self.lines[start:]
        codes[:] = [one if _is_stable(one) else self.kept(one) for one in codes]
        if self._segment > start:
            self._segment += len(self.lines) - start
        self.lines.extend(added)

    # Costs

    def cost(self, amount: int) -> None:
        """Add a cost known beforehand."""
        self._cost += amount

    def run_cost(self, code: str, *, base: int = 1, check: bool = False) -> None:
        """Add a cost that the run computes; `check` the limit where the next step could be large.

        `base` is what counts also when an operand fails: it is added beforehand.
        """
        self.dynamic = True
        self.cost(base)
        self.line(f"c += {code} - {base}" if base else f"c += {code}")
        if check:
            self.check_limit()

    def flush(self) -> None:
        """Write the collected costs, before the statements they belong to: those count also when one of them fails."""
        if self._cost:
            self.lines.insert(self._segment, (self._depth, f"c += {self._cost}"))
            self._cost = 0
            self._starts = [start + 1 if start > self._segment else start for start in self._starts]
        self._segment = len(self.lines)

    def check_limit(self) -> None:
        self.dynamic = True
        self.line(f"if c > {PER_CALL_LIMIT}: raise {self.bind(runtime.exceeded)}(c, budget)")


def _free(body: list[str], known: set[str]) -> list[str]:
    """The variables that a function's body reads and does not set."""
    tree = ast.parse("\n".join(["def g():", *body]))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    written = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return sorted({node.id for node in names} - written - known - set(dir(builtins)))


def _is_stable(code: str) -> bool:
    """Whether the code means the same later: a name or a plain constant."""
    return code.isidentifier() or code.isdigit() or (code[0] in "'\"" and "\n" not in code and len(code) <= 70)
