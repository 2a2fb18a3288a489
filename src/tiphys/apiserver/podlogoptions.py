"""PodLogOptions: the query of pods/log, checked before the kubelet is asked (core/v1, ValidatePodLogOptions)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tiphys.api import errors
from tiphys.api.kinds.base import FieldError, forbidden, invalid, not_supported
from tiphys.base.clock import parse_rfc3339
from tiphys.base.errors import BadRequest

STREAMS = ("All", "Stderr", "Stdout")
WHOLE = ("sinceSeconds", "tailLines", "limitBytes")


def check(pod: str, query: Mapping[str, str]) -> None:
    """Raises BadRequest for what cannot be read, Invalid for what makes no sense."""
    numbers: dict[str, int] = {}
    for name in WHOLE:
        if name in query:
            try:
                numbers[name] = int(query[name])
            except ValueError as error:
                raise BadRequest(f'strconv.ParseInt: parsing "{query[name]}": invalid syntax') from error
    if moment := query.get("sinceTime"):
        try:
            parse_rfc3339(moment)
        except ValueError as error:
            raise BadRequest(f'parsing time "{moment}" as "2006-01-02T15:04:05Z07:00": cannot parse it') from error
    if problems := list(_problems(numbers, query)):
        raise errors.invalid("", "PodLogOptions", pod, problems)


def _problems(numbers: Mapping[str, int], query: Mapping[str, str]) -> Iterator[FieldError]:
    if numbers.get("tailLines", 0) < 0:
        yield invalid("tailLines", numbers["tailLines"], "must be greater than or equal to 0")
    if numbers.get("limitBytes", 1) < 1:
        yield invalid("limitBytes", numbers["limitBytes"], "must be greater than 0")
    if "sinceSeconds" in numbers and query.get("sinceTime"):
        yield forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified")
    elif numbers.get("sinceSeconds", 1) < 1:
        yield invalid("sinceSeconds", numbers["sinceSeconds"], "must be greater than 0")
    stream = query.get("stream") or "All"
    if stream not in STREAMS:
        yield not_supported("stream", stream, STREAMS)
    if stream != "All" and "tailLines" in numbers:
        yield forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now")
