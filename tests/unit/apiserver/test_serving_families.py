"""Flags of an API server that runs alone, about IP families."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tiphys.apiserver import serve
from tiphys.apiserver.credentials import advertised, prepare
from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent


def options(place: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    return parser.parse_args(["--data-dir", str(place), *words])


def test_two_ranges_are_handed_on_and_the_first_says_what_the_certificate_and_the_endpoint_are(tmp_path: Path) -> None:
    given = options(tmp_path, "--service-cluster-ip-range", "fd00:1::/112, 10.96.0.0/16", "--bind-address", "::1")
    assert given.service_cluster_ip_range == "fd00:1::/112,10.96.0.0/16"
    config = serve.configuration(given, prepare(given, SystemClock()))
    assert (config.service_cidr, config.advertise_address) == ("fd00:1::/112,10.96.0.0/16", "::1")


def test_the_advertised_address_must_be_of_the_first_ranges_family(tmp_path: Path) -> None:
    given = options(tmp_path, "--service-cluster-ip-range", "fd00:1::/112", "--advertise-address", "192.0.2.1")
    text = 'service IP family "fd00:1::/112" must match public address family "192.0.2.1"'
    with pytest.raises(Permanent, match=text):
        serve.configuration(given, prepare(given, SystemClock()))


def test_an_address_of_the_first_family_is_found_by_the_route(tmp_path: Path) -> None:
    assert ":" in advertised(options(tmp_path, "--service-cluster-ip-range", "fd00:1::/112"))
    assert ":" not in advertised(options(tmp_path, "--service-cluster-ip-range", "10.96.0.0/16,fd00:1::/112"))


@pytest.mark.parametrize("ranges", ["10.96.0.0/16,10.97.0.0/16", "10.96.0.0/16,fd00::/112,fd01::/112", "10.96.0.1/16"])
def test_ranges_that_make_no_sense_are_refused(tmp_path: Path, ranges: str) -> None:
    with pytest.raises(SystemExit):
        options(tmp_path, "--service-cluster-ip-range", ranges)
