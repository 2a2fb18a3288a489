"""Volumes of pods: one source each, of any of the types that the API has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.api.validation import volume_sources as sources
from tiphys.api.validation.claims import claim_template
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.fields import VOLUME_FIELDS, field_selector, resource_selector
from tiphys.api.validation.labels import label_selector
from tiphys.api.validation.metadata import check_annotations
from tiphys.api.validation.names import dns_label, dns_subdomain
from tiphys.api.validation.paths import file_mode, local_non_reserved
from tiphys.api.validation.quantities import amount
from tiphys.api.validation.signers import cluster_trust_bundle_name, is_kubernetes_signer, signer_name

Struct = Mapping[str, Any]
Volumes = dict[str, Struct]

_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_ONE_TYPE = "may not specify more than 1 volume type"


def key_to_path(errors: Errors, path: str, item: Struct) -> None:
    errors.fields(path, item, "key", "path")
    local_non_reserved(errors, f"{path}.path", item.get("path", ""))
    file_mode(errors, f"{path}.mode", item.get("mode"))


def _keyed(name_field: str) -> sources.SourceCheck:
    def check(errors: Errors, path: str, source: Struct, owner: str) -> None:
        errors.fields(path, source, name_field)
        file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
        for i, item in enumerate(source.get("items") or ()):
            key_to_path(errors, f"{path}.items[{i}]", item)

    return check


def _empty_dir(errors: Errors, path: str, source: Struct, owner: str) -> None:
    limit = source.get("sizeLimit")
    if limit is not None and amount(limit) < 0:
        errors.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _downward_file(errors: Errors, path: str, file: Struct) -> None:
    errors.fields(path, file, "path")
    local_non_reserved(errors, f"{path}.path", file.get("path", ""))
    field, resource = file.get("fieldRef"), file.get("resourceFieldRef")
    if field is not None:
        field_selector(errors, f"{path}.fieldRef", field, VOLUME_FIELDS)
        if resource is not None:
            errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif resource is not None:
        resource_selector(errors, f"{path}.resourceFieldRef", resource, volume=True)
    else:
        errors.required(path, "one of fieldRef and resourceFieldRef is required")
    file_mode(errors, f"{path}.mode", file.get("mode"))


def _downward(errors: Errors, path: str, source: Struct, owner: str) -> None:
    file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
    for file in source.get("items") or ():
        _downward_file(errors, path, file)


class _Projection:
    """The sources of one projected volume; their paths must differ."""

    def __init__(self, errors: Errors, path: str) -> None:
        self.errors = errors
        self.path = path
        self.taken: set[str] = set()

    def take(self, path: str, owner: str) -> None:
        if path in self.taken:
            self.errors.invalid(self.path, owner, "conflicting duplicate paths")
        self.taken.add(path)

    def source(self, i: int, source: Struct) -> None:
        where = f"{self.path}.sources[{i}]"
        count = 0
        for name, check in (
            ("secret", self._keyed),
            ("configMap", self._keyed),
            ("downwardAPI", self._downward),
            ("serviceAccountToken", self._token),
            ("clusterTrustBundle", self._trust_bundle),
            ("podCertificate", self._certificate),
        ):
            if (value := source.get(name)) is not None:
                count += 1
                check(f"{where}.{name}", value)
        if count > 1:
            self.errors.forbidden(where, "may not specify more than 1 volume type per source")

    def _keyed(self, path: str, source: Struct) -> None:
        self.errors.fields(path, source, "name")
        for i, item in enumerate(source.get("items") or ()):
            key_to_path(self.errors, f"{path}.items[{i}]", item)
            if value := item.get("path"):
                self.take(value, source.get("name", ""))

    def _downward(self, path: str, source: Struct) -> None:
        for file in source.get("items") or ():
            _downward_file(self.errors, path, file)
            if value := file.get("path"):
                self.take(value, value)

    def _token(self, path: str, source: Struct) -> None:
        where, seconds = f"{path}.expirationSeconds", source.get("expirationSeconds") or 0
        if seconds < 600:
            self.errors.invalid(where, seconds, "may not specify a duration less than 10 minutes")
        if seconds > 1 << 32:
            self.errors.invalid(where, seconds, "may not specify a duration larger than 2^32 seconds")
        if self.errors.non_empty(f"{self.path}.path", source.get("path")):
            local_non_reserved(self.errors, f"{self.path}.path", source["path"])

    def _trust_bundle(self, path: str, source: Struct) -> None:
        name, signer, selector = source.get("name"), source.get("signerName"), source.get("labelSelector")
        if name is not None and signer is not None:
            self.errors.invalid(path, dict(source), "only one of name and signerName may be used")
        elif name is not None:
            self.errors.non_empty(f"{path}.name", name, "must be a valid object name")
            for message in cluster_trust_bundle_name(name):
                self.errors.invalid(f"{path}.name", name, f"not a valid clustertrustbundlename: {message}")
            if selector is not None:
                detail = "labelSelector must be unset if name is specified"
                self.errors.invalid(f"{path}.labelSelector", selector, detail)
        elif signer is not None:
            self.errors.non_empty(f"{path}.signerName", signer, "must be a valid signer name")
            signer_name(self.errors, f"{path}.signerName", signer)
            label_selector(self.errors, f"{path}.labelSelector", selector)
        else:
            self.errors.required(path, "either name or signerName must be specified")
        self.errors.fields(path, source, "path")
        local_non_reserved(self.errors, f"{path}.path", source.get("path", ""))
        self.take(source.get("path", ""), source.get("path", ""))

    def _certificate(self, path: str, source: Struct) -> None:
        signer = source.get("signerName", "")
        signer_name(self.errors, f"{path}.signerName", signer)
        check_annotations(self.errors, f"{path}.userAnnotations", source.get("userAnnotations"))
        if (kind := source.get("keyType", "")) not in _KEY_TYPES:
            self.errors.unsupported(f"{path}.keyType", kind, _KEY_TYPES)
        self._lifetime(f"{path}.maxExpirationSeconds", source.get("maxExpirationSeconds"), signer)
        count = 0
        for name in ("credentialBundlePath", "keyPath", "certificateChainPath"):
            if value := source.get(name):
                count += 1
                local_non_reserved(self.errors, f"{path}.{name}", value)
                self.take(value, value)
        if not count:
            detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
            self.errors.required(path, detail)

    def _lifetime(self, path: str, seconds: int | None, signer: str) -> None:
        if seconds is None:
            return
        most = 86400 if is_kubernetes_signer(signer) else 91 * 86400
        if seconds < 3600:
            self.errors.invalid(path, seconds, "if provided, maxExpirationSeconds must be >= 3600")
        if seconds > most:
            self.errors.invalid(path, seconds, f"if provided, maxExpirationSeconds must be <= {most}")


def _projected(errors: Errors, path: str, source: Struct, owner: str) -> None:
    file_mode(errors, f"{path}.defaultMode", source.get("defaultMode"))
    projection = _Projection(errors, path)
    for i, part in enumerate(source.get("sources") or ()):
        projection.source(i, part)


def _ephemeral(errors: Errors, path: str, source: Struct, owner: str) -> None:
    template = source.get("volumeClaimTemplate")
    if template is None:
        errors.required(f"{path}.volumeClaimTemplate")
    else:
        claim_template(errors, f"{path}.volumeClaimTemplate", template)


def _image(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.enum(f"{path}.pullPolicy", source.get("pullPolicy"), ("Always", "IfNotPresent", "Never"))


_SOURCES: dict[str, sources.SourceCheck] = {
    "emptyDir": _empty_dir,
    "hostPath": sources.host_path,
    "gitRepo": sources.git_repo,
    "gcePersistentDisk": sources.gce_disk,
    "awsElasticBlockStore": sources.aws_disk,
    "secret": _keyed("secretName"),
    "nfs": sources.nfs,
    "iscsi": sources.iscsi,
    "glusterfs": sources.needs("endpoints", "path"),
    "flocker": sources.flocker,
    "persistentVolumeClaim": sources.needs("claimName"),
    "rbd": sources.needs("monitors", "image"),
    "cinder": sources.cinder,
    "cephfs": sources.needs("monitors"),
    "quobyte": sources.quobyte,
    "downwardAPI": _downward,
    "fc": sources.fibre_channel,
    "flexVolume": sources.flex,
    "configMap": _keyed("name"),
    "azureFile": sources.needs("secretName", "shareName"),
    "vsphereVolume": sources.needs("volumePath"),
    "photonPersistentDisk": sources.needs("pdID"),
    "portworxVolume": sources.needs("volumeID"),
    "azureDisk": sources.azure_disk,
    "storageos": sources.storageos,
    "projected": _projected,
    "scaleIO": sources.needs("gateway", "system", "volumeName"),
    "csi": sources.csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
"""In the order in which upstream looks for them: the first one wins, the others are refused."""
_ORDER = {name: i for i, name in enumerate(_SOURCES)}
_MISSPELT = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Two sources whose refusal is spelt otherwise upstream."""


