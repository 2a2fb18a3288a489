"""Operations of one group version as an OpenAPI v3 paths object.

Operation ids, tags and x-kubernetes-action are upstream's: client generators and kubectl read them (kubectl looks
for fieldValidation on the PATCH of a kind).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiphys.api.catalog import ResourceInfo, SubresourceInfo
from tiphys.api.openapi import parameters
from tiphys.api.openapi.schemas import V3_ROOT

Operation = dict[str, Any]
Paths = dict[str, dict[str, Any]]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
CUSTOM_PATCHES = tuple(media for media in PATCHES if "strategic" not in media)
PROTOBUF = "application/vnd.kubernetes.protobuf"
CUSTOM_MEDIA = ("application/json", "application/yaml")
MEDIA = (*CUSTOM_MEDIA, PROTOBUF)
STREAM = "application/json;stream=watch"
WATCHED = ("application/json", STREAM, PROTOBUF, f"{PROTOBUF};stream=watch", "application/yaml")
_CONNECTS = ("attach", "exec", "portforward", "proxy")
_CONNECT_METHODS = {
    "create": ("post",),
    "delete": ("delete",),
    "get": ("get",),
    "patch": ("patch",),
    "update": ("put",),
}


def is_custom(info: ResourceInfo) -> bool:
    """Whether a resource is defined by a CustomResourceDefinition."""
    return info.type is not None and info.type.custom is not None


def list_name(info: ResourceInfo) -> str:
    """The definition of a list of its objects."""
    if is_custom(info):
        return f"{info.type_name.rpartition('.')[0]}.{info.list_kind}"
    return info.type_name + "List"


class PathWriter:
    """Writes the paths of one group version. `names` collects the definitions that they refer to."""

    def __init__(self, group: str, version: str) -> None:
        self.group, self.version = group, version
        self.base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        self.names: set[str] = set()
        self.custom = False
        """Whether the resource that is being written is a custom one: those have no protobuf."""
        short = group.removesuffix(".k8s.io") or "core"
        words = short.split(".")
        self._tag = words[0] + "".join(map(_capital, words[1:])) + "_" + version
        self._id = "".join(map(_capital, words)) + _capital(version)

    def root(self) -> Paths:
        """The path that lists the version's resources."""
        operation = {"description": "get available resources", "operationId": f"get{self._id}APIResources"}
        answers = self._answers(META + "APIResourceList", MEDIA, "200")
        return {f"{self.base}/": {"get": {**operation, "responses": answers, "tags": [self._tag]}}}

    def resource(self, info: ResourceInfo) -> Paths:
        """All paths of one resource and its subresources."""
        paths: Paths = {}
        self.custom = is_custom(info)
        scope = "/namespaces/{namespace}" if info.namespaced else ""
        collection = f"{self.base}{scope}/{info.plural}"
        item = f"{collection}/{{name}}"
        paths[collection] = dict(self._collection(info))
        if info.namespaced and "list" in info.verbs:
            paths[f"{self.base}/{info.plural}"] = self._common(self._all_namespaces(info), named="", namespaced=False)
        paths[item] = dict(self._item(info))
        for name, sub in info.subresources.items():
            paths[f"{item}/{name}"] = self._common(
                dict(self._subresource(info, sub)), named=sub.kind, namespaced=info.namespaced
            )
        self._common(paths[collection], named="", namespaced=info.namespaced)
        self._common(paths[item], named=info.kind, namespaced=info.namespaced)
        return {path: found for path, found in paths.items() if set(found) != {"parameters"}}

    def _collection(self, info: ResourceInfo) -> Iterator[tuple[str, Operation]]:
        about = f"of kind {info.kind}"
        if "list" in info.verbs:
            self.names.add(META + "WatchEvent")
            listing = self._operation(info, "list", f"list or watch objects {about}", query=parameters.LIST)
            yield "get", listing | {"responses": self._answers(list_name(info), WATCHED, "200")}
        if "create" in info.verbs:
            create = self._operation(
                info, "create", f"create {_article(info.kind)}", action="post", query=parameters.CREATE
            )
            yield (
                "post",
                create
                | self._body(info.type_name)
                | {"responses": self._answers(info.type_name, MEDIA, "200", "201", "202")},
            )
        if "deletecollection" in info.verbs:
            text = f"delete collection of {info.kind}"
            delete = self._operation(
                info, "delete", text, middle="Collection", action="deletecollection", query=parameters.DELETE_COLLECTION
            )
            yield "delete", delete | self._delete_body() | {"responses": self._answers(META + "Status", MEDIA, "200")}

    def _all_namespaces(self, info: ResourceInfo) -> dict[str, Any]:
        text = f"list or watch objects of kind {info.kind}"
        listing = self._operation(info, "list", text, scope="", tail="ForAllNamespaces", query=parameters.LIST)
        return {"get": listing | {"responses": self._answers(list_name(info), WATCHED, "200")}}

    def _item(self, info: ResourceInfo) -> Iterator[tuple[str, Operation]]:
        yield from self._reads_and_writes(info, info.verbs, info.type_name, info.kind, "")
        if "delete" in info.verbs:
            delete = self._operation(info, "delete", f"delete {_article(info.kind)}", query=parameters.DELETE)
            answer = info.type_name if info.returns_deleted else META + "Status"
            yield (
                "delete",
                delete | self._delete_body() | {"responses": self._answers(answer, MEDIA, "200", "202")},
            )

    def _reads_and_writes(
        self, info: ResourceInfo, verbs: tuple[str, ...], type_name: str, kind: str, sub: str
    ) -> Iterator[tuple[str, Operation]]:
        about = f"{sub} of the specified {info.kind}" if sub else f"the specified {info.kind}"
        tail = _capital(sub)
        kinded = self._kind(self.group, self.version, kind)
        if "get" in verbs:
            query = parameters.CONNECT.get(sub, ())
            read = self._operation(info, "read", f"read {about}", tail=tail, action="get", query=query)
            answers = self._text("text/plain", *MEDIA) if sub == "log" else self._answers(type_name, MEDIA, "200")
            yield "get", read | kinded | {"responses": answers}
        if "update" in verbs:
            query = parameters.CREATE
            put = self._operation(info, "replace", f"replace {about}", tail=tail, action="put", query=query)
            yield (
                "put",
                put | kinded | self._body(type_name) | {"responses": self._answers(type_name, MEDIA, "200", "201")},
            )
        if "patch" in verbs:
            text = f"partially update {about}"
            patch = self._operation(info, "patch", text, tail=tail, query=parameters.PATCH)
            yield (
                "patch",
                patch
                | kinded
                | self._body(META + "Patch", CUSTOM_PATCHES if is_custom(info) else PATCHES)
                | {"responses": self._answers(type_name, MEDIA, "200", "201")},
            )

    def _subresource(self, info: ResourceInfo, sub: SubresourceInfo) -> Iterator[tuple[str, Operation]]:
        type_name = info.definitions.name_of(sub.group, sub.version, sub.kind)
        kind = self._kind(sub.group, sub.version, sub.kind)
        if sub.name in _CONNECTS:
            for verb in sub.verbs:
                yield from self._connect(info, sub, _CONNECT_METHODS[verb], kind)
            return
        type_name = type_name or info.type_name
        for method, operation in self._reads_and_writes(info, sub.verbs, type_name, info.kind, sub.name):
            yield method, operation | kind
        if "create" in sub.verbs:
            text = f"create {sub.name} of {_article(info.kind)}"
            create = self._operation(
                info, "create", text, tail=_capital(sub.name), action="post", query=parameters.CREATE
            )
            yield (
                "post",
                create
                | kind
                | self._body(type_name)
                | {"responses": self._answers(type_name, MEDIA, "200", "201", "202")},
            )

    def _connect(
        self, info: ResourceInfo, sub: SubresourceInfo, methods: tuple[str, ...], kind: Operation
    ) -> Iterator[tuple[str, Operation]]:
        query = parameters.CONNECT[sub.name]
        for method in methods:
            text = f"connect {method.upper()} requests to {sub.name} of {info.kind}"
            operation = self._operation(
                info, "connect", text, middle=_capital(method), tail=_capital(sub.name), query=query
            )
            yield method, operation | kind | {"responses": self._text("*/*")}

    def _operation(
        self,
        info: ResourceInfo,
        verb: str,
        text: str,
        *,
        middle: str = "",
        scope: str | None = None,
        tail: str = "",
        action: str = "",
        query: tuple[str, ...] = (),
    ) -> Operation:
        if scope is None:
            scope = "Namespaced" if info.namespaced else ""
        operation: Operation = {
            "description": text,
            "operationId": f"{verb}{self._id}{middle}{scope}{info.kind}{tail}",
            "tags": [self._tag],
            "x-kubernetes-action": action or verb,
        }
        if query:
            operation["parameters"] = parameters.query(*query)
        return operation | self._kind(self.group, self.version, info.kind)

    def _common(self, path: dict[str, Any], *, named: str, namespaced: bool) -> dict[str, Any]:
        """Add the parameters that all operations of a path share."""
        shared = [parameters.in_path("name", f"name of the {named}")] if named else []
        if namespaced:
            shared.append(parameters.in_path("namespace", "object name and auth scope, such as for teams and projects"))
        path["parameters"] = [*shared, parameters.pretty()]
        return path

    def _kind(self, group: str, version: str, kind: str) -> Operation:
        return {"x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version}}

    def _reference(self, name: str) -> dict[str, Any]:
        self.names.add(name)
        return {"schema": {"$ref": V3_ROOT + name}}

    def _body(self, name: str, media: tuple[str, ...] = ("*/*",)) -> Operation:
        return {"requestBody": {"content": {one: self._reference(name) for one in media}, "required": True}}

    def _delete_body(self) -> Operation:
        return {"requestBody": {"content": {"*/*": self._reference(META + "DeleteOptions")}}}

    def _text(self, *media: str) -> dict[str, Any]:
        content = {one: {"schema": {"type": "string"}} for one in media}
        return {"200": {"content": content, "description": "OK"}, "401": {"description": "Unauthorized"}}

    def _answers(self, name: str, media: tuple[str, ...], *codes: str) -> dict[str, Any]:
        texts = {"200": "OK", "201": "Created", "202": "Accepted"}
        if self.custom:
            media = tuple(one for one in media if PROTOBUF not in one)
        content = {one: self._reference(name) for one in media}
        answers: dict[str, Any] = {code: {"content": content, "description": texts[code]} for code in codes}
        return answers | {"401": {"description": "Unauthorized"}}


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
