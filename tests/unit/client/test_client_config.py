from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from tiphys.base.errors import Permanent
from tiphys.client.config import in_cluster, load


def write(path: Path, name: str, server: str, *, current: str = "", user: dict[str, str] | None = None) -> Path:
    document = {
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": name, "user": user or {"token": f"token-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    (path.parent / "ca.crt").write_text(f"ca of {name}")
    return path


def test_an_explicit_path_counts_alone(tmp_path: Path) -> None:
    one = write(tmp_path / "1" / "config", "one", "https://one", current="one")
    two = write(tmp_path / "2" / "config", "two", "https://two", current="two")
    config = load(two, environ={"KUBECONFIG": str(one)})
    assert (config.server, config.token, config.namespace, config.ca) == (
        "https://two", "token-two", "ns-two", b"ca of two",
    )  # fmt: skip


def test_files_of_the_variable_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    one = write(tmp_path / "1" / "config", "same", "https://one")
    two = write(tmp_path / "2" / "config", "same", "https://two", current="same")
    config = load(environ={"KUBECONFIG": f"{one}:{tmp_path}/missing:{two}"})
    assert (config.server, config.ca) == ("https://one", b"ca of same")


def test_the_home_directory_is_the_last_resort(tmp_path: Path) -> None:
    write(tmp_path / ".kube" / "config", "home", "https://home", current="home")
    assert load(environ={"HOME": str(tmp_path)}).server == "https://home"


def test_inline_data_and_client_certificates(tmp_path: Path) -> None:
    data = base64.b64encode(b"certificate").decode()
    (tmp_path / "client.key").write_text("key")
    user = {"client-certificate-data": data, "client-key": "client.key"}
    config = load(write(tmp_path / "config", "one", "https://one", current="one", user=user))
    assert (config.certificate, config.key) == (b"certificate", b"key")


def test_what_is_missing_or_unsupported_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no kubeconfig names a current context"):
        load(environ={"HOME": str(tmp_path)})
    with pytest.raises(Permanent, match="cannot read kubeconfig"):
        load(tmp_path / "missing")
    path = write(tmp_path / "config", "one", "https://one", current="one")
    with pytest.raises(Permanent, match="no context 'other'"):
        load(path, context="other")
    path = write(tmp_path / "config", "one", "https://one", current="one", user={"exec": "aws"})
    with pytest.raises(Permanent, match="exec"):
        load(path)


def test_a_program_in_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    for name, text in (("token", "secret"), ("ca.crt", "ca"), ("namespace", "apps")):
        (tmp_path / name).write_text(text)
    config = in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, tmp_path)
    assert (config.server, config.ca, config.namespace) == ("https://10.0.0.1:6443", b"ca", "apps")
    assert config.token_file == tmp_path / "token"
