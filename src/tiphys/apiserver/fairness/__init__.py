"""API Priority and Fairness: which requests wait when many come at once, so that nobody starves anybody.

A FlowSchema says what a request is (`matching`), its PriorityLevelConfiguration how many seats such requests may take
(`levels`), and within a level the flows take turns (`queues`). `policy` follows the objects, `link` is in the chain,
`upkeep` keeps the mandatory objects and the conditions true. Source: KEP-1040, flowcontrol.apiserver.k8s.io/v1.
"""

from tiphys.apiserver.fairness.link import fairness
from tiphys.apiserver.fairness.policy import Policy
from tiphys.apiserver.fairness.upkeep import Upkeep

__all__ = ["Policy", "Upkeep", "fairness"]
