"""Authentication: who is asking. Each module is one way to tell; `authenticate` makes a link of the handler chain.

An `Authenticator` returns the User, None when the request carries nothing that it knows, or raises
`Refused` when it carries something of its kind that is not good. As upstream's union: the first User wins;
a request that presented something bad is never treated as anonymous.
"""

from tiphys.apiserver.authn.bootstrap_token import BootstrapTokens
from tiphys.apiserver.authn.certificate import Certificates
from tiphys.apiserver.authn.chain import Authenticator, Refused, TokenAuthenticator, authenticate, authenticate_token
from tiphys.apiserver.authn.service_account import ServiceAccounts
from tiphys.apiserver.authn.token_file import TokenFile

__all__ = [
    "Authenticator",
    "BootstrapTokens",
    "Certificates",
    "Refused",
    "ServiceAccounts",
    "TokenAuthenticator",
    "TokenFile",
    "authenticate",
    "authenticate_token",
]
