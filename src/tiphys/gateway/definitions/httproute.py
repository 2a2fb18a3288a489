"""HTTPRoute: which requests of a Gateway go to which backends, and what is changed on their way."""

from __future__ import annotations

from tiphys.gateway.definitions import schema as s

_NAME_PATTERN = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"
_PATH_PATTERN = r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$"
_LITERAL = "(self.type in ['Exact','PathPrefix'])"
_DURATION = s.text(pattern="^([0-9]{1,5}(h|m|s|ms)){1,4}$")
_FILTERS = {
    "requestHeaderModifier": "RequestHeaderModifier",
    "responseHeaderModifier": "ResponseHeaderModifier",
    "requestMirror": "RequestMirror",
    "requestRedirect": "RequestRedirect",
    "urlRewrite": "URLRewrite",
    "extensionRef": "ExtensionRef",
    "cors": "CORS",
}


def _header_name() -> s.Schema:
    return s.text(1, 256, _NAME_PATTERN)


def _headers(most: int = 16) -> s.Schema:
    header = s.record("name value", name=_header_name(), value=s.text(1, 4096))
    return s.array(header, most, kind="map", keys="name")


def _modifier() -> s.Schema:
    return s.record(set=_headers(), add=_headers(), remove=s.array(s.text(), 16, kind="set"))


def _backend() -> s.Schema:
    return s.record(
        "name",
        rules=(
            s.rule(
                "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
                "Must have port for Service reference",
            ),
        ),
        group=s.group(default=""),
        kind=s.kind(default="Service"),
        name=s.text(1, 253),
        namespace=s.namespace(),
        port=s.port(),
    )


def _path_modifier() -> s.Schema:
    rules = []
    for kind in ("ReplaceFullPath", "ReplacePrefixMatch"):
        field = kind[0].lower() + kind[1:]
        rules += [
            s.rule(
                f"self.type == '{kind}' ? has(self.{field}) : true", f"{field} must be specified when type is '{kind}'"
            ),
            s.rule(f"has(self.{field}) ? self.type == '{kind}' : true", f"type must be '{kind}' when {field} is set"),
        ]
    return s.record(
        "type",
        rules=tuple(rules),
        type=s.choice("ReplaceFullPath", "ReplacePrefixMatch"),
        replaceFullPath=s.text(0, 1024),
        replacePrefixMatch=s.text(0, 1024),
    )


def _mirror() -> s.Schema:
    fraction = s.record(
        "numerator",
        rules=(s.rule("self.numerator <= self.denominator", "numerator must be less than or equal to denominator"),),
        numerator=s.number(0),
        denominator=s.number(1, default=100),
    )
    return s.record(
        "backendRef",
        rules=(
            s.rule("!(has(self.percent) && has(self.fraction))", "Only one of percent or fraction may be specified"),
        ),
        backendRef=_backend(),
        percent=s.number(0, 100),
        fraction=fraction,
    )


def _redirect() -> s.Schema:
    return s.record(
        scheme=s.choice("http", "https"),
        hostname=s.hostname(wildcard=False),
        path=_path_modifier(),
        port=s.port(),
        statusCode={"type": "integer", "enum": [301, 302, 303, 307, 308], "default": 302},
    )


def _cors() -> s.Schema:
    origin = r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)"
    methods = s.choice("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*")
    alone = [s.rule("!('*' in self && self.size() > 1)", "'*' must be alone")]
    return s.record(
        allowOrigins=s.array(s.text(1, 253, origin), 64, kind="set", rules=alone),
        allowMethods=s.array(methods, 9, kind="set", rules=alone),
        allowHeaders=s.array(_header_name(), 64, kind="set", rules=alone),
        exposeHeaders=s.array(_header_name(), 64, kind="set"),
        allowCredentials={"type": "boolean"},
        maxAge=s.number(1, default=5),
    )


def _filter() -> s.Schema:
    rules = []
    for field, kind in _FILTERS.items():
        rules += [
            s.rule(
                f"!(has(self.{field}) && self.type != '{kind}')",
                f"filter.{field} must be nil if the filter.type is not {kind}",
            ),
            s.rule(
                f"!(!has(self.{field}) && self.type == '{kind}')",
                f"filter.{field} must be specified for {kind} filter.type",
            ),
        ]
    return s.record(
        "type",
        rules=tuple(rules),
        type=s.choice(*_FILTERS.values()),
        requestHeaderModifier=_modifier(),
        responseHeaderModifier=_modifier(),
        requestMirror=_mirror(),
        requestRedirect=_redirect(),
        urlRewrite=s.record(hostname=s.hostname(wildcard=False), path=_path_modifier()),
        extensionRef=s.reference("group kind name"),
        cors=_cors(),
    )


