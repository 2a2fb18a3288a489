"""CertificateSigningRequest (API reference, certificates.k8s.io/v1)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, keep
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.metadata import validate_metadata
from tiphys.api.validation.signers import signer_name
from tiphys.base.clock import rfc3339

Struct = Mapping[str, Any]

_APPROVAL = ("Approved", "Denied")
_FINAL = (*_APPROVAL, "Failed")
_LEGACY = "kubernetes.io/legacy-unknown"
_MIN_SECONDS = 600
_USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)


class CertificateSigningRequest(StatusKind):
    group, plural, kind = "certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest"
    name_check = "none"
    counts_generation = False
    columns = (
        printing.NAME,
        printing.AGE,
        Column("SignerName", description="@CertificateSigningRequestSpec.signerName"),
        Column("Requestor", description="@CertificateSigningRequestSpec.request"),
        Column("RequestedDuration", description="@CertificateSigningRequestSpec.expirationSeconds"),
        Column("Condition", description="@CertificateSigningRequestStatus.conditions"),
    )

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """Who asks is taken from the request, whatever the client says."""
        super().prepare_create(obj, context)
        spec, who = child(obj, "spec"), context.identity
        found = {
            "username": who.name if who else context.user,
            "uid": who.uid if who else "",
            "groups": list(who.groups) if who else [],
            "extra": {key: list(values) for key, values in who.extra.items()} if who else {},
        }
        for name, value in found.items():
            spec.pop(name, None)
            if value:
                spec[name] = value

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        keep(new, old, "spec", "status")

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        """/status leaves the approval alone, /approval everything but the conditions."""
        status, was = child(new, "status"), old.get("status") or {}
        if context.subresource == "approval":
            conditions = status.get("conditions")
            kept = {name: value for name, value in was.items() if name != "conditions"}
            new["status"] = status = kept if conditions is None else {**kept, "conditions": conditions}
        else:
            _preserve(status, was)
        _stamp(status, was, rfc3339(context.now))

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _request(errors, obj, {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self._update(errors, new, old, approval=False, certificate=False)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, approval = Errors(), context.subresource == "approval"
        self._update(errors, new, old, approval=approval, certificate=not approval)
        return errors

    def _update(self, errors: Errors, new: Object, old: Object, *, approval: bool, certificate: bool) -> None:
        path = "status.conditions"
        errors.extend(validate_metadata(new, self.name_check, namespaced=False))
        _request(errors, new, old)
        for kind in _FINAL:
            found, was = _of(new, kind), _of(old, kind)
            if len(found) < len(was):
                errors.forbidden(path, f'updates may not remove a condition of type "{kind}"')
        for kind in () if approval else _APPROVAL:
            found, was = _of(new, kind), _of(old, kind)
            if len(found) > len(was):
                errors.forbidden(path, f'updates may not add a condition of type "{kind}"')
            elif len(found) == len(was) and found != was:
                errors.forbidden(path, f'updates may not modify a condition of type "{kind}"\n')
        issued, before = ((obj.get("status") or {}).get("certificate") or "" for obj in (new, old))
        if issued != before:
            if not certificate:
                errors.forbidden("status.certificate", "updates may not set certificate content")
            elif before:
                errors.forbidden("status.certificate", "updates may not modify existing certificate content")

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"spec.signerName": (obj.get("spec") or {}).get("signerName", "")}

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        seconds = spec.get("expirationSeconds")
        return [
            printing.name(obj),
            printing.age(obj, now),
            spec.get("signerName") or printing.NONE,
            spec.get("username", ""),
            printing.NONE if seconds is None else printing.human_duration(seconds),
            _state(obj),
        ]


def _conditions(obj: Object) -> Sequence[Struct]:
    return (obj.get("status") or {}).get("conditions") or ()


def _of(obj: Object, kind: str) -> list[Struct]:
    return [condition for condition in _conditions(obj) if condition.get("type") == kind]


def _state(obj: Object) -> str:
    kinds = {condition.get("type") for condition in _conditions(obj)}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    issued = (obj.get("status") or {}).get("certificate")
    return state + (",Failed" if "Failed" in kinds else "") + (",Issued" if issued else "")


def _preserve(status: MutableObject, was: Struct) -> None:
    """Conditions of approval stay as they were stored when there are as many of them."""
    conditions: list[Any] = list(status.get("conditions") or ())
    for kind in _APPROVAL:
        stored = [condition for condition in was.get("conditions") or () if condition.get("type") == kind]
        places = [i for i, condition in enumerate(conditions) if condition.get("type") == kind]
        if len(stored) == len(places):
            for i, condition in zip(places, stored, strict=True):
                conditions[i] = condition
    if conditions:
        status["conditions"] = conditions


def _stamp(status: MutableObject, was: Struct, now: str) -> None:
    """Times of conditions that the client left out."""
    stamped = []
    for given in status.get("conditions") or ():
        condition = dict(given)
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or now
        if not condition.get("lastTransitionTime"):
            same = (
                other.get("lastTransitionTime")
                for other in was.get("conditions") or ()
                if all(other.get(key) == condition.get(key) for key in ("type", "status"))
            )
            condition["lastTransitionTime"] = next(filter(None, same), now)
        stamped.append(condition)
    if stamped:
        status["conditions"] = stamped


def _request(errors: Errors, obj: Object, old: Object) -> None:
    """What is wrong with the request; what an older server let pass in `old` is let pass again."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    request, usages, before = spec.get("request") or "", spec.get("usages") or (), was.get("usages") or ()
    if problem := _pem_problem(request):
        errors.invalid("spec.request", request, problem)
    errors.non_empty("spec.usages", usages)
    if all(usage in _USAGES for usage in before):
        for i, usage in enumerate(usages):
            errors.one_of(f"spec.usages[{i}]", usage, _USAGES)
    if len(set(before)) == len(before):
        for i, usage in enumerate(usages):
            if usage in usages[:i]:
                errors.duplicate(f"spec.usages[{i}]", usage)
    signer = spec.get("signerName", "")
    if signer == _LEGACY and was.get("signerName") != _LEGACY:
        errors.invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version")
    else:
        signer_name(errors, "spec.signerName", signer)
    if (seconds := spec.get("expirationSeconds")) is not None and seconds < _MIN_SECONDS:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.invalid("spec.expirationSeconds", seconds, detail)
    _condition_rules(errors, "status.conditions", _conditions(obj))
    if problem := _certificate_problem((obj.get("status") or {}).get("certificate") or ""):
        errors.invalid("status.certificate", "<certificate data>", problem)


def _pem_problem(request: str) -> str:
    """Why this is no signed request; '' when it is one."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509 import load_pem_x509_csr

    data = b64decode(request)
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in data:
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        return "" if load_pem_x509_csr(data).is_signature_valid else "x509: invalid signature"
    except (ValueError, InvalidSignature) as problem:
        return str(problem)


def _certificate_problem(certificate: str) -> str:
    if not certificate:
        return ""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        load_pem_x509_certificates(b64decode(certificate))
    except ValueError:
        return "must contain at least one CERTIFICATE PEM block"
    return ""


def _condition_rules(errors: Errors, path: str, conditions: Sequence[Struct]) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind, where = condition.get("type", ""), f"{path}[{i}]"
        errors.non_empty(f"{where}.type", kind)
        states = ("True",) if kind in _FINAL else ("False", "True", "Unknown")
        errors.enum(f"{where}.status", condition.get("status"), states)
        if kind in _APPROVAL and seen & (set(_APPROVAL) - {kind}):
            errors.invalid(path, kind, "Approved and Denied conditions are mutually exclusive")
        if kind in seen:
            errors.duplicate(f"{where}.type", kind)
        seen.add(kind)
