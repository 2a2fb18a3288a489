"""What goes wrong when a webhook is called, in the words of Go's HTTP client and of client-go, which people search."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl

import orjson

from tiphys.api.kinds.base import quote
from tiphys.base.errors import ApiError
from tiphys.base.http.client import ClientResponse

DEADLINE = "context deadline exceeded"
_TEXTS = {
    400: ("BadRequest", "the server rejected our request for an unknown reason"),
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    409: ("AlreadyExists", "the server reported a conflict"),
    422: ("Invalid", "the server rejected our request due to an error in our request"),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: (
        "Timeout",
        "the server was unable to return a response in the time allotted, but may still be processing the request",
    ),
}
_OWN_WORDS = {403: "Forbidden", 406: "NotAcceptable", 415: "UnsupportedMediaType"}
MOST_SHOWN = 2048
"""Bytes of an answer that a message shows."""


def of_answer(answer: ClientResponse) -> ApiError:
    """The error that an answer other than 2xx stands for: its Status if it has one."""
    with contextlib.suppress(ValueError):
        status = orjson.loads(answer.body)
        if isinstance(status, dict) and status.get("kind") == "Status" and status.get("status") == "Failure":
            return ApiError.of(status, answer.status)
    said = "unknown"
    if answer.headers.get("content-type", "text/plain").startswith("text/"):
        said = answer.body[:MOST_SHOWN].decode(errors="replace").strip()
    code = answer.status
    reason, text = _TEXTS.get(code, ("", ""))
    if code in _OWN_WORDS:
        reason, text = _OWN_WORDS[code], said
    if not text and code >= 500:
        reason = "InternalError"
        text = f"an error on the server ({quote(said)}) has prevented the request from succeeding"
    if not text:
        text = f"the server responded with the status code {code} but did not return more information"
    return ApiError.of({"message": text, "reason": reason}, code)


def of_json(body: bytes) -> str:
    """What is said of an answer that is no JSON."""
    text = body[:MOST_SHOWN].decode(errors="replace").lstrip()
    detail = "unexpected end of JSON input"
    if text and text[0] not in '{["-0123456789tfn':
        detail = f"invalid character {_rune(text[0])} looking for beginning of value"
    return f"couldn't get version/kind; json parse error: {detail}"


def of_shape(answer: object) -> str:
    """What is said of an answer that is JSON, but no object."""
    names = {list: "array", str: "string", bool: "bool", type(None): "null"}
    what = names.get(type(answer), "number")
    return (
        f"couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go value of type "
        'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
    )


def _rune(char: str) -> str:
    return "'\\''" if char == "'" else f"'{char}'"


def of_network(error: OSError, address: str) -> str:
    """What Go says about an OSError; `address` is host:port."""
    if isinstance(error, TimeoutError):
        return DEADLINE
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls: failed to verify certificate: " + _certificate(error)
    if isinstance(error, ssl.SSLError):
        return _tls(error)
    if isinstance(error, socket.gaierror):
        host = address.rpartition(":")[0]
        return f"dial tcp: lookup {host}: no such host"
    if error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL):
        return f"dial tcp {address}: connect: {os.strerror(error.errno).lower()}"
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return f"read tcp {address}: {os.strerror(error.errno).lower()}"
    if isinstance(error, ConnectionError) and not error.errno:
        return "EOF" if "closed" in str(error) else str(error)
    return str(error) or type(error).__name__


def _tls(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return "tls: first record does not look like a TLS handshake"
    if error.reason in ("UNEXPECTED_EOF_WHILE_READING", "EOF"):
        return "EOF"
    return "remote error: tls: " + (error.reason or str(error)).lower().replace("_", " ")


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's X509_V_ERR codes in the words of crypto/x509."""
    code = error.verify_code
    if code in (18, 19, 20, 21):
        return "x509: certificate signed by unknown authority"
    if code == 10:
        return "x509: certificate has expired or is not yet valid: certificate has expired"
    if code == 9:
        return "x509: certificate has expired or is not yet valid: certificate is not yet valid"
    if code in (62, 64):
        return f"x509: certificate is not valid for this name: {error.verify_message}"
    return f"x509: {error.verify_message}"
