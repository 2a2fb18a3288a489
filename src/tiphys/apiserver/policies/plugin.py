"""The two admission plugins. Requests that no policy is for are let through here; all else is imported when needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.apiserver.policies.source import Policies
from tiphys.apiserver.types import Attributes, Authorizer, Plugin, Reader
from tiphys.apiserver.webhooks.matching import Target
from tiphys.apiserver.webhooks.versions import Versions

if TYPE_CHECKING:
    from tiphys.apiserver.policies.dispatch import Dispatch


class _Policies(Plugin):
    """What both have in common."""

    kind = ""
    connects = True

    def __init__(self, reader: Reader, versions: Versions, authorizer: Authorizer) -> None:
        self._reader, self._versions, self._authorizer = reader, versions, authorizer
        self._policies = Policies(reader, self.kind, versions.catalog)

    def _dispatch(self, target: Target, attributes: Attributes) -> Dispatch:
        from tiphys.apiserver.policies.asking import Answers
        from tiphys.apiserver.policies.dispatch import Dispatch

        answers = Answers(self._authorizer)
        return Dispatch(target, attributes, self._policies, self._reader, self._versions, answers)


class ValidatingPolicies(_Policies):
    """ValidatingAdmissionPolicy."""

    name = "ValidatingAdmissionPolicy"
    kind = "validating"

    async def validate(self, attributes: Attributes) -> None:
        target, policies = self._policies.concerning(attributes)
        if target is not None and policies:
            from tiphys.apiserver.policies.validating import validate

            await validate(self._dispatch(target, attributes), policies)


class MutatingPolicies(_Policies):
    """MutatingAdmissionPolicy. There is nothing to change in what is deleted."""

    name = "MutatingAdmissionPolicy"
    kind = "mutating"

    async def admit(self, attributes: Attributes) -> None:
        target, policies = self._policies.concerning(attributes)
        if target is not None and policies and target.operation != "DELETE":
            from tiphys.apiserver.policies.mutating import mutate

            await mutate(self._dispatch(target, attributes), policies)
