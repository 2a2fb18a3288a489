"""Content negotiation: which form of an answer the client accepts, which form its body has.

Answers are JSON, YAML or, for kinds that have messages, protobuf; GET and LIST also as a Table or as
PartialObjectMetadata (API reference, Receiving resources as Tables). What is not served is refused with 406 or 415,
except that a client that accepts several forms (protobuf, then JSON) gets the first one that is.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tiphys.base.errors import NotAcceptable, UnsupportedMediaType
from tiphys.base.http.types import Request, Response

JSON, YAML = "application/json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
SERVED = {JSON: JSON, YAML: YAML, "*/*": JSON, "application/*": JSON, "": JSON, "text/*": JSON}
TRANSFORMS = {"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}
GZIP_FROM = 128 * 1024
"""Answers from this size on (bytes) are compressed for clients that take gzip, as upstream."""
REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Media:
    """The form of an answer: its type and, if any, the kind that the object is to be shown as."""

    type: str = JSON
    shown_as: str = ""
    """"", Table, PartialObjectMetadata or PartialObjectMetadataList."""
    version: str = "v1"
    """Of meta.k8s.io, for Table and PartialObjectMetadata."""
    pretty: bool = False
    """JSON for people: indented, and without the newline that ends it otherwise."""

    @property
    def plain(self) -> bool:
        return self.type == JSON and not self.shown_as and not self.pretty


PLAIN, PRETTY = Media(), Media(pretty=True)
PEOPLE = ("curl", "Wget", "Mozilla/5.0")
"""How the User-Agent of programs begins whose answers people read, by upstream's list."""


def accepted(request: Request, api_version: str = "", kind: str = "", *, tables: bool = True) -> Media:
    """The form of the answer, which is an object of this kind; `tables`: whether there are columns for it.
    Raises NotAcceptable."""
    header = request.headers.get("accept", "")
    binary = PROTOBUF in header and has_messages(api_version, kind)
    media = _choose(header, binary, tables)
    if media is None:
        types = (JSON, YAML, PROTOBUF) if has_messages(api_version, kind) else (JSON, YAML)
        raise NotAcceptable(f"only the following media types are accepted: {', '.join(types)}")
    return replace(media, pretty=True) if media.type == JSON and for_people(request) else media


def for_people(request: Request) -> bool:
    """Whether JSON is to be indented: by the parameter `pretty`, else by who asks."""
    if "pretty" in request.query_string and (asked := request.param("pretty")):
        return asked in ("1", "t", "T", "true", "True", "TRUE")
    return request.headers.get("user-agent", "").startswith(PEOPLE)


def has_messages(api_version: str, kind: str) -> bool:
    """Whether objects of a kind can be written as protobuf: built-in ones, not custom resources."""
    from tiphys.api.protobuf.codec import builtin

    return builtin().knows(api_version, kind)


@lru_cache(maxsize=REMEMBERED)
def _choose(header: str, binary: bool, tables: bool) -> Media | None:
    candidates = []
    for order, part in enumerate(header.split(",")):
        type, *params = (piece.strip() for piece in part.split(";"))
        options = dict(param.partition("=")[::2] for param in params)
        try:
            quality = float(options.get("q", "1"))
        except ValueError:
            quality = 1.0
        candidates.append((-quality, order, type, options))
    for _, _, type, options in sorted(candidates, key=lambda candidate: candidate[:2]):
        media = _binary(options, binary) if type == PROTOBUF else _media(type, options)
        if media is not None and (tables or media.shown_as != "Table"):
            return media
    return None


def _media(type: str, options: dict[str, str]) -> Media | None:
    served = SERVED.get(type)
    if served is None or options.get("q") == "0":
        return None
    shown_as = options.get("as", "")
    pretty = options.get("pretty") == "1" and served == JSON
    if not shown_as:
        return Media(served, pretty=pretty)
    if shown_as not in TRANSFORMS or options.get("g") != "meta.k8s.io" or options.get("v") not in ("v1", "v1beta1"):
        return None
    return Media(served, shown_as, options["v"], pretty)


def _binary(options: dict[str, str], known: bool) -> Media | None:
    """Protobuf. Metadata has messages whatever it is taken from; Tables have none."""
    if not options.get("as"):
        return Media(PROTOBUF) if known and options.get("q") != "0" else None
    media = _media(JSON, options)
    partial = media is not None and media.shown_as != "Table" and media.version == "v1"
    return Media(PROTOBUF, options["as"]) if partial else None


def stream_type(media: Media) -> str:
    """The type of a watch: lines of JSON, or frames."""
    return f"{PROTOBUF};stream=watch" if media.type == PROTOBUF else JSON


def body_type(request: Request) -> str:
    """JSON or YAML: the form of the body. Raises UnsupportedMediaType."""
    header = request.headers.get("content-type", "")
    type = header.partition(";")[0].strip().lower()
    if type in ("", JSON):
        return JSON
    if type in (YAML, "application/x-yaml", "text/yaml"):
        return YAML
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}"
    )


def dump(value: Any, media: Media) -> bytes:
    """Encode a decoded answer in the media's type."""
    import orjson

    if media.type == YAML:
        import yaml

        # By way of JSON: the cache's objects are more than dicts, and what they share would become aliases.
        plain = orjson.loads(orjson.dumps(value))
        text: str = yaml.safe_dump(plain, default_flow_style=False, sort_keys=True, allow_unicode=True)
        return text.encode()
    if media.type == PROTOBUF:
        from tiphys.api.protobuf.codec import builtin

        return builtin().encode(value)
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if media.pretty else orjson.OPT_APPEND_NEWLINE)


def compress(request: Request, response: Response) -> Response:
    """Gzip a large answer if the client takes it."""
    if len(response.body) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        response.body = packer.compress(response.body) + packer.flush()
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    return response
