"""From a request to the policies, bindings and parameters that apply to it, and what their expressions may look at.

Imported when the first request meets a policy: the CEL library comes with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tiphys.api import errors
from tiphys.apiserver.policies.asking import Answers
from tiphys.apiserver.policies.params import Misconfigured, collect, resource_of
from tiphys.apiserver.policies.scope import Scope
from tiphys.apiserver.policies.source import Binding, Policies, Policy
from tiphys.apiserver.types import Attributes, Object, Reader
from tiphys.apiserver.webhooks.matching import Match, Target
from tiphys.apiserver.webhooks.review import request_of
from tiphys.apiserver.webhooks.versions import Versions
from tiphys.base.errors import ApiError


@dataclass(frozen=True, slots=True)
class Use:
    """One policy by one of its bindings, with one parameter; or what is wrong with it, then `param` says nothing."""

    policy: Policy
    binding: Binding | None
    match: Match | None = None
    param: Object | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One request, and what policies are read and evaluated with."""

    target: Target
    attributes: Attributes
    policies: Policies
    reader: Reader
    versions: Versions
    answers: Answers

    async def uses(self, policies: tuple[Policy, ...]) -> AsyncIterator[Use]:
        """Those of `policies` that apply, in their order, by each binding, with each parameter."""
        target, reader, equivalents = self.target, self.reader, self.policies.equivalents
        for policy in policies:
            try:
                match = policy.matcher.match(target, reader, equivalents)
                if match is None:
                    continue
                kind = policy.param_kind
                resource = None if kind is None else resource_of(kind, self.versions.catalog())
            except (ApiError, Misconfigured) as error:
                yield Use(policy, None, error=f"failed to configure policy: {error}")
                continue
            for binding in policy.bindings:
                try:
                    if binding.matcher and binding.matcher.match(target, reader, equivalents) is None:
                        continue
                    reference, namespace = binding.param_ref, target.namespace
                    params = await collect(resource, reference, namespace, reader, self.versions)
                except (ApiError, Misconfigured) as error:
                    yield Use(policy, binding, match, error=f"failed to configure binding: {error}")
                    continue
                for param in params:
                    yield Use(policy, binding, match, param)

    def namespace(self) -> Object | None:
        """The Namespace of the object, unless it has none or is one. Raises NotFound."""
        target = self.target
        if not target.namespace or target.kind == ("", "v1", "Namespace"):
            return None
        found = self.reader.get("", "namespaces", "", target.namespace)
        if found is None:
            raise errors.not_found("", "namespaces", target.namespace)
        return found

    async def scope(self, use: Use, obj: Object | None, namespace: Object | None) -> Scope:
        """What a policy's expressions look at, in the version that it matches. Raises ApiError: not to be converted."""
        match = use.match or Match(self.target.resource, self.target.kind)
        return Scope(
            obj=await self.versions.show(obj, match),
            old=await self.versions.show(self.attributes.old, match),
            request=request_of(self.attributes, self.target, match),
            namespace=namespace,
            params=use.param,
            answers=self.answers,
            attributes=self.attributes,
            target=self.target,
        )


def refused_name(target: Target) -> str:
    """How a refusal calls the object of a request."""
    metadata = (target.obj or {}).get("metadata") or {}
    return target.name or metadata.get("generateName") or "Unknown"
