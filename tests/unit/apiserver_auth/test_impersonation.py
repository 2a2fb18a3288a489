"""Impersonation: what headers ask for, and by which permission it is allowed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.apiserver.impersonate import Modes, Question, impersonate, wanted_user
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import BadRequest, Forbidden
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User

BOB = User("bob", groups=("system:authenticated",))
LIST_PODS = RequestInfo("list", "", True, "", "v1", "default", "pods")


class Allows:
    """Allows what is listed as 'verb resource name'; `*` at the end for any name. Remembers what it was asked."""

    def __init__(self, *allowed: str) -> None:
        self.allowed, self.asked = allowed, list[str]()

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        question = f"{info.verb} {resource} {info.name}"
        self.asked.append(question)
        fits = (each == question or (each.endswith("*") and question.startswith(each[:-1])) for each in self.allowed)
        return any(fits), ""


def become(authorizer: Any, wanted: User, requestor: User = BOB, info: RequestInfo = LIST_PODS) -> tuple[User, str]:
    return asyncio.run(Modes(authorizer).allowed(Question(requestor, wanted, info)))


def test_the_old_verb_allows_everything_that_the_user_may_do() -> None:
    user, constraint = become(
        Allows("impersonate users jane", "impersonate groups devs"), User("jane", groups=("devs",))
    )
    assert (user.groups, constraint) == (("devs", "system:authenticated"), "")


def test_constrained_impersonation_takes_the_action_and_the_identity() -> None:
    both = ("impersonate-on:user-info:list pods ", "impersonate:user-info users jane")
    assert become(Allows(*both), User("jane")) == (
        User("jane", groups=("system:authenticated",)),
        "impersonate:user-info",
    )
    for one in both:
        with pytest.raises(Forbidden):
            become(Allows(one), User("jane"))


def test_the_first_refusal_is_told() -> None:
    with pytest.raises(Forbidden) as caught:
        become(Allows(), User("jane"))
    assert caught.value.message == (
        'pods is forbidden: User "bob" cannot impersonate-on:user-info:list resource "pods" in API group "" in the '
        'namespace "default"'
    )


@pytest.mark.parametrize("groups", [("system:masters",), ("",), ("a", "b", "c", "system:masters")])
def test_constrained_impersonation_never_makes_masters(groups: tuple[str, ...]) -> None:
    with pytest.raises(Forbidden):
        become(Allows("impersonate-on:user-info:*", "impersonate:user-info*"), User("jane", groups=groups))


def test_nodes_and_service_accounts_have_modes_of_their_own() -> None:
    node = become(
        Allows("impersonate-on:arbitrary-node:list pods ", "impersonate:arbitrary-node nodes n1"),
        User("system:node:n1"),
    )
    assert node[0].groups == ("system:nodes", "system:authenticated")
    account = become(
        Allows("impersonate-on:serviceaccount:list pods ", "impersonate:serviceaccount serviceaccounts sa"),
        User("system:serviceaccount:ns:sa"),
    )
    assert account[0].groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
    for wanted in ("system:node:n1", "system:serviceaccount:ns:sa"):
        with pytest.raises(Forbidden):
            become(Allows("impersonate-on:user-info:*", "impersonate:user-info*"), User(wanted))


def test_a_pods_account_may_be_its_own_node_by_one_permission_for_all_nodes() -> None:
    agent = User("system:serviceaccount:ns:agent", extra={"authentication.kubernetes.io/node-name": ("n1",)})
    rights = ("impersonate-on:associated-node:list pods ", "impersonate:associated-node nodes *")
    user, constraint = become(Allows(*rights), User("system:node:n1"), agent)
    assert (user.name, constraint) == ("system:node:n1", "impersonate:associated-node")
    with pytest.raises(Forbidden):
        become(Allows(*rights), User("system:node:n2"), agent)


def test_header_values_are_taken_as_they_came() -> None:
    def asked(headers: dict[str, str], **repeated: list[str]) -> User | None:
        names = {name.replace("_", "-"): values for name, values in repeated.items()}
        return wanted_user(Request("GET", "/", headers=headers, repeated=names))

    one = asked({"impersonate-user": "jane", "impersonate-group": "a, system:masters"})
    assert one is not None
    assert one.groups == ("a, system:masters",), "one header is one group"
    several = asked({"impersonate-user": "jane", "impersonate-group": "a, b"}, impersonate_group=["a", "b"])
    assert several is not None
    assert several.groups == ("a", "b")
    extra = asked({"impersonate-user": "jane", "impersonate-extra-example.com%2fteam": "x"})
    assert extra is not None
    assert extra.extra == {"example.com/team": ("x",)}
    assert asked({"impersonate-user": ""}) is None
    with pytest.raises(BadRequest, match="without impersonating a user name"):
        asked({"impersonate-group": "system:masters"})


def test_who_is_impersonated_does_not_see_by_whom() -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response()

    headers = {"impersonate-user": "jane", "impersonate-group": "devs", "accept": "x"}
    request = Request("GET", "/", headers=headers, user=BOB, attributes={"info": LIST_PODS})

    async def main() -> None:
        await impersonate(Allows("impersonate *"))(handler)(request)

    asyncio.run(main())
    assert seen[0].headers == {"accept": "x"}
    assert seen[0].user is not None
    assert seen[0].user.name == "jane"
