"""Flags of the API server about its store: they agree, or they are refused."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from tiphys.apiserver import storeflags
from tiphys.base.errors import Permanent


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    storeflags.add_flags(parser.add_argument)
    return parser.parse_args(words)


def test_etcd_servers_and_store_mean_the_same() -> None:
    pytest.importorskip("grpc")
    for words in (("--store", "http://a:1"), ("--etcd-servers", "http://a:1")):
        assert storeflags.store_url(parsed(*words, "--etcd-prefix", "/x")) == "http://a:1"
    assert storeflags.store_url(parsed("--store", "memory")) == "memory"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--store", "memory", "--etcd-servers", "http://a:1"), "--store already says memory"),
        (("--etcd-servers", "memory"), "not a URL such as https://10.0.0.1:2379"),
        (("--etcd-cafile", "x"), "--etcd-cafile: objects are kept in sqlite"),
        (("--store", "memory", "--etcd-prefix", "x"), "--etcd-prefix: objects are kept in memory"),
    ],
)
def test_flags_that_do_not_fit_are_refused(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(Permanent, match=re.escape(problem)):
        storeflags.store_url(parsed(*words))


def test_durations_are_go_s() -> None:
    options = parsed("--etcd-compaction-interval", "1h2m3.5s", "--history", "0")
    assert (options.etcd_compaction_interval, options.history) == (3723.5, 0.0)
    assert parsed("--etcd-compaction-interval=500ms").etcd_compaction_interval == 0.5
    assert parsed().etcd_compaction_interval == 300.0
    with pytest.raises(SystemExit):
        parsed("--history", "5")


def test_reload_is_a_flag_with_or_without_a_value() -> None:
    name = "--encryption-provider-config-automatic-reload"
    assert parsed().encryption_provider_config_automatic_reload == "false"
    assert parsed(name).encryption_provider_config_automatic_reload == "true"
    assert parsed(f"{name}=false", "--encryption-provider-config", "f").encryption_provider_config == Path("f")
