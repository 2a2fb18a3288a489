"""Event of events.k8s.io/v1beta1: the shape of v1, the lenient rules of the core group's events."""

from __future__ import annotations

from tiphys.api.kinds.base import Context, Object
from tiphys.api.kinds.core.event import Event, NewEvent
from tiphys.api.validation.errors import Errors


class FormerEvent(NewEvent):
    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        Event.check(self, errors, obj, context)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        Event.check_update(self, errors, new, old, context)
