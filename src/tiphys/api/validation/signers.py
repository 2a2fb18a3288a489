"""Names of certificate signers and of the trust bundles that belong to them."""

from __future__ import annotations

from tiphys.api.kinds.base import quote
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import Messages, NameCheck, dns_label, dns_subdomain


def is_kubernetes_signer(name: str) -> bool:
    host = name.partition("/")[0]
    return host == "kubernetes.io" or host.endswith(".kubernetes.io")


def signer_name(errors: Errors, path: str, name: str) -> None:
    """A domain of two labels or more, a slash and a path of dotted labels."""
    if not errors.non_empty(path, name):
        return
    host, slash, tail = name.partition("/")
    if not slash or "/" in tail:
        errors.invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
        return
    if len(host) > 253:
        errors.too_long(path, 253)
    labels = host.split(".")
    _first_bad(errors, path, host, labels, dns_label)
    if len(labels) < 2:
        errors.invalid(path, host, "should be a domain with at least two segments separated by dots")
    _first_bad(errors, path, tail, tail.split("."), dns_subdomain)
    if len(name) > 253 + 1 + 253 + 63 + 1:
        errors.too_long(path, 253 + 1 + 253 + 63 + 1)


def _first_bad(errors: Errors, path: str, value: str, labels: list[str], check: NameCheck) -> None:
    for label in labels:
        if found := check(label):
            errors.each(path, value, (f"validating label {quote(label)}: {message}" for message in found))
            return


def cluster_trust_bundle_name(name: str) -> Messages:
    """A bundle of a signer begins with the signer's name, its slash a colon."""
    _, colon, tail = name.rpartition(":")
    return dns_subdomain(tail) if colon else dns_subdomain(name)
