"""SubjectAccessReviews of authorization.k8s.io/v1beta1: the field of the groups is called group."""

from __future__ import annotations

from tiphys.api.kinds.authorization.reviews import LocalSubjectAccessReview, SubjectAccessReview
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.former.base import Former, move


class FormerReview(Former, SubjectAccessReview):
    def renew(self, obj: MutableObject) -> None:
        move(obj.get("spec") or {}, "group", "groups")

    def restore(self, obj: MutableObject) -> None:
        move(obj.get("spec") or {}, "groups", "group")


class FormerLocalReview(Former, LocalSubjectAccessReview):
    def renew(self, obj: MutableObject) -> None:
        move(obj.get("spec") or {}, "group", "groups")

    def restore(self, obj: MutableObject) -> None:
        move(obj.get("spec") or {}, "groups", "group")
