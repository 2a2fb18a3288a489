"""Reviews of authentication.k8s.io/v1: questions that are answered and not stored."""

from __future__ import annotations

from tiphys.api.kinds.base import Kind


class TokenReview(Kind):
    group, plural, kind = "authentication.k8s.io", "tokenreviews", "TokenReview"
    name_check = "none"


class SelfSubjectReview(Kind):
    group, plural, kind = "authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"
    name_check = "none"
