"""matchConditions: expressions that must all be true for a webhook to be called (KEP-3716)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api import errors
from tiphys.apiserver.types import Attributes, Authorizer, Object


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions may look at."""

    request: Mapping[str, Any]
    obj: Object | None
    old: Object | None
    attributes: Attributes
    authorizer: Authorizer


class Conditions:
    """Those of one webhook, compiled when they are first needed."""

    def __init__(self, structs: Sequence[Mapping[str, Any]], *, fails_open: bool) -> None:
        self._structs, self._fails_open = structs, fails_open

    async def hold(self, scope: Scope) -> bool:
        """Whether all are true. Raises Forbidden when one fails and the webhook fails closed."""
        info = scope.attributes.info
        raise errors.forbidden(info.group, info.resource, info.name, "match conditions are not evaluated yet")
