"""Other API servers behind this one: what an APIService with a service names is answered by that service.

`remotes` knows which, `link` passes requests on with the user's name in headers that our certificate vouches
for, `availability` asks the others whether they are well, `discovery` shows what they serve beside our own, and
`registration` keeps an APIService for each group and version that this server serves itself.
Source: API reference apiregistration.k8s.io/v1, "Kubernetes API Aggregation Layer".
"""

from tiphys.apiserver.aggregation.layer import Aggregation
from tiphys.apiserver.aggregation.link import aggregate

__all__ = ["Aggregation", "aggregate"]
