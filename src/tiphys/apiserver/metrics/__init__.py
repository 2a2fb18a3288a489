"""/metrics in the Prometheus text format, with the names and labels of kube-apiserver 1.36.

`requests` counts what goes through the chain; the rest is read off the caches, the store and the process when somebody
asks. Durations are in seconds.
"""

from tiphys.apiserver.metrics.page import Metrics

__all__ = ["Metrics"]
