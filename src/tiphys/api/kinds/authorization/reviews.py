"""Reviews of authorization.k8s.io/v1: questions that are answered and not stored."""

from __future__ import annotations

from tiphys.api.kinds.base import Kind


class SubjectAccessReview(Kind):
    group, plural, kind = "authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"
    name_check = "none"


class SelfSubjectAccessReview(Kind):
    group, plural, kind = "authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"
    name_check = "none"


class LocalSubjectAccessReview(Kind):
    group, plural, kind = "authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview"
    name_check = "none"


class SelfSubjectRulesReview(Kind):
    group, plural, kind = "authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"
    name_check = "none"
