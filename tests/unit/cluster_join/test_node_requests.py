"""Which certificates nodes that join get without anybody's doing."""

from __future__ import annotations

import base64
import ipaddress
from ipaddress import ip_network
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tiphys.cluster.join.requests import Reserved, is_network_account, is_own_server
from tiphys.controllers import csr_rules
from tiphys.kubelet.certificates.request import Wanted, make_request

KEY = ec.generate_private_key(ec.SECP256R1())
RESERVED = Reserved(frozenset({"kubernetes", "localhost", "192.168.0.1"}), (ip_network("10.89.0.0/24"),))
ACCOUNT = ("system:kube-proxy", "system:node-proxier")


def asked(spec: dict[str, Any], who: str = "system:node:far", *groups: str) -> dict[str, Any]:
    return {"metadata": {"name": "r"}, "spec": {**spec, "username": who, "groups": list(groups or ("system:nodes",))}}


def by_kubelet(wanted: Wanted, *who: str) -> tuple[dict[str, Any], x509.CertificateSigningRequest]:
    request = asked(make_request(wanted)[0]["spec"], *who)
    return request, csr_rules.parsed(request)


def by_hand(
    user: str, group: str, *names: x509.GeneralName, signer: str, usage: str = "server auth"
) -> tuple[Any, Any]:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group), x509.NameAttribute(NameOID.COMMON_NAME, user)]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = base64.b64encode(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)).decode()
    request = asked({"request": pem, "signerName": signer, "usages": ["digital signature", usage]})
    return request, csr_rules.parsed(request)


def node(name: str, *addresses: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
    }


def test_a_node_gets_the_account_of_its_proxy() -> None:
    assert is_network_account(*by_kubelet(Wanted("far", account=ACCOUNT)))


@pytest.mark.parametrize(
    "who",
    [
        ("system:bootstrap:abcdef", "system:bootstrappers"),
        ("system:node:far", "system:authenticated"),
        ("mallory", "system:nodes"),
    ],
)
def test_nobody_else_gets_it(who: tuple[str, str]) -> None:
    assert not is_network_account(*by_kubelet(Wanted("far", account=ACCOUNT), *who))


@pytest.mark.parametrize("account", [("system:admin", ACCOUNT[1]), (ACCOUNT[0], "system:masters")])
def test_a_node_gets_no_other_account(account: tuple[str, str]) -> None:
    assert not is_network_account(*by_kubelet(Wanted("far", account=account)))


def test_the_account_has_no_other_names_and_is_no_server() -> None:
    dns = x509.DNSName("kubernetes")
    assert not is_network_account(*by_hand(*ACCOUNT, dns, signer=csr_rules.CLIENT, usage="client auth"))
    assert not is_network_account(*by_hand(*ACCOUNT, signer=csr_rules.CLIENT, usage="server auth"))
    assert is_network_account(*by_hand(*ACCOUNT, signer=csr_rules.CLIENT, usage="client auth"))


def test_a_node_gets_a_serving_certificate_of_its_name_and_addresses() -> None:
    request = by_kubelet(Wanted("far", ("far", "192.168.0.2")))
    assert is_own_server(*request, [node("far", "192.168.0.2"), node("near", "10.89.0.2")], RESERVED)


@pytest.mark.parametrize(
    ("names", "addresses"),
    [
        (("far", "192.168.0.3"), ("192.168.0.2",)),
        (("far", "192.168.0.2"), ()),
        (("near", "192.168.0.2"), ("192.168.0.2",)),
        (("far", "kubernetes.default"), ("192.168.0.2",)),
        (("far", "192.168.0.1"), ("192.168.0.1",)),
        (("far", "127.0.0.1"), ("127.0.0.1",)),
        (("far", "10.89.0.9"), ("10.89.0.9",)),
        (("far", "192.168.0.9"), ("192.168.0.9",)),
    ],
)
def test_what_it_does_not_have_or_others_have_is_not_signed(names: tuple[str, ...], addresses: tuple[str, ...]) -> None:
    others = [node("near", "10.89.0.2"), node("third", "192.168.0.9")]
    assert not is_own_server(*by_kubelet(Wanted("far", names)), [node("far", *addresses), *others], RESERVED)


def test_a_node_that_is_called_like_the_api_server_gets_none() -> None:
    request = asked(make_request(Wanted("kubernetes", ("kubernetes",)))[0]["spec"], "system:node:kubernetes")
    assert not is_own_server(request, csr_rules.parsed(request), [node("kubernetes", "192.168.0.2")], RESERVED)


def test_a_serving_certificate_is_asked_for_by_its_own_node_only() -> None:
    ip = x509.IPAddress(ipaddress.ip_address("192.168.0.2"))
    request = by_hand("system:node:other", "system:nodes", ip, signer=csr_rules.KUBELET_SERVING)
    assert not is_own_server(*request, [node("far", "192.168.0.2"), node("other", "192.168.0.2")], RESERVED)
