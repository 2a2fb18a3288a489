"""Authorization: who may do what. `authorize` makes a link of the handler chain out of an Authorizer."""

from tiphys.apiserver.authz.chain import AlwaysAllow, Union, authorize, refusal
from tiphys.apiserver.authz.escalation import EscalationCheck
from tiphys.apiserver.authz.node import NodeAuthorizer, node_name
from tiphys.apiserver.authz.rbac import RbacAuthorizer

__all__ = [
    "AlwaysAllow",
    "EscalationCheck",
    "NodeAuthorizer",
    "RbacAuthorizer",
    "Union",
    "authorize",
    "node_name",
    "refusal",
]
