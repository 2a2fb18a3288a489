"""ListOptions: the query of a LIST or WATCH, checked as upstream's ValidateListOptions, and continue tokens."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace

import orjson

from tiphys.api import errors
from tiphys.api.kinds.base import FieldError, forbidden, invalid, not_supported
from tiphys.apiserver.query import flag
from tiphys.base.errors import BadRequest, Invalid
from tiphys.base.http.types import Request

NOT_OLDER, EXACT = "NotOlderThan", "Exact"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What the query asks for. `version` is "" (most recent), "0" (any) or a revision."""

    version: str = ""
    match: str = ""
    limit: int = 0
    token: str = ""
    labels: str = ""
    fields: str = ""
    watch: bool = False
    bookmarks: bool = False
    timeout: int = 0
    """Seconds; 0 leaves it to the server."""
    initial_events: bool | None = None

    @property
    def revision(self) -> int:
        """`version` as a number. Raises BadRequest."""
        try:
            return _version(self.version)
        except ValueError as error:
            raise BadRequest(f"invalid resource version: {_bad_version(self.version, error)}") from None

    def watched(self, group: str, plural: str) -> int:
        """`version` of a watch as a number. Raises Invalid."""
        try:
            return _version(self.version)
        except ValueError as error:
            raise errors.invalid(group, plural, "", [_bad_version(self.version, error)]) from None


PLAIN = ListOptions()
FROM_THE_PRESENT = ListOptions(watch=True, initial_events=True, match=NOT_OLDER)


def parse(request: Request, *, watch: bool) -> ListOptions:
    """Read the query. Raises BadRequest, Invalid."""
    if not request.query_string:
        return FROM_THE_PRESENT if watch else PLAIN
    param = request.param
    options = ListOptions(
        version=param("resourceVersion"),
        match=param("resourceVersionMatch"),
        limit=max(_number(param("limit")), 0),
        token=param("continue"),
        labels=param("labelSelector"),
        fields=param("fieldSelector"),
        watch=watch,
        bookmarks=bool(flag(request, "allowWatchBookmarks")),
        timeout=_number(param("timeoutSeconds")),
        initial_events=flag(request, "sendInitialEvents"),
    )
    problems = _check_watch(options) if watch else _check_list(options)
    if problems:
        raise _invalid(problems)
    if watch and options.initial_events is None and options.version in ("", "0"):
        # A watch without a start shows the present state first, as it always did (KEP-3157).
        options = replace(options, initial_events=True, match=NOT_OLDER)
    return options


def _version(text: str) -> int:
    """Raises ValueError in Go's words."""
    if not text:
        return 0
    quoted = f'strconv.ParseUint: parsing "{text[:64]}"'
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{quoted}: invalid syntax")
    if len(text) > 20 or int(text) >= 2**64:
        raise ValueError(f"{quoted}: value out of range")
    return min(int(text), 2**63 - 1)


def _bad_version(text: str, error: ValueError) -> FieldError:
    return invalid("resourceVersion", text, str(error))


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    if text and not (digits.isascii() and digits.isdigit()):
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return _in_range(text or "0", "ParseInt")


def _in_range(text: str, function: str) -> int:
    """The number, as long as 64 bits hold it. Raises BadRequest."""
    if len(text) > 19 or not -(2**63) <= int(text) < 2**63:
        raise BadRequest(f'strconv.{function}: parsing "{text[:64]}": value out of range')
    return int(text)


def _check_list(options: ListOptions) -> list[FieldError]:
    problems: list[FieldError] = []
    where = "resourceVersionMatch"
    if options.match:
        if not options.version:
            problems.append(forbidden(where, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.token:
            problems.append(forbidden(where, "resourceVersionMatch is forbidden when continue is provided"))
        if options.match not in (EXACT, NOT_OLDER):
            problems.append(not_supported(where, options.match, [EXACT, NOT_OLDER, ""]))
        if options.match == EXACT and options.version == "0":
            problems.append(forbidden(where, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.initial_events is not None:
        problems.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return problems


def _check_watch(options: ListOptions) -> list[FieldError]:
    problems: list[FieldError] = []
    where = "resourceVersionMatch"
    if options.initial_events is not None and options.match != NOT_OLDER:
        problems.append(forbidden(where, f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER}"))
    if options.match:
        if options.initial_events is None:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            problems.append(forbidden(where, text))
        if options.match != NOT_OLDER:
            problems.append(not_supported(where, options.match, [NOT_OLDER]))
        if options.token:
            problems.append(forbidden(where, "resourceVersionMatch is forbidden when continue is provided"))
    return problems


def _invalid(problems: list[FieldError]) -> Invalid:
    texts = [str(problem) for problem in problems]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    causes = [problem.cause() for problem in problems]
    details = {"group": "meta.k8s.io", "kind": "ListOptions", "causes": causes}
    return Invalid(f'ListOptions.meta.k8s.io "" is invalid: {text}', details=details)


def token(key: str, prefix: str, revision: int) -> str:
    """A continue token: go on after `key` as of `revision` (-1: as of now). `prefix` is that of the list's keys."""
    start = key.removeprefix(prefix) + "\0"
    data = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read_token(options: ListOptions, prefix: str) -> tuple[str, int]:
    """(the key to go on after, the revision) of a list's continue token. Raises BadRequest."""
    try:
        found = _decode_token(options.token)
    except ValueError as error:
        raise BadRequest(f"invalid continue token: continue key is not valid{error}") from None
    if options.version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    return prefix + found[0].removesuffix("\0"), found[1]


def _decode_token(text: str) -> tuple[str, int]:
    """(start, revision). Raises ValueError whose text follows upstream's "continue key is not valid"."""
    wrong = next((at for at, char in enumerate(text) if char not in ALPHABET), len(text) - 1)
    if wrong < len(text) - 1 or len(text) % 4 == 1 or text[wrong] not in ALPHABET:
        raise ValueError(f": illegal base64 data at input byte {wrong}")
    try:
        data = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        version, revision, start = data.get("v", ""), data.get("rv", 0), data.get("start", "")
    except (ValueError, AttributeError) as error:
        raise ValueError(f": {error}") from None
    if version != "meta.k8s.io/v1":
        raise ValueError(f": server does not recognize this encoded version {version}")
    if not isinstance(revision, int) or not isinstance(start, str) or abs(revision) >= 2**63:
        raise ValueError(": json: cannot unmarshal its fields")
    if not revision:
        raise ValueError(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not start:
        raise ValueError(": encoded start key empty (version meta.k8s.io/v1)")
    if not CLEAN.fullmatch(start.removeprefix("/")):
        raise ValueError(f": {start}")
    return start.removeprefix("/"), revision


ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
CLEAN = re.compile(r"(?!\.{1,2}(/|\Z))[^/]+(/(?!\.{1,2}(/|\Z))[^/]+)*", re.DOTALL)
"""A path without empty parts, `.` and `..`: a token cannot lead out of its list."""
