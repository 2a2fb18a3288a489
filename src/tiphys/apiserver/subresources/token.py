"""serviceaccounts/token: TokenRequest, how kubelets and people get tokens of service accounts (KEP-1205)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api import errors
from tiphys.api.apply.manager import Writer
from tiphys.api.decode.request import Expected
from tiphys.api.kinds.base import FieldError, invalid
from tiphys.apiserver import jwt, options, respond
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.apiserver.subresources.bodies import decode
from tiphys.apiserver.tokens import Binding, TokenIssuer
from tiphys.base.clock import rfc3339
from tiphys.base.errors import BadRequest
from tiphys.base.http.types import Response

Object = Mapping[str, Any]
GROUP, VERSION, KIND = "authentication.k8s.io", "v1", "TokenRequest"
ISSUED = "authentication.kubernetes.io/issued-credential-id"
SHORTEST, LONGEST, USUAL = 600, 1 << 32, 3600


class TokenRequests:
    """Issues tokens with `issuer`."""

    def __init__(self, parts: Parts, issuer: TokenIssuer) -> None:
        self._parts, self._issuer = parts, issuer

    async def create(self, call: Call) -> Response:
        """POST serviceaccounts/NAME/token."""
        options.read_write_options(call)
        request = decode(self._parts, call, GROUP, VERSION, KIND)
        account = self._parts.caches.get("", "serviceaccounts", call.namespace, call.info.name)
        self._match(call, request)
        if account is None:
            raise errors.not_found("", "serviceaccounts", call.info.name)
        metadata = self._metadata(call, request, account)
        spec = dict(request.get("spec") or {})
        if spec.get("expirationSeconds") is None:
            spec["expirationSeconds"] = USUAL
        seconds = spec["expirationSeconds"]
        managed = self._managed(call, {**request, "spec": spec})
        attributes = self._parts.admission.attributes(call, "CREATE", {**request, "spec": spec}, None, KIND)
        # before the default audience is filled in: nodes are judged by what they asked for
        await self._parts.admission.admit(call, attributes)
        spec["audiences"] = spec.get("audiences") or list(self._issuer.audiences)
        _check(seconds)
        await self._parts.admission.validate(call, attributes)
        binding = self._binding(call, spec.get("boundObjectRef"))
        seconds = spec["expirationSeconds"] = self._shortened(call, seconds)
        token = self._issuer.issue(account, audiences=spec["audiences"], seconds=seconds, binding=binding)
        if "audit" in call.request.attributes:
            notes = call.request.attributes.setdefault("audit-annotations", {})
            notes[ISSUED] = f"JTI={jwt.parse(token).claims['jti']}"
        answer = {
            "kind": KIND,
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": {**metadata, **({"managedFields": managed} if managed else {})},
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": rfc3339(call.now + seconds)},
        }
        return respond.plain(call.request, answer, 201)

    def _managed(self, call: Call, request: Object) -> list[Any]:
        if call.request.local:
            return []
        definitions = self._parts.codec.definitions
        expected = Expected(GROUP, VERSION, KIND, definitions.of(GROUP, VERSION, KIND))
        return self._parts.ownership.asked(expected, request, Writer(call.manager, rfc3339(call.now), {}, "token"))

    def _shortened(self, call: Call, seconds: int) -> int:
        """As long as asked, or as this server issues at most."""
        longest = self._issuer.settings.longest
        if not longest or seconds <= longest:
            return seconds
        call.warn(f"requested expiration of {seconds} seconds shortened to {longest} seconds")
        return longest

    def _match(self, call: Call, request: Object) -> None:
        metadata = request.get("metadata") or {}
        for field, wanted, what in (("name", call.info.name, "name"), ("namespace", call.namespace, "namespace")):
            found = metadata.get(field)
            if found and found != wanted:
                problem = invalid(f"metadata.{field}", found, f"must match the service account {what} if specified")
                raise errors.invalid(GROUP, KIND, call.info.name, [problem])

    def _metadata(self, call: Call, request: Object, account: Object) -> dict[str, Any]:
        metadata = dict(request.get("metadata") or {})
        uid = account["metadata"]["uid"]
        if metadata.get("uid") and metadata["uid"] != uid:
            text = f"the UID in the token request ({metadata['uid']}) does not match the UID of the service account"
            raise errors.conflict(GROUP, KIND, call.info.name, f"{text} ({uid})")
        owned = {"name": call.info.name, "namespace": call.namespace, "uid": uid}
        return {**metadata, **owned, "creationTimestamp": rfc3339(call.now)}

    def _binding(self, call: Call, reference: Object | None) -> Binding | None:
        """The object that the token lives as long as. Raises NotFound, BadRequest, Conflict."""
        if reference is None:
            return None
        api_version, kind, name = reference.get("apiVersion"), reference.get("kind") or "", reference.get("name", "")
        plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(str(kind))
        group, _, version = str(api_version or "").rpartition("/")
        if plural is None or group:
            raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        caches = self._parts.caches
        bound = caches.get("", plural, "" if kind == "Node" else call.namespace, name)
        if bound is None:
            raise errors.not_found("", plural, name)
        uid = bound["metadata"]["uid"]
        if reference.get("uid") and reference["uid"] != uid:
            text = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            text += "The object might have been deleted and then recreated"
            raise errors.conflict("", str(kind), name, text)
        if kind == "Secret":
            return Binding(secret=bound)
        return Binding(node=bound) if kind == "Node" else self._to_pod(call, bound)

    def _to_pod(self, call: Call, pod: Object) -> Binding:
        spec = pod.get("spec") or {}
        if spec.get("serviceAccountName") != call.info.name:
            text = f'cannot bind token for serviceaccount "{call.info.name}" to pod running with different '
            raise BadRequest(text + "serviceaccount name.")
        name = spec.get("nodeName")
        if not name:
            return Binding(pod=pod)
        node = self._parts.caches.get("", "nodes", "", name)
        return Binding(pod=pod, node=node if node is not None else {"metadata": {"name": name}})


def _check(seconds: int) -> None:
    problems: list[FieldError] = []
    if seconds < SHORTEST:
        problems.append(invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds > LONGEST:
        text = "may not specify a duration larger than 2^32 seconds"
        problems.append(invalid("spec.expirationSeconds", seconds, text))
    if problems:
        raise errors.invalid(GROUP, KIND, "", problems)
