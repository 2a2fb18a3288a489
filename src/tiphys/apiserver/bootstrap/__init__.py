"""What every cluster has from its first moment: namespaces, default roles, flow control, the service `kubernetes`.

`rbac.json` and `flow.json` state the defaults in short; `objects` spells them out; `ensure` makes the store
agree with them when the API server starts.
"""

from tiphys.apiserver.bootstrap.ensure import Writer, ensure
from tiphys.apiserver.bootstrap.objects import BootstrapConfig, Desired, desired

__all__ = ["BootstrapConfig", "Desired", "Writer", "desired", "ensure"]
