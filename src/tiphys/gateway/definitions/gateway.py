"""Gateway: listeners at an address, and who may attach routes to them."""

from __future__ import annotations

from tiphys.gateway.definitions import schema as s

_KEY_RULE = (
    'self.all(key, key.matches(r"""^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?'
    '([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"""))'
)
_KEYS = [
    s.rule(_KEY_RULE, "a key is a name, with the prefix of a DNS subdomain perhaps"),
    s.rule('self.all(key, key.split("/")[0].size() < 253)', "the prefix of a key has at most 253 characters"),
]
_SECRET = s.record(
    "name",
    group=s.group(default=""),
    kind=s.kind(default="Secret"),
    name=s.text(1, 253),
    namespace=s.namespace(),
)
_TLS = s.record(
    rules=(
        s.rule(
            "self.mode == 'Terminate' ? size(self.certificateRefs) > 0 || size(self.options) > 0 : true",
            "certificateRefs or options must be specified when mode is Terminate",
        ),
    ),
    mode=s.choice("Terminate", "Passthrough", default="Terminate"),
    certificateRefs=s.array(_SECRET, 64),
    options=s.table(s.text(0, 4096), 16),
)
_ALLOWED = s.record(
    kinds=s.array(s.record("kind", group=s.group(default="gateway.networking.k8s.io"), kind=s.kind()), 8),
    namespaces=s.record(from_=s.choice("All", "Selector", "Same", default="Same"), selector=s.selector())
    | {"default": {"from": "Same"}},
) | {"default": {"namespaces": {"from": "Same"}}}
_LISTENER = s.record(
    "name port protocol",
    name=s.section(),
    hostname=s.hostname(),
    port=s.port(),
    protocol=s.protocol(),
    tls=_TLS,
    allowedRoutes=_ALLOWED,
)
_LISTENER_RULES = [
    s.rule(
        "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
        "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
    ),
    s.rule(
        "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? (l.tls.mode == '' || l.tls.mode == 'Terminate') : true)",
        "tls mode must be Terminate for protocol HTTPS",
    ),
    s.rule(
        "self.all(l, (l.protocol == 'TLS' ? has(l.tls) && has(l.tls.mode) && l.tls.mode != '' : true))",
        "tls mode must be set for protocol TLS",
    ),
    s.rule(
        "self.all(l, l.protocol in ['TCP', 'UDP'] ? (!has(l.hostname) || l.hostname == '') : true)",
        "hostname must not be specified for protocols ['TCP', 'UDP']",
    ),
    s.rule("self.all(l1, self.exists_one(l2, l1.name == l2.name))", "Listener name must be unique within the Gateway"),
    s.rule(
        "self.all(l1, self.exists_one(l2, l1.port == l2.port && l1.protocol == l2.protocol && (has(l1.hostname) && "
        "has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))",
        "Combination of port, protocol and hostname must be unique for each listener",
    ),
]


def _address(*, needs_value: bool) -> s.Schema:
    empty = "" if needs_value else "!has(self.value) || "
    return s.record(
        "value" if needs_value else "",
        rules=(
            s.rule(
                f"self.type == 'Hostname' ? ({empty}self.value.matches({s.HOST_CHARACTERS})) : true",
                "Hostname value must only contain valid characters",
            ),
        ),
        type=s.address_type(),
        value=s.text(1 if needs_value else 0, 253),
    )


def _unique(kind: str) -> s.Schema:
    expression = (
        f"self.all(a1, a1.type == '{kind}' && has(a1.value) ? self.exists_one(a2, a2.type == a1.type && "
        "has(a2.value) && a2.value == a1.value) : true)"
    )
    return s.rule(expression, f"{kind} values must be unique")


_SPEC = s.record(
    "gatewayClassName listeners",
    gatewayClassName=s.text(1, 253),
    listeners=s.array(_LISTENER, 64, kind="map", keys="name", least=1, rules=_LISTENER_RULES),
    addresses=s.array(_address(needs_value=False), 16, rules=[_unique("IPAddress"), _unique("Hostname")]),
    infrastructure=s.record(
        annotations=s.table(s.text(0, 4096), 8, rules=_KEYS),
        labels=s.table(s.text(0, 63, "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"), 8, rules=_KEYS),
        parametersRef=s.reference("group kind name"),
    ),
)
_STATUS = s.record(
    addresses=s.array(_address(needs_value=True), 16),
    conditions=s.conditions(default=s.waiting("Accepted", "Programmed")),
    listeners=s.array(
        s.record(
            "attachedRoutes conditions name",
            attachedRoutes=s.number(0),
            conditions=s.conditions(),
            name=s.section(),
            supportedKinds=s.array(
                s.record("kind", group=s.group(default="gateway.networking.k8s.io"), kind=s.kind()), 8
            ),
        ),
        64,
        kind="map",
        keys="name",
    ),
) | {"default": {"conditions": s.waiting("Accepted", "Programmed")}}

SPEC = {
    "scope": "Namespaced",
    "names": {
        "categories": ["gateway-api"],
        "kind": "Gateway",
        "listKind": "GatewayList",
        "plural": "gateways",
        "shortNames": ["gtw"],
        "singular": "gateway",
    },
    "versions": s.versions(
        [
            s.column("Class", ".spec.gatewayClassName"),
            s.column("Address", ".status.addresses[*].value"),
            s.column("Programmed", '.status.conditions[?(@.type=="Programmed")].status'),
            s.AGE,
        ],
        s.whole("Listeners for traffic from outside, at addresses of their own.", _SPEC, _STATUS),
    ),
}
