"""Tokens to a syntax tree, macros expanded.

Precedence climbing in three functions, so that the deepest expression that upstream accepts (250 levels) fits Python's
stack. Grammar and limits: cel-spec langdef.md and cel-go's parser: 100,000 code points, 250 levels of one rule.
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.cel import ast
from tiphys.api.cel.lexer import END, RESERVED, Token, bytes_value, string_value, tokens
from tiphys.api.cel.macros import Macro, MacroError
from tiphys.api.cel.source import Source
from tiphys.api.cel.types import BOOL, BYTES, DOUBLE, INT, NULL, STRING, UINT
from tiphys.api.cel.values import Uint

MAX_SIZE = 100_000
MAX_DEPTH = 250

_BINARY = {
    **dict.fromkeys(("<", "<=", ">=", ">", "==", "!=", "in"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}
_OPERATOR = {text: f"_{text}_" for text in _BINARY} | {"in": ast.IN}
_START = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
_LITERALS = frozenset(("NUM_INT", "NUM_UINT", "NUM_FLOAT", "STRING", "BYTES", "true", "false", "null"))
_STARTS = _LITERALS | {"[", "{", "(", ".", "-", "!", "IDENTIFIER"}


class _Stop(Exception):
    """A syntax error was reported; there is no sense in going on."""


def parse(
    source: Source,
    macros: Mapping[tuple[str, int, bool], Macro],
    *,
    optional_syntax: bool = True,
    escaped_names: bool = True,
) -> ast.Node:
    """The tree of an expression. Errors are in `source` afterwards: then the tree must not be used."""
    nothing = ast.Literal(0, None, NULL)
    if len(source.text) > MAX_SIZE:
        source.report(-1, f"expression code point size exceeds limit: size: {len(source.text)}, limit {MAX_SIZE}")
        return nothing
    parser = _Parser(source, macros, optional_syntax, escaped_names)
    try:
        return parser.whole()
    except _Stop:
        return nothing
    except RecursionError:
        source.report(-1, f"expression recursion limit exceeded: {MAX_DEPTH}")
        return nothing


class _Parser:
    def __init__(
        self, source: Source, macros: Mapping[tuple[str, int, bool], Macro], optional_syntax: bool, escaped_names: bool
    ) -> None:
        self._source = source
        self._macros = macros
        self._optional_syntax = optional_syntax
        self._escaped_names = escaped_names
        self._tokens = tokens(source)
        self._at = 0
        self._depth = 0
        self._open = 0

    def whole(self) -> ast.Node:
        node = self._expression()
        if self._kind != END:
            last = self._tokens[self._at + 1].kind == END
            self._fail_at(self._token, f"{'extraneous' if last else 'mismatched'} input", " expecting <EOF>")
        return node

    # Tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    @property
    def _kind(self) -> str:
        return self._tokens[self._at].kind

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != END:
            self._at += 1
        return token

    def _take(self, kind: str) -> Token | None:
        return self._next() if self._kind == kind else None

    def _expect(self, kind: str, expected: str | None = None) -> Token:
        if self._kind == kind:
            return self._next()
        if self._kind == END and self._open == 1 and kind in ")]}":
            self._syntax_error(self._token, f"missing '{kind}' at '<EOF>'")
        raise self._fail_at(self._token, "mismatched input", f" expecting {expected or _quoted(kind)}")

    def _fail_at(self, token: Token, problem: str, expecting: str) -> _Stop:
        return self._syntax_error(token, f"{problem} '{token.text}'{expecting}")

    def _syntax_error(self, token: Token, message: str) -> _Stop:
        self._source.report(token.offset, f"Syntax error: {message}")
        raise _Stop

    def _error(self, offset: int, message: str) -> ast.Node:
        self._source.report(offset, message)
        return ast.Literal(offset, None, NULL)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._source.report(-1, f"expression recursion limit exceeded: {MAX_DEPTH}")
            raise _Stop

    # Expressions

    def _expression(self) -> ast.Node:
        self._deeper()
        node = self._binary(1)
        question = self._take("?")
        if question is not None:
            then = self._binary(1)
            self._expect(":")
            node = self._call(question.offset, ast.CONDITIONAL, None, [node, then, self._expression()])
        self._depth -= 1
        return node

    def _binary(self, level: int) -> ast.Node:
        """Levels: 1 `||`, 2 `&&`, 3 relations, 4 sums, 5 products."""
        node = self._unary()
        chain = 0
        while True:
            kind = self._kind
            rank = _BINARY.get(kind) or (2 if kind == "&&" else 1 if kind == "||" else 0)
            if rank < level or rank == 0:
                return node
            operator = self._next()
            if rank <= 2:
                node = self._logical(operator, rank, node)
                continue
            chain += 1
            if chain > MAX_DEPTH:
                self._depth = MAX_DEPTH
                self._deeper()
            right = self._binary(rank + 1)
            node = self._call(operator.offset, _OPERATOR[kind], None, [node, right])

    def _logical(self, operator: Token, rank: int, first: ast.Node) -> ast.Node:
        terms = [first, self._binary(rank + 1)]
        while self._take(operator.kind):
            terms.append(self._binary(rank + 1))
        return ast.Call(operator.offset, ast.AND if rank == 2 else ast.OR, None, terms)

    def _unary(self) -> ast.Node:
        kind = self._kind
        if kind == "!" or (kind == "-" and not self._tokens[self._at + 1].kind.startswith(("NUM_INT", "NUM_FLOAT"))):
            return self._prefixed(kind)
        node = self._primary()
        links = 0
        while self._kind in (".", "["):
            links += 1
            if links > MAX_DEPTH:
                self._depth = MAX_DEPTH
                self._deeper()
            operator = self._next()
            node = self._selection(node, operator) if operator.kind == "." else self._index(node, operator)
        return node

    def _prefixed(self, kind: str) -> ast.Node:
        first, count = self._next(), 1
        while self._take(kind):
            count += 1
        if kind == "-" and self._kind == "!":
            self._syntax_error(self._token, "no viable alternative at input '!'")
        node = self._unary()
        function = ast.NOT if kind == "!" else ast.NEGATE
        return node if count % 2 == 0 else self._call(first.offset, function, None, [node])

    def _selection(self, operand: ast.Node, dot: Token) -> ast.Node:
        optional = self._take("?")
        token = self._next()
        if token.kind == "IDENTIFIER":
            name = token.text
        elif token.kind == "ESC_IDENTIFIER":
            name = token.text[1:-1]
            if not self._escaped_names:
                self._error(token.offset, "unsupported syntax: '`'")
        elif optional is None:
            self._no_name(token)
        else:
            self._fail_at(token, "mismatched input", " expecting {IDENTIFIER, ESC_IDENTIFIER}")
        if optional is not None:
            if not self._optional_syntax:
                return self._error(dot.offset, "unsupported syntax '.?'")
            return ast.Call(dot.offset, ast.OPTIONAL_SELECT, None, [operand, ast.Literal(token.offset, name, STRING)])
        if token.kind == "IDENTIFIER" and self._kind == "(":
            opening = self._next()
            return self._call(opening.offset, name, operand, self._arguments())
        return ast.Select(dot.offset, operand, name)

    def _no_name(self, token: Token) -> None:
        if token.kind in ("true", "false", "null"):
            self._fail_at(token, "mismatched input", " expecting IDENTIFIER")
        text = "" if token.kind == END else token.text
        self._syntax_error(token, f"no viable alternative at input '.{text}'")

    def _index(self, operand: ast.Node, bracket: Token) -> ast.Node:
        optional = self._take("?")
        self._open += 1
        index = self._expression()
        self._expect("]")
        self._open -= 1
        if optional is not None and not self._optional_syntax:
            return self._error(bracket.offset, "unsupported syntax '[?'")
        function = ast.INDEX if optional is None else ast.OPTIONAL_INDEX
        return self._call(bracket.offset, function, None, [operand, index])

    def _arguments(self) -> list[ast.Node]:
        """Arguments and the closing parenthesis; the opening one is taken."""
        self._open += 1
        arguments: list[ast.Node] = []
        if self._kind != ")":
            arguments.append(self._expression())
            while self._take(","):
                arguments.append(self._expression())
        self._expect(")")
        self._open -= 1
        return arguments

    def _primary(self) -> ast.Node:
        token = self._next()
        kind = token.kind
        if kind == "IDENTIFIER" or (kind == "." and self._kind == "IDENTIFIER"):
            return self._named(token)
        if kind in _LITERALS or (kind == "-" and self._kind in ("NUM_INT", "NUM_FLOAT")):
            return self._literal(token)
        if kind == "(":
            self._open += 1
            node = self._expression()
            self._expect(")")
            self._open -= 1
            return node
        if kind == "[":
            return self._list(token)
        if kind == "{":
            return self._map(token)
        if kind == ".":
            self._syntax_error(self._token, f"no viable alternative at input '.{self._shown()}'")
        return self._unexpected(token)

    def _shown(self) -> str:
        return "" if self._kind == END else self._token.text

    def _unexpected(self, token: Token) -> ast.Node:
        """Upstream drops one token that stands in the way and goes on; anything else ends the parse."""
        if token.kind != END and self._kind in _STARTS:
            self._source.report(token.offset, f"Syntax error: extraneous input '{token.text}' expecting {_START}")
            return self._unary()
        raise self._fail_at(token, "mismatched input", f" expecting {_START}")

    def _named(self, token: Token) -> ast.Node:
        """An identifier, a call or the making of an object."""
        leading = "." if token.kind == "." else ""
        start = token
        if leading:
            token = self._next()
        message = self._message_name(leading + token.text)
        if message is not None:
            return self._struct(message)
        if token.text in RESERVED:
            if self._take("("):
                self._arguments()
            return self._error(start.offset, f"reserved identifier: {token.text}")
        if self._kind == "(":
            opening = self._next()
            return self._call(opening.offset, leading + token.text, None, self._arguments())
        return ast.Ident(token.offset, leading + token.text)

    def _message_name(self, name: str) -> str | None:
        """`a.b.C` when a brace follows the names; then they are taken."""
        at = self._at
        while self._tokens[at].kind == "." and self._tokens[at + 1].kind == "IDENTIFIER":
            name += "." + self._tokens[at + 1].text
            at += 2
        if self._tokens[at].kind != "{":
            return None
        self._at = at
        return name

    def _struct(self, name: str) -> ast.Node:
        brace = self._next()
        self._open += 1
        setters: list[ast.Setter] = []
        while self._kind != "}":
            optional = self._is_optional()
            token = self._next()
            if token.kind not in ("IDENTIFIER", "ESC_IDENTIFIER"):
                self._fail_at(token, "mismatched input", " expecting {'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}")
            if token.kind == "ESC_IDENTIFIER" and not self._escaped_names:
                self._error(token.offset, "unsupported syntax: '`'")
            colon = self._expect(":")
            text = token.text.strip("`")
            setters.append(ast.Setter(colon.offset, text, self._expression(), optional))
            if not self._take(","):
                break
        self._expect("}")
        self._open -= 1
        return ast.StructNode(brace.offset, name, setters)

    def _is_optional(self) -> bool:
        question = self._take("?")
        if question is not None and not self._optional_syntax:
            self._error(question.offset, "unsupported syntax '?'")
        return question is not None

    def _list(self, bracket: Token) -> ast.Node:
        self._open += 1
        items: list[ast.Node] = []
        optional: set[int] = set()
        while self._kind != "]":
            if self._is_optional():
                optional.add(len(items))
            items.append(self._expression())
            if not self._take(","):
                break
        self._expect("]")
        self._open -= 1
        return ast.ListNode(bracket.offset, items, frozenset(optional))

    def _map(self, brace: Token) -> ast.Node:
        self._open += 1
        entries: list[ast.Entry] = []
        while self._kind != "}":
            optional = self._is_optional()
            key = self._expression()
            colon = self._expect(":")
            entries.append(ast.Entry(colon.offset, key, self._expression(), optional))
            if not self._take(","):
                break
        self._expect("}")
        self._open -= 1
        return ast.MapNode(brace.offset, entries)

    def _literal(self, token: Token) -> ast.Node:
        sign, start = "", token
        if token.kind == "-":
            sign, token = "-", self._next()
        node = _literal(start.offset, token.kind, token.text, sign)
        return self._error(start.offset, node) if isinstance(node, str) else node

    def _call(self, offset: int, function: str, target: ast.Node | None, arguments: list[ast.Node]) -> ast.Node:
        macro = self._macros.get((function, len(arguments), target is not None))
        if macro is not None:
            try:
                expanded = macro.expand(offset, target, arguments)
            except MacroError as error:
                return self._error(error.offset, str(error))
            if expanded is not None:
                return expanded
        return ast.Call(offset, function, target, arguments)


def _literal(offset: int, kind: str, text: str, sign: str) -> ast.Literal | str:
    """The node of a literal, or what is wrong with it."""
    try:
        match kind:
            case "NUM_INT":
                return _integer(offset, text, sign)
            case "NUM_UINT":
                return _unsigned(offset, text)
            case "NUM_FLOAT":
                value = float(sign + text)
                return "invalid double literal" if value in _INFINITE else ast.Literal(offset, value, DOUBLE)
            case "STRING":
                return ast.Literal(offset, string_value(text), STRING)
            case "BYTES":
                return ast.Literal(offset, bytes_value(text[1:]), BYTES)
    except ValueError as error:
        return str(error)
    return ast.Literal(offset, None, NULL) if kind == "null" else ast.Literal(offset, kind == "true", BOOL)


_INFINITE = (float("inf"), float("-inf"))


def _number(text: str) -> int:
    """Long literals never reach int(): its time grows with the square of their length."""
    digits = text[2:].lstrip("0") if text.startswith("0x") else text.lstrip("0")
    if len(digits) > 20:
        return 1 << 70
    return int(digits or "0", 16 if text.startswith("0x") else 10)


def _integer(offset: int, text: str, sign: str) -> ast.Literal | str:
    value = -_number(text) if sign else _number(text)
    if not -(1 << 63) <= value < 1 << 63:
        return "invalid int literal"
    return ast.Literal(offset, value, INT)


def _unsigned(offset: int, text: str) -> ast.Literal | str:
    value = _number(text[:-1])
    return "invalid uint literal" if value >= 1 << 64 else ast.Literal(offset, Uint(value), UINT)


def _quoted(kind: str) -> str:
    return kind if kind in ("IDENTIFIER", END) else f"'{kind}'"
