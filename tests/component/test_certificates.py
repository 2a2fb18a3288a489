"""Certificate signing requests from creation to deletion, on the real API server, on virtual time."""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tiphys.base.identity import User
from tiphys.base.tls import Authority
from tiphys.client.types import Object, Resource
from tiphys.controllers.csr_rules import CERTIFICATE_SIGNING_REQUESTS as REQUESTS
from tiphys.controllers.csr_rules import SIGNERS
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", namespaced=False)
CONTROLLERS = ",".join(f"certificatesigningrequest-{each}-controller" for each in ("approving", "signing", "cleaner"))
CLIENT, KUBELET, SERVING = (
    f"kubernetes.io/{each}" for each in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving")
)
SIGNATURE, ENCIPHERMENT = "digital signature", "key encipherment"
NODE = (("O", "system:nodes"), ("CN", "system:node:n1"))
BOB = (("O", "devs"), ("O", "ops"), ("CN", "bob"))
OIDS = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
HOUR = 3600.0


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(subject: tuple[tuple[str, str], ...], *names: x509.GeneralName) -> str:
    parts = [x509.NameAttribute(OIDS[kind], value) for kind, value in subject]
    builder = x509.CertificateSigningRequestBuilder(x509.Name(parts))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(key(), SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def request(name: str, content: str, signer: str, *usages: str, seconds: int | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"request": content, "signerName": signer, "usages": list(usages)}
    spec |= {"expirationSeconds": seconds} if seconds is not None else {}
    return {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": spec,
    }  # fmt: skip


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], controllers: str = CONTROLLERS) -> None:
    clock = VirtualClock()
    authority = Authority.create("test", clock=clock)
    pair = (authority.certificate, authority.pair.key)
    settings: dict[str, object] = {"cluster-signing": dict.fromkeys(SIGNERS, pair)}

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers=controllers, settings=settings) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


async def approve(cluster: Cluster, name: str, type: str = "Approved") -> None:
    held = await cluster.client.get(REQUESTS, name)
    condition = {"type": type, "status": "True", "reason": "Tested", "message": "by hand"}
    await cluster.client.update(REQUESTS, {**held, "status": {"conditions": [condition]}}, subresource="approval")


def issued(held: Object) -> bool:
    return bool((held.get("status") or {}).get("certificate"))


def failed(held: Object) -> bool:
    return any(each["type"] == "Failed" for each in (held.get("status") or {}).get("conditions") or ())


def certificate(held: Object) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(held["status"]["certificate"]))


@pytest.mark.parametrize(
    ("seconds", "lives"),
    [(None, 365 * 24 * HOUR), (600, 900), (700, 1000), (24 * 3600, 24 * HOUR), (10**9, 365 * 24 * HOUR)],
)
def test_an_approved_request_gets_its_certificate(seconds: int | None, lives: float) -> None:
    async def scenario(cluster: Cluster) -> None:
        names = [x509.DNSName("x.y"), x509.RFC822Name("a@b.c")]
        wanted = request("bob", csr(BOB, *names), CLIENT, "client auth", SIGNATURE, seconds=seconds)
        await cluster.client.create(REQUESTS, wanted)
        await cluster.clock.sleep(60)
        assert not issued(await cluster.client.get(REQUESTS, "bob"))
        await approve(cluster, "bob")
        made = certificate(await cluster.wait(REQUESTS, "", "bob", issued, 10))
        assert (made.not_valid_after_utc - made.not_valid_before_utc).total_seconds() == lives
        assert [[each.value for each in part] for part in made.subject.rdns][1] == ["bob"]
        assert {each.value for each in made.subject.rdns[0]} == {"devs", "ops"}
        found = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(found) == names
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    play(scenario)


DNS = x509.DNSName("n1")
URI = x509.UniformResourceIdentifier("http://x")
FULL = (SIGNATURE, ENCIPHERMENT)


@pytest.mark.parametrize(
    ("signer", "content", "usages", "message"),
    [
        (CLIENT, csr(BOB), ("client auth", "server auth"), "invalid usage for client certificate: server auth"),
        (CLIENT, csr(BOB), (SIGNATURE,), "missing required usage for client certificate: client auth"),
        (KUBELET, csr(NODE, DNS), ("client auth", *FULL), "DNS subjectAltNames are not allowed"),
        (KUBELET, csr(NODE[1:]), ("client auth", *FULL), "subject organization is not system:nodes"),
        (KUBELET, csr((NODE[0], ("CN", "n1"))), ("client auth", *FULL),
         "subject common name does not begin with system:node:"),
        (KUBELET, csr(NODE), ("client auth",), "usages did not match [client auth digital signature key encipherment]"),
        (SERVING, csr(NODE), ("server auth", *FULL), "DNS or IP subjectAltName is required"),
        (SERVING, csr(NODE, DNS, URI), ("server auth", *FULL), "URI subjectAltNames are not allowed"),
        (SERVING, csr(NODE, DNS), ("client auth",),
         "usages did not match [digital signature key encipherment server auth]"),
    ],
)  # fmt: skip
def test_what_a_signer_does_not_sign_fails_in_its_words(
    signer: str, content: str, usages: tuple[str, ...], message: str
) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REQUESTS, request("odd", content, signer, *usages))
        await approve(cluster, "odd")
        held = await cluster.wait(REQUESTS, "", "odd", failed, 10)
        told = held["status"]["conditions"][-1]
        assert (told["reason"], told["status"], told["message"]) == ("SignerValidationFailure", "True", message)
        assert not issued(held)

    play(scenario)


