"""ReferenceGrant: what objects of other namespaces may refer to."""

from __future__ import annotations

from tiphys.gateway.definitions import schema as s

_SPEC = s.record(
    "from to",
    from_=s.array(
        s.record("group kind namespace", group=s.group(), kind=s.kind(), namespace=s.namespace()), 16, least=1
    ),
    to=s.array(s.record("group kind", group=s.group(), kind=s.kind(), name=s.text(1, 253)), 16, least=1),
)

SPEC = {
    "scope": "Namespaced",
    "names": {
        "categories": ["gateway-api"],
        "kind": "ReferenceGrant",
        "listKind": "ReferenceGrantList",
        "plural": "referencegrants",
        "shortNames": ["refgrant"],
        "singular": "referencegrant",
    },
    "versions": s.versions(
        [s.AGE],
        s.whole("Lets objects of other namespaces refer to objects of this one.", _SPEC),
        ("v1beta1",),
    ),
}
