"""metrics.k8s.io: what nodes and pods use, for `kubectl top` and the horizontal autoscaler. A peer of the controllers.

    server = MetricsServer(client, scraper, clock)   # server.py
    server.handle                                    # a Handler for /apis/metrics.k8s.io/v1beta1

Nothing runs by itself: kubelets are asked when somebody asks, and the rates are over what was seen before. Whoever asks
after a silence waits for a second look, a second later.
"""

from tiphys.metricsserver.published import GROUP, RESOURCES, ROLES, VERSION

__all__ = ["GROUP", "RESOURCES", "ROLES", "VERSION"]