def _source(errors: Errors, path: str, volume: Struct, *, is_pod: bool) -> None:
    found = [name for name in volume if name in _SOURCES and volume[name] is not None]
    if not found:
        errors.required(path, "must specify a volume type")
        return
    first, *others = sorted(found, key=_ORDER.__getitem__) if len(found) > 1 else found
    if first == "image" and is_pod:
        errors.fields(f"{path}.image", volume["image"], "reference")
    _SOURCES[first](errors, f"{path}.{first}", volume[first], volume.get("name", ""))
    for name in others:
        errors.forbidden(f"{path}.{_MISSPELT.get(name, name)}", _ONE_TYPE)


def _ephemeral_name(errors: Errors, path: str, pod: str, volume: Struct) -> None:
    name = volume.get("name", "")
    if pod and name and volume.get("ephemeral") is not None:
        claim = f"{pod}-{name}"
        for message in dns_subdomain(claim):
            errors.invalid(f"{path}.name", name, f"PVC name {quote(claim)}: {message}")


def volumes(errors: Errors, path: str, listed: Sequence[Struct], pod: str = "", *, is_pod: bool = True) -> Volumes:
    """Check the volumes of the pod called `pod` ('' for a template) and return the well ones by name."""
    known: Volumes = {}
    created = {f"{pod}-{v.get('name', '')}" for v in listed if pod and v.get("ephemeral") is not None}
    for i, volume in enumerate(listed):
        where, before = f"{path}[{i}]", len(errors)
        name = volume.get("name", "")
        _source(errors, where, volume, is_pod=is_pod)
        _ephemeral_name(errors, where, pod, volume)
        if errors.non_empty(f"{where}.name", name):
            errors.each(f"{where}.name", name, dns_label(name))
        if name in known:
            errors.duplicate(f"{where}.name", name)
        if len(errors) == before:
            known[name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and claim in created:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            errors.invalid(f"{where}.persistentVolumeClaim.claimName", claim, detail)
    return known
