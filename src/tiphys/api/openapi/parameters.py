"""Query parameters of the API's operations, by name, and which operation takes which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Parameter = dict[str, Any]

_QUERY: Mapping[str, tuple[str, str]] = {
    "allowWatchBookmarks": ("boolean", "Ask for BOOKMARK events in a watch."),
    "command": ("string", "The command to run, one parameter a word."),
    "container": ("string", "The container; defaults to the only one of the pod."),
    "continue": ("string", "Go on with a list where the page that gave this token ended."),
    "dryRun": ("string", "Do all but persist. The only value is All."),
    "fieldManager": ("string", "Who makes this change, for managedFields: at most 128 printable characters."),
    "fieldSelector": ("string", "Only objects whose fields match."),
    "fieldValidation": (
        "string",
        "What to do about unknown and duplicate fields: Ignore drops them, Warn drops them with a warning (the "
        "default), Strict refuses the request.",
    ),
    "follow": ("boolean", "Keep the stream open and send what is logged."),
    "force": ("boolean", "Server-side apply: take fields over from other managers."),
    "gracePeriodSeconds": ("integer", "Seconds before the object is deleted; 0: at once."),
    "ignoreStoreReadErrorWithClusterBreakingPotential": ("boolean", "Delete an object that cannot be read."),
    "insecureSkipTLSVerifyBackend": ("boolean", "Do not check the kubelet's certificate."),
    "labelSelector": ("string", "Only objects whose labels match."),
    "limit": ("integer", "At most this many objects; the answer has a token to go on with."),
    "limitBytes": ("integer", "At most this many bytes of log."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "path": ("string", "The path to ask the target for."),
    "ports": ("integer", "Ports to forward."),
    "previous": ("boolean", "The log of the container's previous run."),
    "propagationPolicy": ("string", "What happens to dependents: Orphan, Background or Foreground."),
    "resourceVersion": ("string", "The revision to read or to watch from."),
    "resourceVersionMatch": ("string", "How resourceVersion constrains a list: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Begin a watch with the current objects, then a bookmark."),
    "sinceSeconds": ("integer", "Only the log of the last seconds."),
    "sinceTime": ("string", "Only the log since this moment, RFC 3339."),
    "stderr": ("boolean", "Attach standard error."),
    "stdin": ("boolean", "Attach standard input."),
    "stdout": ("boolean", "Attach standard output."),
    "stream": ("string", "Which stream of the log: All, Stdout or Stderr."),
    "tailLines": ("integer", "Only the last lines of the log."),
    "timeoutSeconds": ("integer", "End the list or watch after this time."),
    "timestamps": ("boolean", "Begin each line of the log with its time."),
    "tty": ("boolean", "Use a terminal."),
    "watch": ("boolean", "Follow changes instead of listing."),
}

LIST = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
CREATE = ("dryRun", "fieldManager", "fieldValidation")
PATCH = ("dryRun", "fieldManager", "fieldValidation", "force")
DELETE = (
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
)
DELETE_COLLECTION = tuple(sorted({*DELETE, *LIST} - {"allowWatchBookmarks", "watch"}))

_STREAMS = ("container", "stderr", "stdin", "stdout", "tty")
CONNECT: Mapping[str, tuple[str, ...]] = {
    "attach": _STREAMS,
    "exec": ("command", *_STREAMS),
    "portforward": ("ports",),
    "proxy": ("path",),
    "log": (
        "container",
        "follow",
        "insecureSkipTLSVerifyBackend",
        "limitBytes",
        "previous",
        "sinceSeconds",
        "sinceTime",
        "stream",
        "tailLines",
        "timestamps",
    ),
}


def query(*names: str) -> list[Parameter]:
    """The parameters of those names."""
    return [_parameter(name, "query", *_QUERY[name]) for name in names]


def in_path(name: str, text: str) -> Parameter:
    return _parameter(name, "path", "string", text) | {"required": True}


def pretty() -> Parameter:
    return _parameter("pretty", "query", "string", "Print the answer with indentation if true.")


def _parameter(name: str, place: str, kind: str, text: str) -> Parameter:
    return {"description": text, "in": place, "name": name, "schema": {"type": kind, "uniqueItems": True}}
