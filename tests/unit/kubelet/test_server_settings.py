"""What the configuration says of the node API."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.kubelet.server import flags
from tiphys.kubelet.server.settings import ServerSettings, of


def test_the_defaults_are_upstreams() -> None:
    assert of({}) == ServerSettings()
    assert not ServerSettings().anonymous


def test_fields_are_read_by_their_names() -> None:
    found = of({
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False, "cacheTTL": "1m"}},
        "authorization": {"mode": "AlwaysAllow", "webhook": {"cacheUnauthorizedTTL": "5s"}},
        "readOnlyPort": 10255,
        "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"],
        "tlsMinVersion": "VersionTLS13",
        "containerLogMaxSize": "1Mi",
        "containerLogMaxFiles": 3,
        "streamingConnectionIdleTimeout": "90s",
    })  # fmt: skip
    assert (found.anonymous, found.tokens, found.token_seconds) == (True, False, 60.0)
    assert (found.always_allow, found.allowed_seconds, found.denied_seconds) == (True, 300.0, 5.0)
    assert found.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
    assert (found.tls_version, found.log_max_bytes, found.log_max_files) == ("TLSv1_3", 1 << 20, 3)
    assert (found.read_only_port, found.idle_seconds) == (10255, 90.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": {"mode": "RBAC"}},
        {"tlsMinVersion": "VersionTLS10"},
        {"tlsCipherSuites": ["ROT13"]},
        {"containerLogMaxSize": "much"},
        {"containerLogMaxFiles": 1},
    ],
)
def test_values_that_make_no_sense_are_refused_with_the_fields_name(fields: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match=next(iter(fields))):
        of(fields)


def test_flags_win_over_the_file() -> None:
    parser = argparse.ArgumentParser()
    flags.add(parser)
    words = ["--anonymous-auth", "--authorization-mode=AlwaysAllow", "--container-log-max-size", "1Mi"]
    words += ["--tls-cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256", "--enable-server=false"]
    file = {"authentication": {"anonymous": {"enabled": False}, "webhook": {"cacheTTL": "7s"}}, "readOnlyPort": 10255}
    found = of(flags.merged(file, parser.parse_args(words)))
    assert (found.anonymous, found.always_allow, found.token_seconds) == (True, True, 7.0)
    assert (found.log_max_bytes, found.read_only_port, found.serve) == (1 << 20, 10255, False)
    assert found.ciphers == ("AES128-GCM-SHA256",)
    assert file["authentication"] == {"anonymous": {"enabled": False}, "webhook": {"cacheTTL": "7s"}}
    assert of(flags.merged({}, parser.parse_args([]))) == ServerSettings()
