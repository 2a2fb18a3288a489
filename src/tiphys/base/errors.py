"""The errors of Tiphys. The class is the policy: it tells the caller what to do next.

    TiphysError
    ├── ApiError            an answer of the API: has code, reason, message, details; becomes a Status object
    │   ├── BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, MethodNotAllowed 405, NotAcceptable 406
    │   ├── Conflict 409          the object changed since it was read: read again, decide again
    │   ├── AlreadyExists 409
    │   ├── Gone 410              the revision was compacted: list again
    │   ├── TooLarge 413, UnsupportedMediaType 415, Invalid 422
    │   ├── TooManyRequests 429   come back after `retry_after` seconds
    │   └── InternalError 500, ServiceUnavailable 503, Timeout 504
    ├── Retry               not now: try again in `after` seconds (reconcilers, probes, pulls)
    └── Permanent           trying again cannot help; tell the user and stop

Codes and reasons are those of the API reference (meta/v1 Status).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TiphysError(Exception):
    """Base of all errors that Tiphys raises on purpose."""


class Retry(TiphysError):
    """Not now. `after` is in seconds; None leaves the wait to the caller's back-off."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Permanent(TiphysError):
    """Trying again cannot help."""


class ApiError(TiphysError):
    """An answer of the API that is not a success; `status()` is its wire form."""

    code: int = 500
    reason: str = "InternalError"
    _classes: ClassVar[dict[tuple[int, str], type[ApiError]]] = {}

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self._detailed = details is not None
        self.retry_after = retry_after
        self.metadata: dict[str, Any] = {}
        """ListMeta of the Status: a list that expired tells here how to go on (`continue`)."""

    def __init_subclass__(cls) -> None:
        ApiError._classes.setdefault((cls.code, cls.reason), cls)  # a narrower one stands for no answer

    def status(self) -> dict[str, Any]:
        """The meta/v1 Status object, with its keys in upstream's order."""
        out: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": dict(self.metadata),
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            out["reason"] = self.reason
        details = dict(self.details)
        if self.retry_after is not None:
            details["retryAfterSeconds"] = max(1, round(self.retry_after))
        if details or self._detailed:
            out["details"] = details
        out["code"] = self.code
        return out

    @staticmethod
    def of(status: Mapping[str, Any], code: int | None = None) -> ApiError:
        """The error that a Status object stands for; an unknown (code, reason) keeps both."""
        number = int(code or status.get("code") or 500)
        reason = str(status.get("reason") or "")
        cls = ApiError._classes.get((number, reason), ApiError)
        found = status.get("details")
        details = dict(found) if isinstance(found, Mapping) else None
        after = details.pop("retryAfterSeconds", None) if details is not None else None
        error = cls(str(status.get("message") or reason or number), details=details, retry_after=after)
        error.code, error.reason = number, reason
        return error


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Gone(ApiError):
    code, reason = 410, "Expired"


class TooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    code, reason = 504, "Timeout"
