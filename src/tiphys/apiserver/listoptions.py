"""ListOptions: the query of a LIST or WATCH, checked as upstream's ValidateListOptions, and continue tokens."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from tiphys.api.kinds.base import FieldError, forbidden, not_supported
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
        if not self.version:
            return 0
        if not self.version.isdecimal():
            problem = f'strconv.ParseUint: parsing "{self.version}": invalid syntax'
            raise BadRequest(f'Invalid value: "{self.version}": {problem}')
        return _in_range(self.version, "ParseUint")


PLAIN = ListOptions()


def parse(request: Request, *, watch: bool) -> ListOptions:
    """Read the query. Raises BadRequest, Invalid."""
    if not request.query_string:
        return PLAIN
    param = request.param
    options = ListOptions(
        version=param("resourceVersion"),
        match=param("resourceVersionMatch"),
        limit=max(_number(param("limit")), 0),
        token=param("continue"),
        labels=param("labelSelector"),
        fields=param("fieldSelector"),
        watch=watch,
        bookmarks=param("allowWatchBookmarks") in ("true", "1"),
        timeout=_number(param("timeoutSeconds")),
        initial_events=_flag(param("sendInitialEvents")),
    )
    problems = _check_watch(options) if watch else _check_list(options)
    if problems:
        raise _invalid(problems)
    return options


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


def _flag(text: str) -> bool | None:
    return None if not text else text in ("true", "1", "t", "T", "TRUE", "True")


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
    """A continue token: go on after `key` as of `revision` (-1: as of now)."""
    start = key.removeprefix(prefix) + "\0"
    data = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read_token(text: str, prefix: str) -> tuple[str, int]:
    """(the key to go on after, the revision). Raises BadRequest."""
    try:
        data = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        version, revision, start = data["v"], int(data["rv"]), str(data["start"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"continue key is not valid: {error}") from None
    if version != "meta.k8s.io/v1":
        raise BadRequest(f"continue key is not valid: server does not recognize this encoded version {version}")
    if revision == 0 or not start or ".." in start.split("/"):
        raise BadRequest(f"continue key is not valid: {start}")
    return prefix + start.removesuffix("\0"), revision