def test_signers_of_others_are_left_to_them() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REQUESTS, request("mine", csr(BOB), "example.com/mine", "client auth"))
        await approve(cluster, "mine")
        await cluster.clock.sleep(HOUR)
        held = await cluster.client.get(REQUESTS, "mine")
        assert not issued(held)
        assert not failed(held)

    play(scenario)


def rule(resource: str, *verbs: str) -> dict[str, Any]:
    return {"apiGroups": ["certificates.k8s.io"], "resources": [resource], "verbs": list(verbs)}


async def grant(cluster: Cluster, name: str, user: str, *rules: dict[str, Any]) -> None:
    await cluster.client.create(ROLES, {"kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)})
    group = "rbac.authorization.k8s.io"
    subject = {"apiGroup": group, "kind": "User", "name": user}
    ref = {"apiGroup": group, "kind": "ClusterRole", "name": name}
    binding = {"kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    await cluster.client.create(BINDINGS, binding)


@pytest.mark.parametrize(
    ("user", "subresource", "message"),
    [
        ("alice", "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
        ("system:node:n1", "selfnodeclient",
         "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ],
)  # fmt: skip
def test_a_kubelet_is_approved_once_it_may_be(user: str, subresource: str, message: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await grant(cluster, "ask", user, rule("certificatesigningrequests", "create", "get"))
        asks = cluster.connect(User(user, groups=("system:authenticated",)))
        await asks.create(REQUESTS, request("n1", csr(NODE), KUBELET, "client auth", *FULL))
        await cluster.clock.sleep(60)
        assert not (await cluster.client.get(REQUESTS, "n1")).get("status")
        await grant(cluster, "have", user, rule(f"certificatesigningrequests/{subresource}", "create"))
        held = await cluster.wait(REQUESTS, "", "n1", issued, 120)
        told = held["status"]["conditions"]
        assert [(each["type"], each["reason"], each["message"]) for each in told] == [
            ("Approved", "AutoApproved", message)
        ]

    play(scenario)


def test_nobody_is_approved_for_more_than_a_nodes_client() -> None:
    async def scenario(cluster: Cluster) -> None:
        await grant(cluster, "all", "alice", rule("*", "*"))
        asks = cluster.connect(User("alice", groups=("system:authenticated",)))
        await asks.create(REQUESTS, request("serving", csr(NODE, DNS), SERVING, "server auth", *FULL))
        await asks.create(REQUESTS, request("user", csr(BOB), CLIENT, "client auth"))
        await asks.create(REQUESTS, request("names", csr(NODE, DNS), KUBELET, "client auth", *FULL))
        await cluster.clock.sleep(HOUR)
        for name in ("serving", "user", "names"):
            assert not (await cluster.client.get(REQUESTS, name)).get("status")

    play(scenario)


@pytest.mark.parametrize(("decision", "hours"), [("", 24), ("Approved", 1), ("Denied", 1), ("Failed", 1)])
def test_requests_are_deleted_when_they_are_over(decision: str, hours: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        usages = ("server auth",) if decision == "Failed" else ("client auth",)
        await cluster.client.create(REQUESTS, request("old", csr(BOB), CLIENT, *usages))
        if decision:
            await approve(cluster, "old", "Denied" if decision == "Denied" else "Approved")
        await cluster.clock.sleep(hours * HOUR - 60)
        assert await cluster.exists(REQUESTS, "", "old")
        await cluster.clock.sleep(HOUR)
        assert not await cluster.exists(REQUESTS, "", "old")

    play(scenario)


def test_an_approved_request_that_nobody_signs_is_kept_for_a_day_and_one_that_expires_no_longer() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REQUESTS, request("unsigned", csr(BOB), "example.com/mine", "client auth"))
        await cluster.client.create(REQUESTS, request("short", csr(BOB), CLIENT, "client auth", seconds=600))
        await approve(cluster, "unsigned")
        await approve(cluster, "short")
        await cluster.clock.sleep(620)
        assert not await cluster.exists(REQUESTS, "", "short")
        await cluster.clock.sleep(23 * HOUR)
        assert await cluster.exists(REQUESTS, "", "unsigned")
        await cluster.clock.sleep(HOUR)
        assert not await cluster.exists(REQUESTS, "", "unsigned")

    play(scenario)