def _filters() -> s.Schema:
    once = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS")
    rules = [
        s.rule(
            "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == 'URLRewrite'))",
            "May specify either RequestRedirect or URLRewrite, but not both",
        ),
        *(s.rule(f"self.filter(f, f.type == '{one}').size() <= 1", f"{one} filter cannot be repeated") for one in once),
    ]
    return s.array(_filter(), 16, rules=rules)


def _path() -> s.Schema:
    forbidden = [("contains", text) for text in ("//", "/./", "/../", "%2f", "%2F", "#")]
    forbidden += [("endsWith", text) for text in ("/..", "/.")]
    rules = [
        s.rule(f"{_LITERAL} ? self.value.startsWith('/') : true", "value must be an absolute path and start with '/'"),
        *(
            s.rule(f"{_LITERAL} ? !self.value.{call}('{text}') : true", f"must not have '{text}' in it")
            for call, text in forbidden
        ),
        s.rule(f'{_LITERAL} ? self.value.matches(r"""{_PATH_PATTERN}""") : true', "must only contain valid characters"),
    ]
    return s.record(
        rules=tuple(rules),
        type=s.choice("Exact", "PathPrefix", "RegularExpression", default="PathPrefix"),
        value=s.text(0, 1024, default="/"),
    ) | {"default": {"type": "PathPrefix", "value": "/"}}


def _valued(most: int) -> s.Schema:
    value = s.record(
        "name value",
        type=s.choice("Exact", "RegularExpression", default="Exact"),
        name=_header_name(),
        value=s.text(1, most),
    )
    return s.array(value, 16, kind="map", keys="name")


def _match() -> s.Schema:
    return s.record(
        path=_path(),
        headers=_valued(4096),
        queryParams=_valued(1024),
        method=s.choice("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
    )


_PREFIX_ONLY = (
    "(has(self.matches) && self.matches.exists(m, has(m.path) && m.path.type != 'PathPrefix')) ? "
    "!self.filters.exists(f, f.type == '{kind}' && has(f.{field}.path) && f.{field}.path.type == 'ReplacePrefixMatch') "
    ": true"
)


def _rule() -> s.Schema:
    timeouts = s.record(
        rules=(
            s.rule(
                "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && "
                "duration(self.backendRequest) > duration(self.request))",
                "backendRequest timeout cannot be longer than request timeout",
            ),
        ),
        request=_DURATION,
        backendRequest=_DURATION,
    )
    guard = "!has(self.filters) ? true : "
    rules = (
        s.rule(
            "has(self.backendRefs) && self.backendRefs.size() > 0 ? !(has(self.filters) && "
            "self.filters.exists(f, has(f.requestRedirect))) : true",
            "RequestRedirect filter must not be used together with backendRefs",
        ),
        s.rule(
            guard + _PREFIX_ONLY.format(kind="RequestRedirect", field="requestRedirect"),
            "ReplacePrefixMatch needs matches by PathPrefix",
        ),
        s.rule(
            guard + _PREFIX_ONLY.format(kind="URLRewrite", field="urlRewrite"),
            "ReplacePrefixMatch needs matches by PathPrefix",
        ),
    )
    backend = _backend()
    backend["properties"] |= {"weight": s.number(0, 1000000, default=1), "filters": _filters()}
    return s.record(
        rules=rules,
        name=s.section(),
        matches=s.array(_match(), 64, default=[{"path": {"type": "PathPrefix", "value": "/"}}]),
        filters=_filters(),
        backendRefs=s.array(backend, 16),
        timeouts=timeouts,
    )


def _parent() -> s.Schema:
    return s.record(
        "name",
        group=s.group(default="gateway.networking.k8s.io"),
        kind=s.kind(default="Gateway"),
        namespace=s.namespace(),
        name=s.text(1, 253),
        sectionName=s.section(),
        port=s.port(),
    )


_SPEC = s.record(
    parentRefs=s.array(_parent(), 32),
    hostnames=s.array(s.hostname(), 16),
    rules_=s.array(_rule(), 16, least=1, default=[{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]),
)
_STATUS = s.record(
    "parents",
    parents=s.array(
        s.record(
            "conditions controllerName parentRef",
            parentRef=_parent(),
            controllerName=s.controller(),
            conditions=s.conditions(least=1),
        ),
        32,
    ),
)

SPEC = {
    "scope": "Namespaced",
    "names": {
        "categories": ["gateway-api"],
        "kind": "HTTPRoute",
        "listKind": "HTTPRouteList",
        "plural": "httproutes",
        "singular": "httproute",
    },
    "versions": s.versions(
        [s.column("Hostnames", ".spec.hostnames"), s.AGE],
        s.whole("Rules by which requests that come to a Gateway go to backends.", _SPEC, _STATUS),
    ),
}
